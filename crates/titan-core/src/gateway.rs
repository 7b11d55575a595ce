//! Starts the shards, publishes snapshots, drains.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::config::Issue;
use crate::config::raw;

/// What the process around the gateway provides.
#[derive(Default)]
pub struct Host {
    /// Renders `/_metrics`; `None` = 404.
    pub metrics: Option<Arc<dyn MetricsPage>>,
    /// Told of changes worth a log line (backend up or down, configuration applied, drain). Called from any thread; must not block.
    pub events: Option<Arc<dyn Fn(Event) + Send + Sync>>,
    /// Sockets already bound by a parent (systemd's LISTEN_FDS, or a Titan that is being replaced). A listener whose address equals a
    /// socket's local address takes it instead of binding.
    pub inherited: Vec<TcpListener>,
}

/// Renders the metrics page outside the data plane. Asked with a deadline.
pub trait MetricsPage: Send + Sync {
    /// Content type and body, or why there is none.
    fn render(&self) -> Pin<Box<dyn Future<Output = Result<(String, Bytes), String>> + Send>>;
}

/// Something worth a log line.
#[derive(Debug, Clone)]
pub struct Event {
    /// `info`, `warn` or `error`.
    pub level: &'static str,
    /// Stable name, such as `backend_down`.
    pub name: &'static str,
    /// One sentence.
    pub message: String,
    /// More, by name.
    pub fields: Vec<(&'static str, String)>,
}

/// A running data plane. Every method may be called from any thread; those that say "blocks" wait for the shards.
pub struct Gateway {}

impl Gateway {
    /// Compiles the configuration, binds every listener, starts the shards. Blocks until all of them accept.
    pub fn start(_config: raw::Config, _host: Host) -> Result<Gateway, Vec<Issue>> {
        Err(vec![Issue::new("", "not built yet")])
    }

    /// Compiles and publishes another configuration; returns its generation. Blocks until every shard has it. On error nothing changed.
    pub fn apply(&self, _config: raw::Config) -> Result<u64, Vec<Issue>> {
        Err(vec![Issue::new("", "not built yet")])
    }

    /// Begins the drain of requirement 46: pre-drain delay, then no new connections, answers with `Connection: close`. Returns at once;
    /// a second call does nothing.
    pub fn drain(&self) {}

    /// Ends at once: open connections are cut.
    pub fn stop(&self) {}

    /// Resolves when every shard has ended: after a drain, at its deadline, or after `stop`. Works on any runtime.
    pub async fn closed(&self) {}

    /// Names and bound addresses of the listeners.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        Vec::new()
    }

    /// State for `titan status`: lifecycle, generation, uptime, listeners, shards, upstreams.
    pub fn status_json(&self) -> String {
        String::new()
    }

    /// Every native metric, merged over the shards. Blocks shortly.
    pub fn metrics_json(&self) -> String {
        String::new()
    }

    /// Which route a request would take and why; takes and returns JSON.
    pub fn explain(&self, _request: &str) -> Result<String, String> {
        Err("not built yet".into())
    }

    /// The routing table.
    pub fn routes_json(&self) -> String {
        String::new()
    }
}
