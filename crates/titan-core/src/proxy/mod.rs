//! The spine.

pub mod wire;
