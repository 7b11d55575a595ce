//! Upstreams and their endpoints: the state of every backend, exact for the process.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::error::ErrorKind;
use crate::http::head::RequestHead;
use crate::metrics;

pub mod budget;
pub mod endpoint;
pub mod permits;
pub mod settings;

pub use budget::RetryBudget;
pub use endpoint::{Endpoint, Outcome};
pub use settings::{HostRule, PoolLimits, Protocol, Retry, Timeouts};

/// A named set of endpoints with its rules.
pub struct Upstream {
    /// Unique name: metrics label and log field.
    pub name: Arc<str>,
    /// Protocol spoken to the endpoints.
    pub protocol: Protocol,
    /// TLS towards the endpoints; `None` = plain.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// What the Host header becomes.
    pub host: HostRule,
    /// Retries.
    pub retry: Retry,
    /// Share of requests that may be retries.
    pub budget: RetryBudget,
    /// Keep-alive pool.
    pub pool: PoolLimits,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Index of its series.
    pub metric: metrics::Id,
    pub(crate) endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
}

/// What a choice may depend on.
pub struct PickInput<'a> {
    /// The client's address (through trusted proxies).
    pub client: IpAddr,
    /// The request.
    pub head: &'a RequestHead,
    /// Match path.
    pub path: &'a [u8],
    /// Ids of endpoints that this request already tried: chosen again only when no other is left.
    pub exclude: &'a [u64],
}

/// A chosen endpoint: counts as in flight until dropped.
pub struct Picked {
    endpoint: Arc<Endpoint>,
}

impl Picked {
    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// What became of the try. `latency` = request sent to head received. Called at most once a pick; a pick that is dropped without
    /// a report (the client went away) says nothing about the endpoint.
    pub fn report(&mut self, outcome: Outcome, latency: Duration) {
        let _ = (outcome, latency);
    }
}

impl Upstream {
    /// The endpoints of this moment.
    pub fn endpoints(&self) -> Arc<Vec<Arc<Endpoint>>> {
        self.endpoints.load_full()
    }

    /// Chooses an endpoint: `NoEndpoint` where none is usable, `CircuitOpen` where only open circuits are left.
    pub fn pick(&self, input: &PickInput) -> Result<Picked, ErrorKind> {
        let list = self.endpoints.load();
        let endpoint = list.iter().find(|e| !input.exclude.contains(&e.id)).or(list.first()).ok_or(ErrorKind::NoEndpoint)?;
        Ok(Picked { endpoint: endpoint.clone() })
    }

    /// The Host header towards `endpoint`, given the client's authority.
    pub fn host_for<'a>(&'a self, endpoint: &'a Endpoint, client: &'a [u8]) -> &'a [u8] {
        match &self.host {
            HostRule::Preserve => client,
            HostRule::Backend => endpoint.authority.as_bytes(),
            HostRule::Fixed(value) => value.as_bytes(),
        }
    }

    /// Value of a `Set-Cookie` that binds the client to the endpoint picked, where the algorithm is `sticky` and the request is not bound
    /// to it yet. `secure` = the client's connection has TLS.
    pub fn sticky_cookie(&self, picked: &Picked, head: &RequestHead, secure: bool) -> Option<String> {
        let _ = (picked, head, secure);
        None
    }
}
