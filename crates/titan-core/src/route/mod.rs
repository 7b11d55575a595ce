//! From a request to a route.
//!
//! The most specific route wins: host (exact, then `*.suffix` with the longest suffix first, then any), then the path segment by segment
//! (literal, then `:param`, then `*`), then [`Route::priority`], then the number of conditions, then the order of the file. A route whose
//! conditions fail gives way to the next one, so 404 and 405 are answered only when every candidate was tried.
//!
//! A parameter is one non-empty segment. `*` is the rest, empty included: `/*` matches `/` and `/api/*` matches `/api/`; it does not match
//! `/api`, which is another path (add a second route, or a redirect, where both are meant).

use std::sync::Arc;
use std::time::Duration;

use crate::body::BodyPlan;
use crate::http::answer::Answer;
use crate::metrics;
use crate::policy::Chain;

pub mod condition;
pub mod pattern;
pub mod rewrite;
pub mod router;
mod table;
pub mod target;
pub mod template;

pub use router::{Found, MatchInput, Params, Router};
pub use target::{ForwardTarget, Proxy, Redirect, Target};

/// A compiled route.
pub struct Route {
    /// Unique name: metrics label and log field.
    pub name: Arc<str>,
    /// Its place in [`crate::snapshot::Snapshot::routes`], the order of the file.
    pub index: usize,
    /// The path pattern as configured.
    pub pattern: Arc<str>,
    /// Hosts as configured; empty = any. For `explain`, as are the next two: matching is the router's.
    pub hosts: Vec<String>,
    /// Methods.
    pub methods: condition::Methods,
    /// Headers, query parameters and cookies.
    pub conditions: Vec<condition::Condition>,
    /// Names of the parameters in the order of the pattern; a last `*` is named `*` unless the pattern names it.
    pub param_names: Box<[Arc<str>]>,
    /// Tie-breaker among equally specific routes.
    pub priority: i32,
    /// What happens.
    pub action: Action,
    /// Policies in their order of execution.
    pub chain: Chain,
    /// Names and types of the policies in the same order.
    pub policies: Vec<(Arc<str>, &'static str)>,
    /// What happens to bodies.
    pub bodies: BodyPlan,
    /// Whole request; `None` = no limit.
    pub timeout: Option<Duration>,
    /// Bytes of the request body; `None` = the listener's limit.
    pub max_body: Option<u64>,
    /// Whether and how `Upgrade` is passed on.
    pub websocket: Option<WebSocket>,
    /// Index of its series.
    pub metric: metrics::Id,
}

/// What a route does.
pub enum Action {
    /// Forward.
    Proxy(Proxy),
    /// Redirect.
    Redirect(Redirect),
    /// Fixed answer, ready to send.
    Fixed(Answer),
}

/// Upgrades of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocket {
    /// No byte in either direction for this long closes the tunnel.
    pub idle_timeout: Option<Duration>,
    /// Open tunnels of the route, for the process. 0 = no limit.
    pub max_connections: u64,
    /// Allowed origins; empty = any.
    pub origins: Vec<String>,
    /// Allowed subprotocols; empty = any.
    pub subprotocols: Vec<String>,
    /// What its frames may be.
    pub frames: FrameLimits,
}

/// Limits of WebSocket frames. 0 = none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameLimits {
    /// Payload of one frame.
    pub max_frame: u64,
    /// Payload of one message.
    pub max_message: u64,
    /// Frames of a client in one second.
    pub max_rate: u32,
}
