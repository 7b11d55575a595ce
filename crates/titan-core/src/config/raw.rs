//! The native configuration: the one plain JSON shape that the control plane lowers every form of configuration to.
//!
//! Conventions, so that nothing needs a unit in its documentation twice:
//! - every duration is in milliseconds and says so in its name (`_ms`); 0 means "no limit" where a field's text says so;
//! - every size is in bytes;
//! - names are already validated, secrets already resolved, and files (keys, certificates, IP lists) already turned into absolute paths;
//! - a route's policies are indices into [`Config::policies`], already after replacement (a route's policy of a type replaces
//!   the global one); their order of execution is decided by [`crate::policy`], not by this list.
//!
//! Unknown fields are errors: the two sides ship together, so a mismatch is a bug and must not pass silently.

use std::collections::BTreeMap;

use serde::Deserialize;

mod auth;
mod body;
mod hook;
mod listener;
mod policy;
mod route;
mod upstream;

pub use auth::*;
pub use body::*;
pub use hook::*;
pub use listener::*;
pub use policy::*;
pub use route::*;
pub use upstream::*;

/// A whole configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of the product, reported by `/_health`.
    #[serde(default = "default_version")]
    pub version: String,
    /// Shards (data-plane threads). 0 = one for each CPU. Fixed at start: a reload with another number is refused with the reason.
    #[serde(default)]
    pub workers: usize,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// Upstreams that routes name.
    #[serde(default)]
    pub upstreams: Vec<Upstream>,
    /// Routes, in the order of the file (the last tie-breaker of matching).
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Every distinct policy, named or inline.
    #[serde(default)]
    pub policies: Vec<Policy>,
    /// Indices of the global policies: they run on Titan's own answers where no route matched (404, 405).
    #[serde(default)]
    pub global: Vec<usize>,
    /// Peers (CIDR) whose X-Forwarded-*, Forwarded and X-Request-Id are believed.
    #[serde(default)]
    pub trusted_proxies: Vec<String>,
    /// Which forwarding headers are written.
    #[serde(default)]
    pub forwarding: Forwarding,
    /// Access log; absent = off.
    #[serde(default)]
    pub access_log: Option<AccessLog>,
    /// Built-in endpoints.
    #[serde(default)]
    pub builtin: Builtin,
    /// Name resolution.
    #[serde(default)]
    pub dns: Dns,
    /// Bytes of bodies that the process may hold (for another try, hooks, changes of the whole, compression). 0 = no limit.
    #[serde(default)]
    pub max_buffered: u64,
    /// Time served after a drain begins before listeners close (requirement 46, step 1).
    #[serde(default)]
    pub shutdown_delay_ms: u64,
    /// Time given to requests in flight once draining (step 2).
    #[serde(default = "default_shutdown_timeout")]
    pub shutdown_timeout_ms: u64,
}

/// Forwarding headers written towards upstreams.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Forwarding {
    /// `X-Forwarded-For`, `-Proto`, `-Host`.
    pub x_forwarded: bool,
    /// `Forwarded` (RFC 7239).
    pub forwarded: bool,
    /// `Via` pseudonym in both directions; absent = no `Via`.
    pub via: Option<String>,
    /// Name of the request id header, lower case; absent = none is written.
    pub request_id: Option<String>,
    /// Regular expression of the ids that are taken from any client; absent = only trusted proxies' are.
    pub id_pattern: Option<String>,
    /// Name of the correlation id header, lower case; absent = there is none.
    pub correlation_id: Option<String>,
    /// Write `Server-Timing` on answers.
    pub server_timing: bool,
    /// Keep a valid incoming `traceparent`, begin one otherwise (W3C Trace Context).
    pub trace_context: bool,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            x_forwarded: true,
            forwarded: false,
            via: Some("titan".into()),
            request_id: Some("x-request-id".into()),
            id_pattern: None,
            correlation_id: None,
            server_timing: false,
            trace_context: true,
        }
    }
}

/// Access log: one line a request, made when its body has ended, written off the shards.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessLog {
    /// `json` or `text`.
    pub format: LogFormat,
    /// Fields in order; see [`crate::metrics::access_log`] for their names.
    pub fields: Vec<String>,
    /// Match paths (exact, or a prefix when ending in `*`) that are not logged.
    #[serde(default)]
    pub exclude_paths: Vec<String>,
    /// Share of requests logged, 0.0–1.0. Errors (status ≥ 500) are always logged.
    #[serde(default = "one")]
    pub sample: f64,
    /// `stdout`, `stderr` or an absolute path.
    pub output: String,
    /// Rotate when the file reaches this many bytes; 0 = never.
    #[serde(default)]
    pub rotate_bytes: u64,
    /// Rotated files kept.
    #[serde(default)]
    pub rotate_files: u32,
}

/// Form of an access log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// `key=value` pairs, values quoted where needed.
    Text,
}

/// Built-in endpoints. Paths under `/_` win over routes; the others lose to a configured route.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Builtin {
    /// Peers (CIDR) beside loopback that may read `/_metrics` and `/services/health`; others get 404.
    pub internal_cidrs: Vec<String>,
    /// Path to body: health answers beside `/_health`, `/_live`, `/_ready`. Used by presets.
    pub health_paths: BTreeMap<String, HealthKind>,
    /// What readiness cannot do without: `redis`, `jwks`, `upstreams` (each of them) or `upstream:NAME`. Others make it `degraded` only.
    pub critical: Vec<String>,
}

/// What a health path answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthKind {
    /// `{"status":"healthy","version":…}`, always 200.
    Health,
    /// 200 until the process exits.
    Live,
    /// 503 while draining or when a critical dependency is down.
    Ready,
}

/// DNS resolution of upstream hosts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// `host:port` of resolvers; empty = the system's.
    pub servers: Vec<String>,
    /// Answers are used at least this long whatever their TTL.
    pub min_ttl_ms: u64,
    /// Answers are used at most this long whatever their TTL.
    pub max_ttl_ms: u64,
    /// One query's time.
    pub timeout_ms: u64,
}

impl Default for Dns {
    fn default() -> Self {
        Self { servers: Vec::new(), min_ttl_ms: 1_000, max_ttl_ms: 300_000, timeout_ms: 2_000 }
    }
}

fn default_version() -> String {
    env!("CARGO_PKG_VERSION").into()
}
fn default_shutdown_timeout() -> u64 {
    30_000
}
fn one() -> f64 {
    1.0
}
