//! Heads to bytes: straight from the received bytes into one `Vec<u8>`, field lines that nobody touches copied as blocks.

use crate::http::answer::Answer;
use crate::http::client::ClientInfo;
use crate::http::date::HttpDate;
use crate::http::forward::{Forwarding, RequestIds};
use crate::http::head::{RequestHead, ResponseHead, Version};
use crate::http::ops::HeaderOps;

/// Framing of a body as it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body follows, and no framing field is written. (Request: nothing. Response: 1xx, 204, 101.)
    None,
    /// No body follows, but the received Content-Length is kept: HEAD and 304.
    Headless,
    /// Content-Length; 0 is written too.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// Until close, for an HTTP/1.0 client: `Connection: close` goes with it.
    UntilClose,
}

/// How a request goes to its upstream.
#[derive(Debug, Clone, Copy)]
pub struct RequestPlan<'a> {
    /// Path: normalised, rewritten where the route says so.
    pub path: &'a [u8],
    /// Query.
    pub query: Option<&'a [u8]>,
    /// Value of Host (for an absolute-form target its authority, see [`RequestHead::authority`]).
    pub host: &'a [u8],
    /// Body.
    pub framing: Framing,
    /// Pass `Upgrade` on: the protocol from [`super::framing::upgrade`].
    pub upgrade: Option<&'a [u8]>,
    /// Keep `Expect: 100-continue` (the upstream decides) instead of taking it off (Titan has answered it).
    pub expect: bool,
    /// Keep `Trailer`: the body is chunked on both sides and trailers are passed.
    pub trailers: bool,
    /// Edits.
    pub ops: &'a HeaderOps,
    /// Forwarding headers.
    pub forwarding: &'a Forwarding,
    /// The client.
    pub client: &'a ClientInfo,
    /// Ids of this request.
    pub ids: &'a RequestIds,
}

/// Appends the request head for an HTTP/1.1 upstream.
pub fn request(_head: &RequestHead, _plan: &RequestPlan<'_>, _out: &mut Vec<u8>) {
    unimplemented!()
}

/// How a response goes to its client.
#[derive(Debug, Clone, Copy)]
pub struct ResponsePlan<'a> {
    /// Body.
    pub framing: Framing,
    /// The client's version: HTTP/1.0 is told `Connection: keep-alive` where the connection lives on.
    pub version: Version,
    /// The connection lives on; otherwise `Connection: close` is written.
    pub keep_alive: bool,
    /// 101: `Upgrade` and `Connection: upgrade` are passed.
    pub upgrade: bool,
    /// Keep `Trailer`.
    pub trailers: bool,
    /// Edits.
    pub ops: &'a HeaderOps,
    /// `Via` and the request id.
    pub forwarding: &'a Forwarding,
    /// Ids of the request.
    pub ids: &'a RequestIds,
    /// `Date`, where the upstream sent none.
    pub date: &'a HttpDate,
}

/// Appends the response head for an HTTP/1 client. Works for 1xx heads too.
pub fn response(_head: &ResponseHead, _plan: &ResponsePlan<'_>, _out: &mut Vec<u8>) {
    unimplemented!()
}

/// How one of Titan's own answers goes to its client.
#[derive(Debug, Clone, Copy)]
pub struct AnswerPlan<'a> {
    /// The request was HEAD: no body.
    pub head_only: bool,
    /// The client's version.
    pub version: Version,
    /// The connection lives on.
    pub keep_alive: bool,
    /// Edits by response policies.
    pub ops: &'a HeaderOps,
    /// Names the request id header.
    pub forwarding: &'a Forwarding,
    /// Ids of the request; absent where no head could be parsed.
    pub ids: Option<&'a RequestIds>,
    /// `Date`.
    pub date: &'a HttpDate,
}

/// Appends a whole answer: head with Content-Length and Date, and body.
pub fn answer(_answer: &Answer, _plan: &AnswerPlan<'_>, _out: &mut Vec<u8>) {
    unimplemented!()
}
