//! Policies (middleware). A closed set: each variant has its module in [`crate::policy`] or [`crate::auth`].

use serde::Deserialize;

/// A policy with the key under which its state survives a reload.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Name in the configuration, or made from its place (`routes[3].cors`). Stable across reloads; metrics label.
    pub name: String,
    /// The policy itself.
    #[serde(flatten)]
    pub kind: PolicyKind,
}

/// Kinds of policy.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type", content = "config")]
pub enum PolicyKind {
    /// Allow and deny lists of client addresses.
    IpFilter(IpFilter),
    /// Rate limits.
    RateLimit(RateLimit),
    /// Cross-origin resource sharing.
    Cors(Cors),
    /// Headers added, set or removed.
    Headers(Headers),
}

/// Client addresses. A denied address gets 403; with a non-empty `allow`, so does every address not in it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct IpFilter {
    /// CIDRs.
    pub allow: Vec<String>,
    /// CIDRs.
    pub deny: Vec<String>,
}

/// Rate limit: every limit of the list must admit the request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// At least one.
    pub limits: Vec<Limit>,
    /// Write `X-RateLimit-*` on answers.
    #[serde(default = "yes")]
    pub headers: bool,
}

/// One limit, exact for the process.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Requests in one window.
    pub requests: u64,
    /// Window.
    pub window_ms: u64,
    /// Requests admitted at once by a key that was quiet (token bucket only).
    pub burst: u64,
    /// Algorithm.
    #[serde(default)]
    pub algorithm: LimitAlgorithm,
    /// What is counted apart; several are combined. Empty = one bucket for all.
    #[serde(default)]
    pub key: Vec<LimitKey>,
    /// Keys remembered; the one unused longest goes first.
    #[serde(default = "hundred_thousand")]
    pub max_keys: usize,
}

/// Algorithm of a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitAlgorithm {
    /// Generic cell rate algorithm: a token bucket without a timer.
    #[default]
    TokenBucket,
    /// Weighted count of this window and the one before.
    SlidingWindow,
}

/// Part of a limit's key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", tag = "from", content = "name")]
pub enum LimitKey {
    /// Client address (IPv6 by /64, v4-mapped as v4).
    Ip,
    /// The route.
    Route,
    /// A header's value.
    Header(String),
    /// A cookie's value.
    Cookie(String),
}

/// CORS (the Fetch standard).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// Exact, `*`, `https://*.example.com`, or `/regex/`.
    pub allowed_origins: Vec<String>,
    /// Methods.
    pub allowed_methods: Vec<String>,
    /// Header names, or `*`.
    pub allowed_headers: Vec<String>,
    /// Header names.
    pub exposed_headers: Vec<String>,
    /// Credentials. With `*` as origin this is refused by validation.
    pub allow_credentials: bool,
    /// Preflight cache, seconds.
    pub max_age: u64,
}

impl Default for Cors {
    fn default() -> Self {
        Self {
            allowed_origins: vec!["*".into()],
            allowed_methods: ["GET", "POST", "PUT", "DELETE", "OPTIONS"].map(Into::into).into(),
            allowed_headers: vec!["*".into()],
            exposed_headers: Vec::new(),
            allow_credentials: false,
            max_age: 86_400,
        }
    }
}

/// Header rules in both directions.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Headers {
    /// Towards the upstream.
    pub request: Vec<HeaderRule>,
    /// Towards the client.
    pub response: Vec<HeaderRule>,
}

/// One header rule.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderRule {
    /// What to do.
    pub action: HeaderAction,
    /// Lower case name.
    pub name: String,
    /// Value; may hold `${client_ip}`, `${request_id}`, `${host}`, `${path}`, `${route}`, `${tls_subject}` and `${param.NAME}`.
    #[serde(default)]
    pub value: String,
}

/// Action of a header rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderAction {
    /// One more field line.
    Add,
    /// Every field line of the name taken off.
    Remove,
    /// Replaced, or added where absent.
    Set,
}

fn yes() -> bool {
    true
}
fn hundred_thousand() -> usize {
    100_000
}
