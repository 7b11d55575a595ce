//! One policy at its stage of the chain.

use std::sync::Arc;

use super::authenticate::Authenticate;
use super::authorize::Authorize;
use super::concurrency::Concurrency;
use super::cors::Cors;
use super::forward_auth::ForwardAuth;
use super::headers::Headers;
use super::ip::IpFilter;
use super::limit::{RateLimit, Stage};
use super::{Flow, Outcome, RequestCx, ResponseCx, hooks};
use crate::hook::Hook;
use crate::http::answer::Answer;
use crate::http::ops::HeaderOps;

/// A step. The order of the variants is the order of a request (requirements, section 6): a chain is sorted by it.
#[derive(Debug, Clone)]
pub(super) enum Step {
    IpFilter(Arc<IpFilter>),
    EarlyLimit(Arc<RateLimit>),
    Concurrency(Arc<Concurrency>),
    Cors(Arc<Cors>),
    Authenticate(Arc<Authenticate>),
    ForwardAuth(Arc<ForwardAuth>),
    Authorize(Arc<Authorize>),
    LateLimit(Arc<RateLimit>),
    Hook(Arc<Hook>),
    Headers(Arc<Headers>),
}

impl Step {
    /// Place in the order.
    pub(super) fn order(&self) -> u8 {
        match self {
            Step::IpFilter(_) => 0,
            Step::EarlyLimit(_) => 1,
            Step::Concurrency(_) => 2,
            Step::Cors(_) => 3,
            Step::Authenticate(_) => 4,
            Step::ForwardAuth(_) => 5,
            Step::Authorize(_) => 6,
            Step::LateLimit(_) => 7,
            Step::Hook(_) => 9,
            Step::Headers(p) if p.is_preset() => 10,
            Step::Headers(_) => 11,
        }
    }

    /// Type as the configuration spells it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Step::IpFilter(_) => "ip_filter",
            Step::EarlyLimit(_) | Step::LateLimit(_) => "rate_limit",
            Step::Concurrency(_) => "concurrency",
            Step::Cors(_) => "cors",
            Step::Authenticate(_) => "auth",
            Step::ForwardAuth(_) => "forward_auth",
            Step::Authorize(_) => "authorize",
            Step::Hook(_) => "hook",
            Step::Headers(_) => "headers",
        }
    }

    pub(super) fn request(&self, cx: &mut RequestCx<'_>) -> Flow {
        answer(match self {
            Step::IpFilter(p) => p.request(cx),
            Step::EarlyLimit(p) => return p.request(Stage::Early, cx),
            Step::Concurrency(p) => p.request(cx),
            Step::Cors(p) => p.request(cx),
            Step::Authenticate(p) => return p.request(cx, false),
            Step::ForwardAuth(p) => return p.request(cx),
            Step::Authorize(p) => p.request(cx),
            Step::LateLimit(p) => return p.request(Stage::Late, cx),
            Step::Hook(hook) => return hooks::request(hook, cx),
            Step::Headers(p) => {
                p.request(cx);
                None
            }
        })
    }

    /// Goes on with what a wait brought. An outcome that is not this step's can't be: it came from this step's own wait.
    pub(super) fn resume(&self, cx: &mut RequestCx<'_>, outcome: Outcome) -> Flow {
        match (self, outcome) {
            (Step::Authenticate(p), Outcome::Again) => p.request(cx, true),
            (Step::Authenticate(p), Outcome::Password(outcome)) => answer(p.password(cx, outcome)),
            (Step::EarlyLimit(p), Outcome::Limited(answered)) => answer(p.answered(Stage::Early, cx, answered)),
            (Step::LateLimit(p), Outcome::Limited(answered)) => answer(p.answered(Stage::Late, cx, answered)),
            (Step::Authenticate(p), Outcome::ApiKey(lookup)) => answer(p.api_key(cx, lookup)),
            (Step::ForwardAuth(p), Outcome::Forwarded(reply)) => answer(p.reply(cx, reply)),
            (Step::Hook(hook), Outcome::Hook(returned)) => hooks::returned(hook, returned, cx),
            (step, _) => {
                debug_assert!(false, "{} was resumed with another step's outcome", step.kind());
                let message = "The request could not be checked";
                Flow::Answer(Answer::error(500, "internal_error", message, step.kind(), cx.req.request_id, cx.req.head))
            }
        }
    }

    pub(super) fn response(&self, cx: &ResponseCx<'_>, ops: &mut HeaderOps) {
        match self {
            Step::Cors(p) => p.response(cx, ops),
            // Both stages of one policy tell the same readings: the second time nothing changes.
            Step::EarlyLimit(p) | Step::LateLimit(p) => p.response(cx, ops),
            Step::Headers(p) => p.response(cx, ops),
            Step::IpFilter(_)
            | Step::Concurrency(_)
            | Step::Authenticate(_)
            | Step::ForwardAuth(_)
            | Step::Authorize(_)
            | Step::Hook(_) => {}
        }
    }
}

fn answer(answer: Option<Answer>) -> Flow {
    answer.map_or(Flow::Continue, Flow::Answer)
}
