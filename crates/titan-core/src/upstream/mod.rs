//! Upstreams and their endpoints.

/// A named set of endpoints.
pub struct Upstream {}
