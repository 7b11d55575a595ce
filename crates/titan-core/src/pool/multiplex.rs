//! HTTP/2 connections of one shard: one to a backend, and another one whenever its streams run out.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use http::Request;
use tokio::sync::Notify;

use super::Connection;
use crate::rt::clock;

/// Window of a stream: what a backend can send ahead of a slow client.
const STREAM_WINDOW: u32 = 128 << 10;
/// Window of a connection: more than its streams may take together. Were it less, clients that do not read would stop everybody else's
/// streams on the connection with theirs.
const CONNECTION_WINDOW: u32 = 1 << 30;
/// Bytes of a stream that wait for the socket.
const SEND_BUFFER: usize = 64 << 10;
/// Fields of an answer's head, as bytes of SETTINGS_MAX_HEADER_LIST_SIZE.
const MAX_HEADER_LIST: u32 = 64 << 10;
/// Streams that a connection being opened is expected to have room for.
const EXPECTED_STREAMS: usize = 100;
/// How long a backend's settings are waited for; one that answers no ping is taken to have said all that it will.
const SETTLING: Duration = Duration::from_secs(1);

/// The connections to one endpoint.
#[derive(Default)]
pub struct Backend {
    all: RefCell<Vec<Rc<Shared>>>,
    connecting: Cell<usize>,
    waiting: Cell<usize>,
    http1: Cell<bool>,
    /// Told when a stream has ended, a connection was opened, or could not be.
    pub changed: Notify,
}

/// One connection.
struct Shared {
    send: SendRequest<Bytes>,
    /// The backend's settings have come. Before, only whoever opened the connection uses it.
    settled: Cell<bool>,
    /// Told when they have.
    settling: Notify,
    streams: Cell<usize>,
    /// Streams begun.
    served: Cell<u64>,
    /// Takes no more requests.
    closed: Cell<bool>,
    /// When its last stream ended.
    idle_since: Cell<u64>,
}

/// A place for one stream. Given back when dropped.
pub struct Lease {
    backend: Rc<Backend>,
    connection: Rc<Shared>,
    reused: bool,
}

/// A connection is being opened.
pub struct Opening(Rc<Backend>);

/// A request waits for a place.
pub struct Waiting(Rc<Backend>);

impl Backend {
    /// A place on a connection that has room, the fullest first: the others can then become idle and go.
    pub fn lease(self: &Rc<Self>) -> Option<Lease> {
        let mut all = self.all.borrow_mut();
        all.retain(|connection| !connection.closed.get() && connection.is_usable());
        let room = |c: &&Rc<Shared>| c.streams.get() < if c.settled.get() { c.send.current_max_send_streams() } else { 1 };
        let connection = all.iter().filter(room).max_by_key(|c| c.streams.get())?.clone();
        connection.streams.set(connection.streams.get() + 1);
        let served = connection.served.get();
        connection.served.set(served + 1);
        Some(Lease { backend: self.clone(), connection, reused: served != 0 })
    }

    /// Whether a connection that is being opened will have room for one more request that waits.
    pub fn will_have_room(&self) -> bool {
        self.connecting.get() * EXPECTED_STREAMS > self.waiting.get()
    }

    /// One more connection is being opened, until the guard is dropped.
    pub fn opening(self: &Rc<Self>) -> Opening {
        self.connecting.set(self.connecting.get() + 1);
        Opening(self.clone())
    }

    /// One more request waits, until the guard is dropped.
    pub fn waiting(self: &Rc<Self>) -> Waiting {
        self.waiting.set(self.waiting.get() + 1);
        Waiting(self.clone())
    }

    /// Whether ALPN chose HTTP/1.1 the last time.
    pub fn is_http1(&self) -> bool {
        self.http1.get()
    }

    /// ALPN chose.
    pub fn learn(&self, http1: bool) {
        self.http1.set(http1);
    }

    /// Speaks HTTP/2 on a fresh connection, which lives in a task of its own until it ends. It counts as being opened until the backend's
    /// settings have come.
    pub async fn adopt(self: &Rc<Self>, connection: Connection, opening: Opening) -> Result<(), h2::Error> {
        let Connection { socket, permit, .. } = connection;
        let (send, mut driver) = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEADER_LIST)
            .enable_push(false)
            .handshake::<_, Bytes>(socket)
            .await?;
        let ping = driver.ping_pong();
        let shared = Rc::new(Shared {
            send,
            settled: Cell::new(false),
            settling: Notify::new(),
            streams: Cell::new(0),
            served: Cell::new(0),
            closed: Cell::new(false),
            idle_since: Cell::new(clock::now()),
        });
        // The driver ends when every handle is gone, so it must hold none itself.
        let (watched, backend) = (Rc::downgrade(&shared), Rc::downgrade(self));
        tokio::task::spawn_local(settle(ping, watched.clone(), opening));
        self.all.borrow_mut().push(shared);
        tokio::task::spawn_local(async move {
            // Why it ended is told to its streams.
            let _ = driver.await;
            drop(permit);
            if let Some(shared) = watched.upgrade() {
                shared.closed.set(true);
            }
            if let Some(backend) = backend.upgrade() {
                backend.changed.notify_waiters();
            }
        });
        Ok(())
    }

    /// Lets go of connections that have had no stream since `oldest`. Whether any is left.
    pub fn sweep(&self, oldest: u64) -> bool {
        let mut all = self.all.borrow_mut();
        all.retain(|c| c.is_usable() && (c.streams.get() != 0 || c.idle_since.get() >= oldest));
        !all.is_empty() || self.connecting.get() != 0 || self.waiting.get() != 0
    }

    /// Connections without a stream.
    pub fn idle(&self) -> usize {
        self.all.borrow().iter().filter(|c| c.streams.get() == 0).count()
    }
}

/// Waits for a backend's settings: they are the first that it sends, so they come before the answer to a ping.
async fn settle(ping: Option<PingPong>, connection: Weak<Shared>, opening: Opening) {
    if let Some(mut ping) = ping {
        // An error ends the connection, which its streams are told.
        let _ = tokio::time::timeout(SETTLING, ping.ping(Ping::opaque())).await;
    }
    if let Some(connection) = connection.upgrade() {
        connection.settled.set(true);
        connection.settling.notify_waiters();
    }
    drop(opening);
}

impl Shared {
    /// Neither ended, nor told to go away.
    fn is_usable(&self) -> bool {
        let ready = self.send.clone().poll_ready(&mut Context::from_waker(Waker::noop()));
        !self.closed.get() && !matches!(ready, std::task::Poll::Ready(Err(_)))
    }
}

impl Lease {
    /// Opens a stream; `end`: nothing follows the head.
    pub fn open(&self, request: Request<()>, end: bool) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let opened = self.connection.send.clone().send_request(request, end);
        if opened.is_err() {
            self.retire();
        }
        opened
    }

    /// Whether the connection had a stream before this one.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Waits until the backend's settings have come.
    pub async fn settle(&self) {
        let settled = self.connection.settling.notified();
        if !self.connection.settled.get() {
            settled.await;
        }
    }

    /// Whether the backend takes extended CONNECT (RFC 8441). Known once the connection is [settled](Lease::settle).
    pub fn accepts_connect(&self) -> bool {
        self.connection.send.is_extended_connect_protocol_enabled()
    }

    /// The connection takes no more requests; streams under way go on.
    pub fn retire(&self) {
        self.connection.closed.set(true);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let left = self.connection.streams.get() - 1;
        self.connection.streams.set(left);
        if left == 0 {
            self.connection.idle_since.set(clock::now());
        }
        self.backend.changed.notify_one();
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.connecting.set(self.0.connecting.get() - 1);
        self.0.changed.notify_waiters();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}
