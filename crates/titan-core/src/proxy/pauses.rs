//! Pauses of accepting, for want of file descriptors or memory: counted, and told of now and then.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::rt::clock;

/// Told at most so often, for it may last.
const TOLD_EVERY_MS: u64 = 10_000;

/// Takes a sentence.
type Tell = Box<dyn Fn(String) + Send + Sync>;

/// Pauses of every listener of the process.
#[derive(Default)]
pub struct Pauses {
    count: AtomicU64,
    /// When it was told of; 0 = never.
    told: AtomicU64,
    tell: Option<Tell>,
}

impl Pauses {
    /// None yet.
    pub fn new(tell: Option<Tell>) -> Self {
        Self { tell, ..Self::default() }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// A listener pauses because of `error`.
    pub fn add(&self, error: &io::Error) {
        self.count.fetch_add(1, Relaxed);
        let (now, told) = (clock::now(), self.told.load(Relaxed));
        if (told == 0 || now >= told + TOLD_EVERY_MS)
            && self.told.compare_exchange(told, now, Relaxed, Relaxed).is_ok()
            && let Some(tell) = &self.tell
        {
            tell(format!("accepting connections pauses: {error}"));
        }
    }
}
