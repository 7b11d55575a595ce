//! What policies see of a request, and what they leave behind for its answer.

use std::fmt;

use crate::http::client::ClientInfo;
use crate::http::head::RequestHead;
use crate::http::ops::HeaderOps;

/// What is known of a request once it is routed. Borrowed from the exchange.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The head as received.
    pub head: &'a RequestHead,
    /// Normalised match path: the only path that policy may look at.
    pub path: &'a [u8],
    /// Query without the `?`.
    pub query: Option<&'a [u8]>,
    /// The client.
    pub client: &'a ClientInfo,
    /// Name of the route; empty where none matched.
    pub route: &'a str,
    /// Index of the route in its snapshot; `u32::MAX` where none matched.
    pub route_index: u32,
    /// Path parameter by name.
    pub param: &'a dyn Fn(&str) -> Option<&'a [u8]>,
    /// Id of the request, as written to the upstream and the log.
    pub request_id: &'a [u8],
}

impl fmt::Debug for Facts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts").field("route", &self.route).finish_non_exhaustive()
    }
}

/// Request side of a chain.
#[derive(Debug)]
pub struct RequestCx<'a> {
    /// The request.
    pub req: Facts<'a>,
    /// Edits of the head that goes upstream.
    pub request_ops: &'a mut HeaderOps,
    /// What the chain remembers of this exchange.
    pub state: &'a mut PolicyState,
}

/// Response side of a chain.
#[derive(Debug)]
pub struct ResponseCx<'a> {
    /// The request that is answered.
    pub req: Facts<'a>,
    /// Status of the answer.
    pub status: u16,
    /// What the chain remembers of this exchange.
    pub state: &'a PolicyState,
}

/// What a chain remembers between request and answer. One an exchange, alive until its body has ended (concurrency permits are given back
/// when it is dropped or [cleared](PolicyState::clear)); reusable, so that its buffers are allocated once.
#[derive(Debug, Default)]
pub struct PolicyState {
    /// Response edits asked for on the request side.
    pub(super) response_ops: HeaderOps,
}

impl PolicyState {
    /// Ready for the next exchange: permits given back, identity forgotten, buffers kept.
    pub fn clear(&mut self) {
        self.response_ops.clear();
    }
}
