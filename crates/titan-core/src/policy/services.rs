//! What policies need from the process around them.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::auth::Revocations;
use crate::auth::jwt::{Algorithm, Events, Provider};
use crate::config::raw;
use crate::metrics::Registry;
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
    /// Revoked tokens: [`Revocations::revoke`] is seen by every shard at once.
    pub revocations: Arc<Revocations>,
    /// Told of what is worth a log line: level, event name, sentence.
    pub events: Option<Events>,
    /// Providers in use, so that policies with the same source share one.
    pub providers: Providers,
}

impl Default for Services {
    fn default() -> Self {
        Self {
            auxiliary: None,
            tls: Arc::default(),
            metrics: Registry::new(),
            revocations: Arc::default(),
            events: None,
            providers: Providers::default(),
        }
    }
}

/// Providers of keys in use.
#[derive(Clone, Default)]
pub struct Providers(pub(super) Arc<Mutex<Vec<Known>>>);

/// A provider and what it was made from.
pub(super) struct Known {
    pub(super) source: raw::Jwks,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) provider: Weak<Provider>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").field("auxiliary", &self.auxiliary.is_some()).finish_non_exhaustive()
    }
}
