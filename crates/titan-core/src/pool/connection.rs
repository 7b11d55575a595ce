//! One connection to an endpoint.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::upstream::permits::Permit;

/// A connection with its place among the endpoint's `max_connections`.
pub struct Connection {
    /// The socket.
    pub socket: Socket,
    /// Bytes read and not yet used: empty while idle.
    pub inbox: Vec<u8>,
    /// It has served a request before, so the backend may have closed it meanwhile.
    pub reused: bool,
    /// Shard whose reactor it is registered with.
    pub shard: usize,
    /// Given back when the connection is dropped.
    pub permit: Permit,
}

/// Plain or TLS.
pub enum Socket {
    /// Plain.
    Plain(TcpStream),
    /// TLS; boxed, so that plain connections stay small.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// Whether an idle connection has been closed, or has been sent bytes that no request asked for.
    pub fn is_stale(&mut self) -> bool {
        let mut byte = [0; 1];
        match &mut self.socket {
            // Asks the reactor first: a system call only where something has happened.
            Socket::Plain(socket) => !matches!(socket.try_read(&mut byte), Err(e) if e.kind() == io::ErrorKind::WouldBlock),
            // Session tickets arrive on idle TLS connections: reading takes them up, and only payload or the end are stale.
            Socket::Tls(socket) => {
                let mut buf = ReadBuf::new(&mut byte);
                Pin::new(&mut **socket).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf).is_ready()
            }
        }
    }

    /// Moves a plain connection that another shard handed over to this shard's reactor. (A TLS one keeps its reactor: that works, and
    /// its wakes cross threads.)
    pub fn adopt(mut self, shard: usize) -> io::Result<Self> {
        if self.shard != shard
            && let Socket::Plain(socket) = self.socket
        {
            self.socket = Socket::Plain(TcpStream::from_std(socket.into_std()?)?);
            self.shard = shard;
        }
        Ok(self)
    }
}

impl Socket {
    /// Protocol that ALPN chose.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(socket) => socket.get_ref().1.alpn_protocol(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(socket) => Pin::new(&mut **socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(socket) => Pin::new(&mut **socket).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
            Self::Tls(socket) => Pin::new(&mut **socket).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(socket) => Pin::new(&mut **socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(socket) => Pin::new(&mut **socket).poll_shutdown(cx),
        }
    }
}
