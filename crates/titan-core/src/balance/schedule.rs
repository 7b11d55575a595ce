//! Weights laid out as a fixed order of turns, so that a choice by weight is one counter and one look-up.

/// Longest order. Weights whose reduced sum is above it are scaled: a share is then off by at most 1/2048 of the whole.
const MAX_TURNS: u64 = 2_048;

/// Candidates by weight. Every weight is above 0.
#[derive(Debug, Default)]
pub struct Weights {
    /// Each candidate as often as its weight says, spread evenly.
    order: Box<[u16]>,
    /// Sums of the weights up to and including each candidate.
    sums: Box<[u64]>,
}

impl Weights {
    /// Lays the weights out.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let weights: Vec<u64> = weights.into_iter().map(|w| u64::from(w.max(1))).collect();
        let sums = weights.iter().scan(0, |sum, w| {
            *sum += w;
            Some(*sum)
        });
        Self { sums: sums.collect(), order: order(&weights).into() }
    }

    /// Number of candidates.
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// Whether there is no candidate.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// Sum of all weights.
    pub fn total(&self) -> u64 {
        self.sums.last().copied().unwrap_or(0)
    }

    /// The weight of a candidate.
    pub fn weight(&self, at: usize) -> u64 {
        self.sums[at] - at.checked_sub(1).map_or(0, |before| self.sums[before])
    }

    /// The candidate that owns a ticket below [`Weights::total`].
    pub fn at(&self, ticket: u64) -> usize {
        self.sums.partition_point(|sum| *sum <= ticket).min(self.len().saturating_sub(1))
    }

    /// The turns.
    pub fn order(&self) -> &[u16] {
        &self.order
    }
}

/// Turn number k of a candidate of weight w falls on (k + ½) / w of the round: sorting these places spreads every candidate evenly.
fn order(weights: &[u64]) -> Vec<u16> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let mut turns: Vec<u64> = weights.iter().map(|w| w / divisor).collect();
    let total: u64 = turns.iter().sum();
    if total > MAX_TURNS {
        turns.iter_mut().for_each(|w| *w = (*w * MAX_TURNS / total).max(1));
    }
    let mut places: Vec<(f64, u16)> = Vec::new();
    for (at, &weight) in turns.iter().enumerate().take(usize::from(u16::MAX)) {
        places.extend((0..weight).map(|k| ((k as f64 + 0.5) / weight as f64, at as u16)));
    }
    places.sort_by(|a, b| a.0.total_cmp(&b.0));
    places.into_iter().map(|(_, at)| at).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn turns_are_spread() {
        assert_eq!(Weights::new([3, 1]).order(), [0, 0, 1, 0]);
        assert_eq!(Weights::new([30, 10]).order().len(), 4, "reduced by the common divisor");
        let order = Weights::new([8, 2]).order().to_vec();
        let longest = order.split(|at| *at == 1).map(<[u16]>::len).max().unwrap();
        assert!(longest <= 2, "{order:?}");
    }

    proptest! {
        #[test]
        fn each_gets_its_share(weights in prop::collection::vec(1u32..200, 1..8)) {
            let table = Weights::new(weights.iter().copied());
            let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            let turns = table.order().len() as f64;
            for (at, weight) in weights.iter().enumerate() {
                let got = table.order().iter().filter(|o| usize::from(**o) == at).count() as f64 / turns;
                let want = f64::from(*weight) / sum as f64;
                prop_assert!((got - want).abs() < 0.002, "{got} {want}");
                prop_assert_eq!(table.weight(at), u64::from(*weight));
            }
            prop_assert_eq!(table.at(0), 0);
            prop_assert_eq!(table.at(table.total() - 1), weights.len() - 1);
        }

        #[test]
        fn any_weights_make_a_bounded_order(weights in prop::collection::vec(any::<u32>(), 0..20)) {
            let table = Weights::new(weights.iter().copied());
            prop_assert!(table.order().len() <= MAX_TURNS as usize + weights.len());
            for at in 0..weights.len() {
                prop_assert!(table.order().contains(&(at as u16)), "nobody is left out");
            }
        }
    }
}
