//! A small mutating fuzzer: deterministic, so that a failure can be repeated by its seed.

use std::time::{Duration, Instant};

/// splitmix64.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// To be printed with a failure: `Rng::new` of it gives the same input.
    pub fn state(&self) -> u64 {
        self.0
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// When a target stops: `TITAN_FUZZ_MS` from now, 1500 ms by default.
pub fn deadline() -> Instant {
    let ms = std::env::var("TITAN_FUZZ_MS").ok().and_then(|v| v.parse().ok()).unwrap_or(1_500);
    Instant::now() + Duration::from_millis(ms)
}

/// One of the seeds with a few changes: bytes, words of the dictionary, cut, repeated and swapped pieces, pieces of other seeds.
pub fn mutate(rng: &mut Rng, seeds: &[&[u8]], words: &[&[u8]]) -> Vec<u8> {
    let mut s = rng.pick(seeds).to_vec();
    for _ in 0..rng.below(4) {
        let at = rng.below(s.len() + 1);
        let to = (at + rng.below(24)).min(s.len());
        match rng.below(9) {
            0 if at < s.len() => s[at] = rng.next() as u8,
            1 => s.insert(at, rng.next() as u8),
            2 | 3 => {
                let word = *rng.pick(words);
                s.splice(at..at, word.iter().copied());
            }
            4 => {
                let word = *rng.pick(words);
                s.splice(at..to, word.iter().copied());
            }
            5 => drop(s.drain(at..to)),
            6 => {
                let piece = s[at..to].to_vec();
                s.splice(at..at, piece);
            }
            7 => {
                let other = *rng.pick(seeds);
                let from = rng.below(other.len());
                s.truncate(at);
                s.extend_from_slice(&other[from..]);
            }
            _ => {
                // At a line's beginning, where a field fits: most random places only make noise.
                let lines: Vec<usize> = s.windows(2).enumerate().filter(|(_, w)| w == b"\r\n").map(|(i, _)| i + 2).collect();
                if !lines.is_empty() {
                    let at = *rng.pick(&lines);
                    let word = *rng.pick(words);
                    s.splice(at..at, word.iter().copied());
                }
            }
        }
    }
    s
}
