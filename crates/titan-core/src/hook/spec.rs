//! A compiled hook.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Point;
use super::call::{self, Extra, Subject};
use super::channel::{Channel, Lease};
use super::context::Context;
use super::desk::{self, Call};
use super::reads::Read;
use super::reply::{self, Reply};
use crate::auth::Identity;
use crate::config::{Issue, raw};
use crate::http::answer::Answer;
use crate::http::head::RequestHead;
use crate::http::ops::HeaderOps;
use crate::metrics::{self, HookOutcome, Id};
use crate::policy::RequestView;

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The function threw, or its promise was rejected.
    Threw,
    /// Its deadline came first.
    Late,
    /// Too many calls were under way.
    Busy,
    /// There is no thread that has it (any more).
    Gone,
    /// Its reply broke a rule.
    Invalid,
}

/// A hook on a route.
#[derive(Debug)]
pub struct Hook {
    name: Box<str>,
    number: u16,
    channels: Vec<Lease>,
    points: u8,
    reads: Vec<Read>,
    methods: Vec<Box<[u8]>>,
    paths: Vec<(Box<[u8]>, bool)>,
    headers: Vec<Box<[u8]>>,
    deadline: Duration,
    fail_open: bool,
    concurrency: u32,
    request_body: usize,
    response_body: usize,
    in_flight: Arc<AtomicU32>,
    metric: Id,
}

/// A place in flight, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<AtomicU32>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hook {
    /// Compiles a hook; issues are placed under `name`.
    pub fn compile(name: &str, raw: &raw::Hook, issues: &mut Vec<Issue>) -> Self {
        let mut reads = Vec::with_capacity(raw.reads.len());
        for (index, read) in raw.reads.iter().enumerate() {
            match Read::parse(read) {
                Some(read) => reads.push(read),
                None => issues.push(Issue::new(format!("{name}.reads[{index}]"), format!("{read:?} is nothing that a hook can read"))),
            }
        }
        if raw.points.is_empty() {
            issues.push(Issue::new(format!("{name}.points"), "a hook needs a point at which it is called"));
        }
        let mut channels = Vec::with_capacity(raw.channels.len());
        for id in &raw.channels {
            match Channel::find(*id) {
                Some(channel) => channels.push(Lease::of(channel)),
                None => issues.push(Issue::new(format!("{name}.channels"), format!("the thread with channel {id} has ended"))),
            }
        }
        let point = |point: &raw::HookPoint| match point {
            raw::HookPoint::Request => Point::Request.bit(),
            raw::HookPoint::Response => Point::Response.bit(),
            raw::HookPoint::Error => Point::Error.bit(),
            raw::HookPoint::Log => Point::Log.bit(),
        };
        let path = |path: &String| match path.strip_suffix('*') {
            Some(prefix) => (prefix.as_bytes().into(), true),
            None => (path.as_bytes().into(), false),
        };
        Self {
            name: name.into(),
            number: raw.hook,
            channels,
            points: raw.points.iter().map(point).fold(0, |all, one| all | one),
            reads,
            methods: raw.methods.iter().map(|method| method.as_bytes().into()).collect(),
            paths: raw.paths.iter().map(path).collect(),
            headers: raw.headers.iter().map(|header| header.as_bytes().into()).collect(),
            deadline: Duration::from_millis(raw.deadline_ms.max(1)),
            fail_open: raw.fail == raw::HookFail::Open,
            concurrency: raw.concurrency.max(1),
            request_body: raw.request_body,
            response_body: raw.response_body,
            in_flight: Arc::default(),
            metric: metrics::hook(name),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of the request's body that are read before the call; 0 = it is passed through.
    pub fn request_body(&self) -> usize {
        self.request_body
    }

    /// Bytes of the answer's body that are read before the call; 0 = it is passed through.
    pub fn response_body(&self) -> usize {
        self.response_body
    }

    /// Whether it is called at a point at all.
    pub fn has(&self, point: Point) -> bool {
        self.points & point.bit() != 0
    }

    /// Whether it is called at a point of this request.
    pub fn wants(&self, point: Point, req: &RequestView<'_>) -> bool {
        self.has(point) && self.applies(req.head, req.path)
    }

    /// Whether its conditions hold for a request with this head and match path.
    pub fn applies(&self, head: &RequestHead, path: &[u8]) -> bool {
        (self.methods.is_empty() || self.methods.iter().any(|method| **method == *head.method_bytes()))
            && (self.paths.is_empty()
                || self.paths.iter().any(|(own, prefix)| if *prefix { path.starts_with(own) } else { **own == *path }))
            && self.headers.iter().all(|name| head.get_name(name).is_some())
    }

    /// Calls it. The future borrows nothing.
    pub fn call(
        &self,
        point: Point,
        req: &RequestView<'_>,
        identity: Option<&Identity>,
        context: Option<&Context>,
        extra: &Extra<'_>,
    ) -> Result<Called, Fault> {
        let channel = self.channel(context).ok_or(Fault::Gone).inspect_err(|_| self.count(HookOutcome::Gone, Duration::ZERO))?;
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= self.concurrency {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            self.count(HookOutcome::Busy, Duration::ZERO);
            return Err(Fault::Busy);
        }
        let permit = Permit(Arc::clone(&self.in_flight));
        let subject = Subject { hook: self.number, point, context: context.map_or(0, |context| context.id), reads: &self.reads };
        let call = Call::send(channel, self.deadline, permit, |token, out| call::write(&subject, Some(token), req, identity, extra, out));
        Ok(Called { call, began: Instant::now(), channel: Arc::clone(channel) })
    }

    /// Calls it without waiting for an answer.
    pub fn tell(&self, point: Point, req: &RequestView<'_>, identity: Option<&Identity>, context: Option<&Context>, extra: &Extra<'_>) {
        let Some(channel) = self.channel(context).filter(|channel| channel.has_room()) else {
            return self.count(HookOutcome::Gone, Duration::ZERO);
        };
        let subject = Subject { hook: self.number, point, context: context.map_or(0, |context| context.id), reads: &self.reads };
        desk::post(channel, |out| call::write(&subject, None, req, identity, extra, out));
        self.count(HookOutcome::Told, Duration::ZERO);
    }

    /// What a reply says. Header edits are put where they belong; the attached object replaces the one before.
    pub fn read(
        &self,
        called: Returned,
        request_ops: &mut HeaderOps,
        response_ops: &mut HeaderOps,
        context: &mut Option<Context>,
    ) -> Result<Reply, Fault> {
        let reply = called.reply.and_then(|record| {
            // Only who reads a body may replace it, and by none that is larger than it may read.
            let fits = |reply: &Reply| reply.body.as_ref().is_none_or(|body| self.request_body > 0 && body.len() <= self.request_body);
            let read = reply::read(&record, request_ops, response_ops);
            let read = read.and_then(|reply| if fits(&reply) { Ok(reply) } else { Err(Fault::Invalid) });
            if read.is_err() {
                reply::discard(&record, &called.channel);
            }
            read
        });
        let outcome = match &reply {
            Ok(Reply { answer: Some(_), .. }) => HookOutcome::Answered,
            Ok(_) => HookOutcome::WentOn,
            Err(Fault::Late) => HookOutcome::Late,
            Err(Fault::Busy) => HookOutcome::Busy,
            Err(Fault::Gone) => HookOutcome::Gone,
            Err(Fault::Threw | Fault::Invalid) => HookOutcome::Failed,
        };
        self.count(outcome, called.took);
        let reply = reply?;
        if reply.context != 0 && context.as_ref().is_none_or(|known| known.id != reply.context) {
            *context = Some(Context { channel: called.channel, id: reply.context });
        }
        Ok(reply)
    }

    /// What a failed call means for the request: nothing, or this answer.
    pub fn failed(&self, fault: Fault, request_id: &[u8], head: &RequestHead) -> Option<Answer> {
        (!self.fail_open).then(|| failure(fault, request_id, head))
    }

    /// The thread that has the request's attached object, else any.
    fn channel(&self, context: Option<&Context>) -> Option<&Arc<Channel>> {
        let mut open = self.channels.iter().map(Lease::channel).filter(|channel| channel.is_open());
        match context {
            Some(context) => open.find(|channel| Arc::ptr_eq(channel, &context.channel)),
            None if self.channels.len() < 2 => open.next(),
            None => {
                // Threads in turn; a thread that is stuck only where all are.
                let start = self.in_flight.load(Ordering::Relaxed) as usize % self.channels.len();
                let turn = || (0..self.channels.len()).map(move |n| self.channels[(start + n) % self.channels.len()].channel());
                turn().find(|c| c.is_open() && c.stalled() < 100).or_else(|| turn().find(|c| c.is_open()))
            }
        }
    }

    fn count(&self, outcome: HookOutcome, took: Duration) {
        metrics::with(|shard| shard.hook(self.metric, outcome, took));
    }
}

/// A call under way.
pub struct Called {
    call: Call,
    began: Instant,
    channel: Arc<Channel>,
}

impl Called {
    /// Waits for the reply; bounded by the hook's deadline.
    pub async fn wait(self) -> Returned {
        let reply = self.call.await;
        Returned { reply, took: self.began.elapsed(), channel: self.channel }
    }
}

/// A call that has returned, one way or the other.
#[derive(Debug)]
pub struct Returned {
    reply: Result<Bytes, Fault>,
    took: Duration,
    channel: Arc<Channel>,
}

/// The answer of a request whose hook failed.
pub fn failure(fault: Fault, request_id: &[u8], head: &RequestHead) -> Answer {
    let (status, error, message) = match fault {
        Fault::Late => (504, "hook_timeout", "A hook of this route took too long"),
        Fault::Busy => (503, "hook_overloaded", "Too many requests wait for a hook of this route"),
        Fault::Gone => (503, "hook_unavailable", "The hooks of this route are not available"),
        Fault::Threw | Fault::Invalid => (500, "hook_failed", "A hook of this route failed"),
    };
    let mut answer = Answer::error(status, error, message, "hook", request_id, head);
    if status == 503 {
        answer.headers.set("retry-after", "1");
    }
    answer
}
