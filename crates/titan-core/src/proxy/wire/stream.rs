//! One HTTP/2 stream, the same on both legs: payload in and out with flow control as the back-pressure, and the pair of both as a tunnel.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Piece;
use crate::http::h2::{trailer_lines, trailers};

/// Largest part of a tunnel's write that is copied at once.
const PART: usize = 16 << 10;

/// The sending side: holds at most one piece of payload until the window lets it out.
#[derive(Default)]
pub struct Sender {
    /// `None` before the head was sent, and where nothing follows it.
    send: Option<SendStream<Bytes>>,
    waiting: Bytes,
    /// Payload ends with `waiting`; trailer lines to follow it.
    end: Option<Vec<u8>>,
    broken: bool,
}

impl Sender {
    /// The head was sent, and payload follows.
    pub fn open(&mut self, send: SendStream<Bytes>) {
        self.send = Some(send);
    }

    /// The head could not be sent: the stream is gone.
    pub fn fail(&mut self) {
        self.broken = true;
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.end.is_none() && !self.broken
    }

    /// Sends payload; `end` (with trailer lines) closes the side. Call it only when [`Sender::poll_flush`] was ready since the last call.
    pub fn push(&mut self, payload: &[u8], end: Option<&[u8]>) {
        if self.send.is_some() {
            debug_assert!(self.waiting.is_empty(), "pushed without a flush");
            self.waiting = Bytes::copy_from_slice(payload);
            self.end = end.map(<[u8]>::to_vec);
        }
    }

    /// Ready when the window took everything.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if self.broken {
            return Poll::Ready(Err(Reason::CANCEL.into()));
        }
        let Some(send) = &mut self.send else { return Poll::Ready(Ok(())) };
        while !self.waiting.is_empty() {
            send.reserve_capacity(self.waiting.len());
            let mut room = send.capacity();
            if room == 0 {
                room = match ready!(send.poll_capacity(cx)) {
                    Some(room) => room?,
                    None => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
                };
            }
            let part = self.waiting.split_to(room.min(self.waiting.len()));
            let last = self.waiting.is_empty() && self.end.as_ref().is_some_and(Vec::is_empty);
            send.send_data(part, last)?;
            if last {
                self.end = None;
            }
        }
        if let Some(lines) = self.end.take() {
            if lines.is_empty() {
                send.send_data(Bytes::new(), true)?;
            } else {
                send.send_trailers(trailers(&lines))?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the other end has reset the stream. Before the head was sent it is the caller who knows.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        self.send.as_mut().map(|send| send.poll_reset(cx).map(|_| ()))
    }

    /// Resets the stream.
    pub fn reset(&mut self, reason: Reason) {
        if let Some(send) = &mut self.send {
            send.send_reset(reason);
        }
    }
}

/// The receiving side: gives the window back as its bytes are used.
pub struct Receiver {
    recv: RecvStream,
    chunk: Bytes,
    trailers: Vec<u8>,
    ended: bool,
}

impl Receiver {
    /// A side whose head has come.
    pub fn new(recv: RecvStream) -> Self {
        let ended = recv.is_end_stream();
        Self { recv, chunk: Bytes::new(), trailers: Vec::new(), ended }
    }

    /// Whether the end was read.
    pub fn is_done(&self) -> bool {
        self.ended
    }

    /// Trailer lines, once the end was read.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Payload into the front of `into`.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<Result<Piece, h2::Error>> {
        if self.ended {
            return Poll::Ready(Ok(Piece::front(0, true)));
        }
        let mut len = 0;
        loop {
            if self.chunk.is_empty() {
                match self.recv.poll_data(cx) {
                    Poll::Ready(Some(chunk)) => self.chunk = chunk?,
                    Poll::Ready(None) => match self.recv.poll_trailers(cx) {
                        Poll::Ready(trailers) => {
                            if let Some(trailers) = trailers? {
                                self.trailers = trailer_lines(&trailers);
                            }
                            self.ended = true;
                            return Poll::Ready(Ok(Piece::front(len, true)));
                        }
                        Poll::Pending => return if len == 0 { Poll::Pending } else { Poll::Ready(Ok(Piece::front(len, false))) },
                    },
                    Poll::Pending => return if len == 0 { Poll::Pending } else { Poll::Ready(Ok(Piece::front(len, false))) },
                }
            }
            let n = self.chunk.len().min(into.len() - len);
            into[len..len + n].copy_from_slice(&self.chunk[..n]);
            self.chunk.advance(n);
            self.recv.flow_control().release_capacity(n)?;
            len += n;
            if self.chunk.is_empty() && self.recv.is_end_stream() {
                self.ended = true;
                return Poll::Ready(Ok(Piece::front(len, true)));
            }
            if len == into.len() {
                return Poll::Ready(Ok(Piece::front(len, false)));
            }
        }
    }
}

/// Both sides as a tunnel (RFC 8441).
pub struct Duplex {
    /// Towards the other end.
    pub sender: Sender,
    /// From the other end.
    pub receiver: Receiver,
}

impl AsyncRead for Duplex {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let into = buf.initialize_unfilled();
        let piece = ready!(self.receiver.poll_read(cx, into)).map_err(io::Error::other)?;
        buf.advance(piece.len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.sender.poll_flush(cx)).map_err(io::Error::other)?;
        let part = &bytes[..bytes.len().min(PART)];
        self.sender.push(part, None);
        // What the window does not take now goes with the next write or flush.
        if let Poll::Ready(Err(error)) = self.sender.poll_flush(cx) {
            return Poll::Ready(Err(io::Error::other(error)));
        }
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sender.poll_flush(cx).map_err(io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.sender.poll_flush(cx)).map_err(io::Error::other)?;
        if self.sender.send.is_some() {
            self.sender.push(&[], Some(&[]));
            let done = self.sender.poll_flush(cx).map_err(io::Error::other);
            self.sender.send = None;
            return done;
        }
        Poll::Ready(Ok(()))
    }
}
