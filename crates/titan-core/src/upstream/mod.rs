//! Upstreams and their endpoints: the state of every backend, exact for the process.
//!
//! A choice ([`Upstream::pick`]) reads one pointer ([`view::View`]): the endpoints that may be chosen, laid out for the algorithm. The view
//! is rebuilt by whoever finds it out of date: after a change of state (health, ejection, circuit, drain, DNS), or when the time of an
//! ejection, an open circuit or a step of slow start is over. Everything an endpoint learns is atomic and shared by all shards, so a
//! breaker that needs five failures sees five, wherever they happened.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::balance::{self, Balance};
use crate::error::ErrorKind;
use crate::http::cookie;
use crate::http::head::RequestHead;
use crate::metrics;
use crate::rt::clock;

pub mod breaker;
pub mod budget;
pub mod change;
pub mod dns;
pub mod endpoint;
pub mod health;
pub mod latency;
pub mod outlier;
pub mod permits;
pub mod settings;
pub mod shared;
pub mod state;
pub mod supervisor;
pub mod view;

pub use budget::RetryBudget;
pub use endpoint::{Endpoint, Outcome, Status};
pub use settings::{Backend, HostRule, PoolLimits, Protocol, Retry, Settings, Timeouts};

use self::breaker::Admission;
use self::endpoint::{Identity, Rules};
use self::shared::Shared;
use self::view::{Member, Set, View};

/// A named set of endpoints with its rules.
pub struct Upstream {
    /// Unique name: metrics label and log field.
    pub name: Arc<str>,
    /// Protocol spoken to the endpoints.
    pub protocol: Protocol,
    /// TLS towards the endpoints; `None` = plain.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// What the Host header becomes.
    pub host: HostRule,
    /// Retries.
    pub retry: Retry,
    /// Share of requests that may be retries.
    pub budget: RetryBudget,
    /// Keep-alive pool.
    pub pool: PoolLimits,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Index of its series.
    pub metric: metrics::Id,
    /// Backends as configured.
    pub backends: Vec<Backend>,
    /// Fingerprint of the configuration: an upstream with the same one is used again by a reload.
    pub key: String,
    settings: Settings,
    /// Fingerprint of protocol and TLS.
    transport: u64,
    shared: Arc<Shared>,
    view: ArcSwap<View>,
    rebuild: Mutex<()>,
    set: ArcSwap<Set>,
    changed: Notify,
}

/// What a choice may depend on.
pub struct PickInput<'a> {
    /// The client's address (through trusted proxies).
    pub client: IpAddr,
    /// The request.
    pub head: &'a RequestHead,
    /// Match path.
    pub path: &'a [u8],
    /// Ids of endpoints that this request already tried: chosen again only when no other is left.
    pub exclude: &'a [u64],
    /// Only this backend will do: `host:port` as configured, or an endpoint's address.
    pub only: Option<&'a str>,
}

/// A chosen endpoint: counts as in flight until dropped.
pub struct Picked {
    endpoint: Arc<Endpoint>,
    probe: bool,
    reported: bool,
}

impl Picked {
    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// What became of the try. `latency` = request sent to head received. Called at most once a pick; a pick that is dropped without
    /// a report (the client went away) says nothing about the endpoint.
    pub fn report(&mut self, outcome: Outcome, latency: Duration) {
        if !std::mem::replace(&mut self.reported, true) {
            self.endpoint.report(self.probe, outcome, latency);
        }
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Relaxed);
        if self.probe && !self.reported {
            self.endpoint.release_probe();
        }
    }
}

/// The addresses of a backend: what DNS says, or the address it is.
pub struct Resolved {
    /// Index into [`Upstream::backends`].
    pub backend: usize,
    /// Where to connect, and another address of the same server.
    pub addr: std::net::SocketAddr,
    /// See [`Endpoint::alternate`].
    pub alternate: Option<std::net::SocketAddr>,
    /// Host that an SRV record names, instead of the backend's.
    pub target: Option<Arc<str>>,
    /// Weight from an SRV record, instead of the backend's.
    pub weight: Option<u32>,
}

impl Resolved {
    /// The address of a backend that needs no DNS: a literal one, or `localhost`.
    pub fn known(index: usize, backend: &Backend) -> Option<Self> {
        let resolved = |addr, alternate| Self { backend: index, addr, alternate, target: None, weight: None };
        if let Ok(ip) = backend.host.parse() {
            return Some(resolved(std::net::SocketAddr::new(ip, backend.port), None));
        }
        dns::localhost(&backend.host, backend.port).map(|found| resolved(found.addr, found.alternate))
    }
}

impl Upstream {
    /// An upstream without endpoints yet. `metric` = index of its series. `before` is the upstream of the same name in the configuration before: what it knows of its
    /// endpoints is taken over.
    pub fn new(
        name: &str,
        key: String,
        settings: Settings,
        transport: u64,
        backends: Vec<Backend>,
        metric: metrics::Id,
        before: Option<&Upstream>,
    ) -> Self {
        let shared = before.map_or_else(|| Shared::new(name), |b| b.shared.clone());
        let set: Arc<Set> = Arc::default();
        let view = View::build(set.clone(), &settings, &shared, clock::now());
        Self {
            name: shared.name.clone(),
            protocol: settings.protocol,
            tls: settings.tls.clone(),
            host: settings.host.clone(),
            retry: settings.retry.clone(),
            budget: RetryBudget::new(settings.budget_percent),
            pool: settings.pool.clone(),
            timeouts: settings.timeouts.clone(),
            metric,
            backends,
            key,
            settings,
            transport,
            shared,
            view: ArcSwap::from_pointee(view),
            rebuild: Mutex::new(()),
            set: ArcSwap::new(set),
            changed: Notify::new(),
        }
    }

    /// Takes a new set of addresses. Endpoints that stay keep their state; `before` is asked for those that this upstream does not know.
    pub fn resolve(&self, addresses: &[Resolved], before: Option<&Upstream>) {
        let old = self.set.load_full();
        let older = before.map(|b| b.set.load_full());
        let known = || old.members.iter().chain(older.iter().flat_map(|s| &s.members)).map(|m| &m.endpoint);
        let rules = Rules {
            breaker: self.settings.breaker.clone(),
            outlier: self.settings.outlier.clone(),
            latency: matches!(self.settings.balance, Balance::Ewma),
        };
        let mut members: Vec<Member> = Vec::with_capacity(addresses.len());
        for address in addresses {
            let backend = &self.backends[address.backend];
            let identity = self.identity(backend, address, rules.clone());
            let endpoint = match known().find(|e| *e.identity() == identity) {
                Some(endpoint) => {
                    endpoint.permits.resize(backend.max_connections, self.pool.max_waiters);
                    endpoint.clone()
                }
                None => {
                    let fresh = Endpoint::new(identity, backend.max_connections, self.pool.max_waiters, self.shared.clone());
                    if let Some(twin) = known().find(|e| e.addr == fresh.addr && e.backend == fresh.backend) {
                        fresh.inherit(twin);
                    }
                    fresh
                }
            };
            if !members.iter().any(|m| Arc::ptr_eq(&m.endpoint, &endpoint)) {
                members.push(Member { endpoint, weight: address.weight.unwrap_or(backend.weight) });
            }
        }
        self.shared.size.store(members.iter().filter(|m| m.weight > 0).count(), Relaxed);
        self.set.store(Arc::new(Set::new(members, &self.settings.balance, &self.name)));
        self.shared.bump();
        self.changed.notify_one();
    }

    /// Waits until the set of endpoints has changed. For one task.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn identity(&self, backend: &Backend, address: &Resolved, rules: Rules) -> Identity {
        let port = if backend.port == 0 { address.addr.port() } else { backend.port };
        let host = address.target.as_deref().unwrap_or(&backend.host);
        let sni = self.settings.sni.as_deref().unwrap_or(host);
        // Never none where there is TLS: without a name the address is verified.
        let server_name = || ServerName::try_from(sni.to_string()).unwrap_or_else(|_| address.addr.ip().into());
        Identity {
            addr: address.addr,
            alternate: address.alternate,
            backend: self.backend_name(backend).into(),
            authority: self.authority(host, port).into(),
            target: address.target.clone(),
            server_name: self.tls.is_some().then(server_name),
            transport: self.transport,
            rules,
        }
    }

    /// Host, with the port where it is not the scheme's.
    fn authority(&self, host: &str, port: u16) -> String {
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
        let usual = if self.tls.is_some() { 443 } else { 80 };
        if port == usual { bracketed } else { format!("{bracketed}:{port}") }
    }

    /// The Host header that a backend without a known address would be sent.
    pub fn host_of(&self, backend: &Backend, client: &[u8]) -> String {
        match &self.host {
            HostRule::Preserve => String::from_utf8_lossy(client).into_owned(),
            HostRule::Backend => self.authority(&backend.host, backend.port),
            HostRule::Fixed(value) => value.to_string(),
        }
    }

    /// A backend as its metrics label, `host:port`; an SRV name has no port.
    pub fn backend_name(&self, backend: &Backend) -> String {
        let host = &backend.host;
        match backend.port {
            0 => host.clone(),
            port if host.contains(':') => format!("[{host}]:{port}"),
            port => format!("{host}:{port}"),
        }
    }

    /// The endpoints of this moment, whatever their state, with their weights.
    pub fn members(&self) -> Vec<Member> {
        self.set.load().members.clone()
    }

    /// Addresses that a backend stands for now.
    pub fn addresses_of(&self, host: &str, port: u16) -> Vec<Resolved> {
        let mine = |b: &Backend| b.host == host && b.port == port;
        let Some(backend) = self.backends.iter().position(mine) else { return Vec::new() };
        let name = self.backend_name(&self.backends[backend]);
        let set = self.set.load();
        let members = set.members.iter().filter(|m| *m.endpoint.backend == name);
        let srv_weight = |m: &Member| m.endpoint.identity().target.is_some().then_some(m.weight);
        members
            .map(|m| Resolved {
                backend,
                addr: m.endpoint.addr,
                alternate: m.endpoint.alternate,
                target: m.endpoint.identity().target.clone(),
                weight: srv_weight(m),
            })
            .collect()
    }

    /// What the configuration says.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// State that outlives this configuration.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Chooses an endpoint: `NoEndpoint` where none is usable, `CircuitOpen` where only open circuits are left.
    pub fn pick(&self, input: &PickInput) -> Result<Picked, ErrorKind> {
        let view = self.view.load();
        if view.epoch == self.shared.epoch() && (view.until == u64::MAX || clock::now() < view.until) {
            return self.choose(&view, input);
        }
        drop(view);
        self.choose(&self.refresh(), input)
    }

    /// Endpoints that may be chosen now, for `explain` and readiness.
    pub fn usable(&self) -> usize {
        self.refresh().candidates.len()
    }

    /// Whether some endpoint is usable beside those tried.
    pub fn has_other(&self, tried: &[u64]) -> bool {
        self.view.load().candidates.iter().any(|candidate| !tried.contains(&candidate.id))
    }

    /// The view, rebuilt where it is out of date.
    fn refresh(&self) -> Arc<View> {
        let _one = self.rebuild.lock();
        let now = clock::now();
        let view = self.view.load_full();
        if view.epoch == self.shared.epoch() && now < view.until {
            return view;
        }
        let view = Arc::new(View::build(self.set.load_full(), &self.settings, &self.shared, now));
        self.view.store(view.clone());
        view
    }

    fn choose(&self, view: &View, input: &PickInput) -> Result<Picked, ErrorKind> {
        let count = view.candidates.len();
        if count == 0 {
            return Err(view.empty);
        }
        let turn = self.shared.turn.fetch_add(1, Relaxed);
        // Candidates whose circuit refused: half-open with its probes out, or opened a moment ago.
        let mut refused: SmallVec<[usize; 4]> = SmallVec::new();
        loop {
            // In order: one that was not tried and has a connection to spare, one that was not tried, any.
            let free = |at: usize| !refused.contains(&at) && input.only.is_none_or(|only| view.candidates[at].is_named(only));
            let fresh = |at: usize| free(at) && !input.exclude.contains(&view.candidates[at].id);
            let spare = |at: usize| fresh(at) && (self.protocol != Protocol::Http1 || !view.candidates[at].is_full());
            let at = self
                .candidate(view, input, turn, &spare)
                .or_else(|| self.candidate(view, input, turn, &fresh))
                .or_else(|| self.candidate(view, input, turn, &free));
            // Nothing refused: none of them is the one that a hook chose.
            let Some(at) = at else { return Err(if refused.is_empty() { ErrorKind::NoEndpoint } else { ErrorKind::CircuitOpen }) };
            let endpoint = &view.candidates[at];
            let probe = match endpoint.admit() {
                Admission::Pass => false,
                Admission::Probe => true,
                Admission::Refuse => {
                    refused.push(at);
                    continue;
                }
            };
            endpoint.in_flight.fetch_add(1, Relaxed);
            return Ok(Picked { endpoint: endpoint.clone(), probe, reported: false });
        }
    }

    /// One candidate by the algorithm.
    fn candidate(&self, view: &View, input: &PickInput, turn: usize, ok: &dyn Fn(usize) -> bool) -> Option<usize> {
        let weights = &view.weights;
        let load = |at: usize| f64::from(view.candidates[at].in_flight.load(Relaxed) + 1) / weights.weight(at) as f64;
        match &self.settings.balance {
            Balance::RoundRobin => balance::in_turn(weights, turn, ok),
            Balance::LeastConnections => balance::least(view.candidates.len(), turn, ok, load),
            Balance::Random => balance::draw(weights, ok),
            Balance::PowerOfTwo => balance::better_of_two(weights, ok, load),
            Balance::Ewma => balance::better_of_two(weights, ok, |at| view.candidates[at].latency_cost()),
            Balance::Hash { key, bound } => match key.of(input.client, input.head, input.path) {
                Some(hash) => self.hashed(view, hash, *bound, ok),
                None => balance::in_turn(weights, turn, ok),
            },
            Balance::Sticky(sticky) => {
                let bound = cookie::values(input.head, sticky.cookie.as_bytes()).find_map(|token| {
                    let member = *view.set.tokens.get(std::str::from_utf8(token).ok()?)?;
                    Some(view.by_member[member as usize] as usize).filter(|at| *at != u32::MAX as usize && ok(*at))
                });
                bound.or_else(|| balance::in_turn(weights, turn, ok))
            }
        }
    }

    fn hashed(&self, view: &View, hash: u64, bound: Option<f64>, ok: &dyn Fn(usize) -> bool) -> Option<usize> {
        let table = view.set.table.as_ref()?;
        let limit = bound.map(|bound| {
            let all: u32 = view.candidates.iter().map(|c| c.in_flight.load(Relaxed)).sum();
            bound * f64::from(all + 1) / view.weights.total() as f64
        });
        let fits = |at: usize| {
            limit.is_none_or(|limit| {
                let most = (limit * view.weights.weight(at) as f64).ceil();
                f64::from(view.candidates[at].in_flight.load(Relaxed)) < most.max(1.0)
            })
        };
        let attempts = 4 * view.set.members.len() as u64 + 8;
        let mut over = None;
        for attempt in 0..attempts {
            let at = view.by_member[table.member(hash, attempt)] as usize;
            if at == u32::MAX as usize || !ok(at) {
                continue;
            }
            if fits(at) {
                return Some(at);
            }
            over.get_or_insert(at);
        }
        over.or_else(|| (0..view.candidates.len()).find(|at| ok(*at)))
    }

    /// The Host header towards `endpoint`, given the client's authority. An HTTP/1.0 client may have none; many backends refuse an empty Host,
    /// so they get their own name then.
    pub fn host_for<'a>(&'a self, endpoint: &'a Endpoint, client: &'a [u8]) -> &'a [u8] {
        match &self.host {
            HostRule::Preserve if client.is_empty() => endpoint.authority.as_bytes(),
            HostRule::Preserve => client,
            HostRule::Backend => endpoint.authority.as_bytes(),
            HostRule::Fixed(value) => value.as_bytes(),
        }
    }

    /// Value of a `Set-Cookie` that binds the client to the endpoint picked, where the algorithm is `sticky` and the request is not bound
    /// to it yet. `secure` = the client's connection has TLS.
    pub fn sticky_cookie(&self, picked: &Picked, head: &RequestHead, secure: bool) -> Option<String> {
        let Balance::Sticky(sticky) = &self.settings.balance else { return None };
        let endpoint = picked.endpoint();
        let token = sticky.token(&self.name, &format!("{}\0{}", endpoint.backend, endpoint.addr));
        let bound = cookie::values(head, sticky.cookie.as_bytes()).any(|value| value == token.as_bytes());
        (!bound).then(|| sticky.set_cookie(&token, secure))
    }

    /// Drains a backend (`host:port`) or an address of this upstream: no new traffic, what is in flight ends. `false` in `on` takes it
    /// back. Returns how many endpoints are meant; 0 = there is no such backend.
    pub fn set_drained(&self, target: &str, on: bool) -> usize {
        let set = self.set.load();
        let meant = set.members.iter().filter(|m| *m.endpoint.backend == *target || m.endpoint.addr.to_string() == target);
        let meant: Vec<_> = meant.map(|m| m.endpoint.clone()).collect();
        if !meant.is_empty() && self.shared.set_drained(target, on) {
            let kind = if on { change::ChangeKind::Draining } else { change::ChangeKind::Undrained };
            self.shared.tell(&meant[0].backend, "", kind, "asked for by an operator");
        }
        meant.len()
    }
}

#[cfg(test)]
#[path = "pick_tests.rs"]
pub(crate) mod tests;
