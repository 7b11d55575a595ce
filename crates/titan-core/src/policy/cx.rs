//! What policies see of a request, and what they leave behind for its answer.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::concurrency::Permit;
use super::limit::Readings;
use crate::auth::Identity;
use crate::hook::{Context, Rewrite};
use crate::http::client::ClientInfo;
use crate::http::head::{RequestHead, ResponseHead, Span};
use crate::http::ops::HeaderOps;

/// What is known of a request once it is routed. Borrowed from the exchange.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
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
    /// Names of the route's path parameters.
    pub param_names: &'a [Arc<str>],
    /// Their values as spans of `path`, in the same order.
    pub param_spans: &'a [Span],
    /// Id of the request, as written to the upstream and the log.
    pub request_id: &'a [u8],
}

impl<'a> RequestView<'a> {
    /// Value of a path parameter.
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        let at = self.param_names.iter().position(|n| **n == *name)?;
        self.param_spans.get(at).map(|span| span.of(self.path))
    }
}

impl fmt::Debug for RequestView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestView").field("route", &self.route).finish_non_exhaustive()
    }
}

/// Request side of a chain.
#[derive(Debug)]
pub struct RequestCx<'a> {
    /// The request.
    pub req: RequestView<'a>,
    /// Edits of the head that goes upstream.
    pub request_ops: &'a mut HeaderOps,
    /// What the chain remembers of this exchange.
    pub state: &'a mut PolicyState,
}

/// Response side of a chain.
#[derive(Debug)]
pub struct ResponseCx<'a> {
    /// The request that is answered.
    pub req: RequestView<'a>,
    /// Status of the answer.
    pub status: u16,
    /// The upstream's head; `None` for an answer that Titan makes.
    pub upstream: Option<&'a ResponseHead>,
    /// What the chain remembers of this exchange.
    pub state: &'a PolicyState,
}

/// What a chain remembers between request and answer. One an exchange, alive until its body has ended (concurrency permits are given back
/// when it is dropped or [cleared](PolicyState::clear)); reusable, so that its buffers are allocated once.
#[derive(Debug, Default)]
pub struct PolicyState {
    /// Response edits asked for on the request side.
    pub(super) response_ops: HeaderOps,
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) readings: Readings,
    pub(super) permits: Permits,
    /// Query parameters that carry a credential.
    pub(super) hidden: SmallVec<[Arc<str>; 1]>,
    pub(super) hooked: Hooked,
    /// Step of the chain that answered.
    pub(super) answered_by: Option<usize>,
}

/// What hooks left behind.
#[derive(Debug, Default)]
pub(super) struct Hooked {
    /// Attached object.
    pub(super) context: Option<Context>,
    pub(super) rewrite: Option<Box<Rewrite>>,
    /// Some hook was called.
    pub(super) entered: bool,
    /// Body that was read for a hook.
    pub(super) body: Option<Bytes>,
    /// A hook has put another body in its place, and nobody has taken it yet.
    pub(super) replaced: bool,
}

/// Places in flight that an exchange holds. A tunnel that outlives its exchange takes them along.
pub type Permits = SmallVec<[Permit; 1]>;

impl PolicyState {
    /// Ready for the next exchange: permits given back, identity forgotten, buffers kept.
    pub fn clear(&mut self) {
        self.response_ops.clear();
        self.identity = None;
        self.readings.clear();
        self.permits.clear();
        self.hidden.clear();
        self.hooked = Hooked::default();
        self.answered_by = None;
    }

    /// Place in the chain of the step that answered instead of going on.
    pub fn answered_by(&self) -> Option<usize> {
        self.answered_by
    }

    /// Whether some hook was called.
    pub fn was_hooked(&self) -> bool {
        self.hooked.entered
    }

    /// Where hooks want the request to go instead.
    pub fn rewrite(&self) -> Option<&Rewrite> {
        self.hooked.rewrite.as_deref()
    }

    /// The request's query, or the one that rules and hooks have put in its place.
    pub fn query<'q>(&'q self, given: Option<&'q [u8]>) -> Option<&'q [u8]> {
        match self.rewrite().and_then(|rewrite| rewrite.query.as_deref()) {
            Some(query) => Some(query).filter(|query| !query.is_empty()),
            None => given,
        }
    }

    /// Names of the query parameters that carry a credential: they are not forwarded, and logs mask their values.
    pub fn hidden(&self) -> &[Arc<str>] {
        &self.hidden
    }

    /// The query to forward: without [hidden parameters](Self::hidden).
    pub fn forward_query<'q>(&self, query: Option<&'q [u8]>) -> Option<Cow<'q, [u8]>> {
        let query = query?;
        if self.hidden.is_empty() {
            return Some(Cow::Borrowed(query));
        }
        let kept = query.split(|&b| b == b'&').filter(|pair| {
            let name = pair.split(|&b| b == b'=').next().unwrap_or_default();
            !self.hidden.iter().any(|hidden| hidden.as_bytes() == name)
        });
        let query = kept.collect::<Vec<_>>().join(&b'&');
        (!query.is_empty()).then_some(Cow::Owned(query))
    }

    /// Who the request was made by; `None` for nobody in particular.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// Hands the permits to a tunnel, which drops them when it closes.
    pub fn take_permits(&mut self) -> Permits {
        std::mem::take(&mut self.permits)
    }
}
