//! Circuit breaker of an endpoint, one for the process.
//!
//! Closed: failures are counted over a window. Open: nothing is admitted. Half-open: at most `success_threshold` probes at once; that many
//! successes close it, one failure opens it again. Only probes decide in half-open: answers to requests from before are ignored.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::settings::BreakerSettings;
use super::settings::millis;

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
const HALF_OPEN: u8 = 2;

/// State of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// Everything passes.
    Closed,
    /// Nothing passes until this time (milliseconds of [`crate::rt::clock`]).
    Open(u64),
    /// Probes pass.
    HalfOpen,
}

/// May a request pass?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Pass,
    /// Yes, as a probe: the breaker waits for its [`Breaker::success`], [`Breaker::failure`] or [`Breaker::release`].
    Probe,
    /// No.
    Refuse,
}

/// A circuit breaker.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    /// Written under the lock of `inner` only.
    state: AtomicU8,
    until: AtomicU64,
    probes: AtomicU32,
    /// It became half open, which was not told of.
    half_opened: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Times of the last failures, at most as many as the threshold.
    failures: VecDeque<u64>,
    successes: u32,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            state: AtomicU8::new(CLOSED),
            until: AtomicU64::new(0),
            probes: AtomicU32::new(0),
            half_opened: AtomicBool::new(false),
            inner: Mutex::default(),
        }
    }

    /// Its state. An open circuit whose time is over counts as half-open.
    pub fn circuit(&self, now: u64) -> Circuit {
        match self.state.load(Relaxed) {
            CLOSED => Circuit::Closed,
            OPEN if now < self.until.load(Relaxed) => Circuit::Open(self.until.load(Relaxed)),
            _ => Circuit::HalfOpen,
        }
    }

    /// Asks for a request. `now` is called only when the circuit isn't closed.
    pub fn admit(&self, now: impl FnOnce() -> u64) -> Admission {
        if self.state.load(Relaxed) == CLOSED {
            return Admission::Pass;
        }
        if let Circuit::Open(_) = self.circuit(now()) {
            return Admission::Refuse;
        }
        let mut inner = self.inner.lock();
        match self.state.load(Relaxed) {
            CLOSED => return Admission::Pass,
            OPEN => self.let_probes_pass(&mut inner),
            _ => {}
        }
        if self.probes.load(Relaxed) >= self.settings.success_threshold.max(1) {
            return Admission::Refuse;
        }
        self.probes.fetch_add(1, Relaxed);
        Admission::Probe
    }

    /// A request succeeded; returns whether this closed the circuit.
    pub fn success(&self, probe: bool) -> bool {
        if !probe {
            return false;
        }
        self.probes.fetch_sub(1, Relaxed);
        let mut inner = self.inner.lock();
        if self.state.load(Relaxed) != HALF_OPEN {
            return false;
        }
        inner.successes += 1;
        if inner.successes < self.settings.success_threshold {
            return false;
        }
        inner.failures.clear();
        self.state.store(CLOSED, Relaxed);
        true
    }

    /// A request failed; returns whether this opened the circuit.
    pub fn failure(&self, probe: bool, now: u64) -> bool {
        let mut inner = self.inner.lock();
        if probe {
            self.probes.fetch_sub(1, Relaxed);
        }
        match self.state.load(Relaxed) {
            CLOSED => {
                let threshold = self.settings.failure_threshold.max(1) as usize;
                let begin = now.saturating_sub(millis(self.settings.window));
                while inner.failures.front().is_some_and(|time| *time < begin) || inner.failures.len() >= threshold {
                    inner.failures.pop_front();
                }
                inner.failures.push_back(now);
                if inner.failures.len() < threshold {
                    return false;
                }
            }
            HALF_OPEN if probe => {}
            _ => return false,
        }
        inner.failures.clear();
        self.until.store(now + millis(self.settings.timeout), Relaxed);
        self.state.store(OPEN, Relaxed);
        true
    }

    /// A probe ended without saying anything (the client went away).
    pub fn release(&self) {
        self.probes.fetch_sub(1, Relaxed);
    }

    /// An active health check passed: an open circuit need not wait for its time.
    pub fn half_open(&self) {
        let mut inner = self.inner.lock();
        if self.state.load(Relaxed) == OPEN {
            self.let_probes_pass(&mut inner);
        }
    }

    /// Half open, where its time is over and no request has asked yet.
    pub fn tick(&self, now: u64) {
        let mut inner = self.inner.lock();
        if self.state.load(Relaxed) == OPEN && now >= self.until.load(Relaxed) {
            self.let_probes_pass(&mut inner);
        }
    }

    /// When an open circuit becomes half open.
    pub fn opens(&self) -> Option<u64> {
        (self.state.load(Relaxed) == OPEN).then(|| self.until.load(Relaxed))
    }

    /// Whether it became half open since the last call.
    pub fn has_half_opened(&self) -> bool {
        self.half_opened.load(Relaxed) && self.half_opened.swap(false, Relaxed)
    }

    fn let_probes_pass(&self, inner: &mut Inner) {
        inner.successes = 0;
        self.state.store(HALF_OPEN, Relaxed);
        self.half_opened.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn breaker(failures: u32, successes: u32) -> Breaker {
        let (timeout, window) = (Duration::from_secs(30), Duration::from_secs(10));
        Breaker::new(BreakerSettings { failure_threshold: failures, success_threshold: successes, timeout, window })
    }

    #[test]
    fn opens_on_failures_within_the_window_only() {
        let b = breaker(5, 2);
        assert!((0..20).all(|i| !b.failure(false, i * 3_000)), "five failures never fall within ten seconds");
        let b = breaker(5, 2);
        assert!((0..4).all(|i| !b.failure(false, 100 + i)));
        assert_eq!(b.admit(|| 104), Admission::Pass);
        assert!(!b.success(false));
        assert!(b.failure(false, 105), "successes between do not matter, the window does");
        assert_eq!(b.circuit(106), Circuit::Open(30_105));
        assert_eq!(b.admit(|| 30_104), Admission::Refuse);
    }

    #[test]
    fn half_open_admits_a_few_probes_and_closes_on_their_successes() {
        let b = breaker(1, 2);
        assert!(b.failure(false, 0));
        assert_eq!(b.circuit(30_000), Circuit::HalfOpen);
        assert_eq!([(); 3].map(|()| b.admit(|| 30_000)), [Admission::Probe, Admission::Probe, Admission::Refuse]);
        assert!(!b.success(false) && b.circuit(30_000) == Circuit::HalfOpen, "a late answer to an earlier request decides nothing");
        assert!(!b.failure(false, 30_000) && b.circuit(30_000) == Circuit::HalfOpen);
        assert!(!b.success(true));
        assert!(b.success(true));
        assert_eq!(b.admit(|| 30_001), Admission::Pass);
    }

    #[test]
    fn a_failed_probe_opens_again() {
        let b = breaker(1, 1);
        b.failure(false, 0);
        assert_eq!(b.admit(|| 30_000), Admission::Probe);
        assert!(b.failure(true, 30_500));
        assert_eq!(b.circuit(60_499), Circuit::Open(60_500));
        assert_eq!(b.admit(|| 60_500), Admission::Probe);
        b.release();
        assert_eq!(b.admit(|| 60_500), Admission::Probe, "a probe whose client left gives its place back");
    }

    #[test]
    fn a_health_check_shortens_the_wait() {
        let b = breaker(1, 1);
        b.failure(false, 0);
        b.half_open();
        assert_eq!(b.admit(|| 1), Admission::Probe);
        assert!(b.success(true));
        b.half_open();
        assert_eq!(b.circuit(2), Circuit::Closed);
    }

    #[test]
    fn becoming_half_open_is_told_of_once() {
        let b = breaker(1, 1);
        assert!(b.opens().is_none() && !b.has_half_opened());
        b.failure(false, 0);
        b.tick(29_999);
        assert!(b.opens() == Some(30_000) && !b.has_half_opened());
        b.tick(30_000);
        assert!(b.opens().is_none() && b.has_half_opened() && !b.has_half_opened());
        assert_eq!(b.admit(|| 30_001), Admission::Probe);
        assert!(!b.has_half_opened(), "the request found it so");
        b.failure(true, 30_002);
        assert_eq!(b.admit(|| 90_000), Admission::Probe);
        assert!(b.has_half_opened(), "the request made it so");
    }
}
