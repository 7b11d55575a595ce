//! Endpoints that Titan answers itself: health, readiness, metrics, the state of backends, and the answers of redirects.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use super::downstream::Downstream;
use super::exchange::{Cut, Exchange, gone, guard};
use super::local::{Held, Phase};
use super::{After, reply};
use crate::error::{ErrorKind, ProxyError};
use crate::http::answer::Answer;
use crate::http::head::Method;
use crate::http::ops::HeaderOps;
use crate::rt::clock;
use crate::snapshot::{self, Health};
use crate::upstream::state;

/// How long the metrics page may take: JavaScript may be stuck, health answers must not wait for it.
const METRICS_MS: u64 = 5_000;

/// Value of `Allow` of the built-ins.
pub const READ: &str = "GET, HEAD";

/// Renders the metrics page outside the data plane. Asked with a deadline.
pub trait MetricsPage: Send + Sync {
    /// Content type and body, or why there is none.
    fn render(&self) -> Pin<Box<dyn Future<Output = Result<(String, Bytes), String>> + Send>>;
}

/// A built-in endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builtin {
    /// One of the health answers.
    Health(Health),
    /// The metrics page.
    Metrics,
    /// Every upstream and backend with its state.
    Services,
}

impl Builtin {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Builtin::Health(Health::Health) => "health",
            Builtin::Health(Health::Live) => "liveness",
            Builtin::Health(Health::Ready) => "readiness",
            Builtin::Metrics => "metrics",
            Builtin::Services => "services",
        }
    }
}

/// Whether a built-in is for a method.
pub fn is_read(method: Method) -> bool {
    matches!(method, Method::Get | Method::Head)
}

/// The built-in of the exchange's path: those under `/_`, which no route can shadow, or (not `reserved`) the others, which lose to a route.
pub(super) fn find(x: &Exchange<'_>, snapshot: &Held, reserved: bool) -> Option<Builtin> {
    at(x.path(), &snapshot.builtin, reserved, &[x.client.peer.ip(), x.client.ip])
}

/// The same of any path; `who` is connection and client.
pub fn at(path: &[u8], builtin: &snapshot::Builtin, reserved: bool, who: &[IpAddr]) -> Option<Builtin> {
    let found = if reserved {
        if !path.starts_with(b"/_") {
            return None;
        }
        match path {
            b"/_health" => Builtin::Health(Health::Health),
            b"/_live" => Builtin::Health(Health::Live),
            b"/_ready" => Builtin::Health(Health::Ready),
            b"/_metrics" => Builtin::Metrics,
            _ => return None,
        }
    } else {
        match path {
            b"/services/health" => Builtin::Services,
            path => Builtin::Health(*builtin.health_paths.get(path)?),
        }
    };
    match found {
        // Others shall not even learn that it is there.
        Builtin::Metrics | Builtin::Services if !who.iter().all(|ip| is_internal(*ip, builtin)) => None,
        found => Some(found),
    }
}

/// Whether an address is loopback or in a configured network.
fn is_internal(ip: IpAddr, builtin: &snapshot::Builtin) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || builtin.internal.iter().any(|net| net.contains(&ip))
}

/// Answers it.
pub(super) async fn answer<D: Downstream>(x: &mut Exchange<'_>, down: &mut D, builtin: Builtin) -> Result<After, ProxyError> {
    if !is_read(x.head().method) {
        x.allow = Some(READ.into());
        return Err(ProxyError::client(ErrorKind::MethodNotAllowed, "this endpoint can only be read"));
    }
    let answer = match builtin {
        Builtin::Health(health) => health_answer(x, health),
        Builtin::Services => json_answer(200, &state::services(&x.snapshot().upstreams)),
        Builtin::Metrics => metrics(x, down).await?,
    };
    reply(x, down, answer).await
}

fn health_answer(x: &Exchange<'_>, health: Health) -> Answer {
    match health {
        Health::Health => json_answer(200, &json!({ "status": "healthy", "version": &*x.snapshot().version })),
        Health::Live => json_answer(200, &json!({ "status": "ok" })),
        Health::Ready => {
            if x.local.process.lifecycle.phase() >= Phase::PreDrain {
                return json_answer(503, &json!({ "status": "unhealthy", "reason": "shutting down" }));
            }
            let snapshot = x.snapshot();
            let down: Vec<&str> = snapshot.upstreams.iter().filter(|up| up.usable() == 0).map(|up| &*up.name).collect();
            let lost = snapshot.policies.lost();
            if down.is_empty() && lost.is_empty() {
                return json_answer(200, &json!({ "status": "ok" }));
            }
            let unready = snapshot.builtin.critical.is_lost(&down, &lost);
            let mut body = json!({ "status": if unready { "unhealthy" } else { "degraded" } });
            if !down.is_empty() {
                body["unavailable_upstreams"] = json!(down);
            }
            if !lost.is_empty() {
                body["unavailable_dependencies"] = json!(lost);
            }
            json_answer(if unready { 503 } else { 200 }, &body)
        }
    }
}

async fn metrics<D: Downstream>(x: &mut Exchange<'_>, down: &mut D) -> Result<Answer, ProxyError> {
    let Some(page) = x.local.process.metrics.clone() else {
        return Err(ProxyError::client(ErrorKind::NoRoute, "no route matches this request"));
    };
    match guard(down, x.local, clock::now() + METRICS_MS, page.render()).await {
        Ok(Ok((content_type, body))) => {
            let mut headers = HeaderOps::default();
            headers.set("content-type", content_type);
            Ok(Answer { status: 200, headers, body, stage: "metrics" })
        }
        Ok(Err(detail)) => Err(ProxyError::gateway(ErrorKind::Internal, detail)),
        Err(Cut::Gone) => Err(gone()),
        Err(Cut::Late) => Err(ProxyError::gateway(ErrorKind::Overloaded, "the metrics page was not rendered in time")),
    }
}

/// The answer of a redirect.
pub(super) fn redirect(status: u16, location: &[u8]) -> Answer {
    let mut headers = HeaderOps::default();
    headers.set("location", location);
    Answer { status, headers, body: Bytes::new(), stage: "redirect" }
}

fn json_answer(status: u16, body: &impl Serialize) -> Answer {
    let mut headers = HeaderOps::default();
    headers.set("content-type", "application/json");
    headers.set("cache-control", "no-store");
    Answer { status, headers, body: serde_json::to_vec(body).unwrap_or_default().into(), stage: "builtin" }
}
