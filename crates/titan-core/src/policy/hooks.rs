//! The hooks of a chain at their points.

use std::sync::Arc;

use super::step::Step;
use super::{Chain, Flow, Outcome, PolicyState, RequestCx, RequestView, wait};
use crate::hook::{Extra, Hook, Point, Reply, Returned};
use crate::http::answer::Answer;
use crate::http::ops::HeaderOps;

/// Fields of a request that speak of the bytes of its body.
const OF_BODY: [&str; 5] = ["content-encoding", "content-md5", "digest", "content-digest", "repr-digest"];

/// Begins a request hook's call.
pub(super) fn request(hook: &Arc<Hook>, cx: &mut RequestCx<'_>) -> Flow {
    if hook.response_body() > 0 && hook.wants(Point::Response, &cx.req) {
        // A hook reads text, not what a coding made of it.
        cx.request_ops.set("accept-encoding", "identity");
    }
    if !hook.wants(Point::Request, &cx.req) {
        return Flow::Continue;
    }
    if hook.request_body() > 0 && cx.state.hooked.body.as_ref().is_none_or(|body| body.len() > hook.request_body()) {
        // Not read yet, or within the larger limit of an earlier hook only. The chain puts the step in.
        return Flow::Body(0, hook.request_body());
    }
    cx.state.hooked.entered = true;
    let extra = Extra { request_body: cx.state.hooked.body.as_deref(), ..Extra::default() };
    match hook.call(Point::Request, &cx.req, cx.state.identity.as_deref(), cx.state.hooked.context.as_ref(), &extra) {
        Ok(called) => wait(async move { Outcome::Hook(called.wait().await) }),
        Err(fault) => hook.failed(fault, cx.req.request_id, cx.req.head).map_or(Flow::Continue, Flow::Answer),
    }
}

/// Goes on with what a request hook said.
pub(super) fn returned(hook: &Hook, returned: Returned, cx: &mut RequestCx<'_>) -> Flow {
    // A reply that breaks a rule must leave nothing behind.
    let (mut request_ops, mut response_ops) = (HeaderOps::default(), HeaderOps::default());
    match hook.read(returned, &mut request_ops, &mut response_ops, &mut cx.state.hooked.context) {
        Ok(Reply { answer: Some((status, body)), .. }) => Flow::Answer(Answer { status, headers: response_ops, body, stage: "hook" }),
        Ok(Reply { rewrite, body, .. }) => {
            if let Some(body) = body {
                // What described the old body does not describe this one; the hook's own edits come after.
                for name in OF_BODY {
                    cx.request_ops.remove(name);
                }
                cx.state.hooked.body = Some(body);
                cx.state.hooked.replaced = true;
            }
            cx.request_ops.extend(&request_ops);
            cx.state.response_ops.extend(&response_ops);
            let known = cx.state.hooked.rewrite.take().unwrap_or_default();
            let merged = crate::hook::Rewrite {
                path: rewrite.path.or(known.path),
                query: rewrite.query.or(known.query),
                upstream: rewrite.upstream.or(known.upstream),
                backend: rewrite.backend.or(known.backend),
            };
            if merged != crate::hook::Rewrite::default() {
                cx.state.hooked.rewrite = Some(Box::new(merged));
            }
            Flow::Continue
        }
        Err(fault) => hook.failed(fault, cx.req.request_id, cx.req.head).map_or(Flow::Continue, Flow::Answer),
    }
}

impl Chain {
    /// Whether a hook is called at a point for any request. Costs nothing to ask.
    pub fn has_hooks(&self, point: Point) -> bool {
        self.hook_list().any(|hook| hook.has(point))
    }

    /// Bytes of the answer's body that hooks want to see; 0 = none.
    pub fn hook_response_body(&self, req: &RequestView<'_>) -> usize {
        self.hook_list().filter(|hook| hook.wants(Point::Response, req)).map(|hook| hook.response_body()).max().unwrap_or(0)
    }

    /// Runs the hooks of [`Point::Response`] or [`Point::Error`] one after another; `Some` is the answer to give instead. Their edits
    /// of the answer's head are kept for [`Chain::response`].
    pub async fn hooks_at(&self, point: Point, req: &RequestView<'_>, state: &mut PolicyState, extra: &Extra<'_>) -> Option<Answer> {
        for hook in self.hook_list().filter(|hook| hook.wants(point, req)) {
            state.hooked.entered = true;
            let called = match hook.call(point, req, state.identity.as_deref(), state.hooked.context.as_ref(), extra) {
                Ok(called) => Ok(called.wait().await),
                Err(fault) => Err(fault),
            };
            let (mut ignored, mut ops) = (HeaderOps::default(), HeaderOps::default());
            let reply = called.and_then(|returned| hook.read(returned, &mut ignored, &mut ops, &mut state.hooked.context));
            match reply {
                Ok(Reply { answer: Some((status, body)), .. }) => return Some(Answer { status, headers: ops, body, stage: "hook" }),
                Ok(_) => state.response_ops.extend(&ops),
                // An error that a hook could not dress up is told as it is.
                Err(_) if point == Point::Error => {}
                Err(fault) => {
                    if let Some(answer) = hook.failed(fault, req.request_id, req.head) {
                        return Some(answer);
                    }
                }
            }
        }
        None
    }

    /// Tells the hooks of [`Point::Log`] what became of a request.
    pub fn hooks_log(&self, req: &RequestView<'_>, state: &PolicyState, extra: &Extra<'_>) {
        for hook in self.hook_list().filter(|hook| hook.wants(Point::Log, req)) {
            hook.tell(Point::Log, req, state.identity.as_deref(), state.hooked.context.as_ref(), extra);
        }
    }

    /// The hook at a place of the order in which an explanation has the policies.
    pub fn hook_at(&self, place: usize) -> Option<&Hook> {
        self.steps.get(place).and_then(|step| if let Step::Hook(hook) = step { Some(&**hook) } else { None })
    }

    fn hook_list(&self) -> impl Iterator<Item = &Arc<Hook>> {
        self.steps.iter().filter_map(|step| if let Step::Hook(hook) = step { Some(hook) } else { None })
    }
}

impl PolicyState {
    /// Keeps the request's body for hooks that read it.
    pub fn set_body(&mut self, body: bytes::Bytes) {
        self.hooked.body = Some(body);
    }

    /// The body that a hook has put in the place of the request's since this was asked last.
    pub fn take_replaced_body(&mut self) -> Option<bytes::Bytes> {
        std::mem::take(&mut self.hooked.replaced).then(|| self.hooked.body.clone().unwrap_or_default())
    }
}
