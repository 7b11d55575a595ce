//! Tokens that are no longer good, by `jti`: one list for the process, so that every shard sees a revocation at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

use super::unix_now;

/// Most entries kept; beyond it the ones that expire first go.
const MAX: usize = 1 << 20;

/// The list.
#[derive(Debug, Default)]
pub struct Revocations {
    /// Length of `by_id`, so that an empty list costs a load.
    len: AtomicUsize,
    by_id: RwLock<HashMap<Box<str>, u64>>,
}

impl Revocations {
    /// Refuses the token `jti` from now on. `expires_at` (Unix seconds) is the token's `exp`: after it (and a day, for any clock skew) the entry is
    /// forgotten. `None` keeps it while the process lives.
    pub fn revoke(&self, jti: &str, expires_at: Option<u64>) {
        let mut by_id = self.by_id.write();
        if by_id.len() >= MAX {
            self.sweep(&mut by_id);
        }
        let until = expires_at.map_or(u64::MAX, |exp| exp.saturating_add(86_400));
        let entry = by_id.entry(jti.into()).or_insert(0);
        *entry = until.max(*entry);
        self.len.store(by_id.len(), Ordering::Release);
    }

    /// Whether the token `jti` was revoked.
    pub fn contains(&self, jti: &str) -> bool {
        self.len.load(Ordering::Acquire) != 0 && self.by_id.read().contains_key(jti)
    }

    /// Entries on the list.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn sweep(&self, by_id: &mut HashMap<Box<str>, u64>) {
        let now = unix_now();
        by_id.retain(|_, until| *until > now);
        if by_id.len() >= MAX {
            let mut times: Vec<u64> = by_id.values().copied().collect();
            let (_, &mut cut, _) = times.select_nth_unstable(MAX / 16);
            by_id.retain(|_, until| *until > cut);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revoked_is_revoked() {
        let list = Revocations::default();
        assert!(!list.contains("a") && list.is_empty());
        list.revoke("a", Some(unix_now() + 60));
        list.revoke("b", None);
        list.revoke("b", Some(5));
        assert!(list.contains("a") && list.contains("b") && !list.contains("c"));
        let mut map = list.by_id.write();
        map.insert("old".into(), 1);
        list.sweep(&mut map);
        assert_eq!(map.len(), 2, "only what has expired goes");
    }
}
