//! A small random source for balancing and jitter: fast, thread-local, not for secrets.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher};

thread_local! {
    static STATE: Cell<u64> = Cell::new(std::collections::hash_map::RandomState::new().build_hasher().finish() | 1);
}

/// 64 random bits (splitmix64).
pub fn next() -> u64 {
    STATE.with(|state| {
        let seed = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(seed);
        mix(seed)
    })
}

/// A uniform number below `bound` (0 where `bound` is 0).
pub fn below(bound: u64) -> u64 {
    // Lemire's multiplication: the bias is below 2^-32 for every bound that a balancer uses.
    ((u128::from(next()) * u128::from(bound)) >> 64) as u64
}

/// A uniform number in [0, 1).
pub fn unit() -> f64 {
    (next() >> 11) as f64 / (1u64 << 53) as f64
}

/// Mixes every bit of `value` into every bit of the result.
pub fn mix(value: u64) -> u64 {
    let a = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    b ^ (b >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_covers_its_range_evenly() {
        let mut seen = [0u32; 7];
        for _ in 0..70_000 {
            seen[below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (9_000..11_000).contains(n)), "{seen:?}");
        assert_eq!(below(0), 0);
    }

    #[test]
    fn unit_stays_below_one() {
        assert!((0..10_000).map(|_| unit()).all(|u| (0.0..1.0).contains(&u)));
    }
}
