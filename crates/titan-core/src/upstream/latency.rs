//! Peak-EWMA latency (Finagle's): a slow answer counts at once, a fast one over time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Time in which an old measurement loses 63 % of its weight, milliseconds.
const DECAY: f64 = 10_000.0;

/// Latency of an endpoint. Two writers at once lose one measurement: the mean does not mind.
#[derive(Debug, Default)]
pub struct Latency {
    /// Microseconds, bits of an `f64`. 0 = nothing known.
    micros: AtomicU64,
    stamp: AtomicU64,
}

impl Latency {
    /// One measurement at `now` (milliseconds of [`crate::rt::clock`]).
    pub fn observe(&self, latency: Duration, now: u64) {
        let (seen, old) = (latency.as_secs_f64() * 1e6, self.micros());
        let weight = (-(now.saturating_sub(self.stamp.load(Relaxed)) as f64) / DECAY).exp();
        // At one measurement a millisecond and more the time between them reads 0: the share of each is then 1 in 1,000.
        let new = if seen > old { seen } else { old + (seen - old) * (1.0 - weight).max(0.001) };
        self.micros.store(new.to_bits(), Relaxed);
        self.stamp.store(now, Relaxed);
    }

    /// What a request costs there: latency times requests in flight, this one included. An endpoint of which nothing is known costs
    /// nothing when idle, so that it is tried, and much while its first request is out.
    pub fn cost(&self, in_flight: u32) -> f64 {
        let micros = self.micros();
        if micros == 0.0 && in_flight > 0 { 1e12 + f64::from(in_flight) } else { micros * f64::from(in_flight + 1) }
    }

    /// Microseconds.
    pub fn micros(&self) -> f64 {
        f64::from_bits(self.micros.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{Weights, better_of_two};

    #[test]
    fn peaks_count_at_once_and_fade() {
        let l = Latency::default();
        l.observe(Duration::from_millis(1), 1);
        l.observe(Duration::from_millis(100), 2);
        assert_eq!(l.micros(), 100_000.0);
        l.observe(Duration::from_millis(1), 10_002);
        assert!((37_000.0..38_500.0).contains(&l.micros()), "{}", l.micros());
    }

    #[test]
    fn the_unknown_are_tried_once() {
        let l = Latency::default();
        assert_eq!(l.cost(0), 0.0);
        assert!(l.cost(1) > 1e11);
    }

    #[test]
    fn converges_on_the_faster() {
        let endpoints = [Latency::default(), Latency::default(), Latency::default()];
        let millis = [50, 5, 50];
        let weights = Weights::new([1, 1, 1]);
        let mut seen = [0u32; 3];
        for now in 0..3_000 {
            let at = better_of_two(&weights, |_| true, |at| endpoints[at].cost(0)).unwrap();
            endpoints[at].observe(Duration::from_millis(millis[at]), now);
            seen[at] += 1;
        }
        // Two random choices of three hold the fast one two times in three.
        assert!(seen[1] > 1_850, "{seen:?}");
    }
}
