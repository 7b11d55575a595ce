//! Maglev consistent hashing (Eisenbud et al., NSDI 2016) with weights.
//!
//! The table is built from every endpoint of the set, whatever its state. Where an endpoint is out, only its own keys look further, each in
//! its own sequence; when it comes back they return. So a failure moves no key that it does not have to.

use super::random::mix;

/// Slots of the table by the number of endpoints: primes, at least a hundred slots an endpoint (the share of each is then even within 1 %).
const SIZES: [usize; 6] = [1_009, 2_053, 4_099, 16_411, 65_537, 131_071];

/// A built table.
#[derive(Debug)]
pub struct Maglev {
    slots: Box<[u16]>,
}

impl Maglev {
    /// Builds a table. Each member has a stable hash of its identity and a weight; weight 0 gets no slot. `None` where nobody has a weight.
    pub fn new(members: &[(u64, u32)]) -> Option<Self> {
        let max = members.iter().map(|m| m.1).max().filter(|max| *max > 0)?;
        let live = members.iter().filter(|m| m.1 > 0).count();
        let size = SIZES.iter().copied().find(|size| *size >= live * 100).unwrap_or(SIZES[SIZES.len() - 1]);

        struct Turn {
            at: u16,
            next: usize,
            skip: usize,
            credit: f64,
            step: f64,
        }
        let mut turns: Vec<Turn> = Vec::with_capacity(live);
        for (at, (id, weight)) in members.iter().enumerate().take(usize::from(u16::MAX)).filter(|(_, m)| m.1 > 0) {
            let (offset, skip) = (mix(*id), mix(*id ^ 0x5bd1_e995_7b93_ac21));
            turns.push(Turn {
                at: at as u16,
                next: (offset % size as u64) as usize,
                skip: (skip % (size as u64 - 1)) as usize + 1,
                credit: 0.0,
                step: f64::from(*weight) / f64::from(max),
            });
        }
        // The order of turns must not depend on the order of the configuration.
        turns.sort_by_key(|t| members[usize::from(t.at)].0);

        let mut slots = vec![u16::MAX; size];
        let mut left = size;
        while left > 0 {
            for turn in &mut turns {
                turn.credit += turn.step;
                if turn.credit < 1.0 {
                    continue;
                }
                turn.credit -= 1.0;
                // The size is prime, so a member's sequence meets every slot: while one is free, it is found.
                while slots[turn.next] != u16::MAX {
                    turn.next = (turn.next + turn.skip) % size;
                }
                slots[turn.next] = turn.at;
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        Some(Self { slots: slots.into() })
    }

    /// The member of a key; `attempt` > 0 looks further, in an order of the key's own.
    pub fn member(&self, hash: u64, attempt: u64) -> usize {
        let hash = if attempt == 0 { hash } else { mix(hash ^ attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15)) };
        usize::from(self.slots[(hash % self.slots.len() as u64) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: u64) -> Vec<(u64, u32)> {
        (0..count).map(|i| (mix(i + 1), 1)).collect()
    }

    fn keys() -> impl Iterator<Item = u64> {
        (0..100_000u64).map(|k| mix(k ^ 0xabcd))
    }

    #[test]
    fn shares_are_even_and_follow_weights() {
        let table = Maglev::new(&members(10)).unwrap();
        let mut seen = [0u32; 10];
        keys().for_each(|k| seen[table.member(k, 0)] += 1);
        assert!(seen.iter().all(|n| (9_000..11_000).contains(n)), "{seen:?}");

        let table = Maglev::new(&[(mix(1), 3), (mix(2), 1), (mix(3), 0)]).unwrap();
        let mut seen = [0u32; 3];
        keys().for_each(|k| seen[table.member(k, 0)] += 1);
        assert!((74_000..76_000).contains(&seen[0]) && seen[2] == 0, "{seen:?}");
        assert!(Maglev::new(&[(1, 0)]).is_none() && Maglev::new(&[]).is_none());
    }

    #[test]
    fn a_member_that_leaves_the_set_moves_few_other_keys() {
        let all = members(10);
        let (before, after) = (Maglev::new(&all).unwrap(), Maglev::new(&all[..9]).unwrap());
        let (mut moved, mut kept) = (0, 0);
        for k in keys().filter(|k| before.member(*k, 0) != 9) {
            if before.member(k, 0) == after.member(k, 0) { kept += 1 } else { moved += 1 }
        }
        assert!(moved * 20 < kept, "less than 5 % of the others' keys: {moved} of {kept}");
    }

    #[test]
    fn the_order_of_the_configuration_does_not_matter() {
        let all = members(5);
        let mut back = all.clone();
        back.reverse();
        let (a, b) = (Maglev::new(&all).unwrap(), Maglev::new(&back).unwrap());
        assert!(keys().take(5_000).all(|k| a.member(k, 0) == 4 - b.member(k, 0)));
    }

    #[test]
    fn attempts_reach_everybody() {
        let table = Maglev::new(&members(8)).unwrap();
        for k in keys().take(100) {
            let mut seen = [false; 8];
            (0..200).for_each(|attempt| seen[table.member(k, attempt)] = true);
            assert!(seen.iter().all(|s| *s));
        }
    }
}
