//! The two algorithms, as pure functions of a key's counters and the time.

use super::table::Counts;
use crate::config::raw::{Limit, LimitAlgorithm};

/// A limit in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// GCRA: `Counts::a` is the theoretical arrival time of the next request.
    TokenBucket { interval: u64, burst: u64 },
    /// `a` is the index of the current window, `b` its count, `c` the count of the one before.
    SlidingWindow { window: u64, requests: u64 },
}

/// What a limit says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) admitted: bool,
    /// Requests that would be admitted now.
    pub(super) remaining: u64,
    /// Nanoseconds until the limit is whole again.
    pub(super) reset: u64,
    /// Nanoseconds until this request would be admitted; 0 where it was.
    pub(super) retry: u64,
}

impl Algorithm {
    pub(super) fn new(limit: &Limit) -> Self {
        let window = limit.window_ms.saturating_mul(1_000_000).max(1);
        match limit.algorithm {
            LimitAlgorithm::TokenBucket => {
                Self::TokenBucket { interval: (window / limit.requests.max(1)).max(1), burst: limit.burst.max(1) }
            }
            LimitAlgorithm::SlidingWindow => Self::SlidingWindow { window, requests: limit.requests },
        }
    }

    /// Requests admitted at once by a quiet key.
    pub(super) fn quota(&self) -> u64 {
        match *self {
            Self::TokenBucket { burst, .. } => burst,
            Self::SlidingWindow { requests, .. } => requests,
        }
    }

    /// Takes `cost` if it is there.
    pub(super) fn take(&self, counts: &mut Counts, now: u64, cost: u64) -> Verdict {
        match *self {
            Self::TokenBucket { interval, burst } => {
                let capacity = burst.saturating_mul(interval);
                let used = counts.a.saturating_sub(now);
                let after = used.saturating_add(cost.saturating_mul(interval));
                let admitted = after <= capacity;
                let level = if admitted { after } else { used };
                if admitted {
                    counts.a = now + after;
                }
                Verdict {
                    admitted,
                    remaining: capacity.saturating_sub(level) / interval,
                    reset: level,
                    retry: if admitted { 0 } else { after - capacity },
                }
            }
            Self::SlidingWindow { window, requests } => {
                roll(counts, now, window);
                let left = window - now % window;
                // Of the window before, the share that the sliding one still covers; all in units of 1/window so that nothing is rounded.
                let scale = u128::from(window);
                let limit = u128::from(requests) * scale;
                let before = u128::from(counts.c) * u128::from(left);
                let used = before + u128::from(counts.b) * scale;
                let wanted = u128::from(cost) * scale;
                let admitted = used + wanted <= limit;
                let level = if admitted { used + wanted } else { used };
                let retry = if admitted { 0 } else { retry_after(counts, left, window, requests, cost) };
                if admitted {
                    counts.b += cost;
                }
                let reset = if counts.b > 0 { left + window } else { left };
                Verdict { admitted, remaining: (limit.saturating_sub(level) / scale) as u64, reset, retry }
            }
        }
    }

    /// Gives back what [`Algorithm::take`] took.
    pub(super) fn refund(&self, counts: &mut Counts, now: u64, cost: u64) {
        match *self {
            Self::TokenBucket { interval, .. } => counts.a = counts.a.saturating_sub(cost.saturating_mul(interval)),
            Self::SlidingWindow { window, .. } => {
                if counts.a == now / window {
                    counts.b = counts.b.saturating_sub(cost);
                }
            }
        }
    }
}

fn roll(counts: &mut Counts, now: u64, window: u64) {
    let index = now / window;
    // Threads read the clock before they take the lock: a request of the window before is counted in the current one.
    if index > counts.a {
        counts.c = if index == counts.a + 1 { counts.b } else { 0 };
        counts.b = 0;
        counts.a = index;
    }
}

/// Nanoseconds until `cost` more fit, if nothing else comes.
fn retry_after(counts: &Counts, left: u64, window: u64, requests: u64, cost: u64) -> u64 {
    if cost > requests {
        return left + window;
    }
    let scale = u128::from(window);
    // Still in this window: when `before * remaining / window` has shrunk to what is free.
    if let Some(free) = (requests - cost).checked_sub(counts.b).filter(|_| counts.c > 0) {
        let covered = u128::from(free) * scale / u128::from(counts.c);
        return (u128::from(left)).saturating_sub(covered).max(1) as u64;
    }
    // In the next one, where this window's count is the one that shrinks.
    let covered = if counts.b == 0 { scale } else { (u128::from(requests - cost) * scale / u128::from(counts.b)).min(scale) };
    left + (scale - covered) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn bucket(requests: u64, burst: u64) -> Algorithm {
        Algorithm::new(&limit(requests, burst, LimitAlgorithm::TokenBucket))
    }

    fn limit(requests: u64, burst: u64, algorithm: LimitAlgorithm) -> Limit {
        Limit { requests, window_ms: 1000, burst, algorithm, key: vec![], max_keys: 10 }
    }

    #[test]
    fn a_token_bucket_admits_its_burst_and_then_its_rate() {
        let algorithm = bucket(100, 200);
        let mut counts = Counts::default();
        let at = |counts: &mut Counts, now| (0..1000).filter(|_| algorithm.take(counts, now, 1).admitted).count();
        assert_eq!(at(&mut counts, SECOND), 200);
        assert_eq!(at(&mut counts, SECOND), 0);
        assert_eq!(at(&mut counts, 2 * SECOND), 100);
        let refused = algorithm.take(&mut counts, 2 * SECOND, 1);
        assert_eq!((refused.remaining, refused.retry, refused.reset), (0, SECOND / 100, 2 * SECOND));
        assert_eq!(at(&mut counts, 100 * SECOND), 200, "never more than the burst");
        assert!(!algorithm.take(&mut counts, 200 * SECOND, 201).admitted, "costs more than there can be");
        assert_eq!(algorithm.take(&mut counts, 200 * SECOND, 150).remaining, 50);
    }

    #[test]
    fn a_sliding_window_never_doubles_at_the_edge() {
        let algorithm = Algorithm::new(&limit(100, 0, LimitAlgorithm::SlidingWindow));
        let mut counts = Counts::default();
        let at = |counts: &mut Counts, now| (0..1000).filter(|_| algorithm.take(counts, now, 1).admitted).count();
        assert_eq!(at(&mut counts, 10 * SECOND + SECOND * 9 / 10), 100);
        assert_eq!(at(&mut counts, 11 * SECOND + SECOND / 10), 10, "a tenth of the window before has left");
        let refused = algorithm.take(&mut counts, 11 * SECOND + SECOND / 10, 1);
        assert!(!refused.admitted && refused.remaining == 0);
        let then = 11 * SECOND + SECOND / 10 + refused.retry;
        assert!(algorithm.take(&mut counts, then, 1).admitted, "Retry-After is enough");
        assert_eq!(at(&mut counts, 20 * SECOND), 100);
    }

    #[test]
    fn retry_after_is_enough_and_not_much_too_long() {
        for algorithm in [bucket(7, 3), Algorithm::new(&limit(7, 0, LimitAlgorithm::SlidingWindow))] {
            let (mut counts, mut now) = (Counts::default(), 5 * SECOND);
            for step in 1..2000u64 {
                now += (step * 7_919) % (SECOND / 9);
                let verdict = algorithm.take(&mut counts, now, 1);
                if !verdict.admitted {
                    assert!(algorithm.take(&mut counts.clone(), now + verdict.retry, 1).admitted);
                    assert!(!algorithm.take(&mut counts.clone(), now + verdict.retry * 9 / 10, 1).admitted, "{algorithm:?} {verdict:?}");
                }
            }
        }
    }

    #[test]
    fn a_refund_undoes_a_take() {
        for algorithm in [bucket(10, 5), Algorithm::new(&limit(5, 0, LimitAlgorithm::SlidingWindow))] {
            let mut counts = Counts::default();
            let now = 50 * SECOND + 1;
            for _ in 0..3 {
                algorithm.take(&mut counts, now, 1);
            }
            let before = counts;
            algorithm.take(&mut counts, now, 2);
            algorithm.refund(&mut counts, now, 2);
            assert_eq!(counts, before);
        }
    }
}
