//! Passive ejection: what requests tell about an endpoint, counted for the process.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use super::settings::OutlierSettings;
use super::settings::millis;

/// Counts of one endpoint.
#[derive(Debug, Default)]
pub struct Outlier {
    consecutive: AtomicU32,
    window: AtomicU64,
    total: AtomicU32,
    failed: AtomicU32,
    /// Ejections in a row; forgotten after a quiet time as long as the longest ejection.
    times: AtomicU32,
    until: AtomicU64,
    /// An ejection whose end has not been told of.
    out: AtomicBool,
}

impl Outlier {
    /// Until when it is ejected; `None` where it isn't.
    pub fn ejected(&self, now: u64) -> Option<u64> {
        Some(self.until.load(Relaxed)).filter(|until| *until > now)
    }

    /// When the last ejection ended or ends; 0 = never ejected.
    pub fn until(&self) -> u64 {
        self.until.load(Relaxed)
    }

    /// A request succeeded.
    pub fn success(&self, settings: &OutlierSettings, now: impl FnOnce() -> u64) {
        if self.consecutive.load(Relaxed) != 0 {
            self.consecutive.store(0, Relaxed);
        }
        if settings.error_rate > 0.0 {
            self.roll(settings, now());
            self.total.fetch_add(1, Relaxed);
        }
    }

    /// A request failed; the reason where the endpoint should now be ejected.
    pub fn failure(&self, settings: &OutlierSettings, now: u64) -> Option<String> {
        let row = self.consecutive.fetch_add(1, Relaxed) + 1;
        if settings.consecutive_failures > 0 && row >= settings.consecutive_failures {
            return Some(format!("{row} failures in a row"));
        }
        if settings.error_rate > 0.0 {
            self.roll(settings, now);
            let total = self.total.fetch_add(1, Relaxed) + 1;
            let failed = self.failed.fetch_add(1, Relaxed) + 1;
            if total >= settings.min_requests.max(1) && f64::from(failed) >= f64::from(total) * settings.error_rate {
                return Some(format!("{failed} of {total} requests failed"));
            }
        }
        None
    }

    /// Ejects: the time doubles with each ejection up to ten times the first. Returns when it ends.
    pub fn eject(&self, settings: &OutlierSettings, now: u64) -> u64 {
        let first = millis(settings.ejection).max(1);
        let last = self.until.load(Relaxed);
        let times = if last != 0 && now < last + first * 10 { self.times.load(Relaxed) } else { 0 };
        let until = now + first * (1 << times.min(4)).min(10);
        self.times.store(times + 1, Relaxed);
        self.until.store(until, Relaxed);
        self.out.store(true, Relaxed);
        self.forget();
        until
    }

    /// An active health check passed: back at once. Returns whether this ended an ejection.
    pub fn pardon(&self, now: u64) -> bool {
        if self.until.load(Relaxed) > now {
            self.until.store(now, Relaxed);
        }
        self.forget();
        self.out.swap(false, Relaxed)
    }

    /// Whether an ejection is over whose end was not told of; `true` once for each.
    pub fn ended(&self, now: u64) -> bool {
        self.out.load(Relaxed) && self.until.load(Relaxed) <= now && self.out.swap(false, Relaxed)
    }

    /// When an ejection ends that was not told of yet.
    pub fn ends(&self) -> Option<u64> {
        self.out.load(Relaxed).then(|| self.until.load(Relaxed))
    }

    fn forget(&self) {
        self.consecutive.store(0, Relaxed);
        self.total.store(0, Relaxed);
        self.failed.store(0, Relaxed);
    }

    fn roll(&self, settings: &OutlierSettings, now: u64) {
        let begin = self.window.load(Relaxed);
        if now >= begin + millis(settings.interval) && self.window.compare_exchange(begin, now, Relaxed, Relaxed).is_ok() {
            self.total.store(0, Relaxed);
            self.failed.store(0, Relaxed);
        }
    }
}

/// How many endpoints of `size` may be ejected at once. Never all of them, and never the only one.
pub fn most_ejected(settings: &OutlierSettings, size: usize) -> usize {
    ((size as f64 * settings.max_ejected) as usize).min(size.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings() -> OutlierSettings {
        OutlierSettings {
            consecutive_failures: 3,
            error_rate: 0.5,
            min_requests: 10,
            interval: Duration::from_secs(10),
            ejection: Duration::from_secs(30),
            max_ejected: 0.5,
            panic_threshold: 0.0,
        }
    }

    #[test]
    fn failures_in_a_row() {
        let (o, s) = (Outlier::default(), settings());
        assert!(o.failure(&s, 1).is_none() && o.failure(&s, 2).is_none());
        o.success(&s, || 3);
        assert!(o.failure(&s, 4).is_none() && o.failure(&s, 5).is_none());
        assert_eq!(o.failure(&s, 6).unwrap(), "3 failures in a row");
    }

    #[test]
    fn share_of_failures_in_a_window() {
        let (o, s) = (Outlier::default(), OutlierSettings { consecutive_failures: 0, ..settings() });
        for i in 0..4 {
            assert!(o.failure(&s, 20_000 + i).is_none(), "too few requests to tell");
            o.success(&s, || 20_000 + i);
        }
        assert!(o.failure(&s, 20_010).is_none());
        assert!(o.failure(&s, 20_011).unwrap().contains("6 of 10"));
        assert!(o.failure(&s, 31_000).is_none(), "another window");
    }

    #[test]
    fn the_end_of_an_ejection_is_told_of_once() {
        let (o, s) = (Outlier::default(), settings());
        assert!(!o.ended(u64::MAX) && o.ends().is_none() && !o.pardon(5));
        let until = o.eject(&s, 1_000);
        assert!(o.ends() == Some(until) && !o.ended(until - 1));
        assert!(o.ended(until) && !o.ended(until) && o.ends().is_none());
        assert!(!o.pardon(until + 1), "it was back already");
        o.eject(&s, 500_000);
        assert!(o.pardon(500_001) && !o.ended(u64::MAX));
    }

    #[test]
    fn ejections_grow_and_are_forgotten() {
        let (o, s) = (Outlier::default(), settings());
        assert_eq!(o.eject(&s, 1_000), 31_000);
        assert_eq!(o.ejected(30_999), Some(31_000));
        assert_eq!(o.ejected(31_000), None);
        assert_eq!(o.eject(&s, 40_000), 100_000);
        assert_eq!(o.eject(&s, 200_000), 320_000);
        for _ in 0..10 {
            let now = o.until();
            assert!(o.eject(&s, now) - now <= 300_000);
        }
        let quiet = o.until() + 300_000;
        assert_eq!(o.eject(&s, quiet) - quiet, 30_000);
        assert!(o.pardon(quiet + 1));
        assert_eq!(o.ejected(quiet + 2), None);
    }

    #[test]
    fn somebody_is_always_left() {
        let s = OutlierSettings { max_ejected: 1.0, ..settings() };
        assert_eq!([0, 1, 2, 3].map(|n| most_ejected(&s, n)), [0, 0, 1, 2]);
        assert_eq!([1, 2, 3, 4].map(|n| most_ejected(&settings(), n)), [0, 1, 1, 2]);
    }
}
