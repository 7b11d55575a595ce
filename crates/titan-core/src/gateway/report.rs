//! What a gateway says about itself: status, metrics, routes, and why a request takes its route.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use serde_json::{Value, json};

use super::Gateway;
use crate::explain;
use crate::metrics::{BackendGauge, Breaker, BufferGauge, ChangeCount, Gauges, ListenerGauge};
use crate::proxy::Phase;
use crate::route::Action;
use crate::rt::clock;
use crate::shard::Mail;
use crate::upstream::breaker::Circuit;
use crate::upstream::{Status, state};

/// How long the shards are waited for; what does not answer is left out.
const PATIENCE: Duration = Duration::from_millis(500);

/// What one shard reports.
struct Look {
    shard: usize,
    connections: usize,
    idle: Vec<(u64, usize)>,
}

impl Gateway {
    /// State for `titan status`: lifecycle, generation, uptime, listeners, shards, upstreams, what limits turned away.
    pub fn status_json(&self) -> String {
        let shards: Vec<Value> =
            self.look().into_iter().map(|look| json!({ "shard": look.shard, "connections": look.connections })).collect();
        let state = self.inner.state.lock();
        let mut listeners: Vec<Value> = state
            .bound
            .values()
            .map(|bound| json!({ "name": &*bound.name, "address": bound.address.to_string(), "connections": bound.open.total() }))
            .collect();
        listeners.sort_by_key(|listener| listener["name"].to_string());
        let phase = match self.inner.process.lifecycle.phase() {
            Phase::Running => "running",
            Phase::PreDrain => "pre_drain",
            Phase::Draining => "draining",
            Phase::Stopped => "stopped",
        };
        let waiting: u64 = state
            .snapshot
            .upstreams
            .iter()
            .map(|upstream| upstream.members().iter().map(|member| u64::from(member.endpoint.permits.waiting())).sum::<u64>())
            .sum();
        json!({
            "phase": phase,
            "version": &*state.snapshot.version,
            "generation": state.snapshot.generation,
            "snapshots": self.inner.services.census.count(),
            "uptime_ms": self.inner.started.elapsed().as_millis() as u64,
            "workers": state.workers,
            "routes": state.snapshot.routes.len(),
            "listeners": listeners,
            "shards": shards,
            "upstreams": state::services(&state.snapshot.upstreams).services,
            "waiting": waiting,
            "buffers": self.buffers(),
            "limits": self.inner.services.metrics.limits(),
        })
        .to_string()
    }

    /// Every native metric, merged over the shards. Blocks shortly.
    pub fn metrics_json(&self) -> String {
        let mut idle = HashMap::<u64, u64>::new();
        for (endpoint, count) in self.look().into_iter().flat_map(|look| look.idle) {
            *idle.entry(endpoint).or_default() += count as u64;
        }
        let state = self.inner.state.lock();
        let now = clock::now();
        let backends = state.snapshot.upstreams.iter().flat_map(|upstream| {
            let gauges: Vec<_> = upstream.members().iter().map(|member| gauge(&upstream.name, &member.endpoint, &idle, now)).collect();
            gauges
        });
        let changes = state.snapshot.upstreams.iter().flat_map(|upstream| {
            let changes = upstream.shared().changes().into_iter();
            changes.map(|(backend, kind, count)| ChangeCount {
                upstream: upstream.name.to_string(),
                backend: backend.to_string(),
                change: kind.name(),
                count,
            })
        });
        let listeners = state.bound.values().map(|bound| ListenerGauge { listener: bound.name.to_string(), open: bound.open.total() });
        let certificates = state.snapshot.listeners.iter().filter_map(|spec| spec.tls.as_ref()).flat_map(|tls| tls.certificates().to_vec());
        let gauges = Gauges {
            generation: state.snapshot.generation,
            snapshots: self.inner.services.census.count() as u64,
            draining: self.inner.process.lifecycle.is_draining(),
            accept_pauses: self.inner.process.pauses.count(),
            buffers: self.buffers(),
            listeners: listeners.collect(),
            backends: backends.collect(),
            changes: changes.collect(),
            certificates: certificates.collect(),
            stores: self.inner.services.policy.stores.states(),
            tokens: state.snapshot.policies.tokens(),
        };
        drop(state);
        self.inner.services.metrics.json(&gauges)
    }

    fn buffers(&self) -> BufferGauge {
        let buffers = &self.inner.process.buffers;
        BufferGauge { bytes: buffers.held(), limit: buffers.limit(), refused: buffers.refused(), forgone: buffers.forgone() }
    }

    /// Which route a request would take and why. `request` is an [`explain::Request`] in JSON, the answer an [`explain::Explanation`].
    pub fn explain(&self, request: &str) -> Result<String, String> {
        let request: explain::Request = serde_json::from_str(request).map_err(|e| e.to_string())?;
        let snapshot = self.inner.state.lock().snapshot.clone();
        serde_json::to_string(&explain::decide(&snapshot, &request)).map_err(|e| e.to_string())
    }

    /// The routing table.
    pub fn routes_json(&self) -> String {
        let state = self.inner.state.lock();
        let routes: Vec<Value> = state
            .snapshot
            .routes
            .iter()
            .map(|route| {
                let action = match &route.action {
                    Action::Proxy(proxy) => {
                        let targets: Vec<Value> =
                            proxy.targets().iter().map(|t| json!({ "upstream": &*t.upstream.name, "weight": t.weight })).collect();
                        json!({ "type": "proxy", "targets": targets })
                    }
                    Action::Redirect(redirect) => json!({ "type": "redirect", "status": redirect.status }),
                    Action::Fixed(answer) => json!({ "type": "fixed", "status": answer.status }),
                };
                let conditions: Vec<String> = route.conditions.iter().map(ToString::to_string).collect();
                let policies: Vec<Value> = route.policies.iter().map(|(name, kind)| json!({ "name": &**name, "type": kind })).collect();
                json!({
                    "name": &*route.name,
                    "hosts": route.hosts,
                    "methods": route.methods.names(),
                    "path": &*route.pattern,
                    "conditions": conditions,
                    "priority": route.priority,
                    "action": action,
                    "policies": policies,
                    "timeout_ms": route.timeout.map(|timeout| timeout.as_millis() as u64),
                })
            })
            .collect();
        Value::from(routes).to_string()
    }

    /// Drains a backend: it gets no new requests, those in flight end. `target` is `upstream/host:port` (every address of the backend) or
    /// `upstream/address:port`; `on` = false takes it back. Holds across reloads. Returns how many endpoints are meant.
    pub fn drain_backend(&self, target: &str, on: bool) -> Result<usize, String> {
        let (name, backend) = target.split_once('/').ok_or_else(|| format!("\"{target}\": write upstream/host:port"))?;
        let snapshot = self.inner.state.lock().snapshot.clone();
        let upstream = snapshot.upstreams.iter().find(|u| *u.name == *name).ok_or_else(|| {
            let names: Vec<&str> = snapshot.upstreams.iter().map(|u| &*u.name).collect();
            format!("there is no upstream \"{name}\"; there are: {}", names.join(", "))
        })?;
        match upstream.set_drained(backend, on) {
            0 => {
                let known: Vec<String> = upstream.members().iter().map(|m| m.endpoint.backend.to_string()).collect();
                Err(format!("{name} has no backend \"{backend}\"; it has: {}", known.join(", ")))
            }
            meant => Ok(meant),
        }
    }

    /// Asks every shard.
    fn look(&self) -> Vec<Look> {
        let (tell, told) = mpsc::channel();
        let tell = Arc::new(Mutex::new(tell));
        for mailbox in self.inner.mailboxes.iter() {
            let tell = tell.clone();
            let _ = mailbox.send(Mail::Inspect(Box::new(move |local| {
                let look = Look { shard: local.shard, connections: local.connections.get(), idle: local.pool.borrow().all().collect() };
                let _ = tell.lock().unwrap_or_else(PoisonError::into_inner).send(look);
            })));
        }
        drop(tell);
        let mut all = Vec::new();
        // Ends early when every shard has answered, or has ended and dropped its mail.
        while let Ok(look) = told.recv_timeout(PATIENCE) {
            all.push(look);
        }
        all.sort_by_key(|look| look.shard);
        all
    }
}

fn gauge(upstream: &str, endpoint: &crate::upstream::Endpoint, idle: &HashMap<u64, u64>, now: u64) -> BackendGauge {
    let counts = &endpoint.counts;
    BackendGauge {
        upstream: upstream.to_owned(),
        backend: endpoint.addr.to_string(),
        healthy: matches!(endpoint.status(now), Status::Up | Status::HalfOpen),
        breaker: match endpoint.circuit(now) {
            Some(Circuit::Open(_)) => Breaker::Open,
            Some(Circuit::HalfOpen) => Breaker::HalfOpen,
            Some(Circuit::Closed) | None => Breaker::Closed,
        },
        in_flight: u64::from(endpoint.in_flight.load(Ordering::Relaxed)),
        connections: u64::from(endpoint.permits.open()),
        idle: idle.get(&endpoint.id).copied().unwrap_or(0),
        waiting: u64::from(endpoint.permits.waiting()),
        requests: counts.requests.load(Ordering::Relaxed),
        failures: counts.failures.load(Ordering::Relaxed),
        checks_ok: counts.checks_ok.load(Ordering::Relaxed),
        checks_failed: counts.checks_failed.load(Ordering::Relaxed),
        ejections: counts.ejections.load(Ordering::Relaxed),
        circuit_opened: counts.circuit_opened.load(Ordering::Relaxed),
    }
}
