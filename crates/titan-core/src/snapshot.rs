//! What a configuration compiles to: immutable, shared by every request that began under it.

use std::sync::Arc;

use crate::listener::ListenerSpec;
use crate::policy::Chain;
use crate::route::{Route, Router};
use crate::upstream::Upstream;

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
    /// Compiled routes.
    pub routes: Vec<Route>,
    /// Upstreams; an unchanged one is the same `Arc` as in the snapshot before, with its endpoints, health and pools.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Policies of Titan's own answers where no route matched.
    pub fallback: Chain,
}
