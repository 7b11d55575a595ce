//! Authentication and authorization.

use serde::Deserialize;

use super::Redis;

/// Authentication. The methods are looked at in order; the first one whose credential the request carries decides alone, so that a bad
/// token is never saved by a good key. No credential: 401, or with `anonymous` on as nobody.
///
/// The control plane lowers `none` to no policy, `jwt`, `apikey` and `basic` to one method, `both` to `[jwt, api_key]`, and `anonymous` to
/// the configured methods with `anonymous: true`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Methods; empty only with `anonymous`.
    pub methods: Vec<AuthMethod>,
    /// Let requests without any credential pass. A credential that is present and bad is still 401.
    #[serde(default)]
    pub anonymous: bool,
    /// Realm in `WWW-Authenticate`.
    #[serde(default = "realm")]
    pub realm: String,
    /// Verified claims written to headers towards the upstream. The same headers from a client are taken off, also for anonymous requests.
    #[serde(default)]
    pub claim_headers: Vec<ClaimHeader>,
}

/// A claim written to a header.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimHeader {
    /// Claim path (`sub`, `realm_access.roles`); an array is joined with `,`, an object written as JSON. A key of the claims that holds dots
    /// (`https://example.com/tenant`) is found by its whole name first. API keys, basic users and certificates have `sub`, `scope`, `roles`,
    /// `tier`.
    pub claim: String,
    /// Lower-case header name.
    pub header: String,
}

/// One way to authenticate.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", tag = "method")]
pub enum AuthMethod {
    /// JSON Web Tokens.
    Jwt(Box<Jwt>),
    /// API keys.
    ApiKey(ApiKeys),
    /// Basic (RFC 7617).
    Basic(Basic),
    /// A client certificate that the listener verified.
    Mtls(Mtls),
}

/// JSON Web Tokens (RFC 7519, RFC 8725). The headers `jku`, `x5u`, `jwk` and `x5c` of a token are never used; `crit` is refused.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// Header that carries the token, lower case.
    #[serde(default = "authorization")]
    pub header: String,
    /// Scheme before the token, in any case; empty = the whole value is the token.
    #[serde(default = "bearer")]
    pub scheme: String,
    /// Cookie looked at where the header is absent.
    #[serde(default)]
    pub cookie: Option<String>,
    /// Query parameter looked at where both are absent. It is taken off the forwarded query, and masked in logs.
    #[serde(default)]
    pub query: Option<String>,
    /// Take the header off before forwarding.
    #[serde(default)]
    pub strip: bool,
    /// Static keys.
    #[serde(default)]
    pub keys: Vec<JwtKey>,
    /// Keys by URL or discovery.
    #[serde(default)]
    pub jwks: Option<Jwks>,
    /// Allowed `alg`s: RS256–512, PS256–512, ES256–512, EdDSA, HS256–512. Empty = those of `keys`, and with `jwks` all but HMAC. HMAC is never taken from a JWKS.
    #[serde(default)]
    pub algorithms: Vec<String>,
    /// Allowed `iss`; empty = with discovery the provider's, else not checked.
    #[serde(default)]
    pub issuers: Vec<String>,
    /// Allowed `aud` (one of them must be in the token's string or array); empty = not checked.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// Tolerance for `exp`, `nbf` and `iat`.
    #[serde(default = "sixty_seconds")]
    pub clock_skew_ms: u64,
    /// A token without `exp` is refused.
    #[serde(default = "yes")]
    pub require_exp: bool,
    /// A token without `sub` is refused.
    #[serde(default)]
    pub require_sub: bool,
    /// Verified tokens remembered (until their exact `exp`); 0 = none.
    #[serde(default = "ten_thousand")]
    pub cache_capacity: usize,
    /// Look at the list of revoked `jti`s.
    #[serde(default = "yes")]
    pub revocation: bool,
    /// Revocations shared through this Redis by every Titan that uses it.
    #[serde(default)]
    pub revocation_redis: Option<Redis>,
}

/// A static key. Exactly one of `public_key_path`, `public_key` and `secret`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtKey {
    /// The one algorithm that it is used for.
    pub algorithm: String,
    /// `kid`; a token that names another is not tried with it. Absent = tried for every token.
    #[serde(default)]
    pub key_id: Option<String>,
    /// PEM file (SPKI, PKCS#1 or certificate).
    #[serde(default)]
    pub public_key_path: Option<String>,
    /// PEM.
    #[serde(default)]
    pub public_key: Option<String>,
    /// Secret of an HMAC.
    #[serde(default)]
    pub secret: Option<Secret>,
}

/// A secret with its encoding.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// The encoded secret.
    pub value: String,
    /// How it is encoded.
    #[serde(default)]
    pub encoding: Encoding,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({:?}, …)", self.encoding)
    }
}

/// Encoding of a secret.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Its bytes are the secret.
    #[default]
    Utf8,
    /// Standard or URL-safe alphabet, padded or not.
    Base64,
    /// Hexadecimal.
    Hex,
}

/// JSON Web Key Set. Exactly one of `url` and `issuer`.
///
/// The keys are fetched in the background, kept while the provider is down, and fetched again at most once a cooldown for unknown `kid`s.
/// Until the first keys are there, tokens are refused with 503.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwks {
    /// URL of the set: `https`, or `http` to a loopback address or to a host that `allowed_hosts` names.
    #[serde(default)]
    pub url: Option<String>,
    /// OIDC issuer: the set's URL comes from `<issuer>/.well-known/openid-configuration`, whose `issuer` must be the same.
    #[serde(default)]
    pub issuer: Option<String>,
    /// Between two refreshes.
    #[serde(default = "hour")]
    pub refresh_ms: u64,
    /// One request.
    #[serde(default = "ten_seconds")]
    pub timeout_ms: u64,
    /// Between two refreshes because of an unknown `kid`, and between two tries while the provider is down.
    #[serde(default = "thirty_seconds")]
    pub cooldown_ms: u64,
    /// Failed fetches in a row after which the provider is left alone for `breaker_ms`. Only once keys are known: without any, trying goes on.
    #[serde(default = "three")]
    pub retry_max: u32,
    /// How long it is left alone.
    #[serde(default = "five_minutes")]
    pub breaker_ms: u64,
    /// PEM bundle used instead of the system's roots.
    #[serde(default)]
    pub ca_path: Option<String>,
    /// Hosts that may be fetched from (`idp.example.com`, `*.example.com`, `127.0.0.1`); empty = only the host of `url` or `issuer`. With
    /// discovery, name the host of the keys where it is another. Redirects are never followed.
    #[serde(default)]
    pub allowed_hosts: Vec<String>,
}

/// API keys, kept as SHA-256.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeys {
    /// Header that carries the key, lower case. A `Bearer ` or `ApiKey ` before it is skipped.
    #[serde(default = "x_api_key")]
    pub header: String,
    /// Query parameter looked at where the header is absent. It is taken off the forwarded query, and masked in logs.
    #[serde(default)]
    pub query: Option<String>,
    /// Take the key off before forwarding.
    #[serde(default = "yes")]
    pub strip: bool,
    /// Inline keys.
    #[serde(default)]
    pub keys: Vec<ApiKey>,
    /// Absolute path of a JSON array of the same entries. Read again by each reload.
    #[serde(default)]
    pub file: Option<String>,
    /// More keys in Redis: `<prefix>apikey:<sha256 hex>` is a hash with the fields of [`ApiKey`] (`scopes` and `roles` joined by spaces).
    /// Answers are remembered for `redis_cache_ms`.
    #[serde(default)]
    pub redis: Option<Redis>,
    /// How long an answer of Redis is used, unknown keys included.
    #[serde(default = "ten_seconds")]
    pub redis_cache_ms: u64,
}

/// An API key. Exactly one of `key` and `sha256`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Id: subject of the identity, limit key, log field.
    pub id: String,
    /// The key itself; hashed when it is read.
    #[serde(default)]
    pub key: Option<String>,
    /// SHA-256 of the key, hex.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Scopes.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Plan, for rate-limit tiers.
    #[serde(default)]
    pub tier: Option<String>,
    /// Not valid from this time (Unix seconds).
    #[serde(default)]
    pub expires_at: Option<u64>,
    /// Refused while true.
    #[serde(default)]
    pub disabled: bool,
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Basic authentication. Hashes are verified on a small pool of threads of its own, never on a shard.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// Inline users.
    #[serde(default)]
    pub users: Vec<BasicUser>,
    /// Absolute path of an htpasswd file (`name:hash`). Read again by each reload.
    #[serde(default)]
    pub file: Option<String>,
    /// Failed attempts that an address (IPv6: /64) may make in `attempts_window_ms`; then 429 without looking at the hash. 0 = no limit.
    #[serde(default = "ten")]
    pub attempts: u64,
    /// Window of `attempts`.
    #[serde(default = "sixty_seconds")]
    pub attempts_window_ms: u64,
    /// How long a verified name and password (as a keyed hash) is remembered; 0 = not at all.
    #[serde(default = "sixty_seconds")]
    pub cache_ms: u64,
    /// Take the credential off before forwarding.
    #[serde(default = "yes")]
    pub strip: bool,
}

/// A user.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicUser {
    /// Name, without `:`.
    pub name: String,
    /// `$argon2id$…` (argon2i and argon2d too) or `$2b$…` (bcrypt; `$2a$`, `$2y$`).
    pub hash: String,
    /// Scopes.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Plan, for rate-limit tiers.
    #[serde(default)]
    pub tier: Option<String>,
}

impl std::fmt::Debug for BasicUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BasicUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Identity from the client certificate: its subject's common name is the subject of the identity, else its first SAN, else the whole
/// distinguished name.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mtls {
    /// Common names, SANs or `sha256:` fingerprints that are accepted (`*.clients.example.com` for SANs); empty = every certificate that the
    /// listener verified.
    pub allowed: Vec<String>,
    /// Scopes given to the identity.
    pub scopes: Vec<String>,
    /// Roles given to the identity.
    pub roles: Vec<String>,
}

/// Scopes and roles. No identity: 401. An identity without what is asked for: 403.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authorize {
    /// Scopes; empty = not checked.
    pub scopes: Vec<String>,
    /// Roles; empty = not checked.
    pub roles: Vec<String>,
    /// Every scope must be there; else one is enough.
    pub all_scopes: bool,
    /// Every role must be there; else one is enough.
    pub all_roles: bool,
    /// Claim path of the scopes: a string of words or an array.
    pub scope_claim: String,
    /// Claim path of the roles: a string of words or an array.
    pub roles_claim: String,
    /// Realm in `WWW-Authenticate`.
    pub realm: String,
}

impl Default for Authorize {
    fn default() -> Self {
        Self {
            scopes: Vec::new(),
            roles: Vec::new(),
            all_scopes: false,
            all_roles: false,
            scope_claim: "scope".into(),
            roles_claim: "roles".into(),
            realm: realm(),
        }
    }
}

/// An external service decides: it is asked with a GET (without the body) that has `X-Forwarded-Method`, `-Proto`, `-Host`, `-Uri` and `-For`. 2xx
/// admits the request; 5xx counts as a service that can't be asked; any other answer goes to the client (status, body up to 64 KiB and the
/// headers of `refusal_headers`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardAuth {
    /// `http://` or `https://` URL.
    pub url: String,
    /// One question, connecting included.
    #[serde(default = "five_seconds")]
    pub timeout_ms: u64,
    /// Request headers sent to the service, lower case; `*` = all but hop-by-hop ones.
    #[serde(default = "forward_auth_headers")]
    pub request_headers: Vec<String>,
    /// Headers of its 2xx answer that go upstream, lower case. The same headers from a client are taken off.
    #[serde(default)]
    pub upstream_headers: Vec<String>,
    /// Headers of its 2xx answer that are added to the client's answer, lower case.
    #[serde(default = "set_cookie")]
    pub client_headers: Vec<String>,
    /// Headers of its other answers that go to the client, lower case.
    #[serde(default = "refusal_headers")]
    pub refusal_headers: Vec<String>,
    /// Header of its 2xx answer whose value is the subject of the identity.
    #[serde(default)]
    pub subject_header: Option<String>,
    /// What happens while it can't be asked.
    #[serde(default)]
    pub fail_mode: FailMode,
    /// PEM bundle used instead of the system's roots.
    #[serde(default)]
    pub ca_path: Option<String>,
    /// Open connections to it; one more question waits within its time.
    #[serde(default = "hundred")]
    pub max_connections: usize,
}

/// What happens while an external service can't be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailMode {
    /// Go on without it.
    Open,
    /// Refuse with 503.
    #[default]
    Closed,
}

fn yes() -> bool {
    true
}
fn realm() -> String {
    "titan".into()
}
fn authorization() -> String {
    "authorization".into()
}
fn bearer() -> String {
    "Bearer".into()
}
fn x_api_key() -> String {
    "x-api-key".into()
}
fn three() -> u32 {
    3
}
fn five_minutes() -> u64 {
    300_000
}
fn ten() -> u64 {
    10
}
fn hundred() -> usize {
    100
}
fn ten_thousand() -> usize {
    10_000
}
fn five_seconds() -> u64 {
    5_000
}
fn ten_seconds() -> u64 {
    10_000
}
fn thirty_seconds() -> u64 {
    30_000
}
fn sixty_seconds() -> u64 {
    60_000
}
fn hour() -> u64 {
    3_600_000
}
fn forward_auth_headers() -> Vec<String> {
    ["authorization", "cookie", "accept", "user-agent"].map(Into::into).into()
}
fn set_cookie() -> Vec<String> {
    vec!["set-cookie".into()]
}
fn refusal_headers() -> Vec<String> {
    ["content-type", "location", "set-cookie", "www-authenticate", "retry-after"].map(Into::into).into()
}
