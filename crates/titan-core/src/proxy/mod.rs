//! The spine: what happens to a request, top to bottom, in [`serve`].

mod buffers;
pub mod builtin;
mod demands;
mod downstream;
mod exchange;
mod forward;
mod frames;
mod grpc;
mod hooks;
mod kit;
mod leg;
mod local;
mod pauses;
mod record;
mod relay;
mod rescue;
mod stored;
mod tunnel;
pub mod wire;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

pub use buffers::{Buffers, Room, Tell as TellBuffers};
pub use builtin::MetricsPage;
pub use downstream::{Downstream, Reply};
pub use exchange::{Exchange, Notes};
pub use kit::Kit;
pub use local::{Held, Lifecycle, Local, Phase, Process};
pub use pauses::Pauses;
pub use rescue::{refuse, turned_away};
pub use tunnel::{Tunnel, TunnelCounts, run as run_tunnel};

use crate::error::{ErrorKind, ProxyError, RetrySafety};
use crate::http::answer::Answer;
use crate::http::h1::framing::{self, BodyKind};
use crate::http::head::{HeaderId, Method, Version};
use crate::http::host;
use crate::policy;
use crate::route::{Action, Found, MatchInput};
use crate::rt::clock::{self, Timed, after, later};

use exchange::gone;
use forward::{Answered, forward};

/// What becomes of the connection (or stream) after an exchange.
pub enum After {
    /// The next request.
    Next,
    /// Closed.
    Close,
    /// Closed after what the client still sends was read and thrown away, so that it gets its answer.
    Linger,
    /// Closed with a reset: the answer is incomplete, and nothing else would tell.
    Reset,
    /// Bytes both ways.
    Tunnel(Box<Tunnel>),
}

/// One request, from its head (in `kit`) to the last byte of its answer.
#[inline(always)]
pub fn exchange<D: Downstream>(local: Rc<Local>, down: &mut D, kit: Box<Kit>, started: Instant) -> impl Future<Output = After> {
    Timed(async move {
        let mut x = Exchange::begin(&local, down, kit, started);
        let after = match serve(&mut x, down).await {
            Ok(after) => after,
            // Boxed, like all that is rare here: the exchange's state is as large as the largest of its steps.
            Err(error) => Box::pin(rescue::rescue(&mut x, down, error)).await,
        };
        record::close(&x, down);
        local.put_kit(x.kit);
        after
    })
}

/// The spine.
async fn serve<D: Downstream>(x: &mut Exchange<'_>, down: &mut D) -> Result<After, ProxyError> {
    let snapshot = x.snapshot();

    // A drain answers what was on its way and nothing more.
    if down.was_used() && x.local.process.lifecycle.refuses() {
        return Err(ProxyError::gateway(ErrorKind::ShuttingDown, "this instance is shutting down"));
    }

    // One path, normalised before anything looks at it; built-ins under `/_` cannot be shadowed.
    x.normalise()?;
    let authority = host::normalise(x.head().authority_bytes())?;
    if !serves_host(x, down) {
        return Err(ProxyError::client(ErrorKind::Misdirected, "this TLS session is for another host"));
    }
    if x.head().facts.has(HeaderId::Expect) {
        demands::expectation(x.head())?;
    }
    if let Some(builtin) = builtin::find(x, &snapshot, true) {
        return Box::pin(builtin::answer(x, down, builtin)).await;
    }

    // The route: a CORS preflight belongs to the route that it asks about, where that route answers preflights.
    let host = authority.name;
    let find = |method: &[u8]| {
        let found = snapshot.router.find(&MatchInput { host: &host, path: x.path(), method, head: x.head() });
        match found {
            Found::Route(index, params) => Ok((index, params)),
            other => Err(other),
        }
    };
    let preflight = policy::preflight_method(x.head()).and_then(|method| find(method).ok());
    let found = match preflight {
        Some((index, params)) if snapshot.routes[index].chain.answers_preflight() => Ok((index, params)),
        _ => find(x.head().method_bytes()),
    };
    drop(host);
    match found {
        Ok((index, params)) => (x.route, x.params) = (Some(index), params),
        Err(Found::MethodNotAllowed(allow)) => x.allow = Some(allow),
        Err(_) => {}
    }
    if x.route.is_none()
        && let Some(builtin) = builtin::find(x, &snapshot, false)
    {
        return Box::pin(builtin::answer(x, down, builtin)).await;
    }

    // Limits of the route, then its policies in their fixed order (those for unrouted requests where there is no route).
    let route = x.route_in(&snapshot);
    x.deadline = after(route.and_then(|route| route.timeout));
    if x.head().facts.has(HeaderId::GrpcTimeout) && grpc::is_grpc(x.head()) {
        x.deadline = x.deadline.min(after(grpc::timeout(x.head())));
    }
    x.max_body = route.and_then(|route| route.max_body).unwrap_or(x.max_body);
    if let Some(answer) = x.admit(&snapshot, down).await? {
        let refused = answer.status >= 400 && answer.stage != "hook";
        let answer =
            if refused { Box::pin(hooks::error(x, down, answer, "a policy of the route refused the request")).await } else { answer };
        return reply(x, down, answer).await;
    }
    let Some(route) = route else {
        if x.path() == b"*" {
            return reply(x, down, demands::ping()).await;
        }
        return Err(match x.allow {
            Some(_) => ProxyError::client(ErrorKind::MethodNotAllowed, "the path exists, but not for this method"),
            None => ProxyError::client(ErrorKind::NoRoute, "no route matches this request"),
        });
    };
    if matches!(down.body(), BodyKind::Length(n) if n > x.max_body) {
        return Err(relay::too_large(x.max_body));
    }

    // Answered here, or by an upstream.
    let proxy = match &route.action {
        Action::Fixed(answer) => return own(x, &snapshot, down, answer.clone()).await,
        Action::Redirect(redirect) => {
            let query = x.kit.policy.forward_query(x.head().raw_query());
            let location = redirect.location(x.path(), &x.params, query.as_deref());
            return own(x, &snapshot, down, builtin::redirect(redirect.status, &location)).await;
        }
        Action::Proxy(proxy) => proxy,
    };
    if matches!(x.head().method, Method::Options | Method::Trace)
        && let Some(answer) = demands::max_forwards(x)?
    {
        return reply(x, down, answer).await;
    }
    let upstream =
        match x.kit.policy.rewrite().and_then(|rewrite| rewrite.upstream.as_deref()) {
            Some(name) => snapshot.upstreams.iter().find(|upstream| *upstream.name == *name).cloned().ok_or_else(|| {
                ProxyError::gateway(ErrorKind::Internal, format!("a hook chose the upstream {name:?}, which does not exist"))
            })?,
            None => proxy.choose(x.head(), x.client.ip).clone(),
        };
    x.notes.upstream = Some(upstream.clone());
    let tunnel = tunnel::admit(x, route)?;
    if tunnel.is_some() && x.held {
        return Err(ProxyError::gateway(ErrorKind::Internal, "a request that changes protocols has no body, but a hook gave it one"));
    }
    let changes_bodies = !route.bodies.is_pass_through();
    if changes_bodies {
        Box::pin(stored::change_request(x, down, &route.bodies)).await?;
    }
    let Answered { mut leg, mut transfer, picked } = forward(x, &snapshot, down, route, proxy, &upstream).await?;
    transfer.keep_no_more(x);

    // The answer's head, with the edits of policies.
    let head = x.kit.response.as_ref().expect("forward leaves a head");
    let status = head.status;
    let body = framing::response_body(head, x.head().method);
    // What the client is told, and so hooks, metrics and the log: HTTP/2 has no 101, a tunnel there begins with 200.
    let told = if body == BodyKind::Tunnel && x.head().version == Version::H2 { 200 } else { status };
    let reusable = framing::response_keep_alive(head, body);
    if body == BodyKind::Tunnel && tunnel.is_none() {
        return Err(ProxyError::upstream(ErrorKind::BadUpstreamResponse, RetrySafety::Never, "the backend changed protocols unasked"));
    }
    if body != BodyKind::Tunnel && (200..300).contains(&status) && tunnel::is_connect(x.head()) {
        let detail = format!("the backend answered {status} instead of opening the WebSocket");
        return Err(ProxyError::upstream(ErrorKind::BadUpstreamResponse, RetrySafety::Never, detail));
    }
    let looks_at_body =
        if body.is_empty() || body == BodyKind::Tunnel { 0 } else { x.chain_in(&snapshot).hook_response_body(&x.view(&snapshot)) };
    if looks_at_body > 0 {
        leg.begin_body(body);
        let answer = Box::pin(hooks::whole_response(x, &snapshot, down, &mut leg, &upstream, looks_at_body)).await?;
        drop((leg, picked));
        return reply(x, down, answer).await;
    }
    if let Some(answer) = hooks::response(x, &snapshot, down, told).await? {
        // The backend's answer is thrown away, and its connection with it.
        drop((leg, picked));
        return reply(x, down, answer).await;
    }
    x.edit_response(status);
    if let Some(cookie) = upstream.sticky_cookie(&picked, x.head(), x.client.tls.is_some()) {
        x.kit.response_ops.add("set-cookie", cookie);
    }
    leg.begin_body(body);
    let mut sent = body;
    if changes_bodies {
        sent = Box::pin(stored::change_answer(x, down, &route.bodies, &mut leg, &mut transfer, &upstream, body)).await?;
    }
    if !transfer.is_uploaded() {
        down.close_after();
    }
    down.head(x.kit.response.as_ref().expect("set above"), sent, &x.reply());
    x.answered = true;
    x.notes.status = told;

    // Its body, or a tunnel. What is not over with its first poll may be a stream without end: it holds its route, not the configuration.
    let metric = route.metric;
    drop(snapshot);
    poll_fn(|cx| {
        let bodies = transfer.poll_bodies(cx, x, down, &mut leg, &upstream);
        if bodies.is_pending() {
            x.give_up_snapshot();
        }
        bodies
    })
    .await?;
    if let (BodyKind::Tunnel, Some(tunnel)) = (body, tunnel) {
        return Ok(After::Tunnel(tunnel.open(x, metric, leg.into_tunnel(), picked)));
    }
    if reusable
        && transfer.is_uploaded()
        && let Some(connection) = leg.into_idle()
    {
        x.local.pool.borrow_mut().checkin(picked.endpoint(), connection, upstream.pool.max_idle, upstream.pool.idle_timeout);
    }
    Ok(if transfer.is_uploaded() { After::Next } else { After::Linger })
}

/// Sends the answer of a route that answers by itself.
async fn own<D: Downstream>(x: &mut Exchange<'_>, snapshot: &Held, down: &mut D, answer: Answer) -> Result<After, ProxyError> {
    let answer = hooks::response(x, snapshot, down, answer.status).await?.unwrap_or(answer);
    reply(x, down, answer).await
}

/// Sends an answer of Titan's own, with the edits of policies.
async fn reply<D: Downstream>(x: &mut Exchange<'_>, down: &mut D, answer: Answer) -> Result<After, ProxyError> {
    if (200..300).contains(&answer.status) && tunnel::is_connect(x.head()) {
        return Err(ProxyError::client(ErrorKind::BadRequest, "a plain answer is here, and no WebSocket"));
    }
    // Whatever was kept of an upstream's answer is not what is sent.
    x.kit.response = None;
    let status = answer.status;
    let answer = if status >= 400 && grpc::is_grpc(x.head()) { grpc::answer(&answer) } else { answer };
    x.edit_response(answer.status);
    let answer = stored::compress_own(x, answer);
    let read = poll_fn(|cx| Poll::Ready(down.body_done() || down.discard(cx, &mut x.local.scratch()))).await;
    if !read {
        down.close_after();
    }
    down.answer(&answer, &x.reply());
    x.answered = true;
    x.notes.status = status;
    if status >= 400 && x.notes.stage.is_none() && !answer.is_wanted() {
        // A policy or a hook refused it.
        x.notes.stage = Some(answer.stage);
    }
    if x.head().method != Method::Head {
        x.notes.bytes_out = answer.body.len() as u64;
    }
    flush(down).await?;
    Ok(if read { After::Next } else { After::Linger })
}

/// Waits until what is queued for the client has been taken.
async fn flush<D: Downstream>(down: &mut D) -> Result<(), ProxyError> {
    let deadline = later(clock::cached(), down.listener().timeouts.write);
    poll_fn(|cx| match down.poll_flush(cx) {
        Poll::Ready(done) => Poll::Ready(done.map_err(|_| gone())),
        Poll::Pending => {
            let slow = || ProxyError::client(ErrorKind::ClientTimeout, "the client took the answer too slowly");
            down.timer().poll(cx, deadline).map(|()| Err(slow()))
        }
    })
    .await
}

/// Whether the TLS session may carry requests for the host (421 otherwise).
fn serves_host<D: Downstream>(x: &Exchange<'_>, down: &D) -> bool {
    match (&down.listener().tls, &down.client().tls) {
        (Some(tls), Some(session)) => tls.serves(session.sni.as_deref(), x.head().authority_bytes()),
        _ => true,
    }
}
