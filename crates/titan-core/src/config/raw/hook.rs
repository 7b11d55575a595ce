//! Hooks: functions of the user's, called in JavaScript.

use serde::Deserialize;

/// One hook on a route. The control plane keeps the function; the data plane knows it by its number.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Number of the hook within its generation.
    pub hook: u16,
    /// Threads that have it, by the ids of their channels; empty where nothing is served (`titan check`).
    #[serde(default)]
    pub channels: Vec<u32>,
    /// When it is called; at least one.
    pub points: Vec<HookPoint>,
    /// What crosses, in the order in which it is laid out; see [`crate::hook`] for the names.
    #[serde(default)]
    pub reads: Vec<String>,
    /// Methods it is called for, upper case; empty = all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Match paths it is called for: exact, or a prefix when ending in `*`; empty = all.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Request headers that must be there, lower case.
    #[serde(default)]
    pub headers: Vec<String>,
    /// A call that takes longer has failed.
    #[serde(default = "second")]
    pub deadline_ms: u64,
    /// What a failed call means.
    #[serde(default)]
    pub fail: HookFail,
    /// Calls that may be under way, for the process; one more has failed.
    #[serde(default = "thousand")]
    pub concurrency: u32,
    /// The request's body is read before the call, up to this many bytes (more: 413). 0 = it is not.
    #[serde(default)]
    pub request_body: usize,
    /// The answer's body is read before the call, up to this many bytes (more: 502). 0 = it is not.
    #[serde(default)]
    pub response_body: usize,
}

/// When a hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookPoint {
    /// After authentication and authorisation, before the upstream.
    Request,
    /// An answer's head is there.
    Response,
    /// Titan is about to answer with an error of its own.
    Error,
    /// The last byte has gone.
    Log,
}

/// What a failed call means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookFail {
    /// The request goes on without it.
    Open,
    /// The request is refused.
    #[default]
    Closed,
}

fn second() -> u64 {
    1_000
}
fn thousand() -> u32 {
    1_000
}
