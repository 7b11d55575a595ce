//! Moves both bodies at once, with back-pressure, and watches what can end them: the client going away and every time limit.

use std::task::{Context, Poll, ready};

use super::downstream::Downstream;
use super::exchange::{Exchange, gone, out_of_time};
use super::leg::Leg;
use crate::error::{ErrorKind, ProxyError, RetrySafety};
use crate::http::h1::chunked::passable_trailers;
use crate::http::h1::framing::BodyKind;
use crate::http::head::{HeaderId, ResponseHead};
use crate::rt::clock::{self, NEVER, later};
use crate::upstream::Upstream;

/// Reads in a row before other connections get their turn.
const TURNS: usize = 16;
/// A request body may be slow this long before its average rate counts.
const GRACE_MS: u64 = 15_000;
/// Bytes a second that a request body must have on average after its grace: a dripping client holds a backend for no longer than it must.
const MIN_RATE: u64 = 64;

/// Progress of the bodies of one try.
pub struct Transfer {
    upload: Upload,
    /// Nothing of the head has been written yet.
    up_fresh: bool,
    down_fresh: bool,
    /// The upload waits for the client (and not for the upstream).
    waits_for_client: bool,
    /// Bytes of the kit's replay buffer are to be sent first.
    replays: bool,
    /// Every body byte so far is in the replay buffer.
    replayable: bool,
    /// Body bytes that may be kept for a replay.
    keep: usize,
    /// The upload moved last.
    up_since: u64,
    /// The download moved last.
    down_since: u64,
    /// The body began.
    began: u64,
    /// Body bytes received.
    received: u64,
    down_ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upload {
    /// More of the body is to come.
    Open,
    /// All of it was read; the last bytes may wait to be written.
    Read,
    /// The upstream takes no more; it may still answer.
    Broken,
}

impl Transfer {
    /// Before the first try. `keep` = body bytes that may be kept for another one.
    pub fn new<D: Downstream>(down: &D, keep: usize) -> Self {
        let now = clock::now();
        let upload = if down.body_done() { Upload::Read } else { Upload::Open };
        Self {
            upload,
            up_fresh: true,
            down_fresh: true,
            waits_for_client: false,
            replays: false,
            replayable: true,
            keep,
            up_since: now,
            down_since: now,
            began: now,
            received: 0,
            down_ended: false,
        }
    }

    /// Whether the request can be sent once more.
    pub fn is_replayable(&self) -> bool {
        self.replayable
    }

    /// Whether the whole request was read from the client and taken by the upstream's side.
    pub fn is_uploaded(&self) -> bool {
        self.upload == Upload::Read
    }

    /// Back to the front of the body, for another try.
    pub fn rewind<D: Downstream>(&mut self, down: &D, has_kept: bool) {
        self.upload = if down.body_done() && !has_kept { Upload::Read } else { Upload::Open };
        self.replays = has_kept;
        self.up_fresh = true;
        self.up_since = clock::now();
    }

    /// Ready with the head of the answer (1xx included).
    pub fn poll_head<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        x: &mut Exchange<'_>,
        down: &mut D,
        leg: &mut Leg,
        upstream: &Upstream,
        try_deadline: u64,
    ) -> Poll<Result<ResponseHead, ProxyError>> {
        ready!(down.poll_flush(cx)).map_err(|_| gone())?;
        self.upload(cx, x, down, leg)?;
        if let Poll::Ready(head) = leg.poll_head(cx, &mut x.local.scratch()) {
            return Poll::Ready(head);
        }
        self.watch(cx, x, down)?;
        let first_byte = if self.upload == Upload::Open { NEVER } else { later(self.up_since, upstream.timeouts.first_byte) };
        let slow_upload = self.upload_deadline(down, upstream, true);
        let deadline = first_byte.min(try_deadline).min(slow_upload).min(x.deadline);
        ready!(down.timer().poll(cx, deadline));
        let now = clock::now();
        Poll::Ready(Err(if x.deadline <= now {
            out_of_time()
        } else if slow_upload <= now {
            self.too_slow()
        } else {
            let detail = if first_byte <= now {
                "the backend sent no answer in time"
            } else {
                "the backend sent no answer within the time of one try"
            };
            ProxyError::upstream(ErrorKind::UpstreamTimeout, RetrySafety::Sent, detail)
        }))
    }

    /// Ready when the answer has been sent to its last byte.
    pub fn poll_bodies<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        x: &mut Exchange<'_>,
        down: &mut D,
        leg: &mut Leg,
        upstream: &Upstream,
    ) -> Poll<Result<(), ProxyError>> {
        self.upload(cx, x, down, leg)?;
        let waits_for_client = match self.download(cx, x, down, leg)? {
            Progress::Ended => return Poll::Ready(Ok(())),
            Progress::WaitsForClient => true,
            Progress::WaitsForUpstream => false,
        };
        self.watch(cx, x, down)?;
        let limit = if waits_for_client { down.listener().timeouts.write } else { upstream.timeouts.read };
        let slow_download = later(self.down_since, limit);
        let slow_upload = self.upload_deadline(down, upstream, false);
        ready!(down.timer().poll(cx, slow_download.min(slow_upload).min(x.deadline)));
        let now = clock::now();
        Poll::Ready(Err(if x.deadline <= now {
            out_of_time()
        } else if slow_upload <= now {
            self.too_slow()
        } else if waits_for_client {
            ProxyError::client(ErrorKind::ClientTimeout, "the client took the answer too slowly")
        } else {
            ProxyError::upstream(ErrorKind::UpstreamTimeout, RetrySafety::Never, "the backend stopped in the middle of its answer")
        }))
    }

    /// Moves what can be moved of the request's body. Only the client's faults are errors here: an upstream that takes no more may still answer.
    fn upload<D: Downstream>(&mut self, cx: &mut Context<'_>, x: &mut Exchange<'_>, down: &mut D, leg: &mut Leg) -> Result<(), ProxyError> {
        if self.upload == Upload::Broken {
            return Ok(());
        }
        for _ in 0..TURNS {
            // A body that is there already goes out with its head.
            let with_head = std::mem::take(&mut self.up_fresh) && self.upload == Upload::Open && self.send_more(cx, x, down, leg)?;
            match leg.poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    self.upload = Upload::Broken;
                    return Ok(());
                }
                Poll::Pending => {
                    self.waits_for_client = false;
                    return Ok(());
                }
            }
            if self.upload != Upload::Open {
                return Ok(());
            }
            if !with_head && !self.send_more(cx, x, down, leg)? {
                self.waits_for_client = true;
                return Ok(());
            }
            self.up_since = clock::now();
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// One piece of the body; `false` where the client has none now.
    fn send_more<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        x: &mut Exchange<'_>,
        down: &mut D,
        leg: &mut Leg,
    ) -> Result<bool, ProxyError> {
        if self.replays {
            self.replays = false;
            let end = if down.body_done() { Some(trailers(x, down)) } else { None };
            self.sent(leg.push(cx, &x.kit.replay, end.as_deref()), end.is_some());
            return Ok(true);
        }
        let local = x.local;
        let mut scratch = local.scratch();
        let piece = match down.poll_body(cx, &mut scratch)? {
            Poll::Ready(piece) => piece,
            Poll::Pending => return Ok(false),
        };
        let payload = &scratch[..piece.len];
        self.received += piece.len as u64;
        x.notes.bytes_in = self.received;
        if x.notes.bytes_in > x.max_body {
            return Err(too_large(x.max_body));
        }
        if self.replayable {
            self.replayable = x.kit.replay.len() + payload.len() <= self.keep;
            if self.replayable {
                x.kit.replay.extend_from_slice(payload);
            }
        }
        let end = if piece.end { Some(trailers(x, down)) } else { None };
        self.sent(leg.push(cx, payload, end.as_deref()), piece.end);
        Ok(true)
    }

    fn sent(&mut self, pushed: Result<(), ProxyError>, end: bool) {
        if pushed.is_err() {
            self.upload = Upload::Broken;
        } else if end {
            self.upload = Upload::Read;
        }
    }

    /// Moves what can be moved of the answer's body.
    fn download<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        x: &mut Exchange<'_>,
        down: &mut D,
        leg: &mut Leg,
    ) -> Result<Progress, ProxyError> {
        for _ in 0..TURNS {
            // What is there of the body goes out with its head.
            let with_head = std::mem::take(&mut self.down_fresh);
            if !with_head {
                match down.poll_flush(cx) {
                    Poll::Ready(Ok(())) if self.down_ended => return Ok(Progress::Ended),
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Err(gone()),
                    Poll::Pending => return Ok(Progress::WaitsForClient),
                }
            }
            let local = x.local;
            let mut scratch = local.scratch();
            let piece = match leg.poll_body(cx, &mut scratch)? {
                Poll::Ready(piece) => piece,
                Poll::Pending if with_head => continue,
                Poll::Pending => return Ok(Progress::WaitsForUpstream),
            };
            self.down_since = clock::now();
            self.down_ended = piece.end;
            x.notes.bytes_out += piece.len as u64;
            let pushed = if piece.end && !leg.trailers().is_empty() {
                let head = x.kit.response.as_ref();
                let announced = head.into_iter().flat_map(|head| head.get_all(HeaderId::Trailer));
                down.push(cx, &scratch[..piece.len], Some(&passable_trailers(leg.trailers(), announced)))
            } else {
                down.push(cx, &scratch[..piece.len], piece.end.then_some(&[][..]))
            };
            pushed.map_err(|_| gone())?;
        }
        cx.waker().wake_by_ref();
        Ok(Progress::WaitsForUpstream)
    }

    /// Once the body is in, only the client's going away is of interest; before that, reading the body would tell.
    fn watch<D: Downstream>(&self, cx: &mut Context<'_>, x: &Exchange<'_>, down: &mut D) -> Result<(), ProxyError> {
        if self.upload != Upload::Open && down.poll_gone(cx, &mut x.local.scratch()).is_ready() {
            return Err(gone());
        }
        Ok(())
    }

    /// When the upload is too slow: no byte for too long, or too few on average.
    fn upload_deadline<D: Downstream>(&self, down: &D, upstream: &Upstream, before_answer: bool) -> u64 {
        if self.upload != Upload::Open {
            return NEVER;
        }
        if !self.waits_for_client {
            return later(self.up_since, upstream.timeouts.write);
        }
        let quiet = later(self.up_since, down.listener().timeouts.read);
        // A stream in both directions may rest as long as it likes within the limit above; an upload that is awaited may not.
        if before_answer || matches!(down.body(), BodyKind::Length(_)) {
            quiet.min(self.began + GRACE_MS + self.received * 1_000 / MIN_RATE)
        } else {
            quiet
        }
    }

    fn too_slow(&self) -> ProxyError {
        if self.waits_for_client {
            ProxyError::client(ErrorKind::ClientTimeout, "the request's body came too slowly")
        } else {
            ProxyError::upstream(ErrorKind::UpstreamTimeout, RetrySafety::Sent, "the backend took the request's body too slowly")
        }
    }
}

enum Progress {
    Ended,
    WaitsForClient,
    WaitsForUpstream,
}

/// Trailers of the request that may be passed on.
fn trailers<D: Downstream>(x: &Exchange<'_>, down: &D) -> Vec<u8> {
    if down.trailers().is_empty() { Vec::new() } else { passable_trailers(down.trailers(), x.head().get_all(HeaderId::Trailer)) }
}

/// 413.
pub fn too_large(limit: u64) -> ProxyError {
    ProxyError::client(ErrorKind::BodyTooLarge, format!("the request's body is larger than {limit} bytes"))
}
