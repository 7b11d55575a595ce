//! The state of every upstream as JSON: `GET /services/health`, `titan status`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use super::breaker::Circuit;
use super::{Status, Upstream};
use crate::rt::clock;

/// Every upstream.
#[derive(Debug, Serialize)]
pub struct Services {
    /// `healthy` = every backend takes traffic; `degraded` = some don't; `unhealthy` = some upstream has none left.
    pub status: &'static str,
    /// In the order of the configuration.
    pub services: Vec<UpstreamState>,
}

/// One upstream.
#[derive(Debug, Serialize)]
pub struct UpstreamState {
    /// Name.
    pub name: String,
    /// As [`Services::status`].
    pub status: &'static str,
    /// Its endpoints, and its backends without an address.
    pub backends: Vec<BackendState>,
}

/// One endpoint.
#[derive(Debug, Serialize)]
pub struct BackendState {
    /// `host:port` as configured.
    pub backend: String,
    /// Its address; absent where the name is not resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `up`, `half_open`, `circuit_open`, `ejected`, `unhealthy`, `draining` or `unresolved`.
    pub status: &'static str,
    /// Milliseconds until an ejection or an open circuit ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// Share; 0 = no traffic.
    pub weight: u32,
    /// `closed`, `open` or `half_open`; absent without a circuit breaker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit: Option<&'static str>,
    /// Requests in flight.
    pub in_flight: u32,
    /// Open connections.
    pub connections: u32,
    /// Most connections.
    pub max_connections: u32,
    /// Requests waiting for a connection.
    pub waiting: u32,
    /// Requests sent to it, tries included.
    pub requests: u64,
    /// Of these, failed.
    pub failures: u64,
    /// Passive ejections.
    pub ejections: u64,
    /// Times that its circuit opened.
    pub circuit_opened: u64,
    /// Peak-EWMA latency; absent where it isn't measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// The last health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_check: Option<CheckState>,
}

/// A health check.
#[derive(Debug, Serialize)]
pub struct CheckState {
    /// Whether it passed.
    pub ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Milliseconds since.
    pub ago_ms: u64,
    /// Milliseconds it took.
    pub took_ms: u64,
    /// Checks passed and failed since the endpoint exists.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
}

/// The state of these upstreams now.
pub fn services(upstreams: &[Arc<Upstream>]) -> Services {
    let services: Vec<_> = upstreams.iter().map(|u| state(u)).collect();
    Services { status: worst(services.iter().map(|s| s.status)), services }
}

fn state(upstream: &Upstream) -> UpstreamState {
    let now = clock::now();
    let mut backends: Vec<BackendState> = Vec::new();
    for member in upstream.members() {
        let endpoint = &member.endpoint;
        let status = endpoint.status(now);
        let until = match status {
            Status::CircuitOpen(until) | Status::Ejected(until) => Some(until.saturating_sub(now)),
            _ => None,
        };
        let counts = &endpoint.counts;
        let micros = endpoint.latency_micros();
        backends.push(BackendState {
            backend: endpoint.backend.to_string(),
            address: Some(endpoint.addr.to_string()),
            status: status.as_str(),
            for_ms: until,
            weight: member.weight,
            circuit: endpoint.circuit(now).map(|circuit| match circuit {
                Circuit::Closed => "closed",
                Circuit::Open(_) => "open",
                Circuit::HalfOpen => "half_open",
            }),
            in_flight: endpoint.in_flight.load(Relaxed),
            connections: endpoint.permits.open(),
            max_connections: endpoint.permits.max(),
            waiting: endpoint.permits.waiting(),
            requests: counts.requests.load(Relaxed),
            failures: counts.failures.load(Relaxed),
            ejections: counts.ejections.load(Relaxed),
            circuit_opened: counts.circuit_opened.load(Relaxed),
            latency_ms: (micros > 0.0).then_some((micros / 10.0).round() / 100.0),
            last_check: endpoint.last_check().map(|check| CheckState {
                ok: check.error.is_none(),
                error: check.error,
                ago_ms: now.saturating_sub(check.at),
                took_ms: check.took.as_millis() as u64,
                passed: counts.checks_ok.load(Relaxed),
                failed: counts.checks_failed.load(Relaxed),
            }),
        });
    }
    for backend in &upstream.backends {
        let name = upstream.backend_name(backend);
        if backends.iter().all(|known| known.backend != name) {
            backends.push(unresolved(name, backend.weight, backend.max_connections));
        }
    }
    let taking = |b: &&BackendState| b.weight > 0;
    let up = backends.iter().filter(taking).filter(|b| matches!(b.status, "up" | "half_open")).count();
    let status = match up {
        0 => "unhealthy",
        up if up == backends.iter().filter(taking).count() => "healthy",
        _ => "degraded",
    };
    UpstreamState { name: upstream.name.to_string(), status, backends }
}

fn unresolved(backend: String, weight: u32, max_connections: u32) -> BackendState {
    BackendState {
        backend,
        address: None,
        status: "unresolved",
        for_ms: None,
        weight,
        circuit: None,
        in_flight: 0,
        connections: 0,
        max_connections,
        waiting: 0,
        requests: 0,
        failures: 0,
        ejections: 0,
        circuit_opened: 0,
        latency_ms: None,
        last_check: None,
    }
}

fn worst(statuses: impl Iterator<Item = &'static str>) -> &'static str {
    statuses.fold("healthy", |worst, status| match (worst, status) {
        ("unhealthy", _) | (_, "unhealthy") => "unhealthy",
        ("degraded", _) | (_, "degraded") => "degraded",
        _ => "healthy",
    })
}
