//! One address of a backend and everything that is known about it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use rustls::pki_types::ServerName;

use super::breaker::{Admission, Breaker, Circuit};
use super::change::ChangeKind;
use super::latency::Latency;
use super::outlier::{Outlier, most_ejected};
use super::permits::Permits;
use super::settings::{BreakerSettings, OutlierSettings};
use super::shared::Shared;
use crate::rt::clock;

/// What became of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An answer below 500.
    Success,
    /// An answer of 500 or above.
    ServerError,
    /// No connection: refused, unreachable, timed out, TLS failed.
    ConnectFailed,
    /// Closed, reset or malformed before an answer.
    Reset,
    /// No answer in time.
    Timeout,
}

impl Outcome {
    fn text(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::ServerError => "5xx answer",
            Outcome::ConnectFailed => "connect failed",
            Outcome::Reset => "connection reset",
            Outcome::Timeout => "no answer in time",
        }
    }
}

/// How an endpoint is judged by what becomes of requests.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rules {
    /// Circuit breaker.
    pub breaker: Option<BreakerSettings>,
    /// Passive ejection.
    pub outlier: Option<OutlierSettings>,
    /// Whether latency is measured.
    pub latency: bool,
}

/// What an endpoint is made from: while it stays the same, the endpoint lives on across reloads and DNS answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// Where to connect.
    pub addr: SocketAddr,
    /// See [`Endpoint::alternate`].
    pub alternate: Option<SocketAddr>,
    /// `host:port` as configured.
    pub backend: Arc<str>,
    /// Host that an SRV record names.
    pub target: Option<Arc<str>>,
    /// See [`Endpoint::authority`].
    pub authority: Arc<str>,
    /// See [`Endpoint::server_name`].
    pub server_name: Option<ServerName<'static>>,
    /// Fingerprint of protocol and TLS: connections opened under another one must not be used.
    pub transport: u64,
    /// Rules of judgement.
    pub rules: Rules,
}

/// One address of a backend.
pub struct Endpoint {
    /// Unique in the process: key of idle connections in the pool.
    pub id: u64,
    /// Where to connect.
    pub addr: SocketAddr,
    /// Another address of the same backend, tried where `addr` refuses (only `localhost`, which is two addresses and one server).
    pub alternate: Option<SocketAddr>,
    /// The backend as configured: `host:port`. Metrics label.
    pub backend: Arc<str>,
    /// The backend's host, with the port where it is not the scheme's: a Host header.
    pub authority: Arc<str>,
    /// Name sent by SNI and verified; `None` without TLS.
    pub server_name: Option<ServerName<'static>>,
    /// Open connections, exact for the process.
    pub permits: Arc<Permits>,
    /// Requests in flight, exact for the process.
    pub in_flight: AtomicU32,
    identity: Identity,
    shared: Arc<Shared>,
    breaker: Option<Breaker>,
    outlier: Outlier,
    latency: Latency,
    unhealthy: AtomicBool,
    /// When it last became healthy by an active check; 0 = it was from the beginning.
    healthy_since: AtomicU64,
    last_check: Mutex<Option<LastCheck>>,
    /// Counters for metrics.
    pub counts: Counts,
}

/// The last active check of an endpoint.
#[derive(Debug, Clone)]
pub struct LastCheck {
    /// When it ended.
    pub at: u64,
    /// How long it took.
    pub took: Duration,
    /// Why it failed.
    pub error: Option<String>,
}

/// Counters of an endpoint since it exists.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests sent to it, tries included.
    pub requests: AtomicU64,
    /// Of these, failed.
    pub failures: AtomicU64,
    /// Active checks passed.
    pub checks_ok: AtomicU64,
    /// Active checks failed.
    pub checks_failed: AtomicU64,
    /// Passive ejections.
    pub ejections: AtomicU64,
    /// Times that the circuit opened.
    pub circuit_opened: AtomicU64,
}

/// Whether an endpoint may be chosen, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Yes.
    Up,
    /// Yes, by a few probes.
    HalfOpen,
    /// Its circuit is open until this time.
    CircuitOpen(u64),
    /// Passively ejected until this time.
    Ejected(u64),
    /// An active check says no.
    Unhealthy,
    /// An operator says no.
    Draining,
}

impl Status {
    /// As shown by `/services/health`, `explain` and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Up => "up",
            Status::HalfOpen => "half_open",
            Status::CircuitOpen(_) => "circuit_open",
            Status::Ejected(_) => "ejected",
            Status::Unhealthy => "unhealthy",
            Status::Draining => "draining",
        }
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Endpoint {
    /// Whether a hook's choice means this endpoint: its backend as configured, or its address.
    pub fn is_named(&self, name: &str) -> bool {
        *self.backend == *name || name.parse() == Ok(self.addr)
    }

    /// An endpoint of which nothing is known yet: it counts as healthy until a check says otherwise.
    pub fn new(identity: Identity, max_connections: u32, max_waiters: usize, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Relaxed),
            addr: identity.addr,
            alternate: identity.alternate,
            backend: identity.backend.clone(),
            authority: identity.authority.clone(),
            server_name: identity.server_name.clone(),
            permits: Permits::new(max_connections, max_waiters),
            in_flight: AtomicU32::new(0),
            breaker: identity.rules.breaker.clone().map(Breaker::new),
            outlier: Outlier::default(),
            latency: Latency::default(),
            unhealthy: AtomicBool::new(false),
            healthy_since: AtomicU64::new(0),
            last_check: Mutex::default(),
            counts: Counts::default(),
            identity,
            shared,
        })
    }

    /// What it was made from.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether it may be chosen at `now`.
    pub fn status(&self, now: u64) -> Status {
        if self.shared.is_drained(&self.backend, &self.addr) {
            return Status::Draining;
        }
        if self.unhealthy.load(Relaxed) {
            return Status::Unhealthy;
        }
        match self.breaker.as_ref().map_or(Circuit::Closed, |b| b.circuit(now)) {
            Circuit::Open(until) => return Status::CircuitOpen(until),
            Circuit::HalfOpen => return Status::HalfOpen,
            Circuit::Closed => {}
        }
        match self.outlier.ejected(now) {
            Some(until) => Status::Ejected(until),
            None => Status::Up,
        }
    }

    /// State of its circuit; `None` without a breaker.
    pub fn circuit(&self, now: u64) -> Option<Circuit> {
        self.breaker.as_ref().map(|b| b.circuit(now))
    }

    /// When it came back for the last time; 0 = it was never away. Begin of its slow start.
    pub fn since(&self) -> u64 {
        self.healthy_since.load(Relaxed).max(self.outlier.until())
    }

    /// Microseconds of peak-EWMA latency; 0 where it isn't measured.
    pub fn latency_micros(&self) -> f64 {
        self.latency.micros()
    }

    /// Cost of one more request, by latency.
    pub(crate) fn latency_cost(&self) -> f64 {
        self.latency.cost(self.in_flight.load(Relaxed))
    }

    /// Whether every connection that it may have is in use, where one serves one request at a time.
    pub(crate) fn is_full(&self) -> bool {
        self.in_flight.load(Relaxed) >= self.permits.max()
    }

    pub(crate) fn admit(&self) -> Admission {
        let Some(breaker) = &self.breaker else { return Admission::Pass };
        let admission = breaker.admit(clock::now);
        if admission == Admission::Probe {
            self.tell_half_open("its time is over");
        }
        admission
    }

    /// Ends what is over at `now` (an ejection, the wait of an open circuit), and tells of it. Returns when it should be called again.
    pub(super) fn tick(&self, now: u64) -> Option<u64> {
        if let Some(breaker) = &self.breaker {
            breaker.tick(now);
            self.tell_half_open("its time is over");
        }
        self.tell_readmitted(now);
        let opens = self.breaker.as_ref().and_then(Breaker::opens);
        opens.into_iter().chain(self.outlier.ends()).min()
    }

    fn tell_half_open(&self, reason: &str) {
        if self.breaker.as_ref().is_some_and(Breaker::has_half_opened) {
            self.shared.tell(&self.backend, self.addr, ChangeKind::CircuitHalfOpen, reason);
        }
    }

    fn tell_readmitted(&self, now: u64) {
        if self.outlier.ended(now) {
            self.shared.tell(&self.backend, self.addr, ChangeKind::Readmitted, "its time is over");
        }
    }

    pub(crate) fn release_probe(&self) {
        if let Some(breaker) = &self.breaker {
            breaker.release();
        }
    }

    /// What became of a try that was admitted.
    pub(crate) fn report(&self, probe: bool, outcome: Outcome, latency: Duration) {
        self.counts.requests.fetch_add(1, Relaxed);
        let rules = &self.identity.rules;
        if rules.latency && outcome != Outcome::ConnectFailed {
            self.latency.observe(latency, clock::now());
        }
        if outcome == Outcome::Success {
            if let Some(outlier) = &rules.outlier {
                self.outlier.success(outlier, clock::now);
            }
            if self.breaker.as_ref().is_some_and(|b| b.success(probe)) {
                self.shared.bump();
                self.shared.tell(&self.backend, self.addr, ChangeKind::CircuitClosed, "");
            }
            return;
        }
        self.counts.failures.fetch_add(1, Relaxed);
        let now = clock::now();
        if self.breaker.as_ref().is_some_and(|b| b.failure(probe, now)) {
            self.counts.circuit_opened.fetch_add(1, Relaxed);
            self.shared.bump();
            self.shared.tell(&self.backend, self.addr, ChangeKind::CircuitOpen, outcome.text());
            self.shared.began.notify_waiters();
        }
        if let Some(settings) = &rules.outlier
            && let Some(reason) = self.outlier.failure(settings, now)
        {
            self.eject(settings, now, &format!("{reason}, the last: {}", outcome.text()));
        }
    }

    /// Ejects it, unless too many are out already.
    fn eject(&self, settings: &OutlierSettings, now: u64, reason: &str) {
        let mut ejected = self.shared.ejected.lock();
        ejected.retain(|_, until| *until > now);
        if ejected.contains_key(&self.id) || ejected.len() >= most_ejected(settings, self.shared.size.load(Relaxed)) {
            return;
        }
        // The last one's end is told of before this one's begin, whoever comes first.
        self.tell_readmitted(now);
        let until = self.outlier.eject(settings, now);
        ejected.insert(self.id, until);
        drop(ejected);
        self.counts.ejections.fetch_add(1, Relaxed);
        self.shared.bump();
        self.shared.tell(&self.backend, self.addr, ChangeKind::Ejected, format!("{reason}, for {} ms", until - now));
        self.shared.began.notify_waiters();
    }

    /// Whether active checks find it healthy.
    pub fn is_healthy(&self) -> bool {
        !self.unhealthy.load(Relaxed)
    }

    /// Verdict of active checks. Coming back also ends an ejection and the wait of an open circuit.
    pub fn set_healthy(&self, healthy: bool, reason: &str) {
        if self.unhealthy.swap(!healthy, Relaxed) != healthy {
            return;
        }
        if healthy {
            let now = clock::now();
            self.healthy_since.store(now, Relaxed);
        }
        self.shared.tell(&self.backend, self.addr, if healthy { ChangeKind::Healthy } else { ChangeKind::Unhealthy }, reason);
        if healthy {
            if self.outlier.pardon(clock::now()) {
                self.shared.tell(&self.backend, self.addr, ChangeKind::Readmitted, "a health check passed");
            }
            self.shared.ejected.lock().remove(&self.id);
            if let Some(breaker) = &self.breaker {
                breaker.half_open();
                self.tell_half_open("a health check passed");
            }
        }
        self.shared.bump();
    }

    /// Remembers the outcome of an active check.
    pub(crate) fn checked(&self, check: LastCheck) {
        *self.last_check.lock() = Some(check);
    }

    /// The last active check.
    pub fn last_check(&self) -> Option<LastCheck> {
        self.last_check.lock().clone()
    }

    /// Takes over the verdict of an endpoint of the same address that had other rules.
    pub(crate) fn inherit(&self, before: &Endpoint) {
        self.unhealthy.store(before.unhealthy.load(Relaxed), Relaxed);
        self.healthy_since.store(before.healthy_since.load(Relaxed), Relaxed);
    }
}
