//! From a request to a route.

/// A compiled route.
pub struct Route {}

/// The routing table.
pub struct Router {}
