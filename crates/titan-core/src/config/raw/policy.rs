//! Policies (middleware). A closed set: each variant has its module in [`crate::policy`] or [`crate::auth`].

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Auth, Authorize, ForwardAuth, Hook};

/// A policy with the key under which its state survives a reload.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Name in the configuration, or made from its place (`routes[3].cors`). Stable across reloads; metrics label.
    pub name: String,
    /// The policy itself.
    #[serde(flatten)]
    pub kind: PolicyKind,
}

/// Kinds of policy: `{"name": …, "type": "rate_limit", "config": {…}}`. At most one of a type in a chain, `hook` and `headers` excepted.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type", content = "config")]
pub enum PolicyKind {
    /// Allow and deny lists of client addresses.
    IpFilter(IpFilter),
    /// Rate limits.
    RateLimit(RateLimit),
    /// Requests in flight.
    Concurrency(Concurrency),
    /// Cross-origin resource sharing.
    Cors(Cors),
    /// Who is it?
    Auth(Auth),
    /// An external service decides.
    ForwardAuth(ForwardAuth),
    /// May it?
    Authorize(Authorize),
    /// A function of the user's, in JavaScript.
    Hook(Hook),
    /// Headers added, set or removed.
    Headers(Headers),
    /// Answers are compressed.
    Compression(super::Compression),
    /// Fields of JSON bodies are changed.
    JsonBody(super::JsonBody),
}

/// Client addresses. A denied address gets 403; with an allow list (`allow` or `allow_file`), so does every address not in it;
/// `deny` wins over `allow`. An IPv4-mapped IPv6 address counts as the IPv4 address.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IpFilter {
    /// CIDRs or single addresses.
    pub allow: Vec<String>,
    /// CIDRs or single addresses.
    pub deny: Vec<String>,
    /// Absolute path of a list, one CIDR or address a line, `#` begins a comment. Read again by each reload.
    pub allow_file: Option<String>,
    /// The same, of denied addresses.
    pub deny_file: Option<String>,
}

/// Rate limit: every limit of the list must admit the request. The answer to a refused one is 429 with `Retry-After`; it takes nothing from
/// the limits checked at its stage.
///
/// Limits keyed by address, route, header or cookie are checked before authentication; limits whose key has a part that comes from an
/// identity (`claim`, `api_key`, `subject`), and those of a tier, after it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// May be empty only where there are tiers.
    #[serde(default)]
    pub limits: Vec<Limit>,
    /// Limits by plan.
    #[serde(default)]
    pub tiers: Option<Tiers>,
    /// What one request takes.
    #[serde(default = "one")]
    pub cost: u64,
    /// Policies with the same group share their counters (of limits that are equal); absent = the policy's name.
    #[serde(default)]
    pub group: Option<String>,
    /// Write `X-RateLimit-Limit`, `-Remaining` and `-Reset` (seconds until the limit is whole again) on answers.
    #[serde(default = "yes")]
    pub headers: bool,
    /// Write the IETF draft's `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10) on answers.
    #[serde(default)]
    pub draft_headers: bool,
    /// Count in Redis, shared by every Titan that uses it; absent = in this process.
    #[serde(default)]
    pub redis: Option<Redis>,
}

/// Limits by plan: where the request's tier is in `limits`, those replace [`RateLimit::limits`] of the identity stage.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tiers {
    /// Claim path whose string value names the tier; absent = the API key's (or basic user's) `tier`.
    #[serde(default)]
    pub claim: Option<String>,
    /// Tier → its limits.
    pub limits: BTreeMap<String, Vec<Limit>>,
}

/// One limit, exact for the process (or for all on one Redis).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Requests in one window.
    pub requests: u64,
    /// Window.
    pub window_ms: u64,
    /// Token bucket: requests admitted at once by a key that was quiet; at least 1. Not used by a sliding window.
    #[serde(default)]
    pub burst: u64,
    /// Algorithm.
    #[serde(default)]
    pub algorithm: LimitAlgorithm,
    /// What is counted apart; several are combined. Empty = one bucket for all. A request without a header or cookie of the key shares one
    /// bucket with all such requests.
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

/// Part of a limit's key: `{"from": "header", "name": "x-tenant"}`, `{"from": "ip"}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case", tag = "from", content = "name")]
pub enum LimitKey {
    /// Client address (IPv6 by /64, v4-mapped as v4).
    Ip,
    /// The route.
    Route,
    /// A header's value (lower-case name).
    Header(String),
    /// A cookie's value.
    Cookie(String),
    /// A claim's value, by path (`realm_access.tenant`).
    Claim(String),
    /// Id of the API key.
    ApiKey,
    /// Subject of the identity: `sub`, API key id, user name or certificate subject.
    Subject,
}

/// A Redis server. Connections are shared by every policy that names the same URL.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS, or `unix:///path`.
    pub url: String,
    /// PEM bundle for `rediss://` in place of the system's roots.
    #[serde(default)]
    pub ca_path: Option<String>,
    /// Put before every key.
    #[serde(default = "redis_prefix")]
    pub prefix: String,
    /// One round trip, connecting included; then `fail_mode` decides.
    #[serde(default = "fifty")]
    pub timeout_ms: u64,
    /// What happens while it can't be asked.
    #[serde(default)]
    pub fail_mode: StoreFailMode,
}

/// What a limit does while its Redis can't be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreFailMode {
    /// Admit.
    Open,
    /// Refuse with 503.
    Closed,
    /// Count in this process with the same figures.
    #[default]
    Local,
}

/// Requests in flight, counted for the process; one more gets 503 with `Retry-After: 1`. A tunnel counts until it closes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// At least 1.
    pub max: u32,
    /// What is counted apart (as of [`Limit::key`], identity parts excepted); empty = one count for all.
    #[serde(default)]
    pub key: Vec<LimitKey>,
}

/// CORS (the Fetch standard). Titan owns the `Access-Control-*` headers of the answers: what an upstream sets is replaced or taken off.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// Exact (`https://a.example`, `null`), `*`, `https://*.example.com` (any depth below, not the name itself), or `/regex/` (linear time,
    /// anchored at both ends).
    pub allowed_origins: Vec<String>,
    /// Methods, or `*`.
    pub allowed_methods: Vec<String>,
    /// Header names, or `*`.
    pub allowed_headers: Vec<String>,
    /// Header names.
    pub exposed_headers: Vec<String>,
    /// Credentials. With `*` as origin this is refused; with `*` as methods or headers what the preflight asks for is reflected.
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

/// Header rules in both directions. Framing and hop-by-hop headers can't be touched.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Headers {
    /// Security headers for answers, applied before `response`, which can change or remove each of them.
    pub security: Option<SecurityPreset>,
    /// Towards the upstream.
    pub request: Vec<HeaderRule>,
    /// Towards the client.
    pub response: Vec<HeaderRule>,
    /// Rules for the query towards the upstream, after hooks.
    pub query: Vec<QueryRule>,
}

/// One rule for a query parameter. Names are compared decoded; values are encoded.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryRule {
    /// `add` appends one more, `set` replaces the first and takes off the others (or appends), `remove` takes off all.
    pub action: HeaderAction,
    /// Name, not encoded.
    pub name: String,
    /// Value, with the variables of header values.
    #[serde(default)]
    pub value: String,
}

/// Presets of security headers. Each replaces what the upstream sent, but a Content-Security-Policy of the upstream is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecurityPreset {
    /// Safe for any site: `X-Content-Type-Options: nosniff`, `Referrer-Policy: strict-origin-when-cross-origin`, `X-Frame-Options: SAMEORIGIN`,
    /// `Cross-Origin-Opener-Policy: same-origin-allow-popups`, `X-Permitted-Cross-Domain-Policies: none`; over https
    /// `Strict-Transport-Security: max-age=15552000`. `Server` and `X-Powered-By` are removed.
    Basic,
    /// For an application that was made for it: as `basic`, with `X-Frame-Options: DENY`, `Referrer-Policy: no-referrer`,
    /// `Cross-Origin-Opener-Policy: same-origin`, `Cross-Origin-Resource-Policy: same-origin`, `Permissions-Policy` without camera, microphone,
    /// geolocation and payment, `Content-Security-Policy: default-src 'self'; frame-ancestors 'none'; base-uri 'self'; object-src 'none'`, and
    /// `Strict-Transport-Security: max-age=63072000; includeSubDomains`.
    Strict,
    /// For JSON APIs: as `strict`, with `Content-Security-Policy: default-src 'none'; frame-ancestors 'none'` and without
    /// `Cross-Origin-Resource-Policy`.
    Api,
}

/// One header rule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderRule {
    /// What to do.
    pub action: HeaderAction,
    /// Lower case name.
    pub name: String,
    /// Value; may hold `${client_ip}`, `${request_id}`, `${host}`, `${path}`, `${method}`, `${scheme}`, `${route}`, `${tls_subject}`,
    /// `${subject}` (of the identity), `${param.NAME}`, `${header.NAME}` (of the request) and `${claim.PATH}`. An absent one is empty; a rule
    /// whose value is made of variables alone and comes out empty writes nothing. `$${` stands for `${`.
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
fn one() -> u64 {
    1
}
fn fifty() -> u64 {
    50
}
fn redis_prefix() -> String {
    "titan:".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_parses_and_unknown_keys_are_refused_on_every_level() {
        let parse = |json: &str| serde_json::from_str::<Policy>(json);
        let policy = parse(r#"{"name":"a","type":"rate_limit","config":{"limits":[{"requests":1,"window_ms":1000,"burst":2,"key":[{"from":"ip"},{"from":"header","name":"x"}]}]}}"#).unwrap();
        let PolicyKind::RateLimit(limit) = policy.kind else { panic!() };
        assert_eq!(limit.limits[0].key, [LimitKey::Ip, LimitKey::Header("x".into())]);
        assert!(
            parse(
                r#"{"name":"a","type":"auth","config":{"methods":[{"method":"jwt"},{"method":"api_key","header":"k"}],"anonymous":true}}"#
            )
            .is_ok()
        );
        for wrong in [
            r#"{"name":"a","type":"cors","config":{},"x":1}"#,
            r#"{"name":"a","type":"cors","config":{"x":1}}"#,
            r#"{"name":"a","type":"nothing","config":{}}"#,
            r#"{"name":"a","type":"auth","config":{"methods":[{"method":"jwt","x":1}]}}"#,
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
