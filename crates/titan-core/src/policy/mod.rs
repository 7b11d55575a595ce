//! Policies in their fixed order (requirements, section 6).
//!
//! [`compile()`] turns the configuration's policies into [`Policies`]; a route takes its [`Chain`] from there. The proxy runs
//! [`Chain::request`] once the route is known, before anything goes upstream, and [`Chain::response`] on every answer: the upstream's, a
//! policy's and Titan's own errors alike.
//!
//! Order of a request: IP lists → limits keyed by address or route → CORS → authentication → authorization → limits keyed by identity →
//! request validation → hooks → header rules. The configuration's order never matters across types: an order that could be got
//! wrong would be a hole.

mod authenticate;
mod authorize;
mod compile;
mod compile_auth;
mod concurrency;
mod cors;
mod credential;
mod cx;
mod forward_auth;
mod headers;
mod hooks;
pub mod ip;
mod limit;
mod query;
mod services;
mod step;
mod template;
#[cfg(test)]
pub(crate) mod testing;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use compile::{Policies, compile};
pub use concurrency::Permit;
pub use cx::{Permits, PolicyState, RequestCx, RequestView, ResponseCx};
pub use services::Services;
use step::Step;

use crate::hook::Returned;
use crate::http::answer::Answer;
use crate::http::head::{HeaderId, Method, RequestHead};
use crate::http::ops::HeaderOps;

/// The policies of a route.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    steps: Arc<[Step]>,
}

/// What the request side of a chain decided.
pub enum Flow {
    /// Go on to the upstream.
    Continue,
    /// Answer with this; [`Chain::response`] still runs on it.
    Answer(Answer),
    /// The step wants the request's body, up to so many bytes: read it, [keep](PolicyState::set_body) it, then [`Chain::request_from`].
    Body(usize, usize),
    /// A step waits for something outside: await the future, then call [`Chain::resume`].
    Wait(Waiting),
}

/// A step that waits.
pub struct Waiting {
    /// The step to resume.
    step: usize,
    /// Resolves by itself in bounded time (every outside call is time-boxed). Borrows nothing; dropping it cancels the wait.
    pub future: Pin<Box<dyn Future<Output = Resume>>>,
}

impl Waiting {
    /// Splits the wait, so that a connection can poll the future beside watching its client: `(token for resume, future)`.
    pub fn into_parts(self) -> (usize, Pin<Box<dyn Future<Output = Resume>>>) {
        (self.step, self.future)
    }
}

/// What a waiting step learned. Opaque: hand it back to [`Chain::resume`].
pub struct Resume(Outcome);

enum Outcome {
    /// What was waited for is there: run the step again, for the last time.
    Again,
    /// A password was verified.
    Password(crate::auth::basic::Outcome),
    /// Redis was asked for an API key.
    ApiKey(crate::auth::api_key::Lookup),
    /// Redis counted, or could not be asked.
    Limited(limit::Answered),
    /// The external service answered, or why it did not.
    Forwarded(Result<crate::auth::fetch::Reply, String>),
    Hook(Returned),
}

impl Chain {
    /// Whether there is no policy at all.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether a CORS policy is in the chain, so that a preflight ends here and not at the upstream.
    pub fn answers_preflight(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Cors(_)))
    }

    /// Runs only the rules for headers and query, which depend on nothing outside (`titan explain`).
    pub fn rules(&self, cx: &mut RequestCx<'_>) {
        for step in self.steps.iter() {
            if let Step::Headers(rules) = step {
                rules.request(cx);
            }
        }
    }

    /// Runs the request side from its beginning. Never blocks; allocates only where it answers or waits.
    pub fn request(&self, cx: &mut RequestCx<'_>) -> Flow {
        self.steps_from(0, cx)
    }

    /// Goes on at a step, after a [`Flow::Body`].
    pub fn request_from(&self, step: usize, cx: &mut RequestCx<'_>) -> Flow {
        self.steps_from(step, cx)
    }

    /// Goes on after a [`Flow::Wait`].
    pub fn resume(&self, cx: &mut RequestCx<'_>, step: usize, resume: Resume) -> Flow {
        match self.steps[step].resume(cx, resume.0) {
            Flow::Continue => self.steps_from(step + 1, cx),
            done => placed(done, step, cx),
        }
    }

    /// Runs the request side to its end: `Some` is the answer to give instead of going upstream.
    pub async fn run(&self, cx: &mut RequestCx<'_>) -> Option<Answer> {
        let mut flow = self.request(cx);
        loop {
            match flow {
                Flow::Continue => return None,
                Flow::Answer(answer) => return Some(answer),
                // Here nobody can read it.
                Flow::Body(step, _) => {
                    cx.state.set_body(bytes::Bytes::new());
                    flow = self.request_from(step, cx);
                }
                Flow::Wait(wait) => {
                    let (step, future) = wait.into_parts();
                    flow = self.resume(cx, step, future.await);
                }
            }
        }
    }

    /// Adds the response edits of every policy. Call it once for each answer that goes to the client, whoever made it.
    pub fn response(&self, cx: &ResponseCx<'_>, ops: &mut HeaderOps) {
        ops.extend(&cx.state.response_ops);
        for step in self.steps.iter() {
            step.response(cx, ops);
        }
    }

    fn steps_from(&self, from: usize, cx: &mut RequestCx<'_>) -> Flow {
        for (at, step) in self.steps.iter().enumerate().skip(from) {
            match step.request(cx) {
                Flow::Continue => {}
                done => return placed(done, at, cx),
            }
        }
        Flow::Continue
    }
}

/// A step does not know its place in the chain.
fn placed(flow: Flow, at: usize, cx: &mut RequestCx<'_>) -> Flow {
    match flow {
        Flow::Answer(_) => {
            cx.state.answered_by = Some(at);
            flow
        }
        Flow::Wait(wait) => Flow::Wait(Waiting { step: at, ..wait }),
        Flow::Body(_, limit) => Flow::Body(at, limit),
        other => other,
    }
}

fn wait(future: impl Future<Output = Outcome> + 'static) -> Flow {
    Flow::Wait(Waiting { step: 0, future: Box::pin(async { Resume(future.await) }) })
}

/// The method that a CORS preflight asks about; `None` where the request is no preflight.
///
/// The proxy matches routes with it first: when that route's chain [answers preflights](Chain::answers_preflight), the chain is run (and
/// answers); otherwise the request is matched again as the OPTIONS request that it is.
pub fn preflight_method(head: &RequestHead) -> Option<&[u8]> {
    if head.method != Method::Options {
        return None;
    }
    head.get(HeaderId::Origin)?;
    head.get(HeaderId::AccessControlRequestMethod)
}

#[cfg(test)]
mod tests;
