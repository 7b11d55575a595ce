//! Bound sockets.

/// A compiled listener.
pub struct ListenerSpec {}
