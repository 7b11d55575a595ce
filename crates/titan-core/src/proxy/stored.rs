//! Bodies that must be whole before they go on: held within a limit, changed, and sent with their new length.

use std::future::poll_fn;
use std::task::{Poll, ready};

use super::downstream::{Downstream, Reply};
use super::exchange::{Exchange, gone, out_of_time};
use super::leg::Leg;
use super::relay::{Transfer, too_large};
use crate::body::BodyPlan;
use crate::body::compress::{Compression, Decision};
use crate::body::decoder::{Undecodable, decode};
use crate::body::json::JsonPolicy;
use crate::error::{ErrorKind, ProxyError, RetrySafety};
use crate::http::answer::Answer;
use crate::http::h1::framing::BodyKind;
use crate::http::h1::parse;
use crate::http::head::{HeaderId, Method, ResponseHead};
use crate::http::ops::{HeaderOp, HeaderOps};
use crate::rt::clock::{self, later};
use crate::upstream::Upstream;

/// The request's side of a plan: changes a JSON body, and asks the upstream for answers that the rules can read.
pub async fn change_request<D: Downstream>(x: &mut Exchange<'_>, down: &mut D, plan: &BodyPlan) -> Result<(), ProxyError> {
    let Some(json) = &plan.json else { return Ok(()) };
    if !json.response.is_empty() {
        x.kit.request_ops.set("accept-encoding", "identity");
        x.kit.request_ops.remove("range");
        x.kit.request_ops.remove("if-range");
    }
    if down.body() == BodyKind::None || !json.takes_request(x.head()) {
        return Ok(());
    }
    hold_request(x, down, json.max_body).await?;
    let codings = codings(x.head().get_all(HeaderId::ContentEncoding), &x.kit.request_ops);
    let decoded = match codings.as_deref().map(|coding| decode(coding, &x.kit.replay, json.max_body)).transpose() {
        Ok(decoded) => decoded,
        Err(Undecodable::TooLarge) => return Err(too_large(json.max_body)),
        Err(Undecodable::Broken) => {
            let detail = "the request's body is not of the coding that its Content-Encoding names";
            return Err(ProxyError::client(ErrorKind::BadRequest, detail));
        }
        Err(Undecodable::Coding) => {
            let detail = "the request's body must be read here, and its Content-Encoding is none of gzip, deflate, br and zstd";
            return Err(ProxyError::client(ErrorKind::UnsupportedCoding, detail));
        }
    };
    if decoded.is_some() {
        x.kit.request_ops.remove("content-encoding");
    }
    let changed = json
        .request
        .apply(decoded.as_deref().unwrap_or(&x.kit.replay))
        .map_err(|error| ProxyError::client(ErrorKind::BadRequest, format!("the request's body is no JSON document: {}", place(&error))))?;
    x.room.settle(x.kit.replay.capacity(), changed.capacity());
    x.kit.replay = changed;
    x.kit.request_ops.remove("content-digest");
    Ok(())
}

/// Reads the request's body whole into the kit, from where every try sends it. Does nothing the second time, or where there is none.
pub async fn hold_request<D: Downstream>(x: &mut Exchange<'_>, down: &mut D, limit: u64) -> Result<(), ProxyError> {
    let limit = limit.min(x.max_body);
    if x.held || down.body() == BodyKind::None {
        return Ok(());
    }
    if matches!(down.body(), BodyKind::Length(length) if length > limit) {
        return Err(too_large(limit));
    }
    // Who waits for a go-ahead gets it from here: the upstream is asked only when the body is there.
    if !down.body_done() && x.head().facts.has(HeaderId::Expect) {
        let go_ahead = parse::response_from(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        let none = HeaderOps::default();
        down.interim(&go_ahead, &Reply { ops: &none, ..x.reply() });
    }
    let mut quiet = later(clock::now(), down.listener().timeouts.read);
    poll_fn(|cx| {
        while !down.body_done() {
            // What is queued (100 Continue) must get out before the client sends anything.
            if let Poll::Ready(Err(_)) = down.poll_flush(cx) {
                return Poll::Ready(Err(gone()));
            }
            let local = x.local;
            let mut scratch = local.scratch();
            match down.poll_body(cx, &mut scratch)? {
                Poll::Ready(piece) => {
                    if !x.room.grow(&mut x.kit.replay, piece.len) {
                        return Poll::Ready(Err(x.room.refuse()));
                    }
                    x.kit.replay.extend_from_slice(&scratch[piece.range()]);
                    x.notes.bytes_in = x.kit.replay.len() as u64;
                    if x.notes.bytes_in > limit {
                        return Poll::Ready(Err(too_large(limit)));
                    }
                    quiet = later(clock::now(), down.listener().timeouts.read);
                }
                Poll::Pending => {
                    ready!(down.timer().poll(cx, quiet.min(x.deadline)));
                    return Poll::Ready(Err(if x.deadline <= clock::now() {
                        out_of_time()
                    } else {
                        ProxyError::client(ErrorKind::ClientTimeout, "the request's body came too slowly")
                    }));
                }
            }
        }
        Poll::Ready(Ok(()))
    })
    .await?;
    x.held = true;
    Ok(())
}

/// The answer's side of a plan: changes a JSON body and decides on compression. Returns the framing of what will be sent.
pub async fn change_answer<D: Downstream>(
    x: &mut Exchange<'_>,
    down: &mut D,
    plan: &BodyPlan,
    leg: &mut Leg,
    transfer: &mut Transfer,
    upstream: &Upstream,
    body: BodyKind,
) -> Result<BodyKind, ProxyError> {
    if matches!(body, BodyKind::None | BodyKind::Tunnel) {
        decide(x, plan, body);
        return Ok(body);
    }
    let mut body = body;
    if let Some(json) = &plan.json
        && x.kit.response.as_ref().is_some_and(|head| json.takes_response(x.head(), head))
    {
        body = change_json(x, down, json, leg, transfer, upstream).await?;
    }
    let length = if let BodyKind::Length(n) = body { Some(n) } else { None };
    let Decision::Compress(coding) = decide(x, plan, body) else { return Ok(body) };
    let encoder = plan.compression.as_ref().expect("it decided").encoder(coding, length);
    let encoder = encoder.map_err(|error| ProxyError::gateway(ErrorKind::Internal, format!("compression could not begin: {error}")))?;
    transfer.encode(encoder);
    Ok(BodyKind::Chunked)
}

/// Compresses an answer of Titan's own (a fixed one, a hook's, a large error) where its route compresses. What policies add to the head
/// counts: a cookie of theirs forbids it, too.
pub fn compress_own(x: &mut Exchange<'_>, mut answer: Answer) -> Answer {
    let snapshot = x.snapshot();
    let Some(compression) = x.route_in(&snapshot).and_then(|route| route.bodies.compression.as_ref()) else { return answer };
    let Some(head) = head_of(&answer, &x.kit.response_ops) else { return answer };
    let length = answer.body.len() as u64;
    let encoded = match compression.decide(x.head(), x.path(), &head, Some(length)) {
        // The head of the uncompressed answer, as for HEAD to a backend.
        Decision::Compress(_) if x.head().method == Method::Head => (Decision::Identity, None),
        Decision::Compress(coding) => {
            let mut out = Vec::with_capacity(answer.body.len() / 3);
            let run = compression.encoder(coding, Some(length)).and_then(|mut encoder| {
                encoder.write(&answer.body, &mut out)?;
                encoder.finish(&mut out)
            });
            // Memory that is short costs the saving, not the answer.
            if run.is_ok() { (Decision::Compress(coding), Some(out)) } else { (Decision::Identity, None) }
        }
        decision => (decision, None),
    };
    compression.edit_head(encoded.0, &head, &mut x.kit.response_ops);
    if let Some(body) = encoded.1 {
        answer.body = body.into();
    }
    answer
}

/// The head that an own answer will have, as far as the decision looks at it.
fn head_of(answer: &Answer, more: &HeaderOps) -> Option<ResponseHead> {
    let mut fields: Vec<(&[u8], &[u8])> = Vec::new();
    for op in answer.headers.iter().chain(more.iter()) {
        match op {
            HeaderOp::Add(name, value) => fields.push((name, value)),
            HeaderOp::Set(name, value) => {
                fields.retain(|(of, _)| *of != name);
                fields.push((name, value));
            }
            HeaderOp::Remove(name) => fields.retain(|(of, _)| *of != name),
        }
    }
    let mut text = format!("HTTP/1.1 {} X\r\n", answer.status).into_bytes();
    for (name, value) in fields {
        for part in [name, b": ", value, b"\r\n"] {
            text.extend_from_slice(part);
        }
    }
    text.extend_from_slice(b"\r\n");
    parse::response_from(&text).ok()
}

async fn change_json<D: Downstream>(
    x: &mut Exchange<'_>,
    down: &mut D,
    json: &JsonPolicy,
    leg: &mut Leg,
    transfer: &mut Transfer,
    upstream: &Upstream,
) -> Result<BodyKind, ProxyError> {
    transfer.hold(json.max_body);
    poll_fn(|cx| transfer.poll_bodies(cx, x, down, leg, upstream)).await?;
    let head = x.kit.response.as_ref().expect("its body is held");
    let codings = codings(head.get_all(HeaderId::ContentEncoding), &x.kit.response_ops);
    // It was asked not to encode. What can't be read can't be let through either: a rule may be there to take something out.
    let decoded = codings.as_deref().map(|coding| decode(coding, transfer.held(), json.max_body)).transpose().map_err(|reason| {
        let detail = format!("the answer's body can't be unpacked within {} bytes: {reason:?}", json.max_body);
        ProxyError::upstream(ErrorKind::BadUpstreamResponse, RetrySafety::Never, detail)
    })?;
    if decoded.is_some() {
        x.kit.response_ops.remove("content-encoding");
    }
    let changed = json.response.apply(decoded.as_deref().unwrap_or(transfer.held())).map_err(|error| {
        let detail = format!("the answer's body is no JSON document: {}", place(&error));
        ProxyError::upstream(ErrorKind::BadUpstreamResponse, RetrySafety::Never, detail)
    })?;
    x.room.settle(transfer.held_capacity(), changed.capacity());
    let length = changed.len() as u64;
    transfer.send_held(changed);
    // Validators and digests of the origin's bytes are no longer true of these.
    let tag = x.kit.response.as_ref().and_then(|head| head.get(HeaderId::ETag)).filter(|tag| tag.starts_with(b"\""));
    if let Some(tag) = tag.map(|tag| [b"W/", tag].concat()) {
        x.kit.response_ops.set("etag", tag);
    }
    for name in ["content-digest", "repr-digest", "accept-ranges"] {
        x.kit.response_ops.remove(name);
    }
    Ok(BodyKind::Length(length))
}

/// The content codings of a body after the edits of policies and hooks; `None` where it is not encoded.
fn codings<'a>(values: impl Iterator<Item = &'a [u8]>, ops: &HeaderOps) -> Option<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = values.map(<[u8]>::to_vec).collect();
    for op in ops.iter() {
        match op {
            HeaderOp::Add(b"content-encoding", value) => all.push(value.to_vec()),
            HeaderOp::Set(b"content-encoding", value) => all = vec![value.to_vec()],
            HeaderOp::Remove(b"content-encoding") => all.clear(),
            _ => {}
        }
    }
    let codings = all.join(&b","[..]);
    let plain = codings.trim_ascii();
    (!plain.is_empty() && !plain.eq_ignore_ascii_case(b"identity")).then_some(codings)
}

/// The decision on compression, with its edits of the head.
fn decide(x: &mut Exchange<'_>, plan: &BodyPlan, body: BodyKind) -> Decision {
    let (Some(compression), Some(head)) = (&plan.compression, &x.kit.response) else { return Decision::Skip };
    let length = if let BodyKind::Length(n) = body { Some(n) } else { None };
    let request = x.kit.request.as_ref().expect("an exchange has a head to its end");
    let mut decision = match compression.decide(request, x.path(), head, length) {
        // A cookie that a policy, a hook or a sticky upstream adds is one, too.
        _ if compression.spares_cookies() && sets_cookie(&x.kit.response_ops) => Decision::Skip,
        Decision::Compress(_) if matches!(body, BodyKind::None | BodyKind::Tunnel) => Decision::Identity,
        decision => decision,
    };
    if let Decision::Compress(coding) = decision
        && !x.room.take(Compression::memory(coding))
    {
        // The answer is as good without.
        x.room.forgo();
        decision = Decision::Identity;
    }
    compression.edit_head(decision, head, &mut x.kit.response_ops);
    decision
}

fn sets_cookie(ops: &HeaderOps) -> bool {
    ops.iter().any(|op| matches!(op, HeaderOp::Add(b"set-cookie", _) | HeaderOp::Set(b"set-cookie", _)))
}

/// Where a document breaks, without its content.
fn place(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}
