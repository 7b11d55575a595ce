//! One HTTP/1.1 client connection: reads heads, runs exchanges, lives on or ends.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};

use super::h1_downstream::H1;
use crate::error::{ErrorKind, ProxyError};
use crate::http::h1::parse::{self, Limits, Preface};
use crate::metrics::Close;
use crate::proxy::wire::poll_some;
use crate::proxy::{self, After, Kit};
use crate::rt::clock::{self, NEVER, after};
use crate::rt::recycle::{self, Recycled};

/// How long, and how many bytes, of a request that nobody wants are read so that the client gets its answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 4 << 20;

/// What an idle connection has come to.
pub(super) enum Next {
    /// A request.
    Request(Box<Kit>),
    /// HTTP/2 by prior knowledge: its preface is in the inbox.
    Http2,
    /// No request will come.
    End(Close),
    /// No request can be read.
    Refuse(ProxyError),
}

/// What became of a connection.
pub(super) enum Served {
    /// It has ended.
    Closed(Close),
    /// It speaks HTTP/2, whose preface is in its inbox.
    Http2,
}

/// Serves HTTP/1.1 until the connection ends, or turns out to speak HTTP/2 where `sniff` says that it may.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(conn: &mut H1<S>, mut sniff: bool) -> Served {
    loop {
        let kit = match poll_fn(|cx| poll_next(conn, cx, sniff)).await {
            Next::Request(kit) => kit,
            Next::Http2 => return Served::Http2,
            Next::End(close) => return Served::Closed(close),
            Next::Refuse(error) => {
                conn.begin_refusal();
                let (local, started) = (conn.local.clone(), conn.started.take().unwrap_or_else(Instant::now));
                let after = Recycled::new(|| proxy::refuse(&local, conn, &error, started)).await;
                return Served::Closed(if matches!(after, After::Linger) { Box::pin(linger(conn)).await } else { Close::Error });
            }
        };
        sniff = false;
        conn.begin(&kit);
        // The exchange's state lives in a recycled block while it runs, so that an idle connection is small.
        let (local, started) = (conn.local.clone(), conn.started.take().unwrap_or_else(Instant::now));
        let after = Recycled::new(|| proxy::exchange(local, conn, kit, started)).await;
        return Served::Closed(match after {
            After::Next if conn.lives_on() => continue,
            // Boxed, like all that is not the idle connection: a future is as large as the largest of its states.
            After::Next => Box::pin(shut(conn)).await,
            After::Close => Close::Clean,
            After::Linger => Box::pin(linger(conn)).await,
            After::Reset => {
                conn.abort();
                Close::Error
            }
            After::Tunnel(tunnel) => {
                let (local, early) = (conn.local.clone(), std::mem::take(&mut conn.inbox));
                Box::pin(proxy::run_tunnel(&local, &mut conn.io, early, &conn.timer, tunnel)).await;
                Close::Clean
            }
        });
    }
}

/// Ready with the next request's head, or with the reason why there is none.
fn poll_next<S: AsyncRead + AsyncWrite + Unpin>(conn: &mut H1<S>, cx: &mut Context<'_>, sniff: bool) -> Poll<Next> {
    clock::refresh();
    let spec = conn.port.spec();
    let limits = Limits { bytes: spec.max_head, fields: spec.max_headers };
    loop {
        if !conn.inbox.is_empty() {
            match if sniff { parse::preface(&conn.inbox) } else { Preface::No } {
                Preface::Yes => return Poll::Ready(Next::Http2),
                Preface::Partial => {}
                Preface::No => match parse::request(&mut conn.inbox, &mut conn.progress, &limits) {
                    Ok(Some(head)) => {
                        conn.head_deadline = NEVER;
                        let mut kit = conn.local.kit();
                        kit.request = Some(head);
                        return Poll::Ready(Next::Request(kit));
                    }
                    Ok(None) => {}
                    // A client of another protocol (an HTTP/2 one with a broken preface, say) can't read an answer.
                    Err(error) if sniff && error.detail == parse::NOT_HTTP => return Poll::Ready(Next::End(Close::Error)),
                    Err(error) => return Poll::Ready(Next::Refuse(error)),
                },
            }
            if conn.head_deadline == NEVER {
                conn.head_deadline = after(spec.timeouts.head);
                conn.started = Some(Instant::now());
            }
        }
        let got = if conn.ended {
            0
        } else {
            let local = conn.local.clone();
            let mut scratch = local.scratch();
            match poll_some(cx, &mut conn.io, &mut scratch) {
                Poll::Ready(Ok(got)) => {
                    conn.keep(&scratch[..got]);
                    got
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Next::End(Close::Error)),
                Poll::Pending => break,
            }
        };
        if got == 0 {
            return Poll::Ready(if conn.inbox.is_empty() {
                Next::End(Close::Clean)
            } else {
                Next::Refuse(ProxyError::client(ErrorKind::BadRequest, "the connection ended inside a request's head"))
            });
        }
    }
    // Nothing to read now: idle, or inside a head.
    if conn.inbox.is_empty() {
        recycle::give(&mut conn.inbox);
        let idle = if conn.idle_since == NEVER {
            conn.idle_since = clock::cached();
            conn.idle_since
        } else {
            conn.idle_since
        };
        let mut deadline = clock::later(idle, if conn.served == 0 { first(&spec) } else { spec.timeouts.idle });
        if conn.is_closing() && conn.served != 0 {
            deadline = deadline.min(conn.closing_since().saturating_add(conn.local.process.lifecycle.grace()));
        }
        ready!(conn.timer.poll(cx, deadline));
        return Poll::Ready(Next::End(Close::Timeout));
    }
    ready!(conn.timer.poll(cx, conn.head_deadline));
    Poll::Ready(Next::Refuse(ProxyError::client(ErrorKind::ClientTimeout, "the request's head did not arrive in time")))
}

/// A new connection that sends nothing at all has the shorter of the two limits: it is not a client that rests between requests.
pub(super) fn first(spec: &super::ListenerSpec) -> Option<Duration> {
    match (spec.timeouts.idle, spec.timeouts.head) {
        (Some(idle), Some(head)) => Some(idle.min(head.max(Duration::from_secs(60)))),
        (one, other) => one.or(other),
    }
}

/// Ends the connection in order.
async fn shut<S: AsyncRead + AsyncWrite + Unpin>(conn: &mut H1<S>) -> Close {
    if !conn.inbox.is_empty() {
        return linger(conn).await;
    }
    match poll_fn(|cx| conn.poll_shutdown(cx)).await {
        Ok(()) => Close::Clean,
        Err(_) => Close::Error,
    }
}

/// Says that nothing more will come, and reads what the client still sends: closing with unread bytes would reset the connection and
/// could take the answer away from the client.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(conn: &mut H1<S>) -> Close {
    recycle::give(&mut conn.inbox);
    let deadline = after(Some(LINGER));
    let mut left = LINGER_BYTES;
    let done: io::Result<()> = poll_fn(|cx| {
        let _ = conn.poll_shutdown(cx)?;
        let local = conn.local.clone();
        let mut scratch = local.scratch();
        loop {
            match poll_some(cx, &mut conn.io, &mut scratch)? {
                Poll::Ready(0) => return Poll::Ready(Ok(())),
                Poll::Ready(n) => {
                    left = left.saturating_sub(n);
                    if left == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Pending => break,
            }
        }
        conn.timer.poll(cx, deadline).map(Ok)
    })
    .await;
    if done.is_ok() { Close::Clean } else { Close::Error }
}

impl<S: AsyncRead + AsyncWrite + Unpin> H1<S> {
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Compile-time reminder of what an idle connection may cost; the figure is asserted in the tests.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_plain_connection_is_small() {
        use tokio::net::TcpStream;
        fn size<F: Future>(_: fn(&'static mut H1<TcpStream>, bool) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size(serve::<TcpStream>) + size_of::<H1<TcpStream>>();
        assert!(bytes <= 1_024, "the future of an idle connection takes {bytes} bytes");
    }

    #[test]
    fn an_exchange_is_moved_cheaply() {
        use tokio::net::TcpStream;
        type Begin<F> = fn(std::rc::Rc<proxy::Local>, &'static mut H1<TcpStream>, Box<Kit>, Instant) -> F;
        fn size<F: Future>(_: Begin<F>) -> usize {
            size_of::<F>()
        }
        let bytes = size(proxy::exchange::<H1<TcpStream>>);
        assert!(bytes <= 3_400, "the future of an exchange takes {bytes} bytes; box what is rare");
    }
}
