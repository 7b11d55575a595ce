//! Bound sockets: what a listener is, how it binds, accepts and limits its connections.

mod spec;

pub use spec::{Http2Settings, ListenerSpec, ListenerTimeouts};
