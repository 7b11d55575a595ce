//! Requests in flight.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use super::RequestCx;
use super::limit::key::Key;
use crate::config::{Issue, raw};
use crate::http::answer::Answer;
use crate::metrics::{self, Id};

/// A concurrency policy.
#[derive(Debug)]
pub(super) struct Concurrency {
    max: u32,
    key: Key,
    /// Outlives the policy on a reload: what is in flight stays counted.
    pub(super) counters: Arc<Counters>,
    pub(super) rejected: Id,
}

/// Requests in flight: one count, or one a key (only of keys that have some, so that it is bounded by the connections).
#[derive(Debug, Default)]
pub(super) struct Counters {
    all: AtomicU32,
    by_key: [Mutex<HashMap<u64, u32>>; 16],
}

/// A place in flight, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    counters: Arc<Counters>,
    key: Option<u64>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(key) = self.key else {
            self.counters.all.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        let mut counts = self.counters.stripe(key).lock();
        if let Entry::Occupied(mut entry) = counts.entry(key) {
            match entry.get_mut() {
                1 => drop(entry.remove()),
                n => *n -= 1,
            }
        }
    }
}

impl Counters {
    fn stripe(&self, key: u64) -> &Mutex<HashMap<u64, u32>> {
        &self.by_key[(key >> 60) as usize]
    }

    fn take(&self, key: Option<u64>, max: u32) -> bool {
        match key {
            None => self.all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max).then_some(n + 1)).is_ok(),
            Some(key) => {
                let mut counts = self.stripe(key).lock();
                let count = counts.entry(key).or_insert(0);
                let free = *count < max;
                *count += u32::from(free);
                free
            }
        }
    }
}

impl Concurrency {
    pub(super) fn compile(name: &str, raw: &raw::Concurrency, previous: Option<&Self>, rejected: Id, issues: &mut Vec<Issue>) -> Self {
        let key = Key::new(&raw.key);
        if raw.max == 0 {
            issues.push(Issue::new(format!("{name}.max"), "at least 1 request must be allowed in flight"));
        }
        if key.needs_identity() {
            issues.push(Issue::new(format!("{name}.key"), "concurrency is limited before authentication: use ip, route, header or cookie"));
        }
        let counters = previous.filter(|p| p.key == key).map(|p| p.counters.clone()).unwrap_or_default();
        Self { max: raw.max, key, counters, rejected }
    }

    pub(super) fn request(&self, cx: &mut RequestCx<'_>) -> Option<Answer> {
        let key = (!self.key.is_empty()).then(|| self.key.hash(&cx.req, None));
        if self.counters.take(key, self.max) {
            cx.state.permits.push(Permit { counters: self.counters.clone(), key });
            return None;
        }
        metrics::with(|shard| shard.limited(self.rejected));
        let message = "Too many requests at once; try again shortly";
        let mut answer = Answer::error(503, "concurrency_limit_exceeded", message, "concurrency", cx.req.request_id, cx.req.head);
        answer.headers.set("retry-after", "1");
        Some(answer)
    }
}
