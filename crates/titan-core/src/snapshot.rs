//! What a configuration compiles to: immutable, shared by every request that began under it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ipnet::IpNet;

use crate::http::forward::Forwarding;
use crate::listener::ListenerSpec;
use crate::metrics::access_log::AccessLog;
use crate::policy::{Chain, Policies};
use crate::route::{Route, Router};
use crate::upstream::Upstream;
use crate::upstream::settings::DnsSettings;

/// A compiled configuration. Published to each shard through its mailbox, so that a request takes no shared counter.
pub struct Snapshot {
    /// Counts up with each applied configuration, from 1.
    pub generation: u64,
    /// Reported by `/_health`.
    pub version: Arc<str>,
    /// Listeners by stable name.
    pub listeners: Vec<Arc<ListenerSpec>>,
    /// From a request to an index into `routes`.
    pub router: Router,
    /// Compiled routes: a stream holds its own, not the snapshot.
    pub routes: Vec<Arc<Route>>,
    /// Upstreams; an unchanged one is the same `Arc` as in the snapshot before, with its endpoints, health and pools.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Policies of Titan's own answers where no route matched.
    pub fallback: Chain,
    /// Their names and types in the order they run.
    pub fallback_policies: Vec<(Arc<str>, &'static str)>,
    /// Compiled policies: the next configuration takes their state over.
    pub policies: Policies,
    /// Name resolution.
    pub dns: DnsSettings,
    /// Trusted proxies and forwarding headers.
    pub forwarding: Forwarding,
    /// Access log; `None` = off.
    pub access_log: Option<Arc<AccessLog>>,
    /// Built-in endpoints.
    pub builtin: Builtin,
    /// Time served after a drain begins before listeners close.
    pub shutdown_delay: Duration,
    /// Time given to requests in flight once draining.
    pub shutdown_timeout: Duration,
    /// Bytes of bodies that the process may hold; 0 = no limit.
    pub max_buffered: u64,
    /// Counts it among those in memory.
    pub alive: Alive,
}

/// How many snapshots are in memory: the one that is served, and those of requests that began under earlier ones.
#[derive(Debug, Clone, Default)]
pub struct Census(Arc<AtomicUsize>);

impl Census {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// One more, until what this gives is dropped.
    pub fn enter(&self) -> Alive {
        self.0.fetch_add(1, Ordering::Relaxed);
        Alive(self.0.clone())
    }
}

/// A place in a [`Census`].
#[derive(Debug)]
pub struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Built-in endpoints. Paths under `/_` win over routes; the others lose to a configured route.
#[derive(Debug, Default)]
pub struct Builtin {
    /// Peers beside loopback that may read `/_metrics` and `/services/health`; others get 404.
    pub internal: Vec<IpNet>,
    /// Health answers beside `/_health`, `/_live` and `/_ready`, by path.
    pub health_paths: HashMap<Box<[u8]>, Health>,
    /// What readiness cannot do without.
    pub critical: Critical,
}

/// Dependencies whose loss makes an instance unready, instead of degraded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Critical {
    /// `redis`, `jwks`.
    pub services: Vec<Box<str>>,
    /// Every upstream.
    pub every_upstream: bool,
    /// Upstreams by name.
    pub upstreams: Vec<Box<str>>,
}

impl Critical {
    /// Whether one of what is lost is critical.
    pub fn is_lost(&self, upstreams: &[&str], services: &[&str]) -> bool {
        let upstream = |name: &&str| self.every_upstream || self.upstreams.iter().any(|critical| &**critical == *name);
        upstreams.iter().any(upstream) || services.iter().any(|name| self.services.iter().any(|critical| &**critical == *name))
    }
}

/// What a health path answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// `{"status":"healthy","version":…}`, always 200.
    Health,
    /// 200 until the process exits.
    Live,
    /// 503 while draining or when a critical dependency is down.
    Ready,
}
