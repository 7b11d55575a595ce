//! State of an upstream that outlives its configuration: kept by name across reloads.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::change::{Change, ChangeKind, ChangeSink};

/// Kept by name across reloads.
pub struct Shared {
    /// Name of the upstream.
    pub name: Arc<str>,
    /// Rises with every change of what may be chosen: a view built under an older number is out of date.
    epoch: AtomicU64,
    /// Turns of round robin.
    pub turn: AtomicUsize,
    /// Endpoints of the set in use: bounds passive ejection.
    pub size: AtomicUsize,
    /// Ejected endpoints and until when.
    pub ejected: Mutex<HashMap<u64, u64>>,
    /// Backends (`host:port`) and addresses that an operator drains.
    drained: RwLock<HashSet<String>>,
    /// How often what happened to which backend (as configured, so that their number is bounded).
    changes: Mutex<BTreeMap<(Arc<str>, ChangeKind), u64>>,
    /// An ejection or an open circuit began: its end is to be watched.
    pub(super) began: Notify,
    sink: RwLock<Option<ChangeSink>>,
}

impl Shared {
    /// State of an upstream that is new.
    pub fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            epoch: AtomicU64::new(1),
            turn: AtomicUsize::new(0),
            size: AtomicUsize::new(0),
            ejected: Mutex::default(),
            drained: RwLock::default(),
            changes: Mutex::default(),
            began: Notify::new(),
            sink: RwLock::default(),
        })
    }

    /// The number of the last change.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Something changed that a choice depends on.
    pub fn bump(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Where changes are told.
    pub fn listen(&self, sink: ChangeSink) {
        *self.sink.write() = Some(sink);
    }

    /// Counts a change and tells of it.
    pub fn tell(&self, backend: &Arc<str>, address: impl ToString, kind: ChangeKind, reason: impl Into<String>) {
        *self.changes.lock().entry((backend.clone(), kind)).or_default() += 1;
        let sink = self.sink.read().clone();
        if let Some(sink) = sink {
            let (upstream, backend, address) = (self.name.clone(), backend.clone(), address.to_string());
            sink(Change { upstream, backend, address, kind, reason: reason.into() });
        }
    }

    /// Every change so far: backend (empty where the whole upstream is meant), what, how often.
    pub fn changes(&self) -> Vec<(Arc<str>, ChangeKind, u64)> {
        self.changes.lock().iter().map(|((backend, kind), count)| (backend.clone(), *kind, *count)).collect()
    }

    /// Whether a backend or an address is drained.
    pub fn is_drained(&self, backend: &str, address: &impl ToString) -> bool {
        let drained = self.drained.read();
        !drained.is_empty() && (drained.contains(backend) || drained.contains(&address.to_string()))
    }

    /// Drains a backend or an address, or takes it back. Returns whether this changed anything.
    pub fn set_drained(&self, target: &str, on: bool) -> bool {
        let mut drained = self.drained.write();
        let changed = if on { drained.insert(target.to_string()) } else { drained.remove(target) };
        drop(drained);
        if changed {
            self.bump();
        }
        changed
    }
}
