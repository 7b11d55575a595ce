//! The upstream's side of an exchange: one request and its answer, on a connection of its own (HTTP/1.1) or a stream of a shared one (HTTP/2).

mod h1;
mod h2;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wire::{Duplex, Piece};
use crate::error::ProxyError;
use crate::http::h1::encode::Framing;
use crate::http::h1::framing::BodyKind;
use crate::http::h2::Block;
use crate::http::head::ResponseHead;
use crate::pool::{Connection, Lease};

pub use self::h1::H1;
pub use self::h2::{H2, Opening};

/// Where a request can be sent.
pub enum Lane {
    /// A connection for it alone.
    H1(Connection),
    /// A place on a shared connection.
    H2(Lease),
}

/// A request under way. HTTP/2's state is boxed: HTTP/1.1 does not pay for its size.
pub enum Leg {
    /// HTTP/1.1.
    H1(H1),
    /// HTTP/2.
    H2(Box<H2>),
}

/// The upstream's end of a tunnel.
pub enum Line {
    /// A whole connection.
    Connection(Connection),
    /// A stream, with its place.
    Stream {
        /// The stream.
        stream: Box<Duplex>,
        /// Its place.
        _lease: Lease,
    },
}

impl Line {
    /// What the backend has sent behind its answer.
    pub fn take_ahead(&mut self) -> Vec<u8> {
        match self {
            Self::Connection(connection) => std::mem::take(&mut connection.inbox),
            Self::Stream { .. } => Vec::new(),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Connection(connection) => Pin::new(&mut connection.socket).poll_read(cx, buf),
            Self::Stream { stream, .. } => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Connection(connection) => Pin::new(&mut connection.socket).poll_write(cx, bytes),
            Self::Stream { stream, .. } => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Connection(connection) => Pin::new(&mut connection.socket).poll_flush(cx),
            Self::Stream { stream, .. } => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Connection(connection) => Pin::new(&mut connection.socket).poll_shutdown(cx),
            Self::Stream { stream, .. } => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}

macro_rules! both {
    ($leg:expr, $one:ident => $does:expr) => {
        match $leg {
            Leg::H1($one) => $does,
            Leg::H2($one) => $does,
        }
    };
}

impl Leg {
    /// A request on an HTTP/1.1 connection, whose head `encode` appends, with a body of this framing to follow.
    pub fn h1(connection: Connection, framing: Framing, encode: impl FnOnce(&mut Vec<u8>)) -> Self {
        Self::H1(H1::new(connection, framing, encode))
    }

    /// A request on a stream.
    pub fn h2(lease: Lease, opening: &Opening<'_>, encode: impl FnOnce(&mut Block)) -> Result<Self, ProxyError> {
        H2::new(lease, opening, encode).map(|leg| Self::H2(Box::new(leg)))
    }

    /// Whether the connection has served a request before and nothing of an answer has come: the backend closed it while it was idle.
    pub fn was_stale(&self) -> bool {
        both!(self, leg => leg.was_stale())
    }

    /// Ready when nothing waits to be written.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        both!(self, leg => leg.poll_flush(cx))
    }

    /// Sends payload of the request's body; `end` (with trailer lines) closes it. Call it only when [`Leg::poll_flush`] was ready since.
    pub fn push(&mut self, cx: &mut Context<'_>, payload: &[u8], end: Option<&[u8]>) -> Result<(), ProxyError> {
        both!(self, leg => leg.push(cx, payload, end))
    }

    /// The next head of an answer, 1xx included. `most` bytes are read at once.
    pub fn poll_head(&mut self, cx: &mut Context<'_>, scratch: &mut Vec<u8>, most: usize) -> Poll<Result<ResponseHead, ProxyError>> {
        both!(self, leg => leg.poll_head(cx, scratch, most))
    }

    /// The answer's body is of this kind.
    pub fn begin_body(&mut self, kind: BodyKind) {
        both!(self, leg => leg.begin_body(kind));
    }

    /// Payload of the answer's body into `into`; at most `most` bytes of it are used.
    pub fn poll_body(&mut self, cx: &mut Context<'_>, into: &mut Vec<u8>, most: usize) -> Poll<Result<Piece, ProxyError>> {
        both!(self, leg => leg.poll_body(cx, into, most))
    }

    /// Trailer lines of the answer, once its body has ended.
    pub fn trailers(&self) -> &[u8] {
        both!(self, leg => leg.trailers())
    }

    /// Whether it is a stream.
    pub fn is_h2(&self) -> bool {
        matches!(self, Self::H2(_))
    }

    /// The upstream did not answer in time: a shared connection takes no more requests.
    pub fn retire(&self) {
        if let Self::H2(leg) = self {
            leg.retire();
        }
    }

    /// The connection, for another request: only where the whole request was sent and exactly one whole answer was read. (A stream's
    /// place is given back by dropping it.)
    pub fn into_idle(self) -> Option<Connection> {
        match self {
            Self::H1(leg) => leg.into_idle(),
            Self::H2(_) => None,
        }
    }

    /// The upstream's end of a tunnel, with what the backend has sent already.
    pub fn into_tunnel(self) -> Line {
        match self {
            Self::H1(leg) => Line::Connection(leg.into_tunnel()),
            Self::H2(leg) => leg.into_tunnel(),
        }
    }
}
