//! Routes.

use serde::Deserialize;

use super::HashKey;

/// One route.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Unique; the control plane makes one from method and path where the file gives none. Metrics label.
    pub name: String,
    /// What must match.
    #[serde(rename = "match")]
    pub matches: RouteMatch,
    /// Breaks ties between routes of equal specificity; higher first.
    #[serde(default)]
    pub priority: i32,
    /// What happens.
    pub action: Action,
    /// Indices into `Config::policies`.
    #[serde(default)]
    pub policies: Vec<usize>,
    /// Whole request, first byte of its head to last byte of the answer: 504. 0 = none. Not applied to tunnels.
    #[serde(default)]
    pub timeout_ms: u64,
    /// Bytes of the request body; absent = the listener's limit.
    #[serde(default)]
    pub max_body: Option<u64>,
    /// Whether `Upgrade` is passed on.
    #[serde(default)]
    pub websocket: Option<WebSocket>,
}

/// Conditions, all of which must hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteMatch {
    /// `exact.example.com` or `*.example.com`; empty = any.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Pattern: literal segments, `:param` (one segment), a last `*` or `*name` (rest).
    pub path: String,
    /// Upper case; empty = any. GET includes HEAD.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Headers.
    #[serde(default)]
    pub headers: Vec<ValueMatch>,
    /// Query parameters.
    #[serde(default)]
    pub query: Vec<ValueMatch>,
    /// Cookies.
    #[serde(default)]
    pub cookies: Vec<ValueMatch>,
}

/// Condition on a named value; with none of the three it must be present.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueMatch {
    /// Name (headers: lower case).
    pub name: String,
    /// Exact value.
    #[serde(default)]
    pub exact: Option<String>,
    /// Prefix of the value.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Linear-time regular expression, anchored at both ends.
    #[serde(default)]
    pub regex: Option<String>,
    /// Turn the condition round.
    #[serde(default)]
    pub invert: bool,
}

/// What a route does.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type", deny_unknown_fields)]
pub enum Action {
    /// Forward to one of the targets by weight.
    Proxy {
        /// At least one.
        targets: Vec<Target>,
        /// Binds a client, header or cookie value to one of the weighted targets; absent = in turn.
        #[serde(default)]
        split_by: Option<HashKey>,
        /// Path rewriting.
        #[serde(default)]
        rewrite: Option<Rewrite>,
    },
    /// Redirect.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// Absolute or path; `:param` and `*` of the pattern are filled in, `$query` keeps the query.
        location: String,
    },
    /// Fixed answer.
    Fixed {
        /// Status.
        status: u16,
        /// Headers.
        #[serde(default)]
        headers: Vec<(String, String)>,
        /// Body.
        #[serde(default)]
        body: String,
    },
}

/// A weighted target of a route.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Name of an upstream.
    pub upstream: String,
    /// Share; 0 = only by its conditions.
    #[serde(default = "one")]
    pub weight: u32,
    /// Takes every request for which all of its headers and cookies match, before weights are looked at.
    #[serde(default)]
    pub headers: Vec<ValueMatch>,
    /// Cookies.
    #[serde(default)]
    pub cookies: Vec<ValueMatch>,
}

/// Path rewriting, applied after policy; the result is normalised again. At most one of the first two.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rewrite {
    /// Whole new path; `:param` and `*` of the pattern are filled in.
    pub path: Option<String>,
    /// Prefix taken off.
    pub strip_prefix: Option<String>,
    /// Prefix put before what is left.
    pub add_prefix: Option<String>,
    /// Regular expressions in order (pattern, replacement with `$1`).
    pub regex: Vec<(String, String)>,
}

/// Upgrades.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebSocket {
    /// No byte in either direction for this long closes the tunnel. 0 = never.
    pub idle_timeout_ms: u64,
    /// Open tunnels of the route, for the process. 0 = no limit.
    pub max_connections: u64,
    /// Allowed `Origin`s (exact or `https://*.example.com`); empty = any.
    pub origins: Vec<String>,
    /// Allowed subprotocols; empty = any.
    pub subprotocols: Vec<String>,
    /// Payload of one frame, in either direction: the WebSocket is closed with 1009. 0 = no limit.
    pub max_frame_size: u64,
    /// Payload of one message (of all its frames), in either direction: 1009. 0 = no limit.
    pub max_message_size: u64,
    /// Frames that a client may send in one second: 1008. 0 = no limit.
    pub max_frames_per_second: u32,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            idle_timeout_ms: 300_000,
            max_connections: 0,
            origins: Vec::new(),
            subprotocols: Vec::new(),
            max_frame_size: 1 << 20,
            max_message_size: 10 << 20,
            max_frames_per_second: 1_000,
        }
    }
}

fn one() -> u32 {
    1
}
