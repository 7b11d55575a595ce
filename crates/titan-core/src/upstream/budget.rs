//! Share of requests that may be retries: keeps a failing backend from being hit by its own load several times over.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Seconds over which the share is taken.
const SECONDS: u64 = 10;
/// Retries a second that are always allowed.
const FLOOR: u64 = 3;

/// Requests and retries of the last ten seconds, exact for the process up to one second's edge.
pub struct RetryBudget {
    percent: f64,
    slots: [Slot; SECONDS as usize],
}

#[derive(Default)]
struct Slot {
    second: AtomicU64,
    requests: AtomicU32,
    retries: AtomicU32,
}

impl RetryBudget {
    /// Retries up to `percent` of requests.
    pub fn new(percent: f64) -> Self {
        Self { percent, slots: Default::default() }
    }

    /// Counts a request (not its retries). `now` in milliseconds of [`crate::rt::clock`].
    pub fn request(&self, now: u64) {
        self.slot(now).requests.fetch_add(1, Relaxed);
    }

    /// Takes one retry out of the budget; `false` = none is left, the error stands.
    pub fn retry(&self, now: u64) -> bool {
        let second = now / 1_000 + 1;
        let (mut requests, mut retries) = (0u64, 0u64);
        for slot in &self.slots {
            if slot.second.load(Relaxed) + SECONDS > second {
                requests += u64::from(slot.requests.load(Relaxed));
                retries += u64::from(slot.retries.load(Relaxed));
            }
        }
        let allowed = (requests as f64 * self.percent / 100.0).max((FLOOR * SECONDS) as f64);
        if (retries as f64) >= allowed {
            return false;
        }
        self.slot(now).retries.fetch_add(1, Relaxed);
        true
    }

    /// The slot of this second, emptied by whoever comes first. Seconds count from 1 so that an unused slot is never current.
    fn slot(&self, now: u64) -> &Slot {
        let second = now / 1_000 + 1;
        let slot = &self.slots[(second % SECONDS) as usize];
        let seen = slot.second.load(Relaxed);
        if seen != second && slot.second.compare_exchange(seen, second, Relaxed, Relaxed).is_ok() {
            slot.requests.store(0, Relaxed);
            slot.retries.store(0, Relaxed);
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_its_share_and_a_floor() {
        let budget = RetryBudget::new(20.0);
        let allowed = (0..100).filter(|_| budget.retry(500)).count();
        assert_eq!(allowed, 30, "floor: 3 a second over 10 s");

        let budget = RetryBudget::new(20.0);
        (0..1_000).for_each(|_| budget.request(500));
        assert_eq!((0..1_000).filter(|_| budget.retry(900)).count(), 200);
        assert!(!budget.retry(9_900), "still within ten seconds");
        assert!(budget.retry(10_600), "the requests and retries of the first second are forgotten");
    }

    #[test]
    fn zero_percent_leaves_the_floor() {
        let budget = RetryBudget::new(0.0);
        (0..100_000).for_each(|_| budget.request(0));
        assert_eq!((0..100).filter(|_| budget.retry(0)).count(), 30);
    }
}
