//! What an upstream is told by its configuration, in run-time form.

use std::sync::Arc;
use std::time::Duration;

use crate::balance::Balance;

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
    /// What may have been processed is sent again only within this time of the first try.
    pub within: Option<Duration>,
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

/// Everything that an upstream is told by its configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Algorithm.
    pub balance: Balance,
    /// Protocol spoken to the endpoints.
    pub protocol: Protocol,
    /// TLS towards the endpoints; `None` = plain.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Name sent by SNI and verified instead of the backend's host.
    pub sni: Option<String>,
    /// What the Host header becomes.
    pub host: HostRule,
    /// Retries.
    pub retry: Retry,
    /// Retries in percent of requests.
    pub budget_percent: f64,
    /// Keep-alive pool.
    pub pool: PoolLimits,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Passive ejection.
    pub outlier: Option<OutlierSettings>,
    /// Circuit breaker.
    pub breaker: Option<BreakerSettings>,
    /// A backend that comes back grows to its full weight over this time.
    pub slow_start: Duration,
    /// Active health checks.
    pub health: Option<HealthSettings>,
}

/// A backend as configured: stands for every address its host resolves to.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// IP address or DNS name, `_service._proto.name` for SRV.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Share of each of its endpoints.
    pub weight: u32,
    /// Open connections to each of its endpoints.
    pub max_connections: u32,
}

/// Active health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthSettings {
    /// Kind of probe.
    pub probe: Probe,
    /// Between two probes of one endpoint (± 10 % jitter).
    pub interval: Duration,
    /// One probe's time.
    pub timeout: Duration,
    /// Port; `None` = the endpoint's.
    pub port: Option<u16>,
    /// Successes in a row that make it healthy.
    pub healthy_threshold: u32,
    /// Failures in a row that make it unhealthy.
    pub unhealthy_threshold: u32,
}

/// Kind of probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// GET over HTTP/1.1.
    Http {
        /// Request target.
        path: String,
        /// Host header; `None` = the backend's.
        host: Option<String>,
        /// Accepted statuses; empty = 200–399.
        statuses: Vec<u16>,
        /// The body's first 64 KiB must contain this.
        body_contains: Option<String>,
    },
    /// A connection is accepted (and TLS agreed where the upstream has it).
    Tcp,
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// Service asked about; empty = the server as a whole.
        service: String,
    },
}

/// A duration in the unit of [`crate::rt::clock`].
pub(crate) fn millis(duration: Duration) -> u64 {
    duration.as_millis().min(u128::from(u64::MAX / 4)) as u64
}

/// Name resolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSettings {
    /// `address:port` of resolvers; empty = the system's.
    pub servers: Vec<std::net::SocketAddr>,
    /// Answers are used at least this long whatever their TTL.
    pub min_ttl: Duration,
    /// Answers are used at most this long whatever their TTL.
    pub max_ttl: Duration,
    /// One query's time.
    pub timeout: Duration,
}
