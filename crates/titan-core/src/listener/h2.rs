//! One HTTP/2 client connection: its settings and limits, its streams, its end.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::h1_downstream::H1;
use super::h2_stream::{Shared, Stream};
use super::port::Port;
use super::spec::ListenerSpec;
use crate::error::ErrorKind;
use crate::http::h2::{Limits, request};
use crate::metrics::Close;
use crate::proxy::{self, After, Downstream, Local};
use crate::rt::clock::{self, NEVER, after, later};
use crate::rt::recycle::{self, Recycled};
use crate::rt::timers::Timer;

/// Bytes of a stream that wait for the socket: what a client that reads slowly can make Titan hold for it.
const SEND_BUFFER: usize = 64 << 10;
/// How long a connection that was told to go away may take to finish its handshake with GOAWAY once no stream is open.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves HTTP/2 until the connection ends. `conn` has at most the beginning of the preface in its inbox.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(conn: H1<S>) -> Close {
    let H1 { io, local, port, timer, client, inbox, .. } = conn;
    let spec = port.spec();
    let handshake = builder(&spec).handshake::<_, Bytes>(Prefixed { front: inbox.into(), io });
    let mut handshake = pin!(handshake);
    let deadline = after(spec.timeouts.head);
    let shaken = poll_fn(|cx| match handshake.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => timer.poll(cx, deadline).map(|()| None),
    })
    .await;
    let mut h2 = match shaken {
        Some(Ok(h2)) => h2,
        Some(Err(_)) => return Close::Error,
        None => return Close::Timeout,
    };
    let shared = Shared::new(local.clone(), client);
    let mut life = Life { port, timer, idle_since: NEVER, served: 0, leaving: NEVER };
    loop {
        match poll_fn(|cx| life.poll_next(&mut h2, &shared, cx)).await {
            Next::Stream(request, respond) => {
                life.served += 1;
                let (parts, recv) = request.into_parts();
                let stream = Stream::new(shared.clone(), life.port.spec(), recv, respond);
                // The future lies in a block of its own: tokio moves what it is given when a task begins and when it ends.
                tokio::task::spawn_local(Recycled::new(|| exchange(local.clone(), stream, parts)));
            }
            Next::End(close) => return close,
        }
    }
}

fn builder(spec: &ListenerSpec) -> Builder {
    let h2 = &spec.h2;
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(h2.max_concurrent_streams)
        .initial_window_size(h2.initial_stream_window)
        .initial_connection_window_size(h2.initial_connection_window)
        .max_header_list_size(h2.max_header_list)
        .max_send_buffer_size(SEND_BUFFER)
        // Streams that the client resets before they are served (V1), and those that it makes Titan reset (V2).
        .max_pending_accept_reset_streams(h2.max_resets)
        .max_local_error_reset_streams(Some(h2.max_resets))
        .enable_connect_protocol();
    builder
}

/// What a connection has come to.
#[expect(clippy::large_enum_variant, reason = "made and taken apart at once, once a stream: a box would cost more")]
enum Next {
    Stream(http::Request<RecvStream>, SendResponse<Bytes>),
    End(Close),
}

struct Life {
    port: Rc<Port>,
    timer: Timer,
    /// Since when no exchange is under way; `NEVER` = one is.
    idle_since: u64,
    /// Streams begun.
    served: u64,
    /// When the connection is cut after GOAWAY once it is idle; `NEVER` before that was sent.
    leaving: u64,
}

impl Life {
    fn poll_next<S>(&mut self, h2: &mut Connection<S, Bytes>, shared: &Shared, cx: &mut Context<'_>) -> Poll<Next>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let spec = self.port.spec();
        let last = spec.max_requests_per_connection;
        let closing = self.port.closing.get() || shared.local.process.lifecycle.is_draining() || (last != 0 && self.served >= last);
        if closing {
            self.leave(h2);
        }
        if shared.resets() > spec.h2.max_resets {
            h2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
        match h2.poll_accept(cx) {
            Poll::Ready(Some(Ok((request, respond)))) => return Poll::Ready(Next::Stream(request, respond)),
            Poll::Ready(Some(Err(_))) => return Poll::Ready(Next::End(Close::Error)),
            Poll::Ready(None) => return Poll::Ready(Next::End(Close::Clean)),
            Poll::Pending => {}
        }
        if shared.open.get() != 0 {
            self.idle_since = NEVER;
            // Also the way in which a drain wakes the connection.
            let _ = self.timer.poll(cx, NEVER);
            return Poll::Pending;
        }
        if self.idle_since == NEVER {
            self.idle_since = clock::now();
        }
        // Answers whose last bytes the client does not take are not rest.
        let limit = match self.served {
            _ if h2.has_streams() => spec.timeouts.write,
            0 => super::h1::first(&spec),
            _ => spec.timeouts.idle,
        };
        loop {
            let farewell = self.leaving.max(self.idle_since).saturating_add(FAREWELL.as_millis() as u64);
            let deadline = if self.leaving == NEVER { later(self.idle_since, limit) } else { farewell };
            if self.timer.poll(cx, deadline).is_pending() {
                return Poll::Pending;
            }
            if self.leaving != NEVER {
                return Poll::Ready(Next::End(Close::Timeout));
            }
            self.leave(h2);
            if let Poll::Ready(None) = h2.poll_accept(cx) {
                return Poll::Ready(Next::End(Close::Timeout));
            }
        }
    }

    /// Says GOAWAY: no new streams, those under way are finished.
    fn leave<S: AsyncRead + AsyncWrite + Unpin>(&mut self, h2: &mut Connection<S, Bytes>) {
        if self.leaving == NEVER {
            self.leaving = clock::now();
            h2.graceful_shutdown();
        }
    }
}

/// One stream from its head to its end.
async fn exchange(local: Rc<Local>, mut stream: Stream, parts: http::request::Parts) {
    let started = Instant::now();
    // A stream that was reset at once never reaches a backend.
    if poll_fn(|cx| Poll::Ready(stream.is_reset(cx))).await {
        return;
    }
    if let Some(doubt) = stream.doubt() {
        let deadline = after(Some(doubt));
        let reset = poll_fn(|cx| match stream.is_reset(cx) {
            true => Poll::Ready(true),
            false => stream.timer().poll(cx, deadline).map(|()| false),
        });
        if reset.await {
            return;
        }
    }
    let protocol = parts.extensions.get::<h2::ext::Protocol>().map(|p| p.as_str().as_bytes());
    let limits = Limits { fields: stream.listener().max_headers };
    let head = match request(&parts, protocol, recycle::buffer(), &limits) {
        Ok(head) => head,
        // Malformed: a stream error (RFC 9113 §8.1.1), not an answer.
        Err(error) if error.kind == ErrorKind::BadRequest => return stream.reset(Reason::PROTOCOL_ERROR),
        Err(error) => {
            proxy::refuse(&local, &mut stream, &error, started).await;
            return;
        }
    };
    drop(parts);
    stream.begin(&head);
    let mut kit = local.kit();
    kit.request = Some(head);
    match proxy::exchange(local.clone(), &mut stream, kit, started).await {
        // What was not read of the request's body is told by h2 when the stream is dropped: RST_STREAM with NO_ERROR.
        After::Next | After::Linger | After::Close => {}
        After::Reset => stream.reset(Reason::INTERNAL_ERROR),
        After::Tunnel(tunnel) => {
            if let Some(io) = stream.tunnel() {
                // A task of its own: a tunnel that rests does not hold the room that an exchange needs.
                tokio::task::spawn_local(async move {
                    proxy::run_tunnel(&local, io, Vec::new(), stream.timer(), tunnel).await;
                });
            }
        }
    }
}

/// A socket of which some bytes were read already.
struct Prefixed<S> {
    front: Bytes,
    io: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.front.is_empty() {
            let n = self.front.len().min(buf.remaining());
            buf.put_slice(&self.front[..n]);
            self.front.advance(n);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
