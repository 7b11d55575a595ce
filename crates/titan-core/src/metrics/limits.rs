//! What limits have turned away, for the status: the same counts as in a scrape, without the rest of it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Registry, scrape};

/// Stages of answers that are a limit's doing, in the order in which a request meets them.
const STAGES: [&str; 6] = ["head_limit", "client_timeout", "body_limit", "circuit_open", "pool_exhausted", "overload"];

/// What limits have turned away since the process began.
#[derive(Debug, Serialize)]
pub struct Limits {
    /// Client connections, by limit: `limit` (of a listener or the process), `address` (of one address), `shutdown`.
    pub connections: BTreeMap<&'static str, u64>,
    /// Requests, by the stage of the answer. Each is there, hit or not; `overload` is what was shed.
    pub requests: BTreeMap<&'static str, u64>,
    /// Requests, by the policy that refused them (rate limits, address lists, CORS). Only those that have been used.
    pub policies: BTreeMap<String, u64>,
    /// Retries that the budget did not allow.
    pub retries: u64,
}

pub(super) fn gather(registry: &Registry) -> Limits {
    let shards = registry.shards.lock().clone();
    let mut connections = BTreeMap::from([("limit", 0), ("address", 0), ("shutdown", 0)]);
    for (id, _) in registry.listeners.all() {
        for series in shards.iter().filter_map(|shard| shard.listeners.used(id)) {
            for (reason, counter) in
                [("limit", &series.refused_limit), ("address", &series.refused_address), ("shutdown", &series.refused_shutdown)]
            {
                *connections.entry(reason).or_default() += counter.get();
            }
        }
    }
    let errors = scrape::errors(&shards);
    let retries = registry.upstreams.all().into_iter().flat_map(|(id, _)| shards.iter().filter_map(move |shard| shard.upstreams.used(id)));
    Limits {
        connections,
        requests: STAGES.into_iter().map(|stage| (stage, errors.get(stage).copied().unwrap_or(0))).collect(),
        policies: scrape::policies(registry, &shards).into_iter().map(|policy| (policy.policy, policy.rejected)).collect(),
        retries: retries.map(|series| series.retries_denied.get()).sum(),
    }
}
