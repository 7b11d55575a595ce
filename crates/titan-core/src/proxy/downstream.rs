//! The client's side of an exchange, whatever the protocol. HTTP/1.1 and HTTP/2 implement it; the spine is compiled for each.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::wire::Piece;
use crate::error::ProxyError;
use crate::http::answer::Answer;
use crate::http::client::ClientInfo;
use crate::http::forward::{Forwarding, RequestIds};
use crate::http::h1::framing::BodyKind;
use crate::http::head::ResponseHead;
use crate::http::ops::HeaderOps;
use crate::listener::ListenerSpec;
use crate::rt::timers::Timer;

/// What an encoder needs beside the head.
pub struct Reply<'a> {
    /// Edits.
    pub ops: &'a HeaderOps,
    /// `Via` and the name of the request id header.
    pub forwarding: &'a Forwarding,
    /// Ids of the request; `None` where no head could be parsed.
    pub ids: Option<&'a RequestIds>,
}

/// One request on one client connection (HTTP/1.1) or stream (HTTP/2).
pub trait Downstream {
    /// Who is there.
    fn client(&self) -> &ClientInfo;

    /// Limits of the listener, as of the request's begin.
    fn listener(&self) -> &Rc<ListenerSpec>;

    /// The timer of this connection or stream.
    fn timer(&self) -> &Timer;

    /// Whether the connection has served a request before this one.
    fn was_used(&self) -> bool;

    /// Framing of the request's body as it arrives. `Chunked` stands for every body of unknown length.
    fn body(&self) -> BodyKind;

    /// Whether the whole request has been read.
    fn body_done(&self) -> bool;

    /// Payload of the request's body into the front of `into`.
    fn poll_body(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<Result<Piece, ProxyError>>;

    /// Trailer lines of the request, once its body has ended.
    fn trailers(&self) -> &[u8];

    /// Ready when the client has gone away: a reset, not a half-close. Reads ahead at most what `scratch` takes, and nothing while read-ahead
    /// bytes are held.
    fn poll_gone(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<()>;

    /// Reads what of the body is there already and throws it away; whether that was all of it.
    fn discard(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> bool;

    /// Nothing is read from the connection after this exchange. Told before the head is queued, the client is told too.
    fn close_after(&mut self);

    /// Queues an interim answer (1xx). Does nothing for a client that does not know them.
    fn interim(&mut self, head: &ResponseHead, reply: &Reply<'_>);

    /// Queues the head of an answer whose body comes through [`Downstream::push`]. `body` is as it comes from the upstream.
    fn head(&mut self, head: &ResponseHead, body: BodyKind, reply: &Reply<'_>);

    /// Queues a whole answer of Titan's own.
    fn answer(&mut self, answer: &Answer, reply: &Reply<'_>);

    /// Sends payload; `end` (with the trailer lines that may pass) closes the body. Call it only when [`Downstream::poll_flush`] was ready since.
    fn push(&mut self, cx: &mut Context<'_>, payload: &[u8], end: Option<&[u8]>) -> io::Result<()>;

    /// Ready when nothing is queued any more.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}
