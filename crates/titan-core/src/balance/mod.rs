//! Choice of an endpoint among those that are usable. A closed set of algorithms.

pub mod random;
