//! Bound sockets: what a listener is, how it binds, accepts and limits its connections, and how a client connection is served.

mod accept;
mod bind;
mod connection;
mod h1;
mod h1_downstream;
mod h2;
mod h2_stream;
mod port;
mod spec;

pub use accept::{accept, arrive};
pub use bind::{BindError, bind};
pub use port::{Open, Port};
pub use spec::{Http2Settings, ListenerSpec, ListenerTimeouts};
