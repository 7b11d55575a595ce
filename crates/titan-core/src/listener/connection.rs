//! A client connection from its accept: TLS, the choice of protocol, and what is counted when it ends.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustls::HandshakeKind;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::h1::Served;
use super::h1_downstream::H1;
use super::port::{Place, Port};
use super::{h1, h2};
use crate::http::client::{ClientInfo, Scheme};
use crate::metrics::Close;
use crate::proxy::Local;
use crate::rt::clock::after;
use crate::tls::{self, ServerTls};

/// A connection's place on its shard, held to its end.
pub(super) struct Seat {
    local: Rc<Local>,
    port: Rc<Port>,
    _place: Place,
}

impl Seat {
    pub(super) fn new(local: Rc<Local>, port: Rc<Port>, place: Place) -> Self {
        local.connections.set(local.connections.get() + 1);
        Self { local, port, _place: place }
    }

    fn close(self, why: Close) {
        self.local.counts.closed(self.port.spec().metric, why);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.local.connections.set(self.local.connections.get() - 1);
    }
}

/// Serves a connection in tasks of its own. Plain and TLS connections are different tasks, so that the plain one is small; so is the
/// handshake, whose state is gone when the connection rests.
pub(super) fn serve(seat: Seat, stream: TcpStream, peer: SocketAddr) {
    let Ok(address) = stream.local_addr() else { return };
    let spec = seat.port.spec();
    match &spec.tls {
        None => {
            tokio::task::spawn_local(plain(seat, stream, client(peer, address, None), spec.http2));
        }
        Some(tls) => {
            tokio::task::spawn_local(handshake(seat, stream, peer, address, tls.clone(), spec.timeouts.tls_handshake));
        }
    }
}

/// Serves a connection of which everything is known already.
pub(super) fn serve_known(seat: Seat, stream: TcpStream, client: ClientInfo) {
    let http2 = seat.port.spec().http2;
    tokio::task::spawn_local(plain(seat, stream, client, http2));
}

fn client(peer: SocketAddr, local: SocketAddr, tls: Option<Arc<crate::http::client::TlsInfo>>) -> ClientInfo {
    let scheme = if tls.is_some() { Scheme::Https } else { Scheme::Http };
    ClientInfo { peer, local, ip: peer.ip().to_canonical(), trusted: false, scheme, tls }
}

// Not an `async fn`: its future would hold what it was given beside what it made of it.
fn plain(seat: Seat, stream: TcpStream, client: ClientInfo, http2: bool) -> impl Future<Output = ()> {
    let mut conn = H1::new(stream, seat.local.clone(), seat.port.clone(), client, reset_on_close);
    async move {
        match h1::serve(&mut conn, http2).await {
            Served::Closed(why) => seat.close(why),
            // Boxed: an HTTP/1.1 connection shall not be as large as the other protocol's state.
            Served::Http2 => seat.close(Box::pin(h2::serve(conn)).await),
        }
    }
}

async fn handshake(seat: Seat, stream: TcpStream, peer: SocketAddr, address: SocketAddr, tls: Arc<ServerTls>, limit: Option<Duration>) {
    let timer = seat.local.timers.timer();
    let deadline = after(limit);
    let mut accept = TlsAcceptor::from(tls.config().clone()).accept(stream);
    let metric = seat.port.spec().metric;
    let done = poll_fn(|cx| match Pin::new(&mut accept).poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => timer.poll(cx, deadline).map(|()| None),
    })
    .await;
    let stream = match done {
        Some(Ok(stream)) => stream,
        Some(Err(_)) => {
            seat.local.counts.handshake_failed(metric);
            return seat.close(Close::Error);
        }
        None => {
            seat.local.counts.handshake_failed(metric);
            return seat.close(Close::Timeout);
        }
    };
    let session = stream.get_ref().1;
    seat.local.counts.handshake(metric, matches!(session.handshake_kind(), Some(HandshakeKind::Resumed)));
    let info = Arc::new(tls::info(session));
    tokio::task::spawn_local(secure(seat, Box::new(stream), client(peer, address, Some(info))));
}

fn secure(seat: Seat, stream: Box<TlsStream<TcpStream>>, client: ClientInfo) -> impl Future<Output = ()> {
    let http2 = client.tls.as_ref().is_some_and(|tls| tls.alpn.as_deref() == Some(b"h2"));
    let mut conn = H1::new(stream, seat.local.clone(), seat.port.clone(), client, |stream| reset_on_close(stream.get_ref().0));
    async move {
        if http2 {
            return seat.close(Box::pin(h2::serve(conn)).await);
        }
        match h1::serve(&mut conn, false).await {
            Served::Closed(why) => seat.close(why),
            Served::Http2 => seat.close(Close::Error),
        }
    }
}

/// The other end sees a reset instead of an orderly end.
fn reset_on_close(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        type Begin<F> = fn(Seat, TcpStream, ClientInfo, bool) -> F;
        fn size<F: Future>(_: Begin<F>) -> usize {
            size_of::<F>()
        }
        let bytes = size(plain);
        assert!(bytes <= 704, "the future of a plain connection takes {bytes} bytes");
    }
}
