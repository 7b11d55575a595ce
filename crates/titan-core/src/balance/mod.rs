//! Choice of an endpoint among those that are usable: pure algorithms over indices, a closed set.
//!
//! `ok` says which candidates may be taken now (not tried by this request yet, circuit admits). Each function returns `None` only where
//! `ok` refuses every candidate.

use self::key::HashKey;
use self::sticky::Sticky;

pub mod key;
pub mod maglev;
pub mod random;
pub mod schedule;
pub mod sticky;

pub use schedule::Weights;

/// Algorithm of an upstream.
#[derive(Debug, Clone)]
pub enum Balance {
    /// In turn by weight, spread evenly.
    RoundRobin,
    /// Fewest requests in flight by weight.
    LeastConnections,
    /// By weight.
    Random,
    /// The better of two random candidates by requests in flight.
    PowerOfTwo,
    /// The better of two random candidates by peak-EWMA latency and requests in flight.
    Ewma,
    /// Maglev hash of a key.
    Hash {
        /// What is hashed.
        key: HashKey,
        /// At most this share of the mean load, such as 1.25.
        bound: Option<f64>,
    },
    /// A signed cookie binds a client to an endpoint.
    Sticky(Box<Sticky>),
}

/// The candidate whose turn it is, or the next one that is `ok`.
pub fn in_turn(weights: &Weights, turn: usize, ok: impl Fn(usize) -> bool) -> Option<usize> {
    let order = weights.order();
    let len = order.len();
    (0..len).map(|step| usize::from(order[(turn + step) % len])).find(|&at| ok(at))
}

/// The candidate of the least cost; equals in turn, so that idle candidates share the first requests.
pub fn least(count: usize, turn: usize, ok: impl Fn(usize) -> bool, cost: impl Fn(usize) -> f64) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for at in (0..count).map(|step| (turn + step) % count).filter(|&at| ok(at)) {
        let this = cost(at);
        if best.is_none_or(|(_, least)| this < least) {
            best = Some((at, this));
        }
    }
    best.map(|(at, _)| at)
}

/// A random candidate by weight.
pub fn draw(weights: &Weights, ok: impl Fn(usize) -> bool) -> Option<usize> {
    // Drawing again keeps the shares of the others exact; the scan is for the rare case that few are left.
    for _ in 0..4 {
        let at = weights.at(random::below(weights.total()));
        if ok(at) {
            return Some(at);
        }
    }
    let count = weights.len();
    let left: u64 = (0..count).filter(|&at| ok(at)).map(|at| weights.weight(at)).sum();
    let mut ticket = random::below(left);
    (0..count).filter(|&at| ok(at)).find(|&at| {
        let weight = weights.weight(at);
        let hit = ticket < weight;
        ticket = ticket.saturating_sub(weight);
        hit
    })
}

/// The cheaper of two different random candidates.
pub fn better_of_two(weights: &Weights, ok: impl Fn(usize) -> bool, cost: impl Fn(usize) -> f64) -> Option<usize> {
    let first = draw(weights, &ok)?;
    match draw(weights, |at| at != first && ok(at)) {
        Some(second) if cost(second) < cost(first) => Some(second),
        _ => Some(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(weights: &[u32], rounds: usize, mut choose: impl FnMut(&Weights, usize) -> usize) -> Vec<usize> {
        let table = Weights::new(weights.iter().copied());
        let mut seen = vec![0; weights.len()];
        (0..rounds).for_each(|turn| seen[choose(&table, turn)] += 1);
        seen
    }

    #[test]
    fn in_turn_is_exact_and_smooth() {
        assert_eq!(shares(&[3, 1], 400, |w, t| in_turn(w, t, |_| true).unwrap()), [300, 100]);
        assert_eq!(shares(&[1, 1, 1], 300, |w, t| in_turn(w, t, |_| true).unwrap()), [100, 100, 100]);
        assert_eq!(shares(&[5, 1, 1], 700, |w, t| in_turn(w, t, |_| true).unwrap()), [500, 100, 100]);
        assert_eq!(shares(&[1, 1], 10, |w, t| in_turn(w, t, |at| at == 1).unwrap()), [0, 10]);
        assert!(in_turn(&Weights::new([1, 2]), 0, |_| false).is_none());
    }

    #[test]
    fn draw_follows_the_weights_also_when_some_are_out() {
        let seen = shares(&[3, 1], 40_000, |w, _| draw(w, |_| true).unwrap());
        assert!((29_400..30_600).contains(&seen[0]), "{seen:?}");
        let seen = shares(&[100, 3, 1], 40_000, |w, _| draw(w, |at| at != 0).unwrap());
        assert!(seen[0] == 0 && (29_400..30_600).contains(&seen[1]), "{seen:?}");
        assert!(draw(&Weights::new([1, 1]), |_| false).is_none());
    }

    #[test]
    fn least_takes_the_idle_one_and_shares_equals() {
        let load = [3.0, 1.0, 2.0];
        assert_eq!(least(3, 0, |_| true, |at| load[at]), Some(1));
        assert_eq!(least(3, 0, |at| at != 1, |at| load[at]), Some(2));
        let firsts: Vec<_> = (0..3).map(|turn| least(3, turn, |_| true, |_| 0.0).unwrap()).collect();
        assert_eq!(firsts, [0, 1, 2]);
    }

    #[test]
    fn of_two_the_better_is_taken() {
        let seen = shares(&[1, 1, 1], 3_000, |w, _| better_of_two(w, |_| true, |at| at as f64).unwrap());
        assert!(seen[2] == 0 && seen[0] > seen[1], "the worst of three always loses: {seen:?}");
        assert_eq!(better_of_two(&Weights::new([1]), |_| true, |_| 1.0), Some(0));
    }

    #[test]
    fn two_choices_even_out_what_one_choice_does_not() {
        let weights = Weights::new([1; 50]);
        let spread = |two: bool| {
            let mut load = [0u32; 50];
            for _ in 0..5_000 {
                let at = if two { better_of_two(&weights, |_| true, |at| f64::from(load[at])) } else { draw(&weights, |_| true) };
                load[at.unwrap()] += 1;
            }
            load.iter().max().unwrap() - load.iter().min().unwrap()
        };
        let (one, two) = (spread(false), spread(true));
        assert!(two * 3 < one, "one choice: {one}, two: {two}");
    }
}
