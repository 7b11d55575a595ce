//! What a shard gives to its requests. Everything here belongs to one thread; what the shards share is in [`Process`].

use std::cell::{Cell, RefCell, RefMut};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use super::buffers::Buffers;
use super::builtin::MetricsPage;
use super::kit::Kit;
use super::pauses::Pauses;
use super::tunnel::TunnelCounts;
use crate::http::date::{DateCache, HttpDate};
use crate::http::forward::IdSource;
use crate::metrics;
use crate::pool::Pool;
use crate::rehearsal::Rehearsal;
use crate::rt::clock;
use crate::rt::priority;
use crate::rt::recycle;
use crate::rt::timers::Timers;
use crate::snapshot::Snapshot;
use crate::upstream::Endpoint;

/// Kits kept for reuse.
const KITS: usize = 256;
/// How long an idle connection is still listened to once a drain has begun: a request may be on its way already.
pub const DRAIN_GRACE_MS: u64 = 1_000;
/// Read at once while receivers are slow.
const NARROW: usize = 66 << 10;
/// Transfers of a shard that may hold a whole read buffer each for a slow receiver; beyond them reads are narrow.
const SLOW: usize = 128;
/// How old the cached `Date` may get before the system clock is asked again.
const DATE_AGE_MS: u64 = 100;

/// State of one shard.
pub struct Local {
    /// Which shard.
    pub shard: usize,
    /// What the shards share.
    pub process: Arc<Process>,
    /// Deadlines of connections.
    pub timers: Rc<Timers>,
    /// Idle upstream connections.
    pub pool: RefCell<Pool>,
    /// Request ids.
    pub ids: RefCell<IdSource>,
    /// Series that only this thread writes.
    pub counts: Arc<metrics::Shard>,
    /// Open client connections of this shard.
    pub connections: Cell<usize>,
    /// Connections that are being told why they are turned away.
    pub mourners: Cell<usize>,
    /// Transfers that hold bytes which their receiver does not take.
    slow: Rc<Cell<usize>>,
    snapshot: RefCell<Rc<Held>>,
    scratch: RefCell<Vec<u8>>,
    kits: RefCell<Vec<Box<Kit>>>,
    date: Cell<(u64, HttpDate)>,
}

/// What every shard of a gateway shares.
pub struct Process {
    /// Where in its life the gateway is.
    pub lifecycle: Lifecycle,
    /// Renders `/_metrics`.
    pub metrics: Option<Arc<dyn MetricsPage>>,
    /// Open tunnels of routes that limit them.
    pub tunnels: TunnelCounts,
    /// Bytes of the bodies that are held.
    pub buffers: Buffers,
    /// Pauses of accepting.
    pub pauses: Pauses,
    /// Runtime for what must not run on a shard.
    pub auxiliary: tokio::runtime::Handle,
    /// Asks the other shards to give idle connections of an endpoint to those who wait for one. First argument: the shard that asks.
    pub spare: Box<dyn Fn(usize, &Arc<Endpoint>) + Send + Sync>,
    /// Stands in for clients and backends; `None` where the gateway serves.
    pub rehearsal: Option<Arc<Rehearsal>>,
}

/// Phases of requirement 46, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running = 0,
    /// Readiness fails, everything is still served.
    PreDrain = 1,
    /// No new connections; held ones close after their answer.
    Draining = 2,
    /// Ended.
    Stopped = 3,
}

/// The phase, readable from every thread.
#[derive(Debug, Default)]
pub struct Lifecycle {
    phase: AtomicU8,
    draining_since: AtomicU64,
    /// Another process has the sockets.
    handed_over: AtomicBool,
    /// Milliseconds of [`Lifecycle::grace`] where it has.
    grace: AtomicU64,
}

/// The snapshot that a shard serves. A request holds a clone to its end, which costs no shared counter; the last one of the process is
/// dropped by a thread that lets requests go first, because dropping ten thousand routes takes longer than a shard may pause.
pub struct Held(Option<Arc<Snapshot>>);

impl Lifecycle {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Running,
            1 => Phase::PreDrain,
            2 => Phase::Draining,
            _ => Phase::Stopped,
        }
    }

    /// Goes on to a later phase; `false` where it is reached already.
    pub fn advance(&self, phase: Phase) -> bool {
        if phase == Phase::Draining {
            self.draining_since.store(clock::now(), Ordering::Relaxed);
        }
        self.phase.fetch_max(phase as u8, Ordering::Relaxed) < phase as u8
    }

    /// Whether connections close after their answer.
    pub fn is_draining(&self) -> bool {
        self.phase.load(Ordering::Relaxed) >= Phase::Draining as u8
    }

    /// Another process has the sockets, and the drain that begins now is nobody's business: a request on a held connection is answered as
    /// ever, with `Connection: close`, and an idle connection is listened to for `grace`.
    pub fn hand_over(&self, grace: Duration) {
        self.grace.store(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.handed_over.store(true, Ordering::Relaxed);
    }

    /// Whether a new request on a held connection is refused: there is nobody else whom its client would reach.
    pub fn refuses(&self) -> bool {
        self.is_draining() && !self.handed_over.load(Ordering::Relaxed)
    }

    /// How long an idle connection is still listened to.
    pub fn grace(&self) -> u64 {
        if self.handed_over.load(Ordering::Relaxed) { self.grace.load(Ordering::Relaxed) } else { DRAIN_GRACE_MS }
    }

    /// When the drain began ([`clock`] time).
    pub fn draining_since(&self) -> u64 {
        self.draining_since.load(Ordering::Relaxed)
    }
}

impl Local {
    /// State for shard number `shard` of `shards`.
    pub fn new(shard: usize, shards: usize, process: Arc<Process>, snapshot: Arc<Snapshot>, counts: Arc<metrics::Shard>) -> Rc<Self> {
        let held = Held(Some(snapshot));
        Rc::new(Self {
            shard,
            process,
            timers: Rc::default(),
            pool: RefCell::new(Pool::new(shards)),
            ids: RefCell::new(IdSource::new()),
            counts,
            connections: Cell::new(0),
            mourners: Cell::new(0),
            slow: Rc::default(),
            snapshot: RefCell::new(Rc::new(held)),
            scratch: RefCell::new(recycle::scratch()),
            kits: RefCell::default(),
            date: Cell::new((0, HttpDate([b' '; 29]))),
        })
    }

    /// The snapshot that requests beginning now are served under.
    pub fn snapshot(&self) -> Rc<Held> {
        self.snapshot.borrow().clone()
    }

    /// Serves `snapshot` from now on.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        let held = Held(Some(snapshot));
        let old = self.snapshot.replace(Rc::new(held));
        drop(old);
    }

    /// The read buffer, lent to whoever reads: no connection owns one. Only inside one poll. Its length never changes; its allocation may be
    /// exchanged for another of that length.
    pub fn scratch(&self) -> RefMut<'_, Vec<u8>> {
        self.scratch.borrow_mut()
    }

    /// How much of a body is read at once. One large read and one large write cost less than four of each, but what a slow receiver does not
    /// take of it is held in memory, so that many slow ones make it small.
    pub fn window(&self) -> usize {
        if self.slow.get() < SLOW { recycle::SCRATCH } else { NARROW }
    }

    /// The value of `Date`.
    pub fn date(&self) -> HttpDate {
        let now = clock::cached();
        let (until, date) = self.date.get();
        if now < until {
            return date;
        }
        let date = *DateCache::new().now();
        self.date.set((now + DATE_AGE_MS, date));
        date
    }

    /// An empty kit for an exchange.
    pub fn kit(&self) -> Box<Kit> {
        self.kits.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a kit back.
    pub fn put_kit(&self, mut kit: Box<Kit>) {
        kit.clear();
        let mut kits = self.kits.borrow_mut();
        if kits.len() < KITS {
            kits.push(kit);
        }
    }
}

/// Whether a transfer holds bytes for a slow receiver, counted in its shard.
#[derive(Default)]
pub struct Slow(Option<Rc<Cell<usize>>>);

impl Slow {
    /// It does.
    pub fn set(&mut self, local: &Local) {
        if self.0.is_none() {
            local.slow.set(local.slow.get() + 1);
            self.0 = Some(local.slow.clone());
        }
    }

    /// It does not any more.
    pub fn clear(&mut self) {
        if let Some(slow) = self.0.take() {
            slow.set(slow.get() - 1);
        }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Deref for Held {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        self.0.as_ref().expect("taken only by drop")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(last) = self.0.take().and_then(Arc::into_inner) {
            // Without a thread it is dropped here: a pause is better than a configuration that stays.
            let _ = std::thread::Builder::new().name("titan-free".into()).spawn(move || {
                priority::give_way();
                drop(last);
            });
        }
    }
}
