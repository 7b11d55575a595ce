//! Where hooks take part in an exchange beside the chain: at answers, at errors, and when all is over.

use std::future::poll_fn;
use std::sync::Arc;

use super::downstream::Downstream;
use super::exchange::{Cut, Exchange, gone, guard, out_of_time};
use super::kit::Kit;
use super::leg::Leg;
use super::local::Held;
use crate::error::{ErrorKind, ProxyError, RetrySafety};
use crate::hook::{Extra, LogFacts, Point};
use crate::http::answer::Answer;
use crate::http::head::{HeaderId, ResponseHead};
use crate::http::ops::HeaderOps;
use crate::rt::clock::later;
use crate::upstream::Upstream;

/// Runs the hooks of an answer's head. `Some` = answer with this instead.
pub(super) async fn response<D: Downstream>(
    x: &mut Exchange<'_>,
    snapshot: &Held,
    down: &mut D,
    status: u16,
) -> Result<Option<Answer>, ProxyError> {
    at(x, snapshot, down, Point::Response, status, None, None).await
}

/// Runs the hooks of an answer whose body some of them look at: reads it, asks them, and gives the whole answer.
pub(super) async fn whole_response<D: Downstream>(
    x: &mut Exchange<'_>,
    snapshot: &Held,
    down: &mut D,
    leg: &mut Leg,
    upstream: &Arc<Upstream>,
    limit: usize,
) -> Result<Answer, ProxyError> {
    let mut body = Vec::new();
    loop {
        let read = {
            let local = x.local;
            let (body, room) = (&mut body, &mut x.room);
            let next = poll_fn(|cx| {
                let mut scratch = local.scratch();
                leg.poll_body(cx, &mut scratch, local.window()).map(|piece| {
                    let piece = piece?;
                    if !room.grow(body, piece.len) {
                        return Err(room.refuse());
                    }
                    body.extend_from_slice(&scratch[piece.range()]);
                    Ok(piece.end)
                })
            });
            let deadline = later(crate::rt::clock::now(), upstream.timeouts.read).min(x.deadline);
            guard(down, local, deadline, next).await
        };
        match read {
            Ok(end) => {
                if body.len() > limit {
                    let detail = format!("the answer's body is larger than the {limit} bytes that a hook may read");
                    return Err(ProxyError::upstream(ErrorKind::BadUpstreamResponse, RetrySafety::Never, detail));
                }
                if end? {
                    break;
                }
            }
            Err(cut) => {
                let late = || {
                    ProxyError::upstream(ErrorKind::UpstreamTimeout, RetrySafety::Never, "the backend stopped in the middle of its answer")
                };
                return Err(x.cut(cut, late));
            }
        }
    }
    let head = x.kit.response.as_ref().expect("there is an answer to look at");
    let status = head.status;
    let instead = at(x, snapshot, down, Point::Response, status, None, Some(&body)).await?;
    let head = x.kit.response.as_ref().expect("hooks leave it");
    Ok(match instead {
        // A body of the hook's own says nothing of the backend's representation.
        Some(answer) => {
            let mut headers = fields(head, true);
            headers.extend(&answer.headers);
            Answer { headers, ..answer }
        }
        None => Answer { status, headers: fields(head, false), body: body.into(), stage: "" },
    })
}

/// The fields of an answer that stay with it when Titan sends its body as one piece.
fn fields(head: &ResponseHead, replaced: bool) -> HeaderOps {
    let mut ops = HeaderOps::default();
    for field in &head.fields {
        let framing = matches!(
            field.id,
            HeaderId::Connection
                | HeaderId::KeepAlive
                | HeaderId::ProxyConnection
                | HeaderId::TransferEncoding
                | HeaderId::ContentLength
                | HeaderId::Trailer
                | HeaderId::Upgrade
                | HeaderId::Date
        );
        let of_body = matches!(field.id, HeaderId::ETag | HeaderId::ContentEncoding);
        let name = field.name.of(&head.bytes).to_ascii_lowercase();
        let of_body = of_body || matches!(&*name, b"content-md5" | b"digest" | b"content-digest" | b"repr-digest" | b"accept-ranges");
        if !(framing || replaced && of_body) {
            ops.add(&name, field.value.of(&head.bytes));
        }
    }
    ops
}

/// Runs the hooks of an error that Titan is about to answer with.
pub(super) async fn error<D: Downstream>(x: &mut Exchange<'_>, down: &mut D, answer: Answer, message: &str) -> Answer {
    let snapshot = x.snapshot();
    let told = Some((answer.stage, message));
    match at(x, &snapshot, down, Point::Error, answer.status, told, None).await {
        Ok(Some(instead)) => instead,
        _ => answer,
    }
}

/// Tells hooks what became of the request.
pub(super) fn log(x: &Exchange<'_>, status: u16) {
    let chain = x.chain();
    if !chain.has_hooks(Point::Log) {
        return;
    }
    let notes = &x.notes;
    let facts = LogFacts {
        duration: x.started.elapsed(),
        first_byte: notes.first_byte,
        bytes_in: notes.bytes_in,
        bytes_out: notes.bytes_out,
        upstream: notes.upstream.as_ref().map(|upstream| &*upstream.name),
        backend: notes.backend,
        tries: notes.tries,
        stage: notes.stage,
    };
    let extra = Extra { status, response: x.kit.response.as_ref(), log: Some(facts), ..Extra::default() };
    chain.hooks_log(&x.view_of(x.taken()), &x.kit.policy, &extra);
}

async fn at<D: Downstream>(
    x: &mut Exchange<'_>,
    snapshot: &Held,
    down: &mut D,
    point: Point,
    status: u16,
    error: Option<(&'static str, &str)>,
    response_body: Option<&[u8]>,
) -> Result<Option<Answer>, ProxyError> {
    let chain = x.chain_in(snapshot);
    if !chain.has_hooks(point) {
        return Ok(None);
    }
    let mut state = std::mem::take(&mut x.kit.policy);
    let outcome = {
        let view = x.view(snapshot);
        let Kit { response, .. } = &*x.kit;
        let extra = Extra { status, response: response.as_ref(), error, response_body, ..Extra::default() };
        guard(down, x.local, x.deadline, Box::pin(chain.hooks_at(point, &view, &mut state, &extra))).await
    };
    x.kit.policy = state;
    match outcome {
        Ok(answer) => Ok(answer),
        Err(Cut::Gone) => Err(gone()),
        Err(Cut::Late) => Err(out_of_time()),
    }
}
