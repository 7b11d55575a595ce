//! What may be chosen at this moment: rebuilt only when something changed, so that a choice looks at no endpoint that is out.

use std::collections::HashMap;
use std::sync::Arc;

use super::endpoint::{Endpoint, Status};
use super::settings::Settings;
use super::settings::millis;
use super::shared::Shared;
use crate::balance::maglev::Maglev;
use crate::balance::{Balance, Weights, key};
use crate::error::ErrorKind;

/// The endpoints of an upstream, whatever their state. Replaced as a whole when the configuration or DNS says so.
#[derive(Default)]
pub struct Set {
    /// In the order of the configuration.
    pub members: Vec<Member>,
    /// For hashing algorithms.
    pub table: Option<Maglev>,
    /// Sticky tokens to members.
    pub tokens: HashMap<String, u32>,
}

/// An endpoint with its weight.
#[derive(Clone)]
pub struct Member {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Share; 0 = no traffic.
    pub weight: u32,
}

impl Set {
    /// Prepares what the algorithm needs. Slow for hashing (up to some milliseconds for hundreds of endpoints): never on a shard.
    pub fn new(members: Vec<Member>, balance: &Balance, upstream: &str) -> Self {
        let name = |m: &Member| format!("{}\0{}", m.endpoint.backend, m.endpoint.addr);
        let mut set = Set { members, ..Set::default() };
        match balance {
            Balance::Hash { .. } => {
                let ids: Vec<_> = set.members.iter().map(|m| (key::hash(name(m).as_bytes()), m.weight)).collect();
                set.table = Maglev::new(&ids);
            }
            Balance::Sticky(sticky) => {
                let tokens = set.members.iter().enumerate().map(|(at, m)| (sticky.token(upstream, &name(m)), at as u32));
                set.tokens = tokens.collect();
            }
            _ => {}
        }
        set
    }
}

/// What may be chosen.
pub struct View {
    /// [`Shared::epoch`] that it was built under.
    pub epoch: u64,
    /// Until when it holds, if nothing else happens; `u64::MAX` = no end.
    pub until: u64,
    /// The set it was built from.
    pub set: Arc<Set>,
    /// Endpoints that may be chosen.
    pub candidates: Vec<Arc<Endpoint>>,
    /// Their weights, slow start included.
    pub weights: Weights,
    /// Candidate of each member; `u32::MAX` where it is out.
    pub by_member: Vec<u32>,
    /// Why there is no candidate.
    pub empty: ErrorKind,
}

/// Weights are multiplied by this while an endpoint warms up, so that its share can grow in steps.
const RAMP: u32 = 20;

impl View {
    /// Looks at every endpoint of the set.
    pub fn build(set: Arc<Set>, settings: &Settings, shared: &Shared, now: u64) -> Self {
        let epoch = shared.epoch();
        let slow_start = millis(settings.slow_start);
        let mut view = View {
            epoch,
            until: u64::MAX,
            candidates: Vec::new(),
            weights: Weights::default(),
            by_member: vec![u32::MAX; set.members.len()],
            empty: ErrorKind::NoEndpoint,
            set,
        };
        let mut chosen: Vec<usize> = Vec::new();
        let mut ejected: Vec<usize> = Vec::new();
        for (at, member) in view.set.members.iter().enumerate().filter(|(_, m)| m.weight > 0) {
            match member.endpoint.status(now) {
                Status::Up | Status::HalfOpen => chosen.push(at),
                Status::Ejected(until) => {
                    view.until = view.until.min(until);
                    ejected.push(at);
                }
                Status::CircuitOpen(until) => {
                    view.until = view.until.min(until);
                    view.empty = ErrorKind::CircuitOpen;
                }
                Status::Unhealthy | Status::Draining => {}
            }
        }
        let panic = settings.outlier.as_ref().map_or(0.0, |o| o.panic_threshold);
        if (chosen.len() as f64) < panic * (chosen.len() + ejected.len()) as f64 {
            chosen.append(&mut ejected);
            chosen.sort_unstable();
        }

        let warm = |at: usize| {
            let since = view.set.members[at].endpoint.since();
            let age = now.saturating_sub(since);
            if slow_start == 0 || since == 0 || age >= slow_start { 1.0 } else { age as f64 / slow_start as f64 }
        };
        let shares: Vec<f64> = chosen.iter().map(|at| warm(*at)).collect();
        let ramping = shares.iter().any(|share| *share < 1.0);
        if ramping {
            view.until = view.until.min(now + (slow_start / u64::from(RAMP)).max(50));
        }
        let weight = |(at, share): (&usize, &f64)| {
            let weight = view.set.members[*at].weight;
            if ramping { ((f64::from(weight.saturating_mul(RAMP)) * share) as u32).max(1) } else { weight }
        };
        view.weights = Weights::new(chosen.iter().zip(&shares).map(weight));
        for (candidate, at) in chosen.iter().enumerate() {
            view.by_member[*at] = candidate as u32;
            view.candidates.push(view.set.members[*at].endpoint.clone());
        }
        view
    }
}
