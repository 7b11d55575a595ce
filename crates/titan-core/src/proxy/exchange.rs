//! The state of one request, from its head to the last byte of its answer.

use std::borrow::Cow;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::buffers::Room;
use super::downstream::{Downstream, Reply};
use super::kit::Kit;
use super::local::{Held, Local};
use crate::error::{ErrorKind, ProxyError};
use crate::http::answer::Answer;
use crate::http::client::ClientInfo;
use crate::http::forward::RequestIds;
use crate::http::head::{RequestHead, Span};
use crate::http::path;
use crate::metrics::access_log::AccessLog;
use crate::policy::{Chain, Flow, RequestCx, RequestView, ResponseCx};
use crate::route::{Params, Route};
use crate::rt::clock::{self, NEVER};
use crate::upstream::Upstream;

/// One request.
pub struct Exchange<'l> {
    /// The shard.
    pub local: &'l Local,
    under: Under,
    /// Heads and edits.
    pub kit: Box<Kit>,
    /// The client, as seen through trusted proxies.
    pub client: ClientInfo,
    /// Request id and trace.
    pub ids: RequestIds,
    /// Index of the route; `None` where none matched.
    pub route: Option<usize>,
    /// Its parameters.
    pub params: Params,
    /// Value of `Allow`, where only the method is wrong.
    pub allow: Option<String>,
    /// First byte of the head.
    pub started: Instant,
    /// When the whole request is out of time.
    pub deadline: u64,
    /// Bytes of a request body that are let through.
    pub max_body: u64,
    /// The request's whole body is in the kit's replay buffer, as it is to be sent.
    pub held: bool,
    /// Room for the bodies that it holds.
    pub room: Room<'l>,
    /// An answer's head was queued: an error can only cut now.
    pub answered: bool,
    /// For metrics and the access log.
    pub notes: Notes,
    path: MatchPath,
}

/// What a request is served under.
enum Under {
    /// A whole configuration, which stays in memory for it.
    Snapshot(Rc<Held>),
    /// What the end of a streamed answer needs of it.
    Route { route: Arc<Route>, log: Option<Arc<AccessLog>> },
}

/// What metrics and the access log want to know.
#[derive(Default)]
pub struct Notes {
    /// Status sent; 0 = none yet.
    pub status: u16,
    /// Stage of an answer of Titan's own, or of an error after the head.
    pub stage: Option<&'static str>,
    /// What went wrong there, for the log alone.
    pub detail: Option<Cow<'static, str>>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// Where the request went.
    pub upstream: Option<Arc<Upstream>>,
    /// Backend of the last try.
    pub backend: Option<SocketAddr>,
    /// Time of a new connection.
    pub connect: Option<Duration>,
    /// Request sent to head received.
    pub first_byte: Option<Duration>,
    /// Tries.
    pub tries: u32,
}

/// The normalised path without a copy where it is a part of the head.
#[derive(Debug, Clone, Copy)]
enum MatchPath {
    Unknown,
    InHead(Span),
    InKit,
}

impl MatchPath {
    fn of<'a>(self, head: &'a RequestHead, own: &'a [u8]) -> &'a [u8] {
        match self {
            MatchPath::Unknown => &[],
            MatchPath::InHead(span) => span.of(&head.bytes),
            MatchPath::InKit => own,
        }
    }
}

/// Why a wait ended without its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The client went away.
    Gone,
    /// The deadline came.
    Late,
}

impl<'l> Exchange<'l> {
    /// Begins with a head in `kit`.
    pub fn begin<D: Downstream>(local: &'l Local, down: &D, mut kit: Box<Kit>, started: Instant) -> Self {
        let snapshot = local.snapshot();
        let mut client = down.client().clone();
        let head = kit.request.as_ref().expect("an exchange begins with a head");
        snapshot.forwarding.identify(head, &mut client);
        let ids = snapshot.forwarding.ids(head, &client, &mut local.ids.borrow_mut());
        if let (Some(name), Some(id)) = (&snapshot.forwarding.correlation_id, &ids.correlation_id) {
            kit.request_ops.set(name.as_bytes(), id);
        }
        Self {
            local,
            under: Under::Snapshot(snapshot),
            kit,
            client,
            ids,
            route: None,
            params: Params::default(),
            allow: None,
            started,
            deadline: NEVER,
            max_body: down.listener().max_body,
            held: false,
            room: local.process.buffers.room(),
            answered: false,
            notes: Notes::default(),
            path: MatchPath::Unknown,
        }
    }

    /// The request's head.
    pub fn head(&self) -> &RequestHead {
        self.kit.request.as_ref().expect("an exchange has a head to its end")
    }

    /// The match path; empty where the path was refused.
    pub fn path(&self) -> &[u8] {
        self.path.of(self.head(), &self.kit.path)
    }

    /// Normalises the path, once, before anything looks at it.
    pub fn normalise(&mut self) -> Result<(), ProxyError> {
        let head = self.kit.request.as_ref().expect("an exchange has a head to its end");
        let path = path::normalise(head.raw_path())?;
        self.path = match path.0 {
            std::borrow::Cow::Borrowed(part) => {
                let start = part.as_ptr() as usize - head.bytes.as_ptr() as usize;
                MatchPath::InHead(Span { start: start as u32, end: (start + part.len()) as u32 })
            }
            std::borrow::Cow::Owned(path) => {
                self.kit.path = path;
                MatchPath::InKit
            }
        };
        Ok(())
    }

    /// What it is served under; the current configuration where its own was given up.
    pub fn snapshot(&self) -> Rc<Held> {
        match &self.under {
            Under::Snapshot(snapshot) => snapshot.clone(),
            Under::Route { .. } => self.local.snapshot(),
        }
    }

    /// Gives the configuration up, once the answer's head has been written: its body may be a stream that lives through many reloads, and
    /// must not keep each of them in memory. Does nothing the second time, and nothing for a request without a route.
    pub fn give_up_snapshot(&mut self) {
        if let (Under::Snapshot(snapshot), Some(index)) = (&self.under, self.route) {
            self.under = Under::Route { route: snapshot.routes[index].clone(), log: snapshot.access_log.clone() };
        }
    }

    /// The route that was taken.
    pub fn taken(&self) -> Option<&Route> {
        match &self.under {
            Under::Snapshot(snapshot) => self.route_in(snapshot),
            Under::Route { route, .. } => Some(route),
        }
    }

    /// The chain of policies that was taken.
    pub fn chain(&self) -> &Chain {
        match &self.under {
            Under::Snapshot(snapshot) => self.chain_in(snapshot),
            Under::Route { route, .. } => &route.chain,
        }
    }

    /// Where its line of the access log goes.
    pub fn access_log(&self) -> Option<&AccessLog> {
        match &self.under {
            Under::Snapshot(snapshot) => snapshot.access_log.as_deref(),
            Under::Route { log, .. } => log.as_deref(),
        }
    }

    /// The route under `snapshot`, which is this exchange's.
    pub fn route_in<'s>(&self, snapshot: &'s Held) -> Option<&'s Route> {
        self.route.map(|index| &*snapshot.routes[index])
    }

    /// The chain of the route, or the one for requests that no route takes.
    pub fn chain_in<'s>(&self, snapshot: &'s Held) -> &'s Chain {
        self.route_in(snapshot).map_or(&snapshot.fallback, |route| &route.chain)
    }

    /// What policies see of the request.
    pub fn view<'s>(&'s self, snapshot: &'s Held) -> RequestView<'s> {
        self.view_of(self.route_in(snapshot))
    }

    /// As [`Exchange::view`], given its route.
    pub fn view_of<'s>(&'s self, route: Option<&'s Route>) -> RequestView<'s> {
        let head = self.head();
        RequestView {
            head,
            path: self.path(),
            query: head.raw_query(),
            client: &self.client,
            route: route.map_or("", |route| &route.name),
            route_index: self.route.map_or(u32::MAX, |index| index as u32),
            param_names: route.map_or(&[], |route| &route.param_names),
            param_spans: &self.params.spans,
            request_id: &self.ids.request_id,
        }
    }

    /// Collects the response edits of policies for an answer of this status. Called once an answer.
    pub fn edit_response(&mut self, status: u16) {
        let snapshot = self.snapshot();
        if let (Some(name), Some(id)) = (&snapshot.forwarding.correlation_id, &self.ids.correlation_id) {
            self.kit.response_ops.set(name.as_bytes(), id);
        }
        if snapshot.forwarding.server_timing {
            let (all, backend) = (self.started.elapsed(), self.notes.first_byte);
            self.kit.response_ops.add_with("server-timing", |out| timing(all, backend, out));
        }
        let chain = self.chain_in(&snapshot);
        if chain.is_empty() {
            return;
        }
        let mut ops = std::mem::take(&mut self.kit.response_ops);
        let req = self.view(&snapshot);
        chain.response(&ResponseCx { req, status, upstream: self.kit.response.as_ref(), state: &self.kit.policy }, &mut ops);
        self.kit.response_ops = ops;
    }

    /// What an encoder of an answer needs.
    pub fn reply(&self) -> Reply<'_> {
        let Under::Snapshot(snapshot) = &self.under else { unreachable!("heads are written before the snapshot is given up") };
        Reply { ops: &self.kit.response_ops, forwarding: &snapshot.forwarding, ids: Some(&self.ids) }
    }

    /// Runs the request side of the chain: `Some` is the answer to give instead of going on.
    pub async fn admit<D: Downstream>(&mut self, snapshot: &Held, down: &mut D) -> Result<Option<Answer>, ProxyError> {
        let chain = self.chain_in(snapshot);
        if chain.is_empty() {
            return Ok(None);
        }
        let mut at = None;
        loop {
            // Edits and state are taken out, so that the body can be read in between.
            let mut request_ops = std::mem::take(&mut self.kit.request_ops);
            let mut state = std::mem::take(&mut self.kit.policy);
            let admitted = {
                let mut cx = RequestCx { req: self.view(snapshot), request_ops: &mut request_ops, state: &mut state };
                let flow = match at {
                    None => chain.request(&mut cx),
                    Some(step) => chain.request_from(step, &mut cx),
                };
                settle(chain, flow, &mut cx, down, self.local, self.deadline).await
            };
            (self.kit.request_ops, self.kit.policy) = (request_ops, state);
            if let Some(body) = self.kit.policy.take_replaced_body() {
                self.kit.replay.clear();
                // Held twice: for the hooks to come, and to be sent.
                if !(self.room.take(body.len() as u64) && self.room.grow(&mut self.kit.replay, body.len())) {
                    return Err(self.room.refuse());
                }
                self.kit.replay.extend_from_slice(&body);
                self.held = true;
            }
            match admitted? {
                Admitted::Continue => return Ok(None),
                Admitted::Answer(answer) => return Ok(Some(answer)),
                Admitted::Body(step, limit) => {
                    Box::pin(super::stored::hold_request(self, down, limit as u64)).await?;
                    // One that was read already, within the larger limit of an earlier hook.
                    if self.kit.replay.len() > limit {
                        return Err(super::relay::too_large(limit as u64));
                    }
                    if !self.room.take(self.kit.replay.len() as u64) {
                        return Err(self.room.refuse());
                    }
                    let body = Bytes::copy_from_slice(&self.kit.replay);
                    self.kit.policy.set_body(body);
                    at = Some(step);
                }
            }
        }
    }

    /// The error of a wait that was cut, where running out of time means `late`.
    pub fn cut(&self, cut: Cut, late: impl FnOnce() -> ProxyError) -> ProxyError {
        match cut {
            Cut::Gone => gone(),
            Cut::Late if self.deadline <= clock::cached() => out_of_time(),
            Cut::Late => late(),
        }
    }
}

/// Value of `Server-Timing`, in milliseconds: up to the answer's head, and how much of it the backend took.
fn timing(all: Duration, backend: Option<Duration>, out: &mut Vec<u8>) {
    use std::io::Write;
    let _ = write!(out, "total;dur={:.3}", all.as_secs_f64() * 1e3);
    if let Some(backend) = backend {
        let _ = write!(out, ", backend;dur={:.3}", backend.as_secs_f64() * 1e3);
    }
}

/// What the request side of a chain came to.
enum Admitted {
    Continue,
    Answer(Answer),
    /// The step wants the request's body, up to so many bytes.
    Body(usize, usize),
}

/// Waits for what the steps of a chain wait for.
async fn settle<D: Downstream>(
    chain: &Chain,
    mut flow: Flow,
    cx: &mut RequestCx<'_>,
    down: &mut D,
    local: &Local,
    deadline: u64,
) -> Result<Admitted, ProxyError> {
    loop {
        match flow {
            Flow::Continue => return Ok(Admitted::Continue),
            Flow::Answer(answer) => return Ok(Admitted::Answer(answer)),
            Flow::Body(step, limit) => return Ok(Admitted::Body(step, limit)),
            Flow::Wait(wait) => {
                let (step, future) = wait.into_parts();
                let learned = match guard(down, local, deadline, future).await {
                    Ok(learned) => learned,
                    Err(Cut::Gone) => return Err(gone()),
                    Err(Cut::Late) => return Err(out_of_time()),
                };
                flow = chain.resume(cx, step, learned);
            }
        }
    }
}

/// The client went away.
pub fn gone() -> ProxyError {
    ProxyError::client(ErrorKind::ClientGone, "the client closed its connection")
}

/// The route's time is over.
pub fn out_of_time() -> ProxyError {
    ProxyError::gateway(ErrorKind::UpstreamTimeout, "the request took longer than its route allows")
}

/// Awaits `future` while the client is watched and until `deadline`.
pub async fn guard<D: Downstream, F: Future>(down: &mut D, local: &Local, deadline: u64, future: F) -> Result<F::Output, Cut> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        if down.poll_gone(cx, &mut local.scratch()).is_ready() {
            return Poll::Ready(Err(Cut::Gone));
        }
        down.timer().poll(cx, deadline).map(|()| Err(Cut::Late))
    })
    .await
}
