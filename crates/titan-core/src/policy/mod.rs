//! Policies in their fixed order.

/// The policies of a route.
pub struct Chain {}
