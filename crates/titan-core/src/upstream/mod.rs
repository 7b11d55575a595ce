//! Upstreams and their endpoints.

pub mod permits;

/// A named set of endpoints.
pub struct Upstream {}
