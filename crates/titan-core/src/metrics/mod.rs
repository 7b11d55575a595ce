//! Counters, histograms and the access log.
//!
//! Every shard has its own [`Shard`]: one writer, so a count is a plain load and store, and no cache line travels. A scrape reads all of
//! them and adds up ([`Registry::json`]). Series are indexed: a route, upstream, policy or listener gets an [`Id`] from its stable
//! name when the configuration is compiled, the same one after every reload, and its series is allocated by the first shard that uses it.

pub mod access_log;
mod cells;
mod limits;
mod scrape;
mod series;
mod table;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

pub use limits::Limits;
pub use scrape::{BackendGauge, Breaker, BufferGauge, ChangeCount, Gauges, KeySetGauge, ListenerGauge, TokenGauge};
pub use series::{Close, Done, HookOutcome, Refusal, Shard, Try};
pub use table::Id;

use table::Names;

/// All series of a process: lives as long as the gateway.
pub struct Registry {
    shards: Mutex<Vec<Arc<Shard>>>,
    routes: Names,
    upstreams: Names,
    policies: Names,
    listeners: Names,
}

impl Registry {
    /// A registry without shards.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: Mutex::new(Vec::new()),
            routes: Names::default(),
            upstreams: Names::default(),
            policies: Names::default(),
            listeners: Names::default(),
        })
    }

    /// The series of one more shard. Counts of shards that have ended stay in the sums.
    pub fn shard(&self) -> Arc<Shard> {
        let shard = Arc::new(Shard::default());
        self.shards.lock().push(Arc::clone(&shard));
        shard
    }

    /// Index of a route's series, the same for the same name.
    pub fn route(&self, name: &str) -> Id {
        self.routes.id(name)
    }

    /// Index of an upstream's series.
    pub fn upstream(&self, name: &str) -> Id {
        self.upstreams.id(name)
    }

    /// Index of a policy's series.
    pub fn policy(&self, name: &str) -> Id {
        self.policies.id(name)
    }

    /// Index of a listener's series.
    pub fn listener(&self, name: &str) -> Id {
        self.listeners.id(name)
    }

    /// One compact snapshot of everything, for one scrape; see [`scrape`](self) for its shape.
    pub fn json(&self, gauges: &Gauges) -> String {
        scrape::json(self, gauges)
    }

    /// What limits have turned away, for the status.
    pub fn limits(&self) -> Limits {
        limits::gather(self)
    }
}

/// Names of hooks. For the process and not for a registry: hooks are compiled where there is none at hand, and names are few.
static HOOKS: LazyLock<Names> = LazyLock::new(Names::default);

/// Index of a hook's series.
pub fn hook(name: &str) -> Id {
    HOOKS.id(name)
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Shard>>> = const { RefCell::new(None) };
}

/// Makes `shard` the one that [`with`] gives on this thread. Called once when a shard's thread begins.
pub fn enter(shard: Arc<Shard>) {
    CURRENT.with(|current| *current.borrow_mut() = Some(shard));
}

/// Counts on this thread's shard, from places that are not handed one (policies). Does nothing on other threads.
pub fn with(count: impl FnOnce(&Shard)) {
    CURRENT.with(|current| {
        if let Some(shard) = current.borrow().as_deref() {
            count(shard);
        }
    });
}
