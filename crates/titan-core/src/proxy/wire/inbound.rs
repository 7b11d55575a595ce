//! Reads a body: strips its framing in place.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::error::ProxyError;
use crate::http::h1::chunked::{Decoder, Event};
use crate::http::h1::framing::BodyKind;
use crate::rt::recycle;

/// Part of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where in the buffer it begins.
    pub at: usize,
    /// Its bytes; may be 0 at the end only.
    pub len: usize,
    /// The body has ended with them.
    pub end: bool,
}

impl Piece {
    /// At the front of the buffer.
    pub fn front(len: usize, end: bool) -> Self {
        Self { at: 0, len, end }
    }

    /// Its place in the buffer.
    pub fn range(&self) -> Range<usize> {
        self.at..self.at + self.len
    }
}

/// Why a body could not be read on.
#[derive(Debug)]
pub enum ReadFault {
    /// The sender closed before the end.
    Closed,
    /// The socket failed.
    Io(io::Error),
    /// Its framing is wrong.
    Framing(ProxyError),
}

/// The body of the message that is being read.
#[derive(Debug, Default)]
pub enum Inbound {
    /// Nothing is owed any more.
    #[default]
    Done,
    /// That many bytes are left.
    Length(u64),
    /// Chunked.
    Chunked(Decoder),
    /// Until the sender closes.
    UntilClose,
}

impl Inbound {
    /// A request's body.
    pub fn request(kind: BodyKind) -> Self {
        Self::of(kind, Decoder::request)
    }

    /// A response's body.
    pub fn response(kind: BodyKind) -> Self {
        Self::of(kind, Decoder::response)
    }

    fn of(kind: BodyKind, decoder: fn() -> Decoder) -> Self {
        match kind {
            BodyKind::None | BodyKind::Tunnel => Self::Done,
            BodyKind::Length(n) => Self::Length(n),
            BodyKind::Chunked => Self::Chunked(decoder()),
            BodyKind::UntilClose => Self::UntilClose,
        }
    }

    /// Whether the end was read.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Done => true,
            Self::Chunked(decoder) => decoder.ended(),
            Self::Length(_) | Self::UntilClose => false,
        }
    }

    /// Trailer lines received.
    pub fn trailers(&self) -> &[u8] {
        match self {
            Self::Chunked(decoder) => decoder.trailers(),
            _ => &[],
        }
    }

    /// Payload into `into`. What was read of the next message stays in `inbox`, whose bytes come before the socket's.
    pub fn poll_read<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut R,
        inbox: &mut Vec<u8>,
        into: &mut [u8],
    ) -> Poll<Result<Piece, ReadFault>> {
        loop {
            if self.is_done() {
                return Poll::Ready(Ok(Piece::front(0, true)));
            }
            let got = if inbox.is_empty() { ready!(poll_some(cx, io, into)).map_err(ReadFault::Io)? } else { take(inbox, into) };
            if got == 0 {
                return Poll::Ready(match self {
                    Self::UntilClose => {
                        *self = Self::Done;
                        Ok(Piece::front(0, true))
                    }
                    _ => Err(ReadFault::Closed),
                });
            }
            let piece = self.strip(inbox, into, 0..got)?;
            if piece.len != 0 || piece.end {
                return Poll::Ready(Ok(piece));
            }
        }
    }

    /// Takes bytes in that lie in `into` already. The piece may be empty although more is to come.
    pub fn strip(&mut self, inbox: &mut Vec<u8>, into: &mut [u8], got: Range<usize>) -> Result<Piece, ReadFault> {
        Ok(match self {
            Self::Done => {
                put_back(inbox, &into[got]);
                Piece::front(0, true)
            }
            Self::UntilClose => Piece { at: got.start, len: got.len(), end: false },
            Self::Length(left) => {
                let len = got.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                put_back(inbox, &into[got.start + len..got.end]);
                *left -= len as u64;
                let end = *left == 0;
                if end {
                    *self = Self::Done;
                }
                Piece { at: got.start, len, end }
            }
            Self::Chunked(decoder) => decode(decoder, inbox, into, got).map_err(ReadFault::Framing)?,
        })
    }
}

/// Strips chunk framing from `into[got]` in place.
fn decode(decoder: &mut Decoder, inbox: &mut Vec<u8>, into: &mut [u8], got: Range<usize>) -> Result<Piece, ProxyError> {
    let Range { start: at, end: got } = got;
    let (mut read, mut write) = (at, at);
    loop {
        let step = decoder.step(&into[read..got])?;
        match step.event {
            Event::Data(range) => {
                let len = range.len();
                into.copy_within(read + range.start..read + range.end, write);
                write += len;
                read += step.consumed;
            }
            Event::More => return Ok(Piece { at, len: write - at, end: false }),
            Event::End => {
                put_back(inbox, &into[read + step.consumed..got]);
                return Ok(Piece { at, len: write - at, end: true });
            }
        }
    }
}

/// One read: 0 is the end of the stream.
pub fn poll_some<R: AsyncRead + Unpin>(cx: &mut Context<'_>, io: &mut R, into: &mut [u8]) -> Poll<io::Result<usize>> {
    let mut buf = ReadBuf::new(into);
    ready!(Pin::new(io).poll_read(cx, &mut buf))?;
    Poll::Ready(Ok(buf.filled().len()))
}

/// Moves what fits from `inbox` into `into`.
fn take(inbox: &mut Vec<u8>, into: &mut [u8]) -> usize {
    let len = inbox.len().min(into.len());
    into[..len].copy_from_slice(&inbox[..len]);
    if len == inbox.len() {
        recycle::give(inbox);
    } else {
        inbox.drain(..len);
    }
    len
}

/// Bytes that were read beyond the body go before what is left in `inbox`.
fn put_back(inbox: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if inbox.capacity() == 0 {
        *inbox = recycle::buffer();
    }
    inbox.splice(..0, bytes.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn read_all(mut body: Inbound, mut io: &[u8], window: usize) -> Result<(Vec<u8>, Vec<u8>), ReadFault> {
        let (mut inbox, mut out) = (Vec::new(), Vec::new());
        let mut into = vec![0; window];
        loop {
            let Poll::Ready(piece) = body.poll_read(&mut Context::from_waker(Waker::noop()), &mut io, &mut inbox, &mut into) else {
                unreachable!("a slice is always ready")
            };
            let piece = piece?;
            out.extend_from_slice(&into[piece.range()]);
            if piece.end {
                assert!(body.is_done());
                inbox.extend_from_slice(io);
                return Ok((out, inbox));
            }
        }
    }

    #[test]
    fn a_length_ends_exactly_and_keeps_what_follows() {
        for window in [1, 3, 5, 64] {
            let (body, rest) = read_all(Inbound::request(BodyKind::Length(5)), b"helloGET /", window).unwrap();
            assert_eq!((body.as_slice(), rest.as_slice()), (&b"hello"[..], &b"GET /"[..]), "window {window}");
        }
    }

    #[test]
    fn a_short_body_is_an_error_unless_it_ends_by_close() {
        assert!(matches!(read_all(Inbound::request(BodyKind::Length(9)), b"hello", 64), Err(ReadFault::Closed)));
        assert_eq!(read_all(Inbound::response(BodyKind::UntilClose), b"hello", 2).unwrap().0, b"hello");
    }

    #[test]
    fn no_body_reads_nothing() {
        let (body, rest) = read_all(Inbound::request(BodyKind::None), b"next", 64).unwrap();
        assert_eq!((body.len(), rest.as_slice()), (0, &b"next"[..]));
    }
}
