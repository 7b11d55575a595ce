//! A bounded map for caches: what was used in the last two generations stays.
//!
//! A generation holds half of the capacity; when it is full it becomes the old one, and the one before is forgotten. What is found in the old
//! one moves to the new one. Striped, so that shards rarely meet.

use std::hash::{BuildHasher, Hash};

use hashbrown::HashMap;
use parking_lot::Mutex;

const STRIPES: usize = 16;

/// The map.
#[derive(Debug)]
pub(super) struct Generations<V> {
    stripes: Box<[Mutex<Stripe<V>>]>,
    hasher: foldhash::fast::RandomState,
    /// Entries of one generation of one stripe.
    half: usize,
}

#[derive(Debug)]
struct Stripe<V> {
    young: HashMap<Box<[u8]>, V, foldhash::fast::RandomState>,
    old: HashMap<Box<[u8]>, V, foldhash::fast::RandomState>,
}

impl<V: Clone> Generations<V> {
    /// Holds at most `capacity` entries, rounded up to one a stripe and generation.
    pub(super) fn new(capacity: usize) -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::new(Stripe { young: HashMap::default(), old: HashMap::default() })).collect();
        Self { stripes, hasher: Default::default(), half: capacity.div_ceil(2 * STRIPES).max(1) }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<V> {
        let mut stripe = self.stripe(key).lock();
        if let Some(value) = stripe.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = stripe.old.remove_entry(key)?;
        stripe.insert(key, value.clone(), self.half);
        Some(value)
    }

    pub(super) fn insert(&self, key: &[u8], value: V) {
        let mut stripe = self.stripe(key).lock();
        stripe.old.remove(key);
        stripe.insert(key.into(), value, self.half);
    }

    pub(super) fn remove(&self, key: &[u8]) {
        let mut stripe = self.stripe(key).lock();
        stripe.young.remove(key);
        stripe.old.remove(key);
    }

    fn stripe(&self, key: &[u8]) -> &Mutex<Stripe<V>> {
        let mut hasher = self.hasher.build_hasher();
        key.hash(&mut hasher);
        &self.stripes[(std::hash::Hasher::finish(&hasher) >> 60) as usize % STRIPES]
    }
}

impl<V> Stripe<V> {
    fn insert(&mut self, key: Box<[u8]>, value: V, half: usize) {
        if self.young.len() >= half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_and_what_is_used_stays() {
        let map = Generations::new(3200);
        for i in 0..100_000u32 {
            map.insert(&i.to_le_bytes(), i);
            assert_eq!(map.get(&0u32.to_le_bytes()), Some(0), "{i}");
        }
        let held = (0..100_000u32).filter(|i| map.get(&i.to_le_bytes()).is_some()).count();
        assert!((1600..=3200).contains(&held), "{held}");
        map.remove(&0u32.to_le_bytes());
        assert_eq!(map.get(&0u32.to_le_bytes()), None);
    }
}
