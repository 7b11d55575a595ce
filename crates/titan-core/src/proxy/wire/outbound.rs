//! Writes a message: a small body goes out with its head in one write, a large one straight from the reader's buffer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use crate::http::h1::chunked::{CHUNK_END, chunk_head, last_chunk};
use crate::http::h1::encode::Framing;
use crate::rt::recycle;

/// Payload up to this size is copied behind what waits already, to save a vectored write.
const SMALL: usize = 4 << 10;

/// What waits to be written: at most a head and one lent buffer.
#[derive(Debug, Default)]
pub struct Outbound {
    buf: Vec<u8>,
    sent: usize,
    /// Some byte was taken.
    touched: bool,
    /// Bytes are in a TLS session and not yet in the socket.
    unflushed: bool,
}

impl Outbound {
    /// Where heads are appended.
    pub fn buf(&mut self) -> &mut Vec<u8> {
        if self.buf.capacity() == 0 {
            self.buf = recycle::buffer();
        }
        &mut self.buf
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty() && !self.unflushed
    }

    /// Whether any byte was taken by the socket (or its TLS session).
    pub fn touched(&self) -> bool {
        self.touched
    }

    /// Writes what waits.
    pub fn poll_flush<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, io: &mut W) -> Poll<io::Result<()>> {
        while self.sent < self.buf.len() {
            let n = ready!(Pin::new(&mut *io).poll_write(cx, &self.buf[self.sent..]))?;
            self.took(n)?;
            self.sent += n;
        }
        if self.sent != 0 {
            self.sent = 0;
            recycle::give(&mut self.buf);
        }
        if self.unflushed {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends payload after what waits; `end` closes a chunked body with those of the `trailers` that may pass. What the socket does not take is
    /// kept, so call it only when [`Outbound::poll_flush`] was ready since the last call (a head may wait).
    pub fn push<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut W,
        framing: Framing,
        payload: &[u8],
        end: Option<&[u8]>,
    ) -> io::Result<()> {
        let chunked = framing == Framing::Chunked;
        if payload.len() <= SMALL {
            let buf = self.buf();
            if !payload.is_empty() {
                if chunked {
                    chunk_head(payload.len(), buf);
                }
                buf.extend_from_slice(payload);
                if chunked {
                    buf.extend_from_slice(CHUNK_END);
                }
            }
        } else {
            if chunked {
                chunk_head(payload.len(), self.buf());
            }
            self.write_through(cx, io, payload, if chunked { CHUNK_END } else { &[] })?;
        }
        if let Some(trailers) = end
            && chunked
        {
            last_chunk(trailers, self.buf());
        }
        Ok(())
    }

    /// One vectored write of what waits, `payload` and `tail`; the rest is kept.
    fn write_through<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, io: &mut W, payload: &[u8], tail: &[u8]) -> io::Result<()> {
        let waiting = self.buf.len() - self.sent;
        let written = if waiting == 0 && tail.is_empty() {
            Pin::new(io).poll_write(cx, payload)
        } else {
            let parts = [IoSlice::new(&self.buf[self.sent..]), IoSlice::new(payload), IoSlice::new(tail)];
            Pin::new(io).poll_write_vectored(cx, &parts)
        };
        let mut n = match written {
            Poll::Ready(n) => {
                let n = n?;
                self.took(n)?;
                n
            }
            Poll::Pending => 0,
        };
        if n < waiting {
            self.sent += n;
            n = 0;
        } else {
            n -= waiting;
            self.sent = 0;
            self.buf.clear();
        }
        for part in [payload, tail] {
            let skip = n.min(part.len());
            n -= skip;
            if skip < part.len() {
                self.buf().extend_from_slice(&part[skip..]);
            }
        }
        if self.buf.is_empty() {
            recycle::give(&mut self.buf);
        }
        Ok(())
    }

    fn took(&mut self, n: usize) -> io::Result<()> {
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.touched = true;
        self.unflushed = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// Takes `step` bytes a write, then refuses until asked again.
    struct Slow {
        taken: Vec<u8>,
        step: usize,
        ready: bool,
    }

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.ready = !self.ready;
            if !self.ready {
                return Poll::Pending;
            }
            let n = bytes.len().min(self.step);
            self.taken.extend_from_slice(&bytes[..n]);
            Poll::Ready(Ok(n))
        }
        fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = parts.iter().flat_map(|p| p.to_vec()).collect();
            self.poll_write(cx, &all)
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn nothing_is_lost_whatever_the_socket_takes() {
        let cx = &mut Context::from_waker(Waker::noop());
        let large: Vec<u8> = (0..40_000_u32).map(|n| n as u8).collect();
        for step in [1_usize, 7, 4_096, 10_000, 1 << 20] {
            for framing in [Framing::Length(large.len() as u64 + 3), Framing::UntilClose] {
                let mut io = Slow { taken: Vec::new(), step, ready: false };
                let mut out = Outbound::default();
                out.buf().extend_from_slice(b"head");
                for (payload, end) in [(&b"abc"[..], None), (&large[..], Some(&[][..]))] {
                    out.push(cx, &mut io, framing, payload, end).unwrap();
                    while out.poll_flush(cx, &mut io).map(|r| r.unwrap()).is_pending() {}
                }
                assert!(out.is_empty() && out.touched());
                assert!(io.taken.starts_with(b"headabc") && io.taken[7..] == large[..], "step {step}");
            }
        }
    }
}
