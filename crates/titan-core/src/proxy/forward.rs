//! Gets an answer's head from an upstream: chooses an endpoint, checks a connection out, sends, and tries again where that is safe.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::downstream::{Downstream, Reply};
use super::exchange::{Exchange, guard, out_of_time};
use super::grpc;
use super::leg::{Lane, Leg, Opening};
use super::local::{Held, Local};
use super::relay::Transfer;
use crate::error::{ErrorKind, ProxyError, RetrySafety, Side};
use crate::http::h1::encode::{self, Framing, RequestPlan};
use crate::http::h1::framing::{self, BodyKind};
use crate::http::head::{HeaderId, Method, RequestHead, Version};
use crate::metrics::Try;
use crate::pool::{Connect, Connection, connect};
use crate::route::{Proxy, Route};
use crate::rt::clock::{self, NEVER, after};
use crate::upstream::permits::{Grant, Permit};
use crate::upstream::{Endpoint, Outcome, PickInput, Picked, Protocol, Upstream};

/// Interim answers (1xx) of one request; more are an attack or a bug.
const MAX_INTERIM: u32 = 32;

/// A request whose answer's head has come. The head is in the exchange's kit.
pub struct Answered {
    /// The connection.
    pub leg: Leg,
    /// Progress of the bodies.
    pub transfer: Transfer,
    /// The endpoint; counts as in flight until dropped.
    pub picked: Picked,
}

/// Sends the request of `x` to `upstream` until an answer's head has come that is to be passed on.
pub async fn forward<D: Downstream>(
    x: &mut Exchange<'_>,
    snapshot: &Held,
    down: &mut D,
    route: &Route,
    proxy: &Proxy,
    upstream: &Arc<Upstream>,
) -> Result<Answered, ProxyError> {
    let retry = &upstream.retry;
    let mut tried = SmallVec::<[u64; 4]>::new();
    let mut transfer = Transfer::new(down, x.held, if retry.max == 0 { 0 } else { retry.max_body });
    let mut refresh = false;
    let late = after(retry.within);
    let backend = x.kit.policy.rewrite().and_then(|rewrite| rewrite.backend.clone());
    if retry.max != 0 {
        upstream.budget.request(clock::cached());
    }
    loop {
        let input = PickInput { client: x.client.ip, head: x.head(), path: x.path(), exclude: &tried, only: backend.as_deref() };
        let mut picked = upstream.pick(&input).map_err(|kind| unavailable(kind, upstream, backend.as_deref()))?;
        let endpoint = picked.endpoint().id;
        let result = attempt(x, snapshot, down, route, proxy, upstream, &mut picked, &mut transfer, refresh).await;
        let (error, stale) = match result {
            Ok(leg) => {
                let status = status_of(x);
                if !(retry.statuses.contains(&status)
                    && may_repeat(x.head(), upstream)
                    && clock::now() < late
                    && may_retry(x, upstream, &transfer, tried.len(), false))
                {
                    return Ok(Answered { leg, transfer, picked });
                }
                (None, false)
            }
            Err(Failed { error, stale }) => (Some(error), stale),
        };
        if let Some(error) = error {
            // A connection that the backend closed while it was idle says nothing of the backend: once more on a fresh one, uncounted.
            let safe = match error.retry {
                RetrySafety::Unsent => true,
                RetrySafety::Sent => may_repeat(x.head(), upstream),
                RetrySafety::Never => false,
            };
            if stale && !refresh && safe && transfer.is_replayable() {
                refresh = true;
                transfer.rewind(down, !x.kit.replay.is_empty());
                continue;
            }
            // Its backend is still not to blame, but a request failed by it.
            if stale {
                x.local.counts.tried(upstream.metric, Try::Reset, Duration::ZERO);
            }
            // Where nothing was sent and another backend is left, a retry adds no load to anybody: the budget is not asked, or one dead
            // backend of two would use it up.
            let another = upstream.has_other(&[tried.as_slice(), &[endpoint]].concat());
            let free = error.retry == RetrySafety::Unsent && another;
            // A try that ended because its backend was silent took the time that others are given: where another backend is left, that one
            // is asked, or a backend that hangs would take every request with it whose limit of a try is the longer of the two.
            let silent = error.kind == ErrorKind::UpstreamTimeout && another;
            let in_time = error.retry == RetrySafety::Unsent || silent || clock::cached() < late;
            if !safe || !in_time || !may_retry(x, upstream, &transfer, tried.len(), free) {
                return Err(error);
            }
        }
        refresh = false;
        tried.push(endpoint);
        drop(picked);
        x.local.counts.retried(upstream.metric);
        transfer.rewind(down, !x.kit.replay.is_empty());
        // Another backend has done nothing to be spared for; one that is asked again is given time.
        if upstream.has_other(&tried) {
            continue;
        }
        let pause = retry.pause(tried.len() as u32);
        match guard(down, x.local, x.deadline, Box::pin(tokio::time::sleep(pause))).await {
            Ok(()) => {}
            Err(cut) => return Err(x.cut(cut, out_of_time)),
        }
    }
}

/// A try that failed.
struct Failed {
    error: ProxyError,
    /// On a connection that had been idle, before any byte of an answer.
    stale: bool,
}

impl From<ProxyError> for Failed {
    fn from(error: ProxyError) -> Self {
        Self { error, stale: false }
    }
}

/// One try at one endpoint, reported to it.
#[expect(clippy::too_many_arguments, reason = "the parts of one try, borrowed apart")]
async fn attempt<D: Downstream>(
    x: &mut Exchange<'_>,
    snapshot: &Held,
    down: &mut D,
    route: &Route,
    proxy: &Proxy,
    upstream: &Arc<Upstream>,
    picked: &mut Picked,
    transfer: &mut Transfer,
    fresh: bool,
) -> Result<Leg, Failed> {
    let endpoint = picked.endpoint();
    x.notes.tries += 1;
    x.notes.backend = Some(endpoint.addr);
    let mut lane = match lane(x, down, upstream, endpoint, fresh).await {
        Ok(lane) => lane,
        Err(error) => {
            if matches!(error.kind, ErrorKind::ConnectFailed | ErrorKind::UpstreamTls) {
                let took = x.notes.connect.unwrap_or_default();
                x.local.counts.tried(upstream.metric, Try::ConnectFailed, took);
                picked.report(Outcome::ConnectFailed, took);
            }
            return Err(error.into());
        }
    };
    if x.head().facts.has(HeaderId::GrpcTimeout) && x.deadline != NEVER && grpc::is_grpc(x.head()) {
        let left = x.deadline.saturating_sub(clock::now());
        x.kit.request_ops.set("grpc-timeout", grpc::left(left));
    }
    if let Lane::H2(lease) = &lane
        && x.head().facts.upgrade
        && !lease.accepts_connect()
    {
        guard(down, x.local, x.deadline, Box::pin(lease.settle())).await.map_err(|cut| x.cut(cut, out_of_time))?;
        // ALPN chose HTTP/2, and the backend takes no upgrade there: it is asked for HTTP/1.1 and nothing else.
        if !lease.accepts_connect() && upstream.protocol == Protocol::Auto && framings(x, down, route).1.is_some() {
            lane = Box::pin(upgradable(x, down, upstream, endpoint)).await?;
        }
    }
    let (framing, upgrade) = framings(x, down, route);
    let query = x.kit.policy.forward_query(x.kit.policy.query(x.head().raw_query()));
    let mut target = proxy.forward(x.path(), &x.params, query.as_deref())?;
    if let Some(path) = x.kit.policy.rewrite().and_then(|rewrite| rewrite.path.as_ref()) {
        target.path = path.as_slice().into();
    }
    let plan = RequestPlan {
        path: &target.path,
        query: target.query.as_deref(),
        host: upstream.host_for(endpoint, x.head().authority_bytes()),
        framing,
        upgrade,
        expect: down.body() != BodyKind::None && !x.held && x.head().version != Version::H10,
        trailers: framing == Framing::Chunked,
        ops: &x.kit.request_ops,
        forwarding: &snapshot.forwarding,
        client: &x.client,
        ids: &x.ids,
    };
    let mut leg = match lane {
        Lane::H1(connection) => Leg::h1(connection, framing, |out| encode::request(x.head(), &plan, out)),
        Lane::H2(lease) => {
            let opening = Opening {
                framing,
                to_head: x.head().method == Method::Head,
                te_trailers: x.head().get(HeaderId::Te).is_some_and(|te| te.eq_ignore_ascii_case(b"trailers")),
                upgrade,
                secure: upstream.tls.is_some(),
            };
            // A connection that was told to go away since it was chosen: nothing was sent, and there is another.
            Leg::h2(lease, &opening, |out| encode::request(x.head(), &plan, out))
                .map_err(|error| Failed { stale: error.retry == RetrySafety::Unsent, error })?
        }
    };
    let sent = Instant::now();
    match answer_head(x, down, &mut leg, upstream, transfer).await {
        Ok(()) => {
            let took = sent.elapsed();
            x.notes.first_byte = Some(took);
            x.local.counts.tried(upstream.metric, Try::Answered, took);
            let status = status_of(x);
            picked.report(if status >= 500 { Outcome::ServerError } else { Outcome::Success }, took);
            Ok(leg)
        }
        Err(error) => {
            let stale = leg.was_stale() && error.kind == ErrorKind::UpstreamReset;
            if error.kind == ErrorKind::UpstreamTimeout {
                leg.retire();
            }
            if error.side == Side::Upstream && !stale {
                let (outcome, label) = match error.kind {
                    ErrorKind::UpstreamTimeout => (Outcome::Timeout, Try::TimedOut),
                    _ => (Outcome::Reset, Try::Reset),
                };
                x.local.counts.tried(upstream.metric, label, sent.elapsed());
                picked.report(outcome, sent.elapsed());
            }
            Err(Failed { error, stale })
        }
    }
}

/// Status of the answer that has come: of a gRPC call that failed at once (trailers-only), the one that its `grpc-status` stands for.
fn status_of(x: &Exchange<'_>) -> u16 {
    let Some(head) = &x.kit.response else { return 0 };
    match head.get(HeaderId::GrpcStatus) {
        Some(code) if grpc::is_grpc(x.head()) => grpc::status_of(code),
        _ => head.status,
    }
}

/// Waits for the final head, passing interim ones on.
async fn answer_head<D: Downstream>(
    x: &mut Exchange<'_>,
    down: &mut D,
    leg: &mut Leg,
    upstream: &Upstream,
    transfer: &mut Transfer,
) -> Result<(), ProxyError> {
    let try_deadline = after(upstream.retry.try_timeout);
    let mut interim = 0;
    loop {
        let head = poll_fn(|cx| transfer.poll_head(cx, x, down, leg, upstream, try_deadline)).await?;
        if head.status >= 200 || head.status == 101 {
            x.kit.response = Some(head);
            return Ok(());
        }
        interim += 1;
        if interim > MAX_INTERIM {
            return Err(ProxyError::upstream(ErrorKind::BadUpstreamResponse, RetrySafety::Sent, "too many interim answers"));
        }
        // 100 answers an expectation; who has none is not told.
        if head.status != 100 || x.head().facts.has(HeaderId::Expect) {
            let none = Default::default();
            down.interim(&head, &Reply { ops: &none, ..x.reply() });
        }
    }
}

/// A connection to the endpoint: idle, new, or waited for; or a stream of one. `fresh` = not one that was idle.
async fn lane<D: Downstream>(
    x: &mut Exchange<'_>,
    down: &mut D,
    upstream: &Arc<Upstream>,
    endpoint: &Arc<Endpoint>,
    fresh: bool,
) -> Result<Lane, ProxyError> {
    let local = x.local;
    if upstream.protocol != Protocol::Http1 && !(upstream.protocol == Protocol::Auto && upstream.tls.is_none()) {
        // Boxed: HTTP/1.1's future does not carry its state.
        return Box::pin(multiplexed(x, down, upstream, endpoint, fresh)).await;
    }
    if !fresh && let Some(connection) = local.pool.borrow_mut().checkout(endpoint) {
        return Ok(Lane::H1(connection));
    }
    let mut permit = endpoint.permits.try_acquire();
    if permit.is_none() && fresh {
        // Idle connections that nobody may use now must not keep a new one from being opened.
        local.pool.borrow_mut().forget(endpoint);
        permit = endpoint.permits.try_acquire();
    }
    let permit = match permit {
        Some(permit) => permit,
        None => match queue(x, down, upstream, endpoint).await? {
            Grant::Permit(permit) => permit,
            Grant::Connection(connection) => return taken_over(local, endpoint, connection),
        },
    };
    open(x, down, upstream, endpoint, permit, upstream.tls.clone()).await.map(Lane::H1)
}

/// Waits for leave to open a connection, or for one that another request has left.
async fn queue<D: Downstream>(
    x: &mut Exchange<'_>,
    down: &mut D,
    upstream: &Arc<Upstream>,
    endpoint: &Arc<Endpoint>,
) -> Result<Grant, ProxyError> {
    let local = x.local;
    let wait = endpoint.permits.wait().map_err(|_| exhausted(endpoint, "the queue for a connection is full"))?;
    (local.process.spare)(local.shard, endpoint);
    let deadline = after(upstream.pool.wait_timeout).min(x.deadline);
    let granted = guard(down, local, deadline, wait).await;
    granted.map_err(|cut| x.cut(cut, || exhausted(endpoint, "waited too long for a connection")))
}

/// A connection of HTTP/1.1, for an upgrade, to a backend that prefers HTTP/2.
async fn upgradable<D: Downstream>(
    x: &mut Exchange<'_>,
    down: &mut D,
    upstream: &Arc<Upstream>,
    endpoint: &Arc<Endpoint>,
) -> Result<Lane, ProxyError> {
    let permit = match endpoint.permits.try_acquire() {
        Some(permit) => permit,
        None => match queue(x, down, upstream, endpoint).await? {
            Grant::Permit(permit) => permit,
            Grant::Connection(connection) => return taken_over(x.local, endpoint, connection),
        },
    };
    let tls = upstream.tls.as_deref().map(|tls| {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(tls)
    });
    open(x, down, upstream, endpoint, permit, tls).await.map(Lane::H1)
}

/// A stream of a shared connection; where ALPN chose HTTP/1.1, a connection.
async fn multiplexed<D: Downstream>(
    x: &mut Exchange<'_>,
    down: &mut D,
    upstream: &Arc<Upstream>,
    endpoint: &Arc<Endpoint>,
    fresh: bool,
) -> Result<Lane, ProxyError> {
    let local = x.local;
    let backend = local.pool.borrow_mut().backend(endpoint, upstream.pool.idle_timeout);
    let deadline = after(upstream.pool.wait_timeout).min(x.deadline);
    let waiting = backend.waiting();
    let permit = loop {
        if let Some(lease) = backend.lease() {
            return Ok(Lane::H2(lease));
        }
        if backend.is_http1()
            && !fresh
            && let Some(connection) = local.pool.borrow_mut().checkout(endpoint)
        {
            return Ok(Lane::H1(connection));
        }
        let changed = backend.changed.notified();
        let opening = backend.will_have_room() && !backend.is_http1();
        if !opening && let Some(permit) = endpoint.permits.try_acquire() {
            break permit;
        }
        let mut queue = if opening {
            None
        } else {
            (local.process.spare)(local.shard, endpoint);
            Some(endpoint.permits.wait().map_err(|_| exhausted(endpoint, "the queue for a connection is full"))?)
        };
        // Whichever comes first: a stream, or leave to open a connection.
        let mut changed = pin!(changed);
        let granted = guard(
            down,
            local,
            deadline,
            poll_fn(|cx| {
                if let Some(Poll::Ready(grant)) = queue.as_mut().map(|queue| Pin::new(queue).poll(cx)) {
                    return Poll::Ready(Some(grant));
                }
                changed.as_mut().poll(cx).map(|()| None)
            }),
        )
        .await;
        match granted {
            Ok(Some(Grant::Permit(permit))) => break permit,
            Ok(Some(Grant::Connection(connection))) => return taken_over(local, endpoint, connection),
            Ok(None) => {}
            Err(cut) => return Err(x.cut(cut, || exhausted(endpoint, "waited too long for a stream"))),
        }
    };
    drop(waiting);
    let opening = backend.opening();
    let connection = open(x, down, upstream, endpoint, permit, upstream.tls.clone()).await?;
    // Whoever plays a backend speaks its protocol without TLS.
    let played = upstream.protocol == Protocol::H2 && local.process.rehearsal.is_some();
    let h2 = upstream.protocol == Protocol::H2c || connection.socket.alpn() == Some(b"h2") || played;
    if !h2 {
        if upstream.protocol == Protocol::Auto {
            backend.learn(true);
            return Ok(Lane::H1(connection));
        }
        let detail = format!("{} does not speak HTTP/2 (it chose no h2 by ALPN)", endpoint.backend);
        return Err(ProxyError::upstream(ErrorKind::UpstreamTls, RetrySafety::Unsent, detail));
    }
    backend.learn(false);
    let failed = |error: h2::Error| {
        let detail = format!("HTTP/2 with {} failed: {error}", endpoint.backend);
        ProxyError::upstream(ErrorKind::ConnectFailed, RetrySafety::Unsent, detail)
    };
    backend.adopt(connection, opening).await.map_err(failed)?;
    let lease = backend.lease().ok_or_else(|| exhausted(endpoint, "the backend allows no streams"))?;
    Ok(Lane::H2(lease))
}

fn exhausted(endpoint: &Endpoint, detail: &str) -> ProxyError {
    let limit = endpoint.permits.max();
    ProxyError::gateway(ErrorKind::PoolExhausted, format!("{detail}: all {limit} connections to {} are in use", endpoint.backend))
}

/// A connection that another request has left, perhaps on another shard.
fn taken_over(local: &Local, endpoint: &Endpoint, connection: Box<dyn Any + Send>) -> Result<Lane, ProxyError> {
    let connection = connection.downcast::<Connection>().expect("the pool hands connections over");
    connection.adopt(local.shard).map(Lane::H1).map_err(|_| exhausted(endpoint, "a connection could not be taken over"))
}

/// A new connection.
async fn open<D: Downstream>(
    x: &mut Exchange<'_>,
    down: &mut D,
    upstream: &Arc<Upstream>,
    endpoint: &Arc<Endpoint>,
    permit: Permit,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> Result<Connection, ProxyError> {
    let local = x.local;
    let rehearsal = local.process.rehearsal.clone().map(|rehearsal| (rehearsal, upstream.name.clone()));
    let ask = Connect { endpoint: endpoint.clone(), tls, permit, shard: local.shard, rehearsal };
    let began = Instant::now();
    let deadline = after(upstream.timeouts.connect).min(x.deadline);
    // Boxed: connecting is rare and its state (a TLS handshake's above all) is large.
    match guard(down, local, deadline, Box::pin(connect(ask))).await {
        Ok(connected) => {
            let took = began.elapsed();
            x.notes.connect = Some(took);
            let connection = connected?;
            local.counts.connected(upstream.metric, took);
            Ok(connection)
        }
        Err(cut) => {
            x.notes.connect = Some(began.elapsed());
            Err(x.cut(cut, || {
                let detail = format!("connecting to {} ({}) took too long", endpoint.backend, endpoint.addr);
                ProxyError::upstream(ErrorKind::ConnectFailed, RetrySafety::Unsent, detail)
            }))
        }
    }
}

/// Framing towards the upstream, and the protocol to change to.
fn framings<'x, D: Downstream>(x: &'x Exchange<'_>, down: &D, route: &Route) -> (Framing, Option<&'x [u8]>) {
    let head = x.head();
    let framing = match down.body() {
        _ if x.held => Framing::Length(x.kit.replay.len() as u64),
        BodyKind::Length(n) => Framing::Length(n),
        BodyKind::None if head.facts.length.is_some() => Framing::Length(0),
        // The end of its stream said so; over HTTP/1.1 some servers ask for a length (411) where a body would have a meaning.
        BodyKind::None if head.version == Version::H2 && matches!(head.method, Method::Post | Method::Put | Method::Patch) => {
            Framing::Length(0)
        }
        BodyKind::None | BodyKind::Tunnel => Framing::None,
        BodyKind::Chunked | BodyKind::UntilClose => Framing::Chunked,
    };
    let upgrade = if route.websocket.is_some() { framing::upgrade(head) } else { None };
    (framing, upgrade)
}

fn unavailable(kind: ErrorKind, upstream: &Upstream, chosen: Option<&str>) -> ProxyError {
    let detail = match (kind, chosen) {
        (_, Some(backend)) => {
            format!("the backend {backend:?} that a hook chose is none of the upstream {:?} that is usable", upstream.name)
        }
        (ErrorKind::CircuitOpen, None) => "the circuit of every usable backend is open".into(),
        _ => "no backend is usable".into(),
    };
    ProxyError::gateway(kind, detail)
}

/// Whether the request may be processed twice.
fn may_repeat(head: &RequestHead, upstream: &Upstream) -> bool {
    upstream.retry.non_idempotent
        || matches!(head.method, Method::Get | Method::Head | Method::Options | Method::Trace | Method::Put | Method::Delete)
}

/// Whether there is another try: by count, by what of the body was kept, by time and (not where it is `free`) by the budget.
fn may_retry(x: &Exchange<'_>, upstream: &Upstream, transfer: &Transfer, tries: usize, free: bool) -> bool {
    if tries as u32 >= upstream.retry.max || !transfer.is_replayable() || x.deadline <= clock::cached() {
        return false;
    }
    if free {
        return true;
    }
    let allowed = upstream.budget.retry(clock::cached());
    if !allowed {
        x.local.counts.retry_denied(upstream.metric);
    }
    allowed
}
