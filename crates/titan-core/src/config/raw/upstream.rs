//! Upstreams and their backends.

use serde::Deserialize;

/// A named set of backends.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Unique name.
    pub name: String,
    /// How an endpoint is chosen.
    #[serde(default)]
    pub balance: Balance,
    /// Backends; a host name stands for every address it resolves to.
    pub backends: Vec<Backend>,
    /// Protocol spoken to the backends.
    #[serde(default)]
    pub protocol: UpstreamProtocol,
    /// TLS towards the backends; absent = plain.
    #[serde(default)]
    pub tls: Option<UpstreamTls>,
    /// What the Host header becomes.
    #[serde(default)]
    pub host: HostHeader,
    /// Active health checks; absent = none.
    #[serde(default)]
    pub health_check: Option<HealthCheck>,
    /// Passive ejection; absent = none.
    #[serde(default)]
    pub outlier: Option<Outlier>,
    /// Circuit breaker per backend; absent = none.
    #[serde(default)]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// Retries of a request.
    #[serde(default)]
    pub retry: Retry,
    /// Keep-alive pool.
    #[serde(default)]
    pub pool: Pool,
    /// Time limits.
    #[serde(default)]
    pub timeouts: UpstreamTimeouts,
    /// A backend that comes back grows to its full weight over this time. 0 = at once.
    #[serde(default)]
    pub slow_start_ms: u64,
}

/// One backend.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// IP address or DNS name.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Share of traffic; 0 = none.
    #[serde(default = "one")]
    pub weight: u32,
    /// Open connections to each of its endpoints, exact for the process.
    #[serde(default = "thousand")]
    pub max_connections: u32,
}

/// Balancing algorithm.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", tag = "algorithm", deny_unknown_fields)]
pub enum Balance {
    /// In turn, weights ignored unless they differ from 1 (then as `WeightedRoundRobin`).
    #[default]
    RoundRobin,
    /// Smooth weighted round robin (nginx's algorithm).
    WeightedRoundRobin,
    /// Fewest requests in flight by weight, counted for the process.
    LeastConnections,
    /// By weight.
    Random,
    /// The better of two random picks by requests in flight.
    PowerOfTwo,
    /// The better of two random picks by peak-EWMA latency times requests in flight.
    Ewma,
    /// Maglev hash of the client address (IPv6 by /64).
    IpHash,
    /// Maglev hash of `key`, with bounded load when `bound` is set (1.25 = at most 125 % of the mean).
    ConsistentHash {
        /// What is hashed.
        key: HashKey,
        /// Load bound; absent = none.
        #[serde(default)]
        bound: Option<f64>,
    },
    /// A signed cookie binds a client to an endpoint.
    Sticky {
        /// Cookie name.
        cookie: String,
        /// Key of its HMAC-SHA-256 signature.
        secret: String,
        /// Max-Age in seconds; 0 = session cookie.
        #[serde(default)]
        ttl_seconds: u64,
    },
}

/// Input of a consistent hash.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", tag = "from", content = "name")]
pub enum HashKey {
    /// Client address.
    Ip,
    /// Match path.
    Path,
    /// A header's value.
    Header(String),
    /// A cookie's value.
    Cookie(String),
}

/// Protocol of an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
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

/// TLS towards a backend.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// Verify chain and name. Only `false` turns it off.
    #[serde(default = "yes")]
    pub verify: bool,
    /// PEM bundle used instead of the system's roots.
    #[serde(default)]
    pub ca_path: Option<String>,
    /// Name sent and verified; absent = the backend's host.
    #[serde(default)]
    pub sni: Option<String>,
    /// Client certificate chain.
    #[serde(default)]
    pub cert_path: Option<String>,
    /// Its key.
    #[serde(default)]
    pub key_path: Option<String>,
}

/// Host header towards a backend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostHeader {
    /// As the client sent it.
    #[default]
    Preserve,
    /// The backend's host (and port where it is not the scheme's).
    Backend,
    /// This value.
    Fixed(String),
}

/// Active health check.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// Kind of probe.
    #[serde(default)]
    pub kind: HealthCheckKind,
    /// Between two probes of one endpoint (± 10 % jitter).
    #[serde(default = "thirty_seconds")]
    pub interval_ms: u64,
    /// One probe's time.
    #[serde(default = "five_seconds")]
    pub timeout_ms: u64,
    /// Request target of an HTTP probe, service name of a gRPC one.
    #[serde(default = "health_path")]
    pub path: String,
    /// Host header of an HTTP probe; absent = the backend's.
    #[serde(default)]
    pub host: Option<String>,
    /// Port; absent = the backend's.
    #[serde(default)]
    pub port: Option<u16>,
    /// Accepted statuses; empty = 200–399.
    #[serde(default)]
    pub statuses: Vec<u16>,
    /// The body's first 64 KiB must contain this.
    #[serde(default)]
    pub body_contains: Option<String>,
    /// Successes in a row that make it healthy.
    #[serde(default = "one")]
    pub healthy_threshold: u32,
    /// Failures in a row that make it unhealthy.
    #[serde(default = "one")]
    pub unhealthy_threshold: u32,
}

/// Kind of probe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthCheckKind {
    /// GET over HTTP/1.1 (over TLS where the upstream has it).
    #[default]
    Http,
    /// A connection is accepted.
    Tcp,
    /// `grpc.health.v1.Health/Check` over HTTP/2.
    Grpc,
}

/// Passive outlier ejection, counted for the process.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outlier {
    /// 5xx answers or failed connections in a row. 0 = not used.
    pub consecutive_failures: u32,
    /// Share of failures in a window, 0.0–1.0. 0 = not used.
    pub error_rate: f64,
    /// Requests in the window below which the rate says nothing.
    pub min_requests: u32,
    /// Window of the rate.
    pub interval_ms: u64,
    /// First ejection; doubles with each one up to ten times.
    pub ejection_ms: u64,
    /// Share of endpoints ejected at once, 0.0–1.0.
    pub max_ejected: f64,
    /// Use every endpoint when fewer than this share are left. 0 = off.
    pub panic_threshold: f64,
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            error_rate: 0.0,
            min_requests: 20,
            interval_ms: 10_000,
            ejection_ms: 30_000,
            max_ejected: 0.5,
            panic_threshold: 0.0,
        }
    }
}

/// Circuit breaker of each backend, counted for the process. 5xx answers and failures to connect count, 4xx do not.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitBreaker {
    /// Failures in the window that open it.
    pub failure_threshold: u32,
    /// Successes of half-open probes that close it.
    pub success_threshold: u32,
    /// Time open before a probe is let through.
    pub timeout_ms: u64,
    /// Window in which failures are counted.
    pub window_ms: u64,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self { failure_threshold: 5, success_threshold: 2, timeout_ms: 30_000, window_ms: 10_000 }
    }
}

/// Retries (requirement 25).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Tries after the first.
    pub max: u32,
    /// What may have been processed is sent again only within this time of the first try; a failure to connect is always followed by
    /// another try. 0 = no limit.
    pub within_ms: u64,
    /// Time of one try until its head arrived. 0 = no own limit.
    pub try_timeout_ms: u64,
    /// Statuses of idempotent requests that are tried again.
    pub statuses: Vec<u16>,
    /// Also replay methods that are not idempotent after bytes were written.
    pub non_idempotent: bool,
    /// Request bodies up to this many bytes are kept for a replay.
    pub max_body: usize,
    /// First pause; doubles each time, full jitter.
    pub backoff_ms: u64,
    /// Retries in percent of requests (over 10 s), at least 3 a second.
    pub budget_percent: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max: 2,
            within_ms: 1_000,
            try_timeout_ms: 0,
            statuses: Vec::new(),
            non_idempotent: false,
            max_body: 64 << 10,
            backoff_ms: 25,
            budget_percent: 20.0,
        }
    }
}

/// Keep-alive pool of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// Idle connections kept for each endpoint, for the process.
    pub max_idle: usize,
    /// An idle connection is closed after this time.
    pub idle_timeout_ms: u64,
    /// Requests waiting for a connection of one endpoint; one more gets 503.
    pub max_waiters: usize,
    /// How long one waits before 503.
    pub wait_timeout_ms: u64,
}

impl Default for Pool {
    fn default() -> Self {
        Self { max_idle: 100, idle_timeout_ms: 60_000, max_waiters: 1_000, wait_timeout_ms: 1_000 }
    }
}

/// Time limits of an upstream. 0 = none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTimeouts {
    /// TCP connect and TLS handshake: 502 (after retries).
    pub connect_ms: u64,
    /// Request sent to first byte of the answer's head: 504.
    pub first_byte_ms: u64,
    /// Between two reads of an answer's body: the client's connection is cut.
    pub read_ms: u64,
    /// Between two accepted writes of a request: 504.
    pub write_ms: u64,
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        Self { connect_ms: 5_000, first_byte_ms: 60_000, read_ms: 60_000, write_ms: 60_000 }
    }
}

fn one() -> u32 {
    1
}
fn thousand() -> u32 {
    1_000
}
fn yes() -> bool {
    true
}
fn thirty_seconds() -> u64 {
    30_000
}
fn five_seconds() -> u64 {
    5_000
}
fn health_path() -> String {
    "/health".into()
}
