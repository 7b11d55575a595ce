//! One request and its answer on a stream of an HTTP/2 connection.

use std::task::{Context, Poll, ready};

use base64::Engine;
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::ext::Protocol;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Uri, header};

use super::Line;
use crate::error::{ErrorKind, ProxyError, RetrySafety};
use crate::http::h1::encode::Framing;
use crate::http::h1::framing::BodyKind;
use crate::http::h2::{Block, Lines, response};
use crate::http::head::ResponseHead;
use crate::pool::Lease;
use crate::proxy::wire::{Duplex, Piece, Receiver, Sender};
use crate::rt::recycle;

/// What a stream is opened with, beside the head.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// Framing of the request's body.
    pub framing: Framing,
    /// The request is HEAD.
    pub to_head: bool,
    /// The client accepts trailers: `te: trailers`.
    pub te_trailers: bool,
    /// The request asks for this change of protocol: an extended CONNECT.
    pub upgrade: Option<&'a [u8]>,
    /// TLS.
    pub secure: bool,
}

/// A request under way.
pub struct H2 {
    lease: Lease,
    response: ResponseFuture,
    sender: Sender,
    receiver: Option<Receiver>,
    to_head: bool,
    /// `Sec-WebSocket-Accept` of the handshake that an accepted extended CONNECT stands for.
    accept: Option<String>,
    answered: bool,
    done: bool,
}

impl H2 {
    /// Opens a stream with the head that `encode` appends.
    pub fn new(lease: Lease, opening: &Opening<'_>, encode: impl FnOnce(&mut Block)) -> Result<Self, ProxyError> {
        let mut block = Block::default();
        encode(&mut block);
        let mut lines = block.into_lines();
        let accept = match opening.upgrade {
            None => None,
            Some(protocol) if protocol.eq_ignore_ascii_case(b"websocket") && lease.accepts_connect() => {
                let key = lines.fields.remove(header::SEC_WEBSOCKET_KEY);
                Some(accept_of(key.as_ref().map_or(&[], HeaderValue::as_bytes)))
            }
            Some(_) => {
                let detail = "the backend speaks HTTP/2 and does not take this upgrade there";
                return Err(ProxyError::upstream(ErrorKind::BadUpstreamResponse, RetrySafety::Never, detail));
            }
        };
        if opening.te_trailers {
            lines.fields.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        let request = request(lines, opening, accept.is_some())
            .ok_or_else(|| ProxyError::client(ErrorKind::BadRequest, "the request's target or host cannot be sent over HTTP/2"))?;
        let empty = accept.is_none() && matches!(opening.framing, Framing::None | Framing::Headless | Framing::Length(0));
        let (response, send) = lease.open(request, empty).map_err(|e| fault(&e, false))?;
        let mut sender = Sender::default();
        if !empty {
            sender.open(send);
        }
        Ok(Self { lease, response, sender, receiver: None, to_head: opening.to_head, accept, answered: false, done: false })
    }

    /// See [`super::Leg::was_stale`].
    pub fn was_stale(&self) -> bool {
        self.lease.is_reused() && !self.answered
    }

    /// See [`super::Leg::poll_flush`].
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        if self.sender.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.sender.poll_flush(cx).map_err(|e| fault(&e, self.answered))
    }

    /// See [`super::Leg::push`].
    pub fn push(&mut self, cx: &mut Context<'_>, payload: &[u8], end: Option<&[u8]>) -> Result<(), ProxyError> {
        self.sender.push(payload, end);
        match self.sender.poll_flush(cx) {
            Poll::Ready(Err(error)) => Err(fault(&error, self.answered)),
            _ => Ok(()),
        }
    }

    /// See [`super::Leg::poll_head`].
    pub fn poll_head(&mut self, cx: &mut Context<'_>, _: &mut [u8], _: usize) -> Poll<Result<ResponseHead, ProxyError>> {
        if let Poll::Ready(Some(interim)) = self.response.poll_informational(cx) {
            let (parts, ()) = interim.map_err(|e| fault(&e, self.answered))?.into_parts();
            self.answered = true;
            return Poll::Ready(response(&parts, false, self.to_head, recycle::buffer()));
        }
        let answer = ready!(std::pin::Pin::new(&mut self.response).poll(cx)).map_err(|e| fault(&e, self.answered))?;
        self.answered = true;
        let (mut parts, recv) = answer.into_parts();
        if parts.status == http::StatusCode::SWITCHING_PROTOCOLS {
            let detail = "the backend answered 101 over HTTP/2";
            return Poll::Ready(Err(ProxyError::upstream(ErrorKind::BadUpstreamResponse, RetrySafety::Sent, detail)));
        }
        let ended = recv.is_end_stream();
        if let Some(accept) = self.accept.take_if(|_| parts.status.is_success()) {
            parts.status = http::StatusCode::SWITCHING_PROTOCOLS;
            parts.headers.remove(header::CONTENT_LENGTH);
            if let Ok(accept) = HeaderValue::try_from(accept) {
                parts.headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            }
        }
        self.receiver = Some(Receiver::new(recv));
        Poll::Ready(response(&parts, ended, self.to_head, recycle::buffer()))
    }

    /// See [`super::Leg::begin_body`].
    pub fn begin_body(&mut self, kind: BodyKind) {
        self.done = matches!(kind, BodyKind::None | BodyKind::Tunnel);
    }

    /// See [`super::Leg::poll_body`].
    pub fn poll_body(&mut self, cx: &mut Context<'_>, into: &mut [u8], most: usize) -> Poll<Result<Piece, ProxyError>> {
        match &mut self.receiver {
            Some(receiver) if !self.done => receiver.poll_read(cx, &mut into[..most]).map_err(|error| {
                let detail = format!("the backend broke its stream off inside the answer's body: {error}");
                ProxyError::upstream(ErrorKind::UpstreamReset, RetrySafety::Never, detail)
            }),
            _ => Poll::Ready(Ok(Piece::front(0, true))),
        }
    }

    /// See [`super::Leg::trailers`].
    pub fn trailers(&self) -> &[u8] {
        self.receiver.as_ref().map_or(&[], Receiver::trailers)
    }

    /// See [`super::Leg::retire`].
    pub fn retire(&self) {
        self.lease.retire();
    }

    /// See [`super::Leg::into_tunnel`].
    pub fn into_tunnel(self) -> Line {
        let receiver = self.receiver.expect("a tunnel begins with an answer");
        Line::Stream { stream: Box::new(Duplex { sender: self.sender, receiver }), _lease: self.lease }
    }
}

/// The HTTP/2 request that an encoded head says.
fn request(lines: Lines, opening: &Opening<'_>, connect: bool) -> Option<Request<()>> {
    let start = &lines.start;
    let first = memchr::memchr(b' ', start)?;
    let last = memchr::memrchr(b' ', start).filter(|last| *last > first)?;
    let mut request = Request::new(());
    *request.method_mut() = if connect { Method::CONNECT } else { Method::from_bytes(&start[..first]).ok()? };
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(if opening.secure { Scheme::HTTPS } else { Scheme::HTTP });
    uri.authority = Some(Authority::from_maybe_shared(lines.host.unwrap_or_else(|| Bytes::from_static(b"localhost"))).ok()?);
    uri.path_and_query = Some(PathAndQuery::from_maybe_shared(start.slice(first + 1..last)).ok()?);
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    *request.headers_mut() = lines.fields;
    if connect {
        request.extensions_mut().insert(Protocol::from_static("websocket"));
    }
    Some(request)
}

/// What went wrong before an answer's head was whole.
fn fault(error: &h2::Error, answered: bool) -> ProxyError {
    // Above GOAWAY's last id, or refused: the backend says that it processed nothing (RFC 9113 §8.7).
    let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM) || (error.is_go_away() && error.is_remote());
    let retry = match answered {
        false if refused => RetrySafety::Unsent,
        _ => RetrySafety::Sent,
    };
    // What the h2 crate itself reset was malformed.
    let kind = if error.is_library() { ErrorKind::BadUpstreamResponse } else { ErrorKind::UpstreamReset };
    ProxyError::upstream(kind, retry, format!("the backend's stream failed: {error}"))
}

/// RFC 6455 §4.2.2.
fn accept_of(key: &[u8]) -> String {
    let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64::engine::general_purpose::STANDARD.encode(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::HeaderId;
    use crate::http::out::{Out, line};

    #[test]
    fn the_accept_of_the_rfc() {
        assert_eq!(accept_of(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_head_becomes_a_request() {
        let mut block = Block::default();
        block.text().extend_from_slice(b"PUT /a?b=c HTTP/1.1\r\n");
        line(&mut block, HeaderId::Host, b"Host: ", b"h:81");
        line(&mut block, HeaderId::Other, b"X: ", b"y");
        let opening = Opening { framing: Framing::None, to_head: false, te_trailers: false, upgrade: None, secure: true };
        let r = request(block.into_lines(), &opening, false).unwrap();
        assert_eq!((r.method().as_str(), r.uri().to_string().as_str()), ("PUT", "https://h:81/a?b=c"));
        assert_eq!(r.headers().len(), 1);
    }
}
