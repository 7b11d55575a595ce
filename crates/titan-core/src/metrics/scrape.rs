//! The one snapshot of a scrape.
//!
//! ```json
//! { "bounds_us": [500, …],
//!   "routes": [{ "route": "api", "requests": [["GET", 200, 12], …], "latency": [per bucket, one more than bounds], "latency_sum_us": 1,
//!                "bytes_in": 0, "bytes_out": 0, "tunnels_opened": 0, "tunnels_closed": 0, "tunnel_bytes_in": 0, "tunnel_bytes_out": 0 }],
//!   "upstreams": [{ "upstream": "api", "answered": 0, "connect_failed": 0, "reset": 0, "timed_out": 0, "latency": […],
//!                   "latency_sum_us": 0, "connects": 0, "connect_us": 0, "retries": 0, "retries_denied": 0 }],
//!   "policies": [{ "policy": "strict", "rejected": 0 }],
//!   "listeners": [{ "listener": "http", "accepted": 0, "closed": { "clean": 0, "timeout": 0, "error": 0 },
//!                   "refused": { "limit": 0, "address": 0, "shutdown": 0 }, "tls": { "full": 0, "resumed": 0, "failed": 0 } }],
//!   "hooks": [{ "hook": "tenant", "outcomes": { "went_on": 0, "answered": 0, "told": 0, "failed": 0, "late": 0, "busy": 0, "gone": 0 },
//!               "latency": […], "latency_sum_us": 0 }],
//!   "hooked_requests": 0,
//!   "errors": { "no_route": 3 },
//!   "access_log": { "written": 0, "dropped": 0, "errors": 0 },
//!   "gauges": { "generation": 1, "snapshots": 1, "draining": false, "accept_pauses": 0, "buffers": {…}, "listeners": […], "backends": […], "changes": […], "certificates": […], "stores": […], "tokens": […] } }
//! ```
//!
//! The route, upstream … with the name `""` holds what belongs to none (`no route matched`). Buckets are not cumulative.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cells::{BOUNDS_US, Counter, Histogram};
use super::series::Shard;
use super::{Registry, access_log};
use crate::store::StoreState;
use crate::tls::CertificateInfo;

/// What is true now and is not counted: the gateway gathers it for a scrape.
#[derive(Debug, Default, Serialize)]
pub struct Gauges {
    /// Generation of the configuration.
    pub generation: u64,
    /// Configurations in memory.
    pub snapshots: u64,
    /// Whether a drain has begun.
    pub draining: bool,
    /// Pauses of accepting for want of file descriptors or memory.
    pub accept_pauses: u64,
    /// Bodies that are held.
    pub buffers: BufferGauge,
    /// Listeners.
    pub listeners: Vec<ListenerGauge>,
    /// Endpoints of every upstream.
    pub backends: Vec<BackendGauge>,
    /// What changed with them, as the log tells it.
    pub changes: Vec<ChangeCount>,
    /// Certificates in use.
    pub certificates: Vec<CertificateInfo>,
    /// Redis servers.
    pub stores: Vec<StoreState>,
    /// Policies that verify tokens.
    pub tokens: Vec<TokenGauge>,
}

/// Bodies that are held now, and what could not be.
#[derive(Debug, Default, Serialize)]
pub struct BufferGauge {
    /// Bytes.
    pub bytes: u64,
    /// Their limit; 0 = none.
    pub limit: u64,
    /// Requests refused for want of room.
    pub refused: u64,
    /// Tries and encoders done without for want of room.
    pub forgone: u64,
}

/// A policy that verifies tokens, now.
#[derive(Debug, Serialize)]
pub struct TokenGauge {
    /// Its name.
    pub policy: String,
    /// Tokens found verified already.
    pub cache_hits: u64,
    /// Tokens that were verified anew.
    pub cache_misses: u64,
    /// Its key set, where it has one.
    pub keys: Option<KeySetGauge>,
}

/// A key set now.
#[derive(Debug, Serialize)]
pub struct KeySetGauge {
    /// Whether the last fetch was good.
    pub healthy: bool,
    /// Fetches.
    pub fetches: u64,
    /// Of those, failed.
    pub failures: u64,
}

/// A listener now.
#[derive(Debug, Serialize)]
pub struct ListenerGauge {
    /// Its name.
    pub listener: String,
    /// Open connections.
    pub open: u64,
}

/// An endpoint now.
#[derive(Debug, Serialize)]
pub struct BackendGauge {
    /// Its upstream.
    pub upstream: String,
    /// `address:port`.
    pub backend: String,
    /// Takes traffic as far as health checks and ejection go.
    pub healthy: bool,
    /// State of its circuit breaker.
    pub breaker: Breaker,
    /// Requests in flight.
    pub in_flight: u64,
    /// Open connections.
    pub connections: u64,
    /// Of those, idle in the pool.
    pub idle: u64,
    /// Requests that wait for a connection.
    pub waiting: u64,
    /// Requests sent to it since it exists, tries included.
    pub requests: u64,
    /// Of those, failed.
    pub failures: u64,
    /// Active health checks that passed.
    pub checks_ok: u64,
    /// Active health checks that failed.
    pub checks_failed: u64,
    /// Passive ejections.
    pub ejections: u64,
    /// Times that its circuit opened.
    pub circuit_opened: u64,
}

/// How often something happened to a backend.
#[derive(Debug, Serialize)]
pub struct ChangeCount {
    /// Its upstream.
    pub upstream: String,
    /// As configured; empty where the whole upstream is meant.
    pub backend: String,
    /// The log's event.
    pub change: &'static str,
    /// How often.
    pub count: u64,
}

/// State of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Breaker {
    /// Everything passes, or there is no breaker.
    Closed,
    /// Nothing passes.
    Open,
    /// Probes pass.
    HalfOpen,
}

const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "OTHER"];

#[derive(Serialize)]
struct Scrape<'a> {
    bounds_us: &'static [u64],
    routes: Vec<Route>,
    upstreams: Vec<Upstream>,
    policies: Vec<Policy>,
    listeners: Vec<Listener>,
    hooks: Vec<Hook>,
    hooked_requests: u64,
    errors: BTreeMap<&'static str, u64>,
    access_log: access_log::Counts,
    gauges: &'a Gauges,
}

#[derive(Serialize, Default)]
struct Route {
    route: String,
    requests: Vec<(&'static str, u16, u64)>,
    #[serde(flatten)]
    latency: Latency,
    bytes_in: u64,
    bytes_out: u64,
    tunnels_opened: u64,
    tunnels_closed: u64,
    tunnel_bytes_in: u64,
    tunnel_bytes_out: u64,
}

#[derive(Serialize, Default)]
struct Latency {
    latency: [u64; BOUNDS_US.len() + 1],
    latency_sum_us: u64,
}

impl Latency {
    fn add(&mut self, histogram: &Histogram) {
        histogram.add_to(&mut self.latency, &mut self.latency_sum_us);
    }
}

#[derive(Serialize, Default)]
struct Upstream {
    upstream: String,
    answered: u64,
    connect_failed: u64,
    reset: u64,
    timed_out: u64,
    #[serde(flatten)]
    latency: Latency,
    connects: u64,
    connect_us: u64,
    retries: u64,
    retries_denied: u64,
}

#[derive(Serialize, Default)]
pub(super) struct Policy {
    pub(super) policy: String,
    pub(super) rejected: u64,
}

#[derive(Serialize, Default)]
struct Hook {
    hook: String,
    outcomes: BTreeMap<&'static str, u64>,
    #[serde(flatten)]
    latency: Latency,
}

/// In the order of [`super::HookOutcome`].
const OUTCOMES: [&str; 7] = ["went_on", "answered", "told", "failed", "late", "busy", "gone"];

#[derive(Serialize, Default)]
struct Listener {
    listener: String,
    accepted: u64,
    closed: Closed,
    refused: Refused,
    tls: Handshakes,
}

#[derive(Serialize, Default)]
struct Closed {
    clean: u64,
    timeout: u64,
    error: u64,
}

#[derive(Serialize, Default)]
struct Refused {
    limit: u64,
    address: u64,
    shutdown: u64,
}

#[derive(Serialize, Default)]
struct Handshakes {
    full: u64,
    resumed: u64,
    failed: u64,
}

pub(super) fn json(registry: &Registry, gauges: &Gauges) -> String {
    let shards = registry.shards.lock().clone();
    let scrape = Scrape {
        bounds_us: &BOUNDS_US,
        routes: routes(registry, &shards),
        upstreams: upstreams(registry, &shards),
        policies: policies(registry, &shards),
        listeners: listeners(registry, &shards),
        hooks: hooks(&shards),
        hooked_requests: shards.iter().map(|shard| shard.hooked.get()).sum(),
        errors: errors(&shards),
        access_log: access_log::counts(),
        gauges,
    };
    serde_json::to_string(&scrape).expect("strings and numbers always serialise")
}

type Shards = [std::sync::Arc<Shard>];

fn add(sum: &mut u64, counter: &Counter) {
    *sum += counter.get();
}

fn routes(registry: &Registry, shards: &Shards) -> Vec<Route> {
    let mut list = Vec::new();
    for (id, name) in registry.routes.all() {
        let mut route = None;
        let mut requests = BTreeMap::<(u32, u16), u64>::new();
        for series in shards.iter().filter_map(|shard| shard.routes.used(id)) {
            let route = route.get_or_insert_with(|| Route { route: name.to_string(), ..Route::default() });
            series.statuses.for_each(&mut |method, status, count| *requests.entry((method, status)).or_default() += count);
            route.latency.add(&series.latency);
            add(&mut route.bytes_in, &series.bytes_in);
            add(&mut route.bytes_out, &series.bytes_out);
            add(&mut route.tunnels_opened, &series.tunnels_opened);
            add(&mut route.tunnels_closed, &series.tunnels_closed);
            add(&mut route.tunnel_bytes_in, &series.tunnel_in);
            add(&mut route.tunnel_bytes_out, &series.tunnel_out);
        }
        if let Some(mut route) = route {
            route.requests = requests.into_iter().map(|((method, status), n)| (METHODS[method as usize], status, n)).collect();
            list.push(route);
        }
    }
    list
}

fn upstreams(registry: &Registry, shards: &Shards) -> Vec<Upstream> {
    let mut list = Vec::new();
    for (id, name) in registry.upstreams.all() {
        let mut upstream = None;
        for series in shards.iter().filter_map(|shard| shard.upstreams.used(id)) {
            let sum = upstream.get_or_insert_with(|| Upstream { upstream: name.to_string(), ..Upstream::default() });
            add(&mut sum.answered, &series.answered);
            add(&mut sum.connect_failed, &series.connect_failed);
            add(&mut sum.reset, &series.reset);
            add(&mut sum.timed_out, &series.timed_out);
            sum.latency.add(&series.latency);
            add(&mut sum.connects, &series.connects);
            add(&mut sum.connect_us, &series.connect_us);
            add(&mut sum.retries, &series.retries);
            add(&mut sum.retries_denied, &series.retries_denied);
        }
        list.extend(upstream);
    }
    list
}

pub(super) fn policies(registry: &Registry, shards: &Shards) -> Vec<Policy> {
    let mut list = Vec::new();
    for (id, name) in registry.policies.all() {
        let mut policy = None;
        for series in shards.iter().filter_map(|shard| shard.policies.used(id)) {
            let sum = policy.get_or_insert_with(|| Policy { policy: name.to_string(), ..Policy::default() });
            add(&mut sum.rejected, &series.rejected);
        }
        list.extend(policy);
    }
    list
}

fn hooks(shards: &Shards) -> Vec<Hook> {
    let mut list = Vec::new();
    for (id, name) in super::HOOKS.all() {
        let mut hook = None;
        for series in shards.iter().filter_map(|shard| shard.hooks.used(id)) {
            let sum = hook.get_or_insert_with(|| Hook { hook: name.to_string(), ..Hook::default() });
            for (outcome, counter) in OUTCOMES.iter().zip(&series.outcomes) {
                add(sum.outcomes.entry(outcome).or_default(), counter);
            }
            sum.latency.add(&series.latency);
        }
        list.extend(hook);
    }
    list
}

fn listeners(registry: &Registry, shards: &Shards) -> Vec<Listener> {
    let mut list = Vec::new();
    for (id, name) in registry.listeners.all() {
        let mut listener = None;
        for series in shards.iter().filter_map(|shard| shard.listeners.used(id)) {
            let sum = listener.get_or_insert_with(|| Listener { listener: name.to_string(), ..Listener::default() });
            add(&mut sum.accepted, &series.accepted);
            add(&mut sum.closed.clean, &series.closed_clean);
            add(&mut sum.closed.timeout, &series.closed_timeout);
            add(&mut sum.closed.error, &series.closed_error);
            add(&mut sum.refused.limit, &series.refused_limit);
            add(&mut sum.refused.address, &series.refused_address);
            add(&mut sum.refused.shutdown, &series.refused_shutdown);
            add(&mut sum.tls.full, &series.tls_full);
            add(&mut sum.tls.resumed, &series.tls_resumed);
            add(&mut sum.tls.failed, &series.tls_failed);
        }
        list.extend(listener);
    }
    list
}

pub(super) fn errors(shards: &Shards) -> BTreeMap<&'static str, u64> {
    let mut errors = BTreeMap::new();
    for shard in shards {
        shard.stages.for_each(&mut |stage, count| *errors.entry(stage).or_default() += count);
    }
    errors
}
