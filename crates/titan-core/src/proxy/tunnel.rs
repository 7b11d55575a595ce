//! Upgraded connections: bytes both ways, no snapshot and no buffer held while nothing moves.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::exchange::Exchange;
use super::frames::{Breach, Close, Frames};
use super::leg::Line;
use super::local::Local;
use super::wire::{Outbound, poll_some};
use crate::error::{ErrorKind, ProxyError};
use crate::http::h1::encode::Framing;
use crate::http::h1::framing;
use crate::http::head::{HeaderId, RequestHead, Version};
use crate::metrics::Id;
use crate::policy;
use crate::route::{FrameLimits, Route, WebSocket};
use crate::rt::clock::{self, NEVER, after, later};
use crate::rt::recycle;
use crate::rt::timers::Timer;
use crate::upstream::Picked;

/// Reads in a row before other connections get their turn.
const TURNS: usize = 16;
/// How long a WebSocket that is closed from here may take to end its frame and to answer.
const FAREWELL: Duration = Duration::from_secs(2);

/// Open tunnels of routes that limit them, by route name so that a reload keeps the count.
#[derive(Default)]
pub struct TunnelCounts(Mutex<HashMap<Arc<str>, Arc<AtomicU64>>>);

impl TunnelCounts {
    fn of(&self, route: &Route) -> Arc<AtomicU64> {
        self.0.lock().entry(route.name.clone()).or_default().clone()
    }
}

/// A place among a route's tunnels.
struct Place(Arc<AtomicU64>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Leave to open a tunnel, given before the upstream is asked.
pub(super) struct Ticket {
    websocket: bool,
    frames: FrameLimits,
    idle: Option<Duration>,
    place: Option<Place>,
}

/// An open tunnel.
pub struct Tunnel {
    upstream: Line,
    /// Its frames are followed, so that it can be closed in order.
    websocket: bool,
    frames: FrameLimits,
    idle: Option<Duration>,
    route: Id,
    _place: Option<Place>,
    _picked: Picked,
    _permits: policy::Permits,
}

/// `Some` where the request asks for an upgrade that its route passes on.
pub(super) fn admit(x: &Exchange<'_>, route: &Route) -> Result<Option<Ticket>, ProxyError> {
    let Some(rules) = &route.websocket else {
        if is_connect(x.head()) {
            return Err(ProxyError::client(ErrorKind::Forbidden, "this route opens no WebSockets"));
        }
        return Ok(None);
    };
    let Some(protocol) = framing::upgrade(x.head()) else { return Ok(None) };
    let websocket = protocol.eq_ignore_ascii_case(b"websocket");
    if websocket {
        check_websocket(x, rules)?;
    }
    let place = if rules.max_connections == 0 {
        None
    } else {
        let count = x.local.process.tunnels.of(route);
        let place = Place(count.clone());
        if count.fetch_add(1, Ordering::Relaxed) >= rules.max_connections {
            let detail = format!("the route's limit of {} open tunnels is reached", rules.max_connections);
            drop(place);
            return Err(ProxyError::gateway(ErrorKind::Overloaded, detail));
        }
        Some(place)
    };
    Ok(Some(Ticket { websocket, frames: rules.frames, idle: rules.idle_timeout, place }))
}

/// Whether the request is an extended CONNECT: any status from 200 to 299 then tells its client that a tunnel is open. An upgrade over
/// HTTP/1.1 may be left aside instead, and be answered as a plain request.
pub(super) fn is_connect(head: &RequestHead) -> bool {
    head.version == Version::H2 && head.facts.upgrade
}

/// Origin and subprotocols.
fn check_websocket(x: &Exchange<'_>, rules: &WebSocket) -> Result<(), ProxyError> {
    if !rules.origins.is_empty() {
        let origin = x.head().get(HeaderId::Origin).unwrap_or_default();
        if !rules.origins.iter().any(|allowed| origin_matches(allowed.as_bytes(), origin)) {
            return Err(ProxyError::client(ErrorKind::Forbidden, "this Origin may not open a WebSocket here"));
        }
    }
    if !rules.subprotocols.is_empty() {
        let mut asked = x.head().get_all(HeaderId::SecWebSocketProtocol).flat_map(|value| value.split(|&b| b == b','));
        let known = |name: &[u8]| rules.subprotocols.iter().any(|allowed| allowed.as_bytes() == name.trim_ascii());
        if !asked.any(known) {
            return Err(ProxyError::client(ErrorKind::BadRequest, "none of the WebSocket subprotocols asked for is allowed here"));
        }
    }
    Ok(())
}

/// Exact, or `https://*.example.com` for any name below.
fn origin_matches(allowed: &[u8], origin: &[u8]) -> bool {
    let Some(at) = memchr::memmem::find(allowed, b"*.") else { return allowed.eq_ignore_ascii_case(origin) };
    let (scheme, suffix) = (&allowed[..at], &allowed[at + 1..]);
    origin.len() > scheme.len() + suffix.len()
        && origin[..scheme.len()].eq_ignore_ascii_case(scheme)
        && origin[origin.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
        && !origin[scheme.len()..].contains(&b'/')
}

impl Ticket {
    /// The tunnel, once the backend has agreed.
    pub(super) fn open(self, x: &mut Exchange<'_>, route: Id, upstream: Line, picked: Picked) -> Box<Tunnel> {
        x.local.counts.tunnel_opened(route);
        let permits = x.kit.policy.take_permits();
        Box::new(Tunnel {
            upstream,
            websocket: self.websocket,
            frames: self.frames,
            idle: self.idle,
            route,
            _place: self.place,
            _picked: picked,
            _permits: permits,
        })
    }
}

/// One direction.
#[derive(Default)]
struct Pipe {
    out: Outbound,
    ended: bool,
    bytes: u64,
    frames: Option<Frames>,
    /// Sent at the next boundary of frames, and nothing after it.
    farewell: Option<&'static [u8]>,
    /// A frame that is not allowed: nothing from it on has passed.
    breach: Option<Breach>,
}

impl Pipe {
    /// Ready when the sender has ended and the receiver was told.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        early: &mut Vec<u8>,
        to: &mut W,
        scratch: &mut [u8],
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..TURNS {
            if !self.out.is_empty() {
                ready!(self.out.poll_flush(cx, to))?;
            }
            if self.ended {
                return Pin::new(to).poll_shutdown(cx);
            }
            if self.breach.is_some() && self.farewell.is_none() {
                // The goodbye is said by `run`, to both sides.
                return Poll::Pending;
            }
            if let (Some(farewell), Some(frames)) = (self.farewell, self.frames)
                && frames.at_boundary()
            {
                self.out.push(cx, to, Framing::UntilClose, farewell, None)?;
                (self.farewell, self.ended) = (None, true);
                continue;
            }
            if !early.is_empty() {
                let pass = self.count(early);
                self.out.push(cx, to, Framing::UntilClose, &early[..pass], None)?;
                recycle::give(early);
                continue;
            }
            let n = ready!(poll_some(cx, from, scratch))?;
            self.ended = n == 0;
            let pass = self.count(&scratch[..n]);
            self.out.push(cx, to, Framing::UntilClose, &scratch[..pass], None)?;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// How many of the bytes may pass.
    fn count(&mut self, bytes: &[u8]) -> usize {
        self.bytes += bytes.len() as u64;
        let Some(frames) = &mut self.frames else { return bytes.len() };
        match frames.advance(bytes, clock::cached()) {
            Ok(()) => bytes.len(),
            Err(breach) => {
                // Where its beginning has passed already, there is no boundary to say goodbye at: the direction just ends.
                self.ended = !breach.clean;
                self.breach = Some(breach);
                breach.before
            }
        }
    }

    /// A goodbye at the next boundary; a direction that has ended has none.
    fn close(&mut self, farewell: &'static [u8]) {
        if !self.ended {
            self.farewell = Some(farewell);
        }
    }
}

/// Moves bytes until both sides have ended, one has failed, nothing has moved for too long, or the gateway drains. A WebSocket is then told
/// so on both sides (1001), between two frames. `early` = what the client sent behind its request.
pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    local: &Local,
    mut client: S,
    mut early: Vec<u8>,
    timer: &Timer,
    mut tunnel: Box<Tunnel>,
) {
    let limits = tunnel.frames;
    let pipe = |limits| Pipe { frames: tunnel.websocket.then(|| Frames::limited(limits)), ..Pipe::default() };
    // How often a backend speaks is its own business.
    let (mut up, mut down) = (pipe(limits), pipe(FrameLimits { max_rate: 0, ..limits }));
    let (mut up_done, mut down_done) = (false, false);
    let mut moved = (0, clock::now());
    let mut ahead = tunnel.upstream.take_ahead();
    // When the goodbye must be over; `NEVER` before it began.
    let mut closing = NEVER;
    let result: io::Result<()> = poll_fn(|cx| {
        let socket = &mut tunnel.upstream;
        let scratch = &mut local.scratch();
        loop {
            if !up_done {
                up_done = up.poll(cx, &mut client, &mut early, socket, scratch)?.is_ready();
            }
            if !down_done {
                down_done = down.poll(cx, socket, &mut ahead, &mut client, scratch)?.is_ready();
            }
            if up_done && down_done {
                return Poll::Ready(Ok(()));
            }
            let total = up.bytes + down.bytes;
            if moved.0 != total {
                moved = (total, clock::now());
            }
            let breach = up.breach.or(down.breach).map(|breach| breach.close);
            let draining = local.process.lifecycle.is_draining();
            let over = match closing {
                NEVER => draining || breach.is_some() || timer.poll(cx, later(moved.1, tunnel.idle)).is_ready(),
                closing => timer.poll(cx, closing).is_ready(),
            };
            match (over, closing) {
                (false, _) => return Poll::Pending,
                (true, NEVER) if tunnel.websocket => {
                    closing = after(Some(FAREWELL));
                    // The side that kept to the limits is told that the other one goes away.
                    let (to_client, to_server) = match (breach, up.breach.is_some()) {
                        (Some(close), true) => (close, Close::GoingAway),
                        (Some(close), false) => (Close::GoingAway, close),
                        (None, _) => (Close::GoingAway, Close::GoingAway),
                    };
                    up.close(to_server.to_server());
                    down.close(to_client.to_client());
                }
                (true, _) => return Poll::Ready(Ok(())),
            }
        }
    })
    .await;
    if closing != NEVER && result.is_ok() {
        // Closing a socket with unread bytes would take the goodbye away from the client.
        poll_fn(|cx| {
            let scratch = &mut local.scratch();
            loop {
                match poll_some(cx, &mut client, scratch) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => return timer.poll(cx, closing),
                }
            }
        })
        .await;
    }
    // A failure of either side ends both; there is nobody to tell.
    drop(result);
    local.counts.tunnel_closed(tunnel.route, up.bytes, down.bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_matched_whole() {
        for (allowed, origin, expected) in [
            ("https://a.example", "https://a.example", true),
            ("https://a.example", "https://a.example.evil", false),
            ("https://*.example.com", "https://x.example.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "http://x.example.com", false),
            ("https://*.example.com", "https://evil/x.example.com", false),
            ("https://*.example.com", "https://evilexample.com", false),
        ] {
            assert_eq!(origin_matches(allowed.as_bytes(), origin.as_bytes()), expected, "{allowed} {origin}");
        }
    }
}
