//! What policies need from the process around them.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::auth::jwt::{Algorithm, Provider};
use crate::auth::{Events, Revocations};
use crate::config::raw;
use crate::metrics::Registry;
use crate::rt::clock::Held;
use crate::store::{SharedRevocations, Stores};
use crate::tls;

/// What policies need from the process. Lives as long as the gateway; the same value is given to every compilation.
#[derive(Clone)]
pub struct Services {
    /// Auxiliary runtime for work off the shards (key sets, forward-auth, Redis). `None` for `check`, which starts nothing.
    pub auxiliary: Option<tokio::runtime::Handle>,
    /// TLS configurations, those of upstreams too.
    pub tls: Arc<tls::Store>,
    /// Series of metrics.
    pub metrics: Arc<Registry>,
    /// Revoked tokens: see [`Services::revoke`].
    pub revocations: Arc<Revocations>,
    /// Told of what is worth a log line: level, event name, sentence.
    pub events: Option<Events>,
    /// Redis servers in use, one connection each.
    pub stores: Stores,
    /// What several policies share.
    pub in_use: InUse,
    /// The time that limits of a rehearsal see; `None` = it passes.
    pub held: Option<Arc<Held>>,
}

impl Default for Services {
    fn default() -> Self {
        Self {
            auxiliary: None,
            tls: Arc::default(),
            metrics: Registry::new(),
            revocations: Arc::default(),
            events: None,
            stores: Stores::default(),
            in_use: InUse::default(),
            held: None,
        }
    }
}

impl Services {
    /// Refuses the token `jti` from now on: on every shard at once, and by every Titan on the same Redis within a second. `expires_at` is the token's
    /// `exp` (Unix seconds); without it the entry is kept for good.
    pub fn revoke(&self, jti: &str, expires_at: Option<u64>) {
        self.revocations.revoke(jti, expires_at);
        for list in self.in_use.revocations.lock().iter().filter_map(|known| known.list.upgrade()) {
            list.publish(jti, expires_at);
        }
    }
}

/// What several policies share while one of them is in use: providers of keys, and lists of revocations.
#[derive(Clone, Default)]
pub struct InUse {
    pub(super) providers: Arc<Mutex<Vec<KnownProvider>>>,
    pub(super) revocations: Arc<Mutex<Vec<KnownList>>>,
}

/// A provider and what it was made from.
pub(super) struct KnownProvider {
    pub(super) source: raw::Jwks,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) provider: Weak<Provider>,
}

/// A list of revocations and where it is.
pub(super) struct KnownList {
    pub(super) redis: raw::Redis,
    pub(super) list: Weak<SharedRevocations>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").field("auxiliary", &self.auxiliary.is_some()).finish_non_exhaustive()
    }
}
