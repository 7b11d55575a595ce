//! Moves both bodies at once, with back-pressure, and watches what can end them: the client going away and every time limit.

use std::task::{Context, Poll, ready};

use super::downstream::Downstream;
use super::exchange::{Exchange, gone, out_of_time};
use super::grpc;
use super::leg::Leg;
use super::local::Slow;
use crate::body::compress::Encoder;
use crate::error::{ErrorKind, ProxyError, RetrySafety};
use crate::http::h1::chunked::{allowed_trailers, passable_trailers};
use crate::http::h1::framing::BodyKind;
use crate::http::head::{HeaderId, ResponseHead, Version};
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
    /// The answer is compressed.
    encoder: Option<Box<Coding>>,
    /// The answer is held back, to be changed as a whole.
    hold: Option<Hold>,
    /// Request bytes wait for the upstream.
    up_slow: Slow,
    /// Bytes of the answer wait for the client.
    down_slow: Slow,
}

/// An encoder with what it gave out.
struct Coding {
    encoder: Encoder,
    out: Vec<u8>,
    /// It took bytes in since its last flush.
    dirty: bool,
}

enum Hold {
    /// Up to this many bytes.
    Fill(Vec<u8>, u64),
    /// Whole, to be sent.
    Send(Vec<u8>),
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
    /// `held` = the whole body is kept already.
    pub fn new<D: Downstream>(down: &D, held: bool, keep: usize) -> Self {
        let now = clock::cached();
        let upload = if down.body_done() && !held { Upload::Read } else { Upload::Open };
        Self {
            upload,
            up_fresh: true,
            down_fresh: true,
            waits_for_client: false,
            replays: held,
            replayable: true,
            keep,
            up_since: now,
            down_since: now,
            began: now,
            received: 0,
            down_ended: false,
            encoder: None,
            hold: None,
            up_slow: Slow::default(),
            down_slow: Slow::default(),
        }
    }

    /// From here on the answer's body is compressed.
    pub fn encode(&mut self, encoder: Encoder) {
        self.encoder = Some(Box::new(Coding { encoder, out: Vec::new(), dirty: false }));
    }

    /// The next [`Transfer::poll_bodies`] reads the answer's body to its end and keeps it; more than `limit` bytes are an error.
    pub fn hold(&mut self, limit: u64) {
        self.hold = Some(Hold::Fill(Vec::new(), limit));
    }

    /// The body that was held.
    pub fn held(&self) -> &[u8] {
        match &self.hold {
            Some(Hold::Fill(body, _) | Hold::Send(body)) => body,
            None => &[],
        }
    }

    /// What that takes in memory.
    pub fn held_capacity(&self) -> usize {
        match &self.hold {
            Some(Hold::Fill(body, _) | Hold::Send(body)) => body.capacity(),
            None => 0,
        }
    }

    /// The next [`Transfer::poll_bodies`] sends this as the answer's whole body.
    pub fn send_held(&mut self, body: Vec<u8>) {
        self.hold = Some(Hold::Send(body));
        self.down_fresh = true;
        self.down_ended = false;
        self.down_since = clock::cached();
    }

    /// There is no other try: what was kept of the request's body for one is freed, and no more is kept.
    pub fn keep_no_more(&mut self, x: &mut Exchange<'_>) {
        self.replayable = false;
        if !self.replays {
            x.room.free(&mut x.kit.replay);
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
        self.up_since = clock::cached();
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
        if let Poll::Ready(head) = leg.poll_head(cx, &mut x.local.scratch(), x.local.window()) {
            return Poll::Ready(head);
        }
        self.watch(cx, x, down)?;
        let first_byte = if self.upload == Upload::Open { NEVER } else { later(self.up_since, upstream.timeouts.first_byte) };
        let slow_upload = self.upload_deadline(x, down, upstream, true);
        let deadline = first_byte.min(try_deadline).min(slow_upload).min(x.deadline);
        ready!(down.timer().poll(cx, deadline));
        let now = clock::cached();
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
        let slow_upload = self.upload_deadline(x, down, upstream, false);
        ready!(down.timer().poll(cx, slow_download.min(slow_upload).min(x.deadline)));
        let now = clock::cached();
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
                Poll::Ready(Ok(())) => self.up_slow.clear(),
                Poll::Ready(Err(_)) => {
                    self.upload = Upload::Broken;
                    return Ok(());
                }
                Poll::Pending => {
                    self.up_slow.set(x.local);
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
            self.up_since = clock::cached();
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
            let end = if down.body_done() { Some(trailers(x, down, leg)) } else { None };
            self.sent(leg.push(cx, &x.kit.replay, end.as_deref()), end.is_some());
            return Ok(true);
        }
        let local = x.local;
        let mut scratch = local.scratch();
        let piece = match down.poll_body(cx, &mut scratch[..local.window()])? {
            Poll::Ready(piece) => piece,
            Poll::Pending => return Ok(false),
        };
        let payload = &scratch[piece.range()];
        self.received += piece.len as u64;
        x.notes.bytes_in = self.received;
        if x.notes.bytes_in > x.max_body {
            return Err(too_large(x.max_body));
        }
        if self.replayable && !payload.is_empty() {
            let fits = x.kit.replay.len() + payload.len() <= self.keep;
            self.replayable = fits && x.room.grow(&mut x.kit.replay, payload.len());
            if self.replayable {
                x.kit.replay.extend_from_slice(payload);
            } else {
                if fits {
                    x.room.forgo();
                }
                x.room.free(&mut x.kit.replay);
            }
        }
        let end = if piece.end { Some(trailers(x, down, leg)) } else { None };
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
        if let Some(Hold::Fill(..)) = self.hold {
            return self.fill(cx, x, leg);
        }
        for _ in 0..TURNS {
            // What is there of the body goes out with its head.
            let with_head = std::mem::take(&mut self.down_fresh);
            if !with_head {
                match down.poll_flush(cx) {
                    Poll::Ready(Ok(())) if self.down_ended => return Ok(Progress::Ended),
                    Poll::Ready(Ok(())) => self.down_slow.clear(),
                    Poll::Ready(Err(_)) => return Err(gone()),
                    Poll::Pending => {
                        self.down_slow.set(x.local);
                        return Ok(Progress::WaitsForClient);
                    }
                }
            }
            if let Some(Hold::Send(body)) = self.hold.take() {
                self.down_ended = true;
                self.pass_on(cx, x, down, &body, Some(&[]))?;
                continue;
            }
            let local = x.local;
            let mut scratch = local.scratch();
            let piece = match leg.poll_body(cx, &mut scratch, local.window())? {
                Poll::Ready(piece) => piece,
                // Nothing more for now: what an encoder keeps back must not wait for it.
                Poll::Pending if self.encoder.as_ref().is_some_and(|coding| coding.dirty) => {
                    self.pass_on(cx, x, down, &[], None)?;
                    continue;
                }
                Poll::Pending if with_head => continue,
                Poll::Pending => return Ok(Progress::WaitsForUpstream),
            };
            self.down_since = clock::cached();
            self.down_ended = piece.end;
            if piece.end && !leg.trailers().is_empty() {
                let head = x.kit.response.as_ref();
                let trailers = if leg.is_h2() && x.head().version == Version::H2 {
                    allowed_trailers(leg.trailers())
                } else {
                    passable_trailers(leg.trailers(), head.into_iter().flat_map(|head| head.get_all(HeaderId::Trailer)))
                };
                self.pass_on(cx, x, down, &scratch[piece.range()], Some(&trailers))?;
            } else {
                self.pass_on(cx, x, down, &scratch[piece.range()], piece.end.then_some(&[][..]))?;
            }
        }
        cx.waker().wake_by_ref();
        Ok(Progress::WaitsForUpstream)
    }

    /// Sends a piece of the answer's body, through the encoder where there is one. No payload and no end asks the encoder for all it has.
    fn pass_on<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        x: &mut Exchange<'_>,
        down: &mut D,
        payload: &[u8],
        end: Option<&[u8]>,
    ) -> Result<(), ProxyError> {
        let payload = match &mut self.encoder {
            None => payload,
            Some(coding) => coding
                .run(payload, end.is_some())
                .map_err(|error| ProxyError::gateway(ErrorKind::Internal, format!("compressing the answer failed: {error}")))?,
        };
        if payload.is_empty() && end.is_none() {
            return Ok(());
        }
        x.notes.bytes_out += payload.len() as u64;
        down.push(cx, payload, end).map_err(|_| gone())
    }

    /// Reads the answer's body to its end and keeps it.
    fn fill(&mut self, cx: &mut Context<'_>, x: &mut Exchange<'_>, leg: &mut Leg) -> Result<Progress, ProxyError> {
        let Some(Hold::Fill(body, limit)) = &mut self.hold else { return Ok(Progress::Ended) };
        for _ in 0..TURNS {
            let mut scratch = x.local.scratch();
            let Poll::Ready(piece) = leg.poll_body(cx, &mut scratch, x.local.window())? else { return Ok(Progress::WaitsForUpstream) };
            self.down_since = clock::cached();
            if (body.len() + piece.len) as u64 > *limit {
                let detail = format!("the answer's body is larger than the {limit} bytes that its route may hold");
                return Err(ProxyError::upstream(ErrorKind::BadUpstreamResponse, RetrySafety::Never, detail));
            }
            if !x.room.grow(body, piece.len) {
                return Err(x.room.refuse());
            }
            body.extend_from_slice(&scratch[piece.range()]);
            if piece.end {
                return Ok(Progress::Ended);
            }
        }
        cx.waker().wake_by_ref();
        Ok(Progress::WaitsForUpstream)
    }

    /// Once the body is in, only the client's going away is of interest. Before that, reading the body tells; where the upstream holds it up,
    /// nothing is read, and a stream tells it all the same.
    fn watch<D: Downstream>(&self, cx: &mut Context<'_>, x: &Exchange<'_>, down: &mut D) -> Result<(), ProxyError> {
        let asks = self.upload != Upload::Open || (!self.waits_for_client && x.head().version == Version::H2);
        if asks && down.poll_gone(cx, &mut x.local.scratch()).is_ready() {
            return Err(gone());
        }
        Ok(())
    }

    /// When the upload is too slow: no byte for too long, or too few on average.
    fn upload_deadline<D: Downstream>(&self, x: &Exchange<'_>, down: &D, upstream: &Upstream, before_answer: bool) -> u64 {
        if self.upload != Upload::Open {
            return NEVER;
        }
        if !self.waits_for_client {
            return later(self.up_since, upstream.timeouts.write);
        }
        let quiet = later(self.up_since, down.listener().timeouts.read);
        // A stream in both directions may rest as long as it likes within the limit above; an upload that is awaited may not. A gRPC call
        // is such a stream from its beginning: many servers send no head before their first message.
        if matches!(down.body(), BodyKind::Length(_)) || (before_answer && !grpc::is_grpc(x.head())) {
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

impl Coding {
    /// Takes a payload in; what comes out, which may be nothing.
    fn run(&mut self, payload: &[u8], end: bool) -> std::io::Result<&[u8]> {
        self.out.clear();
        if !payload.is_empty() {
            self.encoder.write(payload, &mut self.out)?;
        }
        if end {
            self.encoder.finish(&mut self.out)?;
        } else if payload.is_empty() {
            self.encoder.flush(&mut self.out)?;
        }
        self.dirty = !end && !payload.is_empty();
        Ok(&self.out)
    }
}

enum Progress {
    Ended,
    WaitsForClient,
    WaitsForUpstream,
}

/// Trailers of the request that may be passed on.
///
/// In HTTP/1.1 only those that were announced; from HTTP/2 to HTTP/2 they need not be (gRPC does not).
fn trailers<D: Downstream>(x: &Exchange<'_>, down: &D, leg: &Leg) -> Vec<u8> {
    if down.trailers().is_empty() {
        Vec::new()
    } else if leg.is_h2() && x.head().version == Version::H2 {
        allowed_trailers(down.trailers())
    } else {
        passable_trailers(down.trailers(), x.head().get_all(HeaderId::Trailer))
    }
}

/// 413.
pub fn too_large(limit: u64) -> ProxyError {
    ProxyError::client(ErrorKind::BodyTooLarge, format!("the request's body is larger than {limit} bytes"))
}
