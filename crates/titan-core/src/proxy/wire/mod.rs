//! HTTP/1.1 bodies over a socket, the same on both legs: reading payload into a buffer that the caller lends, and writing without copying
//! what the socket takes at once.

mod inbound;
mod outbound;

pub use inbound::{Inbound, Piece, ReadFault, poll_some};
pub use outbound::Outbound;
