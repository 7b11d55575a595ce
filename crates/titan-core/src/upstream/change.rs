//! Changes of an upstream that deserve a log line, an event and a count.

use std::sync::Arc;

/// Told of every change. Called from shards and from the auxiliary runtime; must not block.
pub type ChangeSink = Arc<dyn Fn(Change) + Send + Sync>;

/// What happened to an endpoint or an upstream.
#[derive(Debug, Clone)]
pub struct Change {
    /// Upstream.
    pub upstream: Arc<str>,
    /// `host:port` as configured; empty where the whole upstream is meant.
    pub backend: Arc<str>,
    /// The address; empty where the whole backend is meant.
    pub address: String,
    /// What.
    pub kind: ChangeKind,
    /// Why.
    pub reason: String,
}

/// Kinds of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// An active health check took it out.
    Unhealthy,
    /// An active health check took it back.
    Healthy,
    /// Passive ejection.
    Ejected,
    /// The ejection is over: its time, or a health check that passed.
    Readmitted,
    /// The circuit opened.
    CircuitOpen,
    /// The circuit lets probes pass: its time is over, or a health check passed.
    CircuitHalfOpen,
    /// The circuit closed.
    CircuitClosed,
    /// An operator took it out.
    Draining,
    /// An operator took it back.
    Undrained,
    /// DNS answered with other addresses.
    Resolved,
    /// DNS failed: the last good addresses stay.
    ResolveFailed,
    /// DNS answers again.
    ResolveRecovered,
}

impl ChangeKind {
    /// Stable name: the log's `event`, the metrics' `change`.
    pub fn name(self) -> &'static str {
        match self {
            ChangeKind::Unhealthy => "backend_unhealthy",
            ChangeKind::Healthy => "backend_healthy",
            ChangeKind::Ejected => "backend_ejected",
            ChangeKind::Readmitted => "backend_readmitted",
            ChangeKind::CircuitOpen => "circuit_open",
            ChangeKind::CircuitHalfOpen => "circuit_half_open",
            ChangeKind::CircuitClosed => "circuit_closed",
            ChangeKind::Draining => "backend_draining",
            ChangeKind::Undrained => "backend_undrained",
            ChangeKind::Resolved => "dns_changed",
            ChangeKind::ResolveFailed => "dns_failed",
            ChangeKind::ResolveRecovered => "dns_recovered",
        }
    }
}

impl Change {
    /// `info` or `warn`.
    pub fn level(&self) -> &'static str {
        match self.kind {
            ChangeKind::Unhealthy | ChangeKind::Ejected | ChangeKind::CircuitOpen | ChangeKind::ResolveFailed => "warn",
            _ => "info",
        }
    }

    /// Stable name of the event.
    pub fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// One sentence.
    pub fn message(&self) -> String {
        let what = match self.kind {
            ChangeKind::Unhealthy => "is unhealthy and takes no traffic",
            ChangeKind::Healthy => "is healthy again",
            ChangeKind::Ejected => "is ejected for a while",
            ChangeKind::Readmitted => "is ejected no longer",
            ChangeKind::CircuitOpen => "circuit opened",
            ChangeKind::CircuitHalfOpen => "circuit is half open: probes pass",
            ChangeKind::CircuitClosed => "circuit closed",
            ChangeKind::Draining => "drains: no new traffic",
            ChangeKind::Undrained => "takes traffic again",
            ChangeKind::Resolved => "resolved to other addresses",
            ChangeKind::ResolveFailed => "could not be resolved, the last addresses stay",
            ChangeKind::ResolveRecovered => "is resolved again",
        };
        let address =
            if self.address.is_empty() || *self.address == *self.backend { String::new() } else { format!(" ({})", self.address) };
        let reason = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        format!("{} {}{address} {what}{reason}", self.upstream, self.backend)
    }
}
