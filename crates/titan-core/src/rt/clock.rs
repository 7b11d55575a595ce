//! Time in milliseconds since the process began to serve, cheap enough to ask for every time something waits.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use std::task::{Context, Poll};
use std::time::Duration;

/// A moment that never comes.
pub const NEVER: u64 = u64::MAX;

/// Milliseconds since the first call in this process; coarse (a few milliseconds) where the system has a cheaper coarse clock.
pub fn now() -> u64 {
    since(&ORIGIN, coarse)
}

/// The origin comes first: read after the clock, one that is set in between would lie ahead of it, and the difference below zero.
fn since(origin: &AtomicU64, clock: impl Fn() -> u64) -> u64 {
    let begun = match origin.load(Acquire) {
        UNSET => begin(origin, clock() - 1),
        begun => begun,
    };
    // An origin that was moved back beyond zero has wrapped.
    clock().wrapping_sub(begun)
}

/// Sets the origin where nobody has; gives the one that counts.
#[cold]
fn begin(origin: &AtomicU64, now: u64) -> u64 {
    origin.compare_exchange(UNSET, now, AcqRel, Acquire).map_or_else(|theirs| theirs, |_| now)
}

/// Moves the clock ahead for the whole process: what a breaker waits for is over sooner. For rehearsals; timers that run already are not
/// woken by it.
pub fn skip(by: Duration) {
    now();
    // The one value that means "unset" is passed over.
    let _ = ORIGIN.fetch_update(Relaxed, Relaxed, |origin| match origin.wrapping_sub(millis(by)) {
        UNSET => Some(UNSET - 1),
        earlier => Some(earlier),
    });
}

/// A clock that stands still until it is moved: how many requests a limit admits in a test must not depend on how fast the machine is.
#[derive(Debug)]
pub struct Held(AtomicU64);

impl Default for Held {
    /// A time near zero is no special case anywhere.
    fn default() -> Self {
        Self(AtomicU64::new(3_600_000_000_000))
    }
}

impl Held {
    /// Its time, nanoseconds.
    pub fn now(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Moves it ahead.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}

thread_local! {
    static CACHED: Cell<u64> = const { Cell::new(0) };
}

/// Asks the clock, and makes it the time that [`cached`] gives on this thread.
pub fn refresh() -> u64 {
    let time = now();
    CACHED.set(time);
    time
}

/// The time of the last [`refresh`]: a connection refreshes when it is polled, so within its poll this is now.
pub fn cached() -> u64 {
    CACHED.get()
}

/// A future that refreshes the clock whenever it is polled, so that all of it can use [`cached`].
pub struct Timed<F>(pub F);

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        refresh();
        // SAFETY: the field is pinned with the whole: it is never moved out, and `Timed` has no `Drop` of its own.
        unsafe { self.map_unchecked_mut(|timed| &mut timed.0) }.poll(cx)
    }
}

/// The moment `wait` from now; [`NEVER`] where there is no limit.
pub fn after(wait: Option<Duration>) -> u64 {
    wait.map_or(NEVER, |wait| now().saturating_add(millis(wait)))
}

/// The moment `wait` after `since`; [`NEVER`] where there is no limit.
pub fn later(since: u64, wait: Option<Duration>) -> u64 {
    wait.map_or(NEVER, |wait| since.saturating_add(millis(wait)))
}

/// Time left until `moment`.
pub fn until(moment: u64) -> Duration {
    Duration::from_millis(moment.saturating_sub(now()))
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(NEVER)
}

const UNSET: u64 = u64::MAX;
/// The coarse clock's time at which this one was 0; goes below zero by wrapping.
static ORIGIN: AtomicU64 = AtomicU64::new(UNSET);

#[cfg(target_os = "linux")]
fn coarse() -> u64 {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `at` is a valid timespec to write to; the clock id exists on every Linux that Rust supports.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut at) };
    at.tv_sec as u64 * 1_000 + at.tv_nsec as u64 / 1_000_000
}

#[cfg(not(target_os = "linux"))]
fn coarse() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_millis() as u64 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_goes_below_its_origin_even_when_time_passes_between_two_looks() {
        let time = Cell::new(100);
        let clock = || time.replace(time.get() + 7);
        let origin = AtomicU64::new(UNSET);
        assert_eq!(since(&origin, clock), 8);
        assert_eq!(since(&origin, clock), 15);
    }
}
