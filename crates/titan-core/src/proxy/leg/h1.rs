//! One request and its answer on an HTTP/1.1 connection.

use std::io;
use std::ops::Range;
use std::task::{Context, Poll, ready};

use crate::error::{ErrorKind, ProxyError, RetrySafety};
use crate::http::h1::encode::Framing;
use crate::http::h1::framing::BodyKind;
use crate::http::h1::parse::{self, Limits, Progress};
use crate::http::head::ResponseHead;
use crate::pool::Connection;
use crate::proxy::wire::{Inbound, Outbound, Piece, ReadFault, poll_some};
use crate::rt::recycle;

/// Limits of an upstream's head: generous, but bounded.
const LIMITS: Limits = Limits { bytes: 64 << 10, fields: 256 };

/// A request under way.
pub struct H1 {
    connection: Connection,
    out: Outbound,
    framing: Framing,
    body: Inbound,
    progress: Progress,
    /// Some byte of an answer has come.
    answered: bool,
    behind: Option<Behind>,
}

/// What came with a head and after it, in the read buffer itself: a large body is not copied on its way through.
struct Behind {
    buf: Vec<u8>,
    bytes: Range<usize>,
}

/// A head that came with more than this is parsed where it was read.
const LARGE: usize = 4 << 10;

impl H1 {
    /// A request whose head `encode` appends, with a body of this framing to follow.
    pub fn new(connection: Connection, framing: Framing, encode: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut out = Outbound::default();
        encode(out.buf());
        Self { connection, out, framing, body: Inbound::Done, progress: Progress::default(), answered: false, behind: None }
    }

    /// Whether the connection has served a request before and nothing of an answer has come: the backend closed it while it was idle.
    pub fn was_stale(&self) -> bool {
        self.connection.reused && !self.answered
    }

    /// Ready when nothing waits to be written.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.out.poll_flush(cx, &mut self.connection.socket).map_err(|e| self.reset(&e))
    }

    /// Sends payload of the request's body; see [`Outbound::push`].
    pub fn push(&mut self, cx: &mut Context<'_>, payload: &[u8], end: Option<&[u8]>) -> Result<(), ProxyError> {
        self.out.push(cx, &mut self.connection.socket, self.framing, payload, end).map_err(|e| self.reset(&e))
    }

    /// The next head of an answer, 1xx included.
    pub fn poll_head(&mut self, cx: &mut Context<'_>, scratch: &mut Vec<u8>, most: usize) -> Poll<Result<ResponseHead, ProxyError>> {
        // Another head, after an interim one.
        self.put_behind_back();
        loop {
            if !self.connection.inbox.is_empty() {
                match parse::response(&mut self.connection.inbox, &mut self.progress, &LIMITS) {
                    Ok(Some(head)) => return Poll::Ready(Ok(head)),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            let got = match ready!(poll_some(cx, &mut self.connection.socket, &mut scratch[..most])) {
                Ok(0) => return Poll::Ready(Err(self.closed())),
                Ok(got) => got,
                Err(e) => return Poll::Ready(Err(self.reset(&e))),
            };
            self.answered = true;
            let inbox = &mut self.connection.inbox;
            if got > LARGE
                && inbox.is_empty()
                && let Some((head, end)) = parse::response_at(&scratch[..got], &LIMITS)?
            {
                let buf = std::mem::replace(scratch, recycle::scratch());
                self.behind = Some(Behind { buf, bytes: end..got });
                return Poll::Ready(Ok(head));
            }
            if inbox.capacity() == 0 {
                *inbox = recycle::buffer();
            }
            inbox.extend_from_slice(&scratch[..got]);
        }
    }

    fn put_behind_back(&mut self) {
        if let Some(Behind { buf, bytes }) = self.behind.take() {
            let inbox = &mut self.connection.inbox;
            if inbox.capacity() == 0 {
                *inbox = recycle::buffer();
            }
            inbox.extend_from_slice(&buf[bytes]);
            recycle::give_scratch(buf);
        }
    }

    /// The answer's body is of this kind.
    pub fn begin_body(&mut self, kind: BodyKind) {
        self.body = Inbound::response(kind);
    }

    /// Payload of the answer's body into `into`.
    pub fn poll_body(&mut self, cx: &mut Context<'_>, into: &mut Vec<u8>, most: usize) -> Poll<Result<Piece, ProxyError>> {
        let Connection { socket, inbox, .. } = &mut self.connection;
        if let Some(Behind { buf, bytes }) = self.behind.take() {
            recycle::give_scratch(std::mem::replace(into, buf));
            let piece = self.body.strip(inbox, into, bytes).map_err(broken)?;
            if piece.len != 0 || piece.end {
                return Poll::Ready(Ok(piece));
            }
        }
        self.body.poll_read(cx, socket, inbox, &mut into[..most]).map_err(broken)
    }

    /// Trailer lines of the answer, once its body has ended.
    pub fn trailers(&self) -> &[u8] {
        self.body.trailers()
    }

    /// The connection, for another request: only where the whole request was sent and exactly one whole answer was read.
    pub fn into_idle(mut self) -> Option<Connection> {
        self.put_behind_back();
        let clean = self.body.is_done() && self.out.is_empty() && self.connection.inbox.is_empty();
        recycle::give(&mut self.connection.inbox);
        clean.then_some(self.connection)
    }

    /// The connection as a tunnel, with what the backend has sent already in its inbox.
    pub fn into_tunnel(mut self) -> Connection {
        self.put_behind_back();
        self.connection
    }

    fn safety(&self) -> RetrySafety {
        if self.out.touched() || self.answered { RetrySafety::Sent } else { RetrySafety::Unsent }
    }

    fn closed(&self) -> ProxyError {
        let detail = if self.answered {
            "the backend closed its connection inside the answer's head"
        } else {
            "the backend closed its connection without an answer"
        };
        ProxyError::upstream(ErrorKind::UpstreamReset, self.safety(), detail)
    }

    fn reset(&self, error: &io::Error) -> ProxyError {
        ProxyError::upstream(ErrorKind::UpstreamReset, self.safety(), format!("the backend's connection failed: {error}"))
    }
}

fn broken(fault: ReadFault) -> ProxyError {
    match fault {
        ReadFault::Closed => cut("the backend closed its connection inside the answer's body".into()),
        ReadFault::Io(e) => cut(format!("reading the answer's body failed: {e}")),
        ReadFault::Framing(error) => ProxyError { retry: RetrySafety::Never, ..error },
    }
}

fn cut(detail: String) -> ProxyError {
    ProxyError::upstream(ErrorKind::UpstreamReset, RetrySafety::Never, detail)
}
