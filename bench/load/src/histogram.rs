//! Log-linear histogram of microseconds: 128 steps an octave, so a value is off by less than 1 %.

const STEPS: usize = 128;
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// Counts by latency.
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    sum: u64,
    max: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self { counts: vec![0; STEPS * 40], total: 0, sum: 0, max: 0 }
    }

    pub fn record(&mut self, micros: u64) {
        let index = Self::index(micros).min(self.counts.len() - 1);
        self.counts[index] += 1;
        self.total += 1;
        self.sum += micros;
        self.max = self.max.max(micros);
    }

    /// Values below 2 × STEPS have a bucket each; above, the leading bits after the first choose one of STEPS buckets of their octave.
    fn index(value: u64) -> usize {
        if value < (STEPS as u64) * 2 {
            return value as usize;
        }
        let shift = 63 - value.leading_zeros() - STEP_BITS;
        (shift as usize) * STEPS + (value >> shift) as usize
    }

    /// Upper bound of a bucket.
    fn value(index: usize) -> u64 {
        if index < STEPS * 2 {
            return index as u64;
        }
        let shift = index / STEPS - 1;
        (((index % STEPS + STEPS) as u64 + 1) << shift) - 1
    }

    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Self::value(index).min(self.max);
            }
        }
        self.max
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "mean": if self.total == 0 { 0.0 } else { self.sum as f64 / self.total as f64 },
            "p50": self.quantile(0.50),
            "p90": self.quantile(0.90),
            "p99": self.quantile(0.99),
            "p999": self.quantile(0.999),
            "max": self.max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_their_values_within_one_percent() {
        let mut last = 0;
        for value in (0..200_000u64).chain((1..40).map(|bit| (1u64 << bit) + 3)) {
            let upper = Histogram::value(Histogram::index(value));
            assert!(upper >= value && upper as f64 <= value as f64 * 1.01 + 1.0, "{value} → {upper}");
            last = last.max(upper);
        }
    }

    #[test]
    fn quantiles_of_a_ramp() {
        let mut histogram = Histogram::new();
        (1..=10_000).for_each(|value| histogram.record(value));
        for (share, expected) in [(0.5, 5_000.0), (0.99, 9_900.0), (0.999, 9_990.0)] {
            let got = histogram.quantile(share) as f64;
            assert!((got / expected - 1.0).abs() < 0.01, "{share}: {got}");
        }
        assert_eq!(histogram.quantile(1.0), 10_000);
    }
}
