//! Keeps upstreams informed: one task resolves the names of each, one probes its endpoints. Runs on the auxiliary runtime.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};

use super::change::{ChangeKind, ChangeSink};
use super::dns::{Found, Resolver, localhost};
use super::settings::DnsSettings;
use super::{Resolved, Upstream, health};
use crate::rt::clock;

/// First wait after a failed look-up; doubles up to [`LAST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Runs the tasks of every upstream in use.
pub struct Supervisor {
    handle: Handle,
    sink: Option<ChangeSink>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    resolver: Option<(DnsSettings, Arc<Resolver>)>,
    /// By address of the upstream, which its entry keeps alive.
    running: HashMap<usize, Running>,
}

struct Running {
    upstream: Arc<Upstream>,
    tasks: Vec<AbortHandle>,
    dns: Option<DnsSettings>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Supervisor {
    /// A supervisor whose tasks run on `handle`. Changes are told to `sink`.
    pub fn new(handle: Handle, sink: Option<ChangeSink>) -> Self {
        Self { handle, sink, state: Mutex::default() }
    }

    /// Starts the tasks of upstreams that are new, and waits until their names are resolved, at most `limit`. Call it before a
    /// configuration is published, so that its first requests find endpoints; not from a runtime's thread, for it blocks.
    ///
    /// A name that can't be resolved is no reason to refuse a configuration: it is told to the sink, and tried again.
    pub fn prepare(&self, upstreams: &[Arc<Upstream>], dns: &DnsSettings, limit: Duration) {
        let (ready, wait) = mpsc::channel::<()>();
        let mut state = self.state.lock();
        for upstream in upstreams {
            let key = Arc::as_ptr(upstream) as usize;
            let named = upstream.backends.iter().any(|b| is_name(&b.host));
            let same = |r: &Running| !named || r.dns.as_ref() == Some(dns);
            if state.running.get(&key).is_some_and(same) {
                continue;
            }
            if let Some(sink) = &self.sink {
                upstream.shared().listen(sink.clone());
            }
            let mut tasks = Vec::new();
            if named {
                match state.resolver(dns) {
                    Ok(resolver) => tasks.push(self.handle.spawn(resolve(upstream.clone(), resolver, ready.clone())).abort_handle()),
                    Err(error) => upstream.shared().tell(&"".into(), "", ChangeKind::ResolveFailed, error),
                }
            }
            if upstream.settings().health.is_some() {
                tasks.push(self.handle.spawn(check(upstream.clone())).abort_handle());
            }
            if upstream.settings().outlier.is_some() || upstream.settings().breaker.is_some() {
                tasks.push(self.handle.spawn(watch_ends(upstream.clone())).abort_handle());
            }
            state.running.insert(key, Running { upstream: upstream.clone(), tasks, dns: named.then(|| dns.clone()) });
        }
        drop(state);
        drop(ready);
        // Every resolving task drops its sender after its first answers.
        let end = Instant::now() + limit;
        while let Ok(()) = wait.recv_timeout(end.saturating_duration_since(Instant::now())) {}
    }

    /// Ends the tasks of upstreams that are not in use any more. Call it when a configuration was published, or, with those in use before,
    /// when it was refused after all.
    pub fn retain(&self, upstreams: &[Arc<Upstream>]) {
        self.state.lock().running.retain(|_, running| upstreams.iter().any(|u| Arc::ptr_eq(u, &running.upstream)));
    }

    /// Ends every task.
    pub fn stop(&self) {
        self.state.lock().running.clear();
    }
}

impl State {
    fn resolver(&mut self, settings: &DnsSettings) -> Result<Arc<Resolver>, String> {
        if let Some((_, resolver)) = self.resolver.as_ref().filter(|(s, _)| s == settings) {
            return Ok(resolver.clone());
        }
        let resolver = Arc::new(Resolver::new(settings)?);
        self.resolver = Some((settings.clone(), resolver.clone()));
        Ok(resolver)
    }
}

/// Whether a host needs DNS.
fn is_name(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_err() && localhost(host, 0).is_none()
}

/// One name of an upstream.
struct Watched {
    host: String,
    port: u16,
    found: Vec<Found>,
    due: Instant,
    failures: u32,
}

impl Watched {
    fn backend(&self) -> Arc<str> {
        format!("{}:{}", self.host, self.port).into()
    }
}

async fn resolve(upstream: Arc<Upstream>, resolver: Arc<Resolver>, ready: mpsc::Sender<()>) {
    let mut ready = Some(ready);
    let mut names: Vec<Watched> = Vec::new();
    for backend in &upstream.backends {
        if is_name(&backend.host) && !names.iter().any(|n| n.host == backend.host && n.port == backend.port) {
            let known = upstream.addresses_of(&backend.host, backend.port);
            let found = known.into_iter().map(|r| Found { addr: r.addr, alternate: r.alternate, target: r.target, weight: r.weight });
            names.push(Watched {
                host: backend.host.clone(),
                port: backend.port,
                found: found.collect(),
                due: Instant::now(),
                failures: 0,
            });
        }
    }
    loop {
        let now = Instant::now();
        let mut asked = JoinSet::new();
        for (at, name) in names.iter().enumerate().filter(|(_, n)| n.due <= now) {
            let (resolver, host, port, found) = (resolver.clone(), name.host.clone(), name.port, name.found.clone());
            asked.spawn(async move { (at, resolver.find(&host, port, &found).await) });
        }
        let mut changed = false;
        while let Some(Ok((at, outcome))) = asked.join_next().await {
            let name = &mut names[at];
            match outcome {
                Ok((found, ttl)) => {
                    if name.failures > 0 {
                        let after = format!("after {} failed look-ups", name.failures);
                        upstream.shared().tell(&name.backend(), "", ChangeKind::ResolveRecovered, after);
                    }
                    name.failures = 0;
                    name.due = Instant::now() + ttl;
                    changed |= found != name.found;
                    name.found = found;
                }
                Err(error) => {
                    name.due = Instant::now() + FIRST_RETRY.saturating_mul(1 << name.failures.min(5)).min(LAST_RETRY);
                    name.failures = name.failures.saturating_add(1);
                    // Once when it begins; it may last for hours.
                    if name.failures == 1 {
                        upstream.shared().tell(&name.backend(), "", ChangeKind::ResolveFailed, error);
                    }
                }
            }
        }
        if changed {
            upstream.resolve(&addresses(&upstream, &names), None);
            let all: Vec<_> = names.iter().flat_map(|n| &n.found).map(|f| f.addr.to_string()).collect();
            upstream.shared().tell(&"".into(), "", ChangeKind::Resolved, all.join(", "));
        }
        drop(ready.take());
        let due = names.iter().map(|n| n.due).min().unwrap_or(now + LAST_RETRY);
        tokio::time::sleep_until(due.into()).await;
    }
}

/// Every address of the upstream, in the order of its backends.
fn addresses(upstream: &Upstream, names: &[Watched]) -> Vec<Resolved> {
    let mut list = Vec::new();
    for (at, backend) in upstream.backends.iter().enumerate() {
        match names.iter().find(|n| n.host == backend.host && n.port == backend.port) {
            Some(name) => list.extend(name.found.iter().map(|f| Resolved {
                backend: at,
                addr: f.addr,
                alternate: f.alternate,
                target: f.target.clone(),
                weight: f.weight,
            })),
            None => list.extend(Resolved::known(at, backend)),
        }
    }
    list
}

/// Tells of the end of ejections and of the wait of open circuits when it comes, whether or not there is a request to notice it.
async fn watch_ends(upstream: Arc<Upstream>) {
    loop {
        let began = upstream.shared().began.notified();
        let mut began = std::pin::pin!(began);
        // Registered before the endpoints are looked at: what begins from here on is not missed.
        began.as_mut().enable();
        let now = clock::now();
        match upstream.members().iter().filter_map(|member| member.endpoint.tick(now)).min() {
            None => began.await,
            Some(due) => {
                // The clock counts whole milliseconds: not before the next one has begun.
                let wait = Duration::from_millis(due.saturating_sub(now) + 1);
                let _ = tokio::time::timeout(wait, began).await;
            }
        }
    }
}

/// Probes the endpoints of an upstream, whichever they are at the moment.
async fn check(upstream: Arc<Upstream>) {
    let Some(settings) = upstream.settings().health.clone() else { return };
    let mut probing = JoinSet::new();
    let mut tasks: HashMap<u64, AbortHandle> = HashMap::new();
    loop {
        let members = upstream.members();
        tasks.retain(|id, task| {
            let stays = members.iter().any(|m| m.endpoint.id == *id);
            if !stays {
                task.abort();
            }
            stays
        });
        for member in members.iter().filter(|m| m.weight > 0) {
            let endpoint = &member.endpoint;
            tasks.entry(endpoint.id).or_insert_with(|| probing.spawn(health::watch(upstream.clone(), endpoint.clone(), settings.clone())));
        }
        while probing.try_join_next().is_some() {}
        upstream.changed().await;
    }
}
