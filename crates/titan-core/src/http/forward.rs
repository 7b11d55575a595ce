//! Forwarding headers: who the client is, and what the upstream is told about it.

use std::net::IpAddr;

use ipnet::IpNet;
use smallvec::SmallVec;

use super::client::ClientInfo;
use super::head::RequestHead;

/// Compiled forwarding rules.
#[derive(Debug, Clone, Default)]
pub struct Forwarding {
    /// Peers whose forwarding headers are believed.
    pub trusted: Vec<IpNet>,
    /// Write X-Forwarded-For, -Proto, -Host.
    pub x_forwarded: bool,
    /// Write Forwarded.
    pub forwarded: bool,
    /// Pseudonym for Via.
    pub via: Option<Box<str>>,
    /// Name of the request id header, lower case.
    pub request_id: Option<Box<str>>,
    /// Begin `traceparent` where there is no valid one.
    pub trace_context: bool,
}

/// Ids of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestIds {
    /// Request id: the client's where its peer is trusted and the id is plain, else 32 hexadecimal digits.
    pub request_id: SmallVec<[u8; 40]>,
    /// `traceparent` to be written: absent where the received one is kept.
    pub traceparent: Option<[u8; 55]>,
}

/// Source of ids, one a shard.
#[derive(Debug)]
pub struct IdSource {}

impl IdSource {
    /// Seeded by the operating system.
    pub fn new() -> Self {
        unimplemented!()
    }
}

impl Default for IdSource {
    fn default() -> Self {
        Self::new()
    }
}

impl Forwarding {
    /// Whether an address is a trusted proxy's.
    pub fn trusts(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.trusted.iter().any(|n| n.contains(&ip))
    }

    /// Sets `trusted`, `ip` and `scheme` of a connection's client for this request: X-Forwarded-For (or Forwarded) is read right to left
    /// through trusted hops, and only when the peer itself is trusted.
    pub fn identify(&self, _head: &RequestHead, _client: &mut ClientInfo) {
        unimplemented!()
    }

    /// Ids of a request.
    pub fn ids(&self, _head: &RequestHead, _client: &ClientInfo, _source: &mut IdSource) -> RequestIds {
        unimplemented!()
    }
}
