//! The client's side of an HTTP/2 exchange: one stream.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};

use super::spec::ListenerSpec;
use crate::error::{ErrorKind, ProxyError};
use crate::http::answer::Answer;
use crate::http::client::ClientInfo;
use crate::http::h1::encode::{self, AnswerPlan, Framing, ResponsePlan};
use crate::http::h1::framing::BodyKind;
use crate::http::h2::Block;
use crate::http::head::{HeaderId, Method, RequestHead, ResponseHead, Version};
use crate::proxy::wire::{Duplex, Piece, Receiver, Sender};
use crate::proxy::{Downstream, Local, Reply};
use crate::rt::clock;
use crate::rt::timers::Timer;

/// Resets by the client are counted over this time.
const RESET_WINDOW_MS: u64 = 30_000;

/// A stream that its client resets when it is older was given up, as calls are whose deadline is over: it does not count. Those that live so long
/// are bounded by the number that may be open at a time.
const RAPID_MS: u64 = 1_000;
/// Up to so many resets a connection is not suspected of anything.
const CALM: usize = 50;

/// What the streams of a connection share.
pub(super) struct Shared {
    /// The shard.
    pub(super) local: Rc<Local>,
    /// Who is there.
    pub(super) client: ClientInfo,
    /// Exchanges under way.
    pub(super) open: Cell<usize>,
    /// Since when, and how many streams the client has reset soon after it had opened them.
    resets: Cell<(u64, usize)>,
}

impl Shared {
    pub(super) fn new(local: Rc<Local>, client: ClientInfo) -> Rc<Self> {
        Rc::new(Self { local, client, open: Cell::new(0), resets: Cell::new((0, 0)) })
    }

    /// Streams that the client reset lately, as soon as it had opened them.
    pub(super) fn resets(&self) -> usize {
        let (since, count) = self.resets.get();
        if clock::now() < since + RESET_WINDOW_MS { count } else { 0 }
    }

    fn count_reset(&self) {
        let now = clock::now();
        let (since, count) = self.resets.get();
        self.resets.set(if now < since + RESET_WINDOW_MS { (since, count + 1) } else { (now, 1) });
    }
}

/// A stream on which a request has come.
pub(super) struct Stream {
    shared: Rc<Shared>,
    spec: Rc<ListenerSpec>,
    timer: Timer,
    respond: SendResponse<Bytes>,
    /// `None` once it is a tunnel's.
    receiver: Option<Receiver>,
    sender: Sender,
    kind: BodyKind,
    method: Method,
    /// When it was opened.
    since: u64,
    /// The answer was 200 to an extended CONNECT.
    tunnel: bool,
    /// The reset was counted.
    gone: bool,
}

impl Stream {
    pub(super) fn new(shared: Rc<Shared>, spec: Rc<ListenerSpec>, recv: RecvStream, respond: SendResponse<Bytes>) -> Self {
        shared.open.set(shared.open.get() + 1);
        let timer = shared.local.timers.timer();
        let receiver = Some(Receiver::new(recv));
        Self {
            shared,
            spec,
            timer,
            respond,
            receiver,
            sender: Sender::default(),
            kind: BodyKind::None,
            method: Method::Get,
            since: clock::now(),
            tunnel: false,
            gone: false,
        }
    }

    /// Ready for the request. The body of an extended CONNECT is its tunnel.
    pub(super) fn begin(&mut self, head: &RequestHead) {
        self.method = head.method;
        self.kind = match head.facts.length {
            _ if self.is_read() || head.facts.upgrade => BodyKind::None,
            Some(0) | None => BodyKind::Chunked,
            Some(n) => BodyKind::Length(n),
        };
    }

    /// Whether the client has reset the stream already.
    pub(super) fn is_reset(&mut self, cx: &mut Context<'_>) -> bool {
        let reset = self.respond.poll_reset(cx).is_ready();
        if reset {
            self.count_reset();
        }
        reset
    }

    /// How long the stream waits before its request is looked at: where many streams were reset lately, the next ones are likely to be, and
    /// a backend need not hear of those.
    pub(super) fn doubt(&self) -> Option<Duration> {
        // Without a look at the clock where nothing is suspected.
        let (_, count) = self.shared.resets.get();
        let lately = if count < CALM { 0 } else { self.shared.resets() };
        (lately >= CALM).then(|| Duration::from_millis(lately as u64 / 5))
    }

    /// Resets the stream.
    pub(super) fn reset(&mut self, reason: Reason) {
        self.sender.reset(reason);
        self.respond.send_reset(reason);
    }

    /// Both sides as a tunnel. The stream must be kept until the tunnel ends: it counts as open.
    pub(super) fn tunnel(&mut self) -> Option<Duplex> {
        Some(Duplex { sender: std::mem::take(&mut self.sender), receiver: self.receiver.take()? })
    }

    fn is_read(&self) -> bool {
        self.receiver.as_ref().is_none_or(Receiver::is_done)
    }

    fn count_reset(&mut self) {
        if !std::mem::replace(&mut self.gone, true) && clock::now() < self.since + RAPID_MS {
            self.shared.count_reset();
        }
    }

    /// Sends a head that `write` encodes.
    fn send_head(&mut self, status: u16, end: bool, write: impl FnOnce(&mut Block)) {
        let mut block = Block::default();
        write(&mut block);
        let Some(response) = response(status, block) else { return self.sender.fail() };
        match self.respond.send_response(response, end) {
            Ok(send) if !end => self.sender.open(send),
            Ok(_) => {}
            Err(_) => self.sender.fail(),
        }
    }
}

fn response(status: u16, block: Block) -> Option<http::Response<()>> {
    let mut lines = block.into_lines();
    // Proves a handshake of HTTP/1.1 and has no meaning here.
    lines.fields.remove(http::header::SEC_WEBSOCKET_ACCEPT);
    let mut response = http::Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(status).ok()?;
    *response.headers_mut() = lines.fields;
    Some(response)
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.open.set(self.shared.open.get() - 1);
    }
}

impl Downstream for Stream {
    fn client(&self) -> &ClientInfo {
        &self.shared.client
    }

    fn listener(&self) -> &Rc<ListenerSpec> {
        &self.spec
    }

    fn timer(&self) -> &Timer {
        &self.timer
    }

    /// A stream that was accepted before GOAWAY's last id is served: each is a first one.
    fn was_used(&self) -> bool {
        false
    }

    fn body(&self) -> BodyKind {
        self.kind
    }

    fn body_done(&self) -> bool {
        self.kind == BodyKind::None || self.is_read()
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<Result<Piece, ProxyError>> {
        let Some(receiver) = self.receiver.as_mut().filter(|_| self.kind != BodyKind::None) else {
            return Poll::Ready(Ok(Piece::front(0, true)));
        };
        receiver.poll_read(cx, into).map_err(|error| {
            if error.is_remote() {
                self.count_reset();
            }
            ProxyError::client(ErrorKind::ClientGone, "the client reset its stream inside the request's body")
        })
    }

    fn trailers(&self) -> &[u8] {
        self.receiver.as_ref().map_or(&[], Receiver::trailers)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>, _: &mut [u8]) -> Poll<()> {
        let gone = match self.sender.poll_reset(cx) {
            Some(gone) => gone,
            None => self.respond.poll_reset(cx).map(|_| ()),
        };
        if gone.is_ready() {
            self.count_reset();
        }
        gone
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

    /// The other streams of the connection have nothing to do with it.
    fn close_after(&mut self) {}

    fn interim(&mut self, head: &ResponseHead, reply: &Reply<'_>) {
        let Some(ids) = reply.ids else { return };
        let date = self.shared.local.date();
        let plan = ResponsePlan {
            framing: Framing::None,
            version: Version::H2,
            keep_alive: true,
            upgrade: false,
            trailers: false,
            ops: reply.ops,
            forwarding: reply.forwarding,
            ids,
            date: &date,
        };
        let mut block = Block::default();
        encode::response(head, &plan, &mut block);
        if let Some(response) = response(head.status, block) {
            // An interim answer that can't be sent is no loss; that the stream is gone will be seen by what follows.
            let _ = self.respond.send_informational(response);
        }
    }

    fn head(&mut self, head: &ResponseHead, body: BodyKind, reply: &Reply<'_>) {
        let Some(ids) = reply.ids else { return };
        let framing = match body {
            BodyKind::None if head.status == 204 => Framing::None,
            BodyKind::None => Framing::Headless,
            BodyKind::Length(n) => Framing::Length(n),
            BodyKind::Chunked | BodyKind::UntilClose | BodyKind::Tunnel => Framing::None,
        };
        let date = self.shared.local.date();
        let plan = ResponsePlan {
            framing,
            version: Version::H2,
            keep_alive: true,
            upgrade: false,
            trailers: head.facts.has(HeaderId::Trailer),
            ops: reply.ops,
            forwarding: reply.forwarding,
            ids,
            date: &date,
        };
        self.tunnel = body == BodyKind::Tunnel;
        // The answer to an extended CONNECT that was accepted is 200 (RFC 8441 §5).
        let status = if self.tunnel { 200 } else { head.status };
        self.send_head(status, body == BodyKind::None, |out| encode::response(head, &plan, out));
    }

    fn answer(&mut self, answer: &Answer, reply: &Reply<'_>) {
        let date = self.shared.local.date();
        let plan = AnswerPlan {
            head_only: true,
            version: Version::H2,
            keep_alive: true,
            ops: reply.ops,
            forwarding: reply.forwarding,
            ids: reply.ids,
            date: &date,
        };
        let bodiless = self.method == Method::Head || answer.body.is_empty() || answer.status == 204 || answer.status == 304;
        self.send_head(answer.status, bodiless, |out| encode::answer(answer, &plan, out));
        if !bodiless {
            self.sender.push(&answer.body, Some(&[]));
        }
    }

    fn push(&mut self, _: &mut Context<'_>, payload: &[u8], end: Option<&[u8]>) -> io::Result<()> {
        // A tunnel's bytes are not a body: its end is for the tunnel to say.
        if !self.tunnel {
            self.sender.push(payload, end);
        }
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.sender.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.sender.poll_flush(cx).map_err(io::Error::other)
    }
}
