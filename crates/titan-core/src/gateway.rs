//! Starts the shards, publishes snapshots to them, drains them.

mod certificates;
mod report;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::config::compile::{self, Services};
use crate::config::{Issue, raw};
use crate::listener::{ListenerSpec, Open, bind};
use crate::metrics::Registry;
use crate::policy;
use crate::proxy::{Buffers, Lifecycle, Pauses, Phase, Process, TunnelCounts};
use crate::rehearsal::{self, Arrived, Rehearsal};
use crate::shard::{self, ListenerKey, Mail, Mailbox, Opening, Plan, Publication};
use crate::snapshot::{Census, Snapshot};
use crate::tls::Store;
use crate::upstream::change::{Change, ChangeSink};
use crate::upstream::supervisor::Supervisor;

pub use crate::proxy::MetricsPage;

/// Threads beside the shards: DNS, health checks, key sets, the drain's clock.
const AUXILIARY_THREADS: usize = 1;

/// Longest time for which idle connections of a gateway that was handed over are listened to.
const HANDOVER_GRACE: Duration = Duration::from_secs(10);

/// What the process around the gateway provides.
#[derive(Default)]
pub struct Host {
    /// Renders `/_metrics`; `None` = 404.
    pub metrics: Option<Arc<dyn MetricsPage>>,
    /// Told of changes worth a log line (backend up or down, configuration applied, drain). Called from any thread; must not block.
    pub events: Option<Arc<dyn Fn(Event) + Send + Sync>>,
    /// Sockets already bound by a parent (systemd's LISTEN_FDS, or a Titan that is being replaced). A listener whose address equals a
    /// socket's local address takes it instead of binding.
    pub inherited: Vec<TcpListener>,
    /// For tests: no listener is bound and no backend reached. `None` = serve.
    pub rehearsal: Option<Arc<Rehearsal>>,
}

/// Something worth a log line.
#[derive(Debug, Clone)]
pub struct Event {
    /// `info`, `warn` or `error`.
    pub level: &'static str,
    /// Stable name, such as `backend_down`.
    pub name: &'static str,
    /// One sentence.
    pub message: String,
    /// More, by name.
    pub fields: Vec<(&'static str, String)>,
}

/// A running data plane. Every method may be called from any thread; those that say "blocks" wait for the shards.
pub struct Gateway {
    inner: Arc<Inner>,
    /// Ends with the gateway, without waiting for its tasks.
    auxiliary: Option<Runtime>,
}

struct Inner {
    process: Arc<Process>,
    services: Services,
    supervisor: Supervisor,
    mailboxes: Arc<[Mailbox]>,
    events: Option<Arc<dyn Fn(Event) + Send + Sync>>,
    started: Instant,
    /// Number of shards that have ended.
    ended: watch::Sender<usize>,
    /// There may be other certificates.
    certificates: Arc<Notify>,
    /// One change at a time: held by a whole `apply`, while `state` is locked for moments only.
    changing: Mutex<()>,
    state: Mutex<State>,
}

struct State {
    workers: usize,
    snapshot: Arc<Snapshot>,
    bound: HashMap<ListenerKey, Bound>,
    inherited: Vec<TcpListener>,
}

/// A bound listener.
struct Bound {
    name: Arc<str>,
    address: SocketAddr,
    open: Arc<Open>,
}

/// What of a configuration's listeners is new.
struct Bindings {
    sockets: Vec<(Arc<ListenerSpec>, ListenerKey, Vec<Option<TcpListener>>, Arc<Open>)>,
    bound: HashMap<ListenerKey, Bound>,
    kept: Vec<(ListenerKey, Arc<ListenerSpec>)>,
}

impl Gateway {
    /// Compiles the configuration, binds every listener, starts the shards. Blocks until all of them accept.
    pub fn start(config: raw::Config, host: Host) -> Result<Gateway, Vec<Issue>> {
        let auxiliary = Builder::new_multi_thread()
            .worker_threads(AUXILIARY_THREADS)
            .thread_name("titan-aux")
            .enable_all()
            .build()
            .map_err(|e| vec![Issue::new("", format!("the auxiliary runtime cannot start: {e}"))])?;
        let workers = match config.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let (tls, metrics) = (Arc::new(Store::new()), Registry::new());
        let events = host.events.clone().map(|events| -> crate::auth::Events {
            Arc::new(move |level, name, message| events(Event { level, name, message, fields: Vec::new() }))
        });
        let services = Services {
            policy: policy::Services {
                auxiliary: Some(auxiliary.handle().clone()),
                tls: tls.clone(),
                metrics: metrics.clone(),
                events,
                held: host.rehearsal.as_ref().map(|rehearsal| rehearsal.clock.clone()),
                ..policy::Services::default()
            },
            tls,
            metrics,
            census: Census::default(),
        };
        let snapshot = Arc::new(compile::compile(&config, None, &services)?);
        let mut inherited = host.inherited;
        let bindings = bind_all(&snapshot, &HashMap::new(), workers, &mut inherited, host.rehearsal.is_some())?;
        let supervisor = Supervisor::new(auxiliary.handle().clone(), host.events.clone().map(sink));
        prepare(&supervisor, &snapshot, host.rehearsal.is_some());

        let (mailboxes, mails): (Vec<Mailbox>, Vec<_>) = (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
        let mailboxes: Arc<[Mailbox]> = mailboxes.into();
        let process = Arc::new(Process {
            lifecycle: Lifecycle::default(),
            metrics: host.metrics,
            tunnels: TunnelCounts::default(),
            pauses: Pauses::new(host.events.clone().map(pauses_told)),
            buffers: Buffers::new(host.events.clone().map(buffers_told)),
            auxiliary: auxiliary.handle().clone(),
            spare: spare(mailboxes.clone()),
            rehearsal: host.rehearsal,
        });
        process.buffers.set_limit(snapshot.max_buffered);
        let (ended, _) = watch::channel(0);
        let inner = Arc::new(Inner {
            process: process.clone(),
            services,
            supervisor,
            mailboxes,
            events: host.events,
            started: Instant::now(),
            ended,
            certificates: Arc::default(),
            changing: Mutex::new(()),
            state: Mutex::new(State { workers, snapshot: snapshot.clone(), bound: HashMap::new(), inherited }),
        });

        let mut publications = publications(&snapshot, workers, bindings.sockets, bindings.kept, Vec::new());
        let mut readiness = Vec::new();
        for (index, mail) in mails.into_iter().enumerate() {
            let (ready, accepted) = oneshot::channel();
            let ended = {
                let inner = inner.clone();
                Box::new(move || inner.ended.send_modify(|count| *count += 1))
            };
            let plan = Plan {
                index,
                count: workers,
                process: process.clone(),
                counts: inner.services.metrics.shard(),
                mail,
                first: publications.remove(0),
                ready,
                ended,
            };
            shard::spawn(plan).map_err(|e| vec![Issue::new("workers", format!("shard {index} cannot start: {e}"))])?;
            readiness.push(accepted);
        }
        for (index, ready) in readiness.into_iter().enumerate() {
            let failed = match ready.blocking_recv() {
                Ok(Ok(())) => continue,
                Ok(Err(e)) => e.to_string(),
                Err(_) => "its thread ended".into(),
            };
            inner.stop();
            return Err(vec![Issue::new("workers", format!("shard {index} cannot start: {failed}"))]);
        }
        inner.state.lock().bound = bindings.bound;
        auxiliary.spawn(certificates::watch(Arc::downgrade(&inner), inner.certificates.clone()));
        Ok(Gateway { inner, auxiliary: Some(auxiliary) })
    }

    /// Compiles and publishes another configuration; returns its generation. Blocks until every shard has it. On error nothing changed:
    /// new listeners are bound before anything is published.
    pub fn apply(&self, config: raw::Config) -> Result<u64, Vec<Issue>> {
        let inner = &self.inner;
        let _one = inner.changing.lock();
        if inner.process.lifecycle.is_draining() {
            return Err(vec![Issue::new("", "the gateway is shutting down")]);
        }
        let (workers, before) = {
            let state = inner.state.lock();
            (state.workers, state.snapshot.clone())
        };
        if config.workers != 0 && config.workers != workers {
            return Err(vec![Issue::new(
                "workers",
                format!("the number of workers is fixed at start: {} needs a restart, {workers} are running", config.workers),
            )]);
        }
        let snapshot = Arc::new(compile::compile(&config, Some(&before), &inner.services)?);
        let rehearses = inner.process.rehearsal.is_some();
        prepare(&inner.supervisor, &snapshot, rehearses);
        let mut state = inner.state.lock();
        let mut inherited = std::mem::take(&mut state.inherited);
        let bindings = bind_all(&snapshot, &state.bound, workers, &mut inherited, rehearses);
        state.inherited = inherited;
        let bindings = match bindings {
            Ok(bindings) => bindings,
            Err(issues) => {
                inner.supervisor.retain(&before.upstreams);
                return Err(issues);
            }
        };
        inner.process.buffers.set_limit(snapshot.max_buffered);
        let closed: Vec<ListenerKey> = state.bound.keys().filter(|key| !bindings.bound.contains_key(*key)).cloned().collect();

        let acks: Vec<_> = publications(&snapshot, workers, bindings.sockets, bindings.kept, closed)
            .into_iter()
            .zip(inner.mailboxes.iter())
            .map(|(publication, mailbox)| {
                let (done, published) = oneshot::channel();
                let _ = mailbox.send(Mail::Publish(Box::new(publication), done));
                published
            })
            .collect();
        for ack in acks {
            // A shard that has ended (a panic, a stop) has nothing to publish to.
            let _ = ack.blocking_recv();
        }
        state.bound = bindings.bound;
        let old = std::mem::replace(&mut state.snapshot, snapshot);
        let generation = state.snapshot.generation;
        inner.supervisor.retain(&state.snapshot.upstreams);
        drop(state);
        drop((before, old));
        inner.certificates.notify_one();
        inner.tell("info", "config_applied", format!("configuration {generation} is serving"));
        Ok(generation)
    }

    /// Begins the drain of requirement 46: pre-drain delay, then no new connections, answers with `Connection: close`, and the end at the
    /// deadline at the latest. Returns at once; a second call does nothing.
    pub fn drain(&self) {
        let state = self.inner.state.lock();
        let (delay, timeout) = (state.snapshot.shutdown_delay, state.snapshot.shutdown_timeout);
        drop(state);
        self.begin_drain(delay, timeout);
    }

    /// As [`Gateway::drain`], where another process has [the sockets](Gateway::sockets): nobody needs to be told to go elsewhere, so there is
    /// no delay, and held connections are not refused but end with an answer.
    pub fn hand_over(&self) {
        let timeout = self.inner.state.lock().snapshot.shutdown_timeout;
        self.inner.process.lifecycle.hand_over((timeout / 2).min(HANDOVER_GRACE));
        self.begin_drain(Duration::ZERO, timeout);
    }

    /// Duplicates of every listening socket with the names of their listeners, for a process that takes over. Blocks.
    pub fn sockets(&self) -> std::io::Result<Vec<(Arc<str>, TcpListener)>> {
        let _one = self.inner.changing.lock();
        let asked: Vec<_> = self
            .inner
            .mailboxes
            .iter()
            .map(|mailbox| {
                let (tell, told) = oneshot::channel();
                let _ = mailbox.send(Mail::Sockets(tell));
                told
            })
            .collect();
        let mut all = Vec::new();
        for told in asked {
            // A shard that has ended has none.
            all.extend(told.blocking_recv().unwrap_or_else(|_| Ok(Vec::new()))?);
        }
        let state = self.inner.state.lock();
        let name = |key: ListenerKey| state.bound.get(&key).map_or(key, |bound| bound.name.clone());
        Ok(all.into_iter().map(|(key, socket)| (name(key), socket)).collect())
    }

    /// Closes sockets that were handed over and that no listener has taken: their clients would wait for ever.
    pub fn forget_inherited(&self) {
        self.inner.state.lock().inherited.clear();
    }

    fn begin_drain(&self, delay: Duration, timeout: Duration) {
        if !self.inner.process.lifecycle.advance(Phase::PreDrain) {
            return;
        }
        let inner = self.inner.clone();
        let begins =
            if delay.is_zero() { "listeners close now".into() } else { format!("served as before for {delay:?}, then listeners close") };
        inner.tell("info", "draining", format!("draining: {begins}, and requests in flight get at most {timeout:?}"));
        let handle = self.handle().clone();
        handle.spawn(async move {
            tokio::time::sleep(delay).await;
            inner.process.lifecycle.advance(Phase::Draining);
            inner.send_all(|| Mail::Drain);
            let mut ended = inner.ended.subscribe();
            let all = inner.mailboxes.len();
            if tokio::time::timeout(timeout, ended.wait_for(|count| *count == all)).await.is_err() {
                inner.tell("warn", "drain_timeout", format!("cutting what did not end within {timeout:?}"));
            }
            inner.stop();
        });
    }

    /// Ends at once: open connections are cut.
    pub fn stop(&self) {
        self.inner.stop();
    }

    /// Resolves when every shard has ended: after a drain, at its deadline, or after `stop`. Works on any runtime.
    pub async fn closed(&self) {
        let all = self.inner.mailboxes.len();
        let mut ended = self.inner.ended.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = ended.wait_for(|count| *count == all).await;
    }

    /// Refuses the token `jti` from now on: on every shard at once, and by every Titan on the same Redis within a second. `expires_at` is the token's `exp` (Unix seconds); without it the entry is
    /// kept while the process lives.
    pub fn revoke(&self, jti: &str, expires_at: Option<u64>) {
        self.inner.services.policy.revoke(jti, expires_at);
    }

    /// Names and bound addresses of the listeners.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        let state = self.inner.state.lock();
        let mut list: Vec<_> = state.bound.values().map(|bound| (bound.name.to_string(), bound.address)).collect();
        list.sort();
        list
    }

    /// What stands in for the world; `None` where this gateway serves.
    pub(crate) fn rehearsal(&self) -> Option<&Rehearsal> {
        self.inner.process.rehearsal.as_deref()
    }

    /// Hands a client to the first shard. Dropped where that has ended.
    pub(crate) fn arrive(&self, arrived: Arrived) {
        if let Some(mailbox) = self.inner.mailboxes.first() {
            let _ = mailbox.send(Mail::Arrive(Box::new(arrived)));
        }
    }

    fn handle(&self) -> &Handle {
        &self.inner.process.auxiliary
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.inner.stop();
        if let Some(runtime) = self.auxiliary.take() {
            runtime.shutdown_background();
        }
    }
}

impl Inner {
    fn stop(&self) {
        self.process.lifecycle.advance(Phase::Stopped);
        self.supervisor.stop();
        self.send_all(|| Mail::Stop);
    }

    fn send_all(&self, mail: impl Fn() -> Mail) {
        for mailbox in self.mailboxes.iter() {
            let _ = mailbox.send(mail());
        }
    }

    fn tell(&self, level: &'static str, name: &'static str, message: String) {
        if let Some(events) = &self.events {
            events(Event { level, name, message, fields: Vec::new() });
        }
    }
}

/// Gives backends their addresses, and begins to watch them.
fn prepare(supervisor: &Supervisor, snapshot: &Snapshot, rehearses: bool) {
    if rehearses {
        snapshot.upstreams.iter().for_each(|upstream| rehearsal::resolve(upstream));
    } else {
        supervisor.prepare(&snapshot.upstreams, &snapshot.dns, patience(snapshot));
    }
}

/// How long a configuration waits for the names of its backends. What is not resolved by then is tried again while it serves.
fn patience(snapshot: &Snapshot) -> Duration {
    snapshot.dns.timeout.min(Duration::from_secs(2))
}

/// The limit of held bodies, reached and left, as events.
fn buffers_told(events: Arc<dyn Fn(Event) + Send + Sync>) -> crate::proxy::TellBuffers {
    Box::new(move |full, limit| {
        let (level, name, message) = if full {
            ("warn", "buffers_full", format!("the bodies that are held have reached server.max_buffered_size ({limit} bytes): shedding"))
        } else {
            ("info", "buffers_free", "there is room for bodies again".into())
        };
        events(Event { level, name, message, fields: vec![("limit", limit.to_string())] });
    })
}

/// Pauses of accepting as events.
fn pauses_told(events: Arc<dyn Fn(Event) + Send + Sync>) -> Box<dyn Fn(String) + Send + Sync> {
    Box::new(move |message| events(Event { level: "warn", name: "accept_paused", message, fields: Vec::new() }))
}

/// Changes of upstreams as events.
fn sink(events: Arc<dyn Fn(Event) + Send + Sync>) -> ChangeSink {
    Arc::new(move |change: Change| {
        let mut fields = vec![("upstream", change.upstream.to_string())];
        let more = [("backend", &*change.backend), ("address", &change.address), ("reason", &change.reason)];
        fields.extend(more.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name, value.to_string())));
        events(Event { level: change.level(), name: change.name(), message: change.message(), fields });
    })
}

/// Asks every other shard; one question a time for each endpoint is enough, since whoever answers serves all who wait.
fn spare(mailboxes: Arc<[Mailbox]>) -> Box<dyn Fn(usize, &Arc<crate::upstream::Endpoint>) + Send + Sync> {
    Box::new(move |asking, endpoint| {
        for (index, mailbox) in mailboxes.iter().enumerate() {
            if index != asking {
                let _ = mailbox.send(Mail::Spare(endpoint.clone()));
            }
        }
    })
}

/// Binds the listeners that are not bound yet. On error every socket bound here is closed again.
fn bind_all(
    snapshot: &Snapshot,
    before: &HashMap<ListenerKey, Bound>,
    workers: usize,
    inherited: &mut Vec<TcpListener>,
    rehearses: bool,
) -> Result<Bindings, Vec<Issue>> {
    let mut issues = Vec::new();
    let mut result = Bindings { sockets: Vec::new(), bound: HashMap::new(), kept: Vec::new() };
    for (index, spec) in snapshot.listeners.iter().enumerate() {
        // Another address is another listener, whatever its name.
        let key: ListenerKey = format!("{} {}", spec.name, spec.address).into();
        if let Some(bound) = before.get(&key) {
            let same = Bound { name: spec.name.clone(), address: bound.address, open: bound.open.clone() };
            result.bound.insert(key.clone(), same);
            result.kept.push((key, spec.clone()));
            continue;
        }
        let sockets = if rehearses {
            Ok((0..workers).map(|_| None).collect())
        } else {
            bind(spec.address, spec.backlog, workers, inherited).map(|sockets| sockets.into_iter().map(Some).collect::<Vec<_>>())
        };
        match sockets {
            Ok(sockets) => {
                let address = sockets.first().and_then(|socket| socket.as_ref()?.local_addr().ok()).unwrap_or(spec.address);
                let open = Arc::new(Open::default());
                result.bound.insert(key.clone(), Bound { name: spec.name.clone(), address, open: open.clone() });
                result.sockets.push((spec.clone(), key, sockets, open));
            }
            Err(error) => issues.push(Issue::new(format!("listeners[{index}].port"), error.to_string())),
        }
    }
    if issues.is_empty() { Ok(result) } else { Err(issues) }
}

/// One publication for each shard.
fn publications(
    snapshot: &Arc<Snapshot>,
    workers: usize,
    sockets: Vec<(Arc<ListenerSpec>, ListenerKey, Vec<Option<TcpListener>>, Arc<Open>)>,
    kept: Vec<(ListenerKey, Arc<ListenerSpec>)>,
    closed: Vec<ListenerKey>,
) -> Vec<Publication> {
    let mut all: Vec<Publication> = (0..workers)
        .map(|_| Publication { snapshot: snapshot.clone(), open: Vec::new(), update: kept.clone(), close: closed.clone() })
        .collect();
    for (spec, key, list, open) in sockets {
        // There may be more than shards, where a process with more of them handed its own over: each of them has a queue to be served.
        for (index, socket) in list.into_iter().enumerate() {
            all[index % workers].open.push(Opening { key: key.clone(), spec: spec.clone(), socket, open: open.clone() });
        }
    }
    all
}
