//! Bodies over a socket or a stream, the same on both legs: reading payload into a buffer that the caller lends, and writing. HTTP/1.1 writes
//! what the socket takes at once without copying it.

mod inbound;
mod outbound;
mod stream;

pub use inbound::{Inbound, Piece, ReadFault, poll_some};
pub use outbound::Outbound;
pub use stream::{Duplex, Receiver, Sender};
