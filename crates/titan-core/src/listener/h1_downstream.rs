//! The client's side of an HTTP/1.1 exchange.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};

use super::port::Port;
use super::spec::ListenerSpec;
use crate::error::{ErrorKind, ProxyError};
use crate::http::answer::Answer;
use crate::http::client::ClientInfo;
use crate::http::h1::encode::{self, AnswerPlan, Framing, ResponsePlan};
use crate::http::h1::framing::{self, BodyKind};
use crate::http::h1::parse::Progress;
use crate::http::head::{HeaderId, Method, ResponseHead, Version};
use crate::proxy::wire::{Inbound, Outbound, Piece, ReadFault, poll_some};
use crate::proxy::{Downstream, Kit, Local, Reply};
use crate::rt::clock::NEVER;
use crate::rt::recycle;
use crate::rt::timers::Timer;

/// Read-ahead while an upstream is waited for.
const AHEAD: usize = 4 << 10;

/// An HTTP/1.1 client connection.
pub(super) struct H1<S> {
    pub(super) io: S,
    pub(super) local: Rc<Local>,
    pub(super) port: Rc<Port>,
    pub(super) timer: Timer,
    pub(super) client: ClientInfo,
    /// Bytes read and not yet used. No capacity while idle.
    pub(super) inbox: Vec<u8>,
    pub(super) progress: Progress,
    /// First byte of a head that did not come whole.
    pub(super) started: Option<Instant>,
    /// When the head must be whole; `NEVER` outside a head.
    pub(super) head_deadline: u64,
    /// Since when nothing is under way; `NEVER` = not idle.
    pub(super) idle_since: u64,
    /// Requests begun.
    pub(super) served: u32,
    /// The client has sent all it will send.
    pub(super) ended: bool,
    abort: fn(&S),
    spec: Rc<ListenerSpec>,
    out: Outbound,
    body: Inbound,
    kind: BodyKind,
    framing: Framing,
    version: Version,
    method: Method,
    keep_alive: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> H1<S> {
    pub(super) fn new(io: S, local: Rc<Local>, port: Rc<Port>, client: ClientInfo, abort: fn(&S)) -> Self {
        let timer = local.timers.timer();
        let spec = port.spec();
        Self {
            io,
            local,
            port,
            timer,
            client,
            inbox: Vec::new(),
            progress: Progress::default(),
            started: None,
            head_deadline: NEVER,
            idle_since: NEVER,
            served: 0,
            ended: false,
            abort,
            spec,
            out: Outbound::default(),
            body: Inbound::Done,
            kind: BodyKind::None,
            framing: Framing::None,
            version: Version::H11,
            method: Method::Get,
            keep_alive: true,
        }
    }

    /// Ready for the request in `kit`.
    pub(super) fn begin(&mut self, kit: &Kit) {
        let head = kit.request.as_ref().expect("an exchange begins with a head");
        self.spec = self.port.spec();
        self.served += 1;
        self.idle_since = NEVER;
        self.kind = framing::request_body(head);
        self.body = Inbound::request(self.kind);
        self.version = head.version;
        self.method = head.method;
        let last = self.spec.max_requests_per_connection;
        self.keep_alive = framing::request_keep_alive(head) && !self.is_closing() && (last == 0 || u64::from(self.served) < last);
    }

    /// Ready to answer what is no request.
    pub(super) fn begin_refusal(&mut self) {
        self.body = Inbound::Done;
        self.keep_alive = false;
        (self.method, self.version) = (Method::Get, Version::H11);
        recycle::give(&mut self.inbox);
    }

    /// Whether another request may come.
    pub(super) fn lives_on(&self) -> bool {
        self.keep_alive && !(self.ended && self.inbox.is_empty())
    }

    /// Whether the connection ends after its answer: the gateway drains, or its listener is gone.
    pub(super) fn is_closing(&self) -> bool {
        self.port.closing.get() || self.local.process.lifecycle.is_draining()
    }

    /// Since when.
    pub(super) fn closing_since(&self) -> u64 {
        if self.local.process.lifecycle.is_draining() {
            self.local.process.lifecycle.draining_since()
        } else {
            self.port.closing_since.get()
        }
    }

    /// Appends what was read.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.inbox.capacity() == 0 {
            self.inbox = recycle::buffer();
        }
        self.inbox.extend_from_slice(bytes);
    }

    /// Closing will send a reset.
    pub(super) fn abort(&self) {
        (self.abort)(&self.io);
    }

    fn framing_of(&self, head: &ResponseHead, body: BodyKind) -> Framing {
        match body {
            BodyKind::Tunnel => Framing::None,
            BodyKind::None if self.method == Method::Head || head.status == 304 => Framing::Headless,
            BodyKind::None if head.status == 204 || head.status < 200 => Framing::None,
            BodyKind::None => Framing::Length(0),
            BodyKind::Length(n) => Framing::Length(n),
            BodyKind::Chunked | BodyKind::UntilClose if self.version == Version::H10 => Framing::UntilClose,
            BodyKind::Chunked | BodyKind::UntilClose => Framing::Chunked,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Downstream for H1<S> {
    fn client(&self) -> &ClientInfo {
        &self.client
    }

    fn listener(&self) -> &Rc<ListenerSpec> {
        &self.spec
    }

    fn timer(&self) -> &Timer {
        &self.timer
    }

    fn was_used(&self) -> bool {
        self.served > 1
    }

    fn body(&self) -> BodyKind {
        self.kind
    }

    fn body_done(&self) -> bool {
        self.body.is_done()
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<Result<Piece, ProxyError>> {
        self.body.poll_read(cx, &mut self.io, &mut self.inbox, into).map_err(|fault| match fault {
            ReadFault::Closed | ReadFault::Io(_) => {
                self.ended = true;
                ProxyError::client(ErrorKind::ClientGone, "the client closed its connection inside the request's body")
            }
            ReadFault::Framing(error) => error,
        })
    }

    fn trailers(&self) -> &[u8] {
        self.body.trailers()
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<()> {
        // Held bytes are a pipelined request or a body: enough was read. A half-closed client waits for its answer.
        if self.ended || !self.inbox.is_empty() {
            return Poll::Pending;
        }
        match poll_some(cx, &mut self.io, &mut scratch[..AHEAD]) {
            Poll::Ready(Ok(0)) => {
                self.ended = true;
                Poll::Pending
            }
            Poll::Ready(Ok(n)) => {
                self.keep(&scratch[..n]);
                Poll::Pending
            }
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    }

    fn discard(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> bool {
        for _ in 0..4 {
            match self.poll_body(cx, scratch) {
                Poll::Ready(Ok(Piece { end: true, .. })) => return true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) | Poll::Pending => return false,
            }
        }
        false
    }

    fn close_after(&mut self) {
        self.keep_alive = false;
    }

    fn interim(&mut self, head: &ResponseHead, reply: &Reply<'_>) {
        let (Version::H11, Some(ids)) = (self.version, reply.ids) else { return };
        let date = self.local.date();
        let plan = ResponsePlan {
            framing: Framing::None,
            version: self.version,
            keep_alive: true,
            upgrade: false,
            trailers: false,
            ops: reply.ops,
            forwarding: reply.forwarding,
            ids,
            date: &date,
        };
        encode::response(head, &plan, self.out.buf());
    }

    fn head(&mut self, head: &ResponseHead, body: BodyKind, reply: &Reply<'_>) {
        let Some(ids) = reply.ids else { return };
        self.framing = self.framing_of(head, body);
        if self.framing == Framing::UntilClose || body == BodyKind::Tunnel {
            self.keep_alive = false;
        }
        let date = self.local.date();
        let plan = ResponsePlan {
            framing: self.framing,
            version: self.version,
            keep_alive: self.keep_alive,
            upgrade: body == BodyKind::Tunnel,
            trailers: self.framing == Framing::Chunked && head.facts.has(HeaderId::Trailer),
            ops: reply.ops,
            forwarding: reply.forwarding,
            ids,
            date: &date,
        };
        encode::response(head, &plan, self.out.buf());
    }

    fn answer(&mut self, answer: &Answer, reply: &Reply<'_>) {
        let date = self.local.date();
        let plan = AnswerPlan {
            head_only: self.method == Method::Head,
            version: self.version,
            keep_alive: self.keep_alive,
            ops: reply.ops,
            forwarding: reply.forwarding,
            ids: reply.ids,
            date: &date,
        };
        encode::answer(answer, &plan, self.out.buf());
    }

    fn push(&mut self, cx: &mut Context<'_>, payload: &[u8], end: Option<&[u8]>) -> io::Result<()> {
        if self.framing == Framing::Headless || self.framing == Framing::None {
            return Ok(());
        }
        self.out.push(cx, &mut self.io, self.framing, payload, end)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() { Poll::Ready(Ok(())) } else { self.out.poll_flush(cx, &mut self.io) }
    }
}
