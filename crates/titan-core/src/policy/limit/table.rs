//! The table of one limit: what each key has used, shared by every shard, bounded.
//!
//! Striped by key, one lock a stripe held for some ten nanoseconds: exact under any number of threads, which per-thread counts are not. A key
//! is a 64-bit keyed hash, so that an entry is small and a request allocates nothing. The key unused longest goes first.

use std::sync::OnceLock;

use hashbrown::HashTable;
use parking_lot::Mutex;

const NONE: u32 = u32::MAX;
const STRIPES: usize = 32;

/// Counters of a key; what they mean is the algorithm's business. Zero is a key never seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) a: u64,
    pub(super) b: u64,
    pub(super) c: u64,
}

#[derive(Debug)]
struct Entry {
    key: u64,
    counts: Counts,
    newer: u32,
    older: u32,
}

/// One stripe: an index over entries that are chained by last use.
#[derive(Debug)]
struct Stripe {
    index: HashTable<u32>,
    entries: Vec<Entry>,
    newest: u32,
    oldest: u32,
}

/// Counters by key.
#[derive(Debug)]
pub(super) struct Table {
    /// Made on first use: ten thousand routes may each have a limit of their own, and most are idle.
    stripes: OnceLock<Box<[Mutex<Stripe>]>>,
    count: usize,
    /// Entries in one stripe.
    capacity: usize,
}

impl Table {
    pub(super) fn new(max_keys: usize) -> Self {
        let max_keys = max_keys.clamp(1, 1 << 30);
        // Few keys in many stripes would evict by the luck of the hash.
        let count = if max_keys < STRIPES * 64 { 1 } else { STRIPES };
        Self { stripes: OnceLock::new(), count, capacity: max_keys.div_ceil(count) }
    }

    /// Gives `f` the counters of `key`, under the lock of its stripe.
    pub(super) fn with<R>(&self, key: u64, f: impl FnOnce(&mut Counts) -> R) -> R {
        let stripes = self.stripes.get_or_init(|| (0..self.count).map(|_| Mutex::new(Stripe::new())).collect());
        // The low bits place the key inside the stripe's index.
        let stripe = &stripes[(key >> 48) as usize % stripes.len()];
        let mut stripe = stripe.lock();
        f(stripe.touch(key, self.capacity))
    }

    /// Keys remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.stripes.get().map_or(0, |stripes| stripes.iter().map(|s| s.lock().entries.len()).sum())
    }
}

impl Stripe {
    fn new() -> Self {
        Self { index: HashTable::new(), entries: Vec::new(), newest: NONE, oldest: NONE }
    }

    fn touch(&mut self, key: u64, capacity: usize) -> &mut Counts {
        let entries = &self.entries;
        if let Some(&at) = self.index.find(key, |&i| entries[i as usize].key == key) {
            if self.newest != at {
                self.unlink(at);
                self.link_newest(at);
            }
            return &mut self.entries[at as usize].counts;
        }
        let at = if self.entries.len() < capacity {
            self.entries.push(Entry { key, counts: Counts::default(), newer: NONE, older: NONE });
            (self.entries.len() - 1) as u32
        } else {
            let at = self.oldest;
            self.unlink(at);
            let old = std::mem::replace(&mut self.entries[at as usize], Entry { key, counts: Counts::default(), newer: NONE, older: NONE });
            if let Ok(slot) = self.index.find_entry(old.key, |&i| i == at) {
                slot.remove();
            }
            at
        };
        let entries = &self.entries;
        self.index.insert_unique(key, at, |&i| entries[i as usize].key);
        self.link_newest(at);
        &mut self.entries[at as usize].counts
    }

    fn unlink(&mut self, at: u32) {
        let Entry { newer, older, .. } = self.entries[at as usize];
        match newer {
            NONE => self.newest = older,
            i => self.entries[i as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            i => self.entries[i as usize].newer = newer,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let before = std::mem::replace(&mut self.newest, at);
        let entry = &mut self.entries[at as usize];
        (entry.newer, entry.older) = (NONE, before);
        match before {
            NONE => self.oldest = at,
            i => self.entries[i as usize].newer = at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_unused_longest_goes_first() {
        let table = Table::new(3);
        for key in [1, 2, 3] {
            table.with(key, |c| c.a = key);
        }
        assert_eq!(table.with(1, |c| c.a), 1);
        table.with(4, |c| c.a = 4);
        assert_eq!(table.len(), 3);
        assert_eq!([1, 3, 4].map(|k| table.with(k, |c| c.a)), [1, 3, 4]);
        assert_eq!(table.with(2, |c| c.a), 0, "2 was the oldest");
        assert_eq!(table.with(3, |c| c.a), 3);
        assert_eq!(table.with(1, |c| c.a), 0, "1 was the oldest when 2 came back");
    }

    #[test]
    fn a_flood_of_keys_keeps_the_bound() {
        let table = Table::new(10_000);
        let mut key = 1u64;
        for _ in 0..100_000 {
            key = key.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            table.with(key, |c| c.a += 1);
        }
        assert!(table.len() <= 10_000 + STRIPES, "{}", table.len());
    }
}
