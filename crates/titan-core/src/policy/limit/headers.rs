//! What answers say about limits.

use smallvec::SmallVec;

use crate::http::ops::HeaderOps;

/// One limit's state after a request, as its answer tells it.
#[derive(Debug, Clone, Copy)]
pub(in crate::policy) struct Reading {
    /// Index of the limit in its policy's names.
    pub(super) limit: u16,
    pub(super) quota: u64,
    pub(super) remaining: u64,
    /// Seconds, rounded up.
    pub(super) reset: u64,
}

/// Readings of an exchange.
pub(in crate::policy) type Readings = SmallVec<[Reading; 2]>;

/// Names of the limits of a policy and the constant header that describes them.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// `"name"` as a structured-field string, one a limit.
    pub(super) quoted: Vec<Box<str>>,
    /// `"name";q=100;w=60`, one a limit.
    pub(super) policies: Vec<Box<str>>,
}

impl Names {
    pub(super) fn push(&mut self, policy: &str, quota: u64, window_ms: u64) {
        let plain: String = policy.chars().filter(|c| (' '..='~').contains(c) && !matches!(c, '"' | '\\')).collect();
        let quoted = match self.quoted.len() {
            0 => format!("\"{plain}\""),
            n => format!("\"{plain}:{}\"", n + 1),
        };
        self.policies.push(format!("{quoted};q={quota};w={}", window_ms.div_ceil(1000)).into());
        self.quoted.push(quoted.into());
    }
}

/// `X-RateLimit-*` of the tightest limit.
pub(super) fn classic(readings: &[Reading], ops: &mut HeaderOps) {
    // The one that will refuse first: the fewest requests left.
    let Some(tightest) = readings.iter().min_by_key(|r| r.remaining) else { return };
    number(ops, "x-ratelimit-limit", tightest.quota);
    number(ops, "x-ratelimit-remaining", tightest.remaining);
    number(ops, "x-ratelimit-reset", tightest.reset);
}

/// `RateLimit-Policy` and `RateLimit` of every limit that was asked.
pub(super) fn draft(readings: &[Reading], names: &Names, ops: &mut HeaderOps) {
    if readings.is_empty() {
        return;
    }
    ops.set_with("ratelimit-policy", |out| {
        for (i, reading) in readings.iter().enumerate() {
            separate(out, i);
            out.extend_from_slice(names.policies[reading.limit as usize].as_bytes());
        }
    });
    ops.set_with("ratelimit", |out| {
        for (i, reading) in readings.iter().enumerate() {
            separate(out, i);
            out.extend_from_slice(names.quoted[reading.limit as usize].as_bytes());
            out.extend_from_slice(b";r=");
            out.extend_from_slice(itoa::Buffer::new().format(reading.remaining).as_bytes());
            out.extend_from_slice(b";t=");
            out.extend_from_slice(itoa::Buffer::new().format(reading.reset).as_bytes());
        }
    });
}

fn separate(out: &mut Vec<u8>, i: usize) {
    if i > 0 {
        out.extend_from_slice(b", ");
    }
}

fn number(ops: &mut HeaderOps, name: &str, value: u64) {
    ops.set(name, itoa::Buffer::new().format(value));
}
