//! What an upstream is told by its configuration, in run-time form.

use std::sync::Arc;
use std::time::Duration;

/// Protocol spoken to the backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/2 by prior knowledge over plain TCP.
    H2c,
    /// By ALPN over TLS, HTTP/1.1 over plain TCP.
    Auto,
}

/// What the Host header becomes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HostRule {
    /// As the client sent it.
    #[default]
    Preserve,
    /// The backend's host, with the port where it is not the scheme's.
    Backend,
    /// This value.
    Fixed(Arc<str>),
}

/// Retries (requirement 25).
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Tries after the first.
    pub max: u32,
    /// Time of one try until its head arrived.
    pub try_timeout: Option<Duration>,
    /// Statuses of idempotent requests that are tried again.
    pub statuses: Vec<u16>,
    /// Also replay methods that are not idempotent after bytes were written.
    pub non_idempotent: bool,
    /// Request bodies up to this many bytes are kept for a replay.
    pub max_body: usize,
    /// First pause; doubles each time, full jitter.
    pub backoff: Duration,
}

impl Retry {
    /// The pause before try number `attempt` (1 = the first retry): full jitter over a doubling range, at most 64 times the first.
    pub fn pause(&self, attempt: u32) -> Duration {
        let range = self.backoff.saturating_mul(1 << attempt.saturating_sub(1).min(6));
        range.mul_f64(crate::balance::random::unit())
    }
}

/// Keep-alive pool of each endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolLimits {
    /// Idle connections kept, for the process.
    pub max_idle: usize,
    /// An idle connection is closed after this time.
    pub idle_timeout: Option<Duration>,
    /// Requests waiting for a connection; one more gets 503.
    pub max_waiters: usize,
    /// How long one waits before 503.
    pub wait_timeout: Option<Duration>,
}

/// Time limits towards the backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP connect and TLS handshake.
    pub connect: Option<Duration>,
    /// Request sent to first byte of the answer's head.
    pub first_byte: Option<Duration>,
    /// Between two reads of an answer's body.
    pub read: Option<Duration>,
    /// Between two accepted writes of a request.
    pub write: Option<Duration>,
}

/// Passive outlier ejection.
#[derive(Debug, Clone, PartialEq)]
pub struct OutlierSettings {
    /// Failures in a row. 0 = not used.
    pub consecutive_failures: u32,
    /// Share of failures in a window. 0 = not used.
    pub error_rate: f64,
    /// Requests in the window below which the rate says nothing.
    pub min_requests: u32,
    /// Window of the rate.
    pub interval: Duration,
    /// First ejection; doubles with each one up to ten times the first.
    pub ejection: Duration,
    /// Share of endpoints ejected at once.
    pub max_ejected: f64,
    /// Use every endpoint when fewer than this share are left. 0 = off.
    pub panic_threshold: f64,
}

/// Circuit breaker of each endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in the window that open it.
    pub failure_threshold: u32,
    /// Successes of half-open probes that close it.
    pub success_threshold: u32,
    /// Time open before a probe is let through.
    pub timeout: Duration,
    /// Window in which failures are counted.
    pub window: Duration,
}
