//! The one place where an error becomes an answer, a metric label and a log field.

use std::net::IpAddr;
use std::task::Poll;
use std::time::{Instant, SystemTime};

use super::downstream::{Downstream, Reply};
use super::exchange::Exchange;
use super::grpc;
use super::{After, hooks, reply};
use crate::error::{ErrorKind, ProxyError, Side};
use crate::http::answer::{Answer, json_string};
use crate::http::head::Method;
use crate::http::ops::HeaderOps;
use crate::metrics::access_log::Entry;
use crate::metrics::{Done, Id};
use crate::proxy::Local;

/// Status, error code, message (where the detail is not the client's business) and stage.
struct Form {
    status: u16,
    code: &'static str,
    message: &'static str,
    stage: &'static str,
}

fn form(kind: ErrorKind) -> Form {
    let (status, code, message, stage) = match kind {
        ErrorKind::BadRequest => (400, "bad_request", "The request is malformed", "bad_request"),
        ErrorKind::MethodNotAllowed => (405, "method_not_allowed", "The method is not allowed here", "method_not_allowed"),
        ErrorKind::ClientTimeout => (408, "request_timeout", "The request did not arrive in time", "client_timeout"),
        ErrorKind::BodyTooLarge => (413, "payload_too_large", "The request's body is too large", "body_limit"),
        ErrorKind::UnsupportedCoding => (415, "unsupported_media_type", "The body's content coding is not supported here", "body_coding"),
        ErrorKind::TargetTooLong => (414, "uri_too_long", "The request's target is too long", "head_limit"),
        ErrorKind::HeadTooLarge => (431, "request_header_fields_too_large", "The request's head is too large", "head_limit"),
        ErrorKind::ExpectationFailed => (417, "expectation_failed", "The expectation is not supported", "expectation"),
        ErrorKind::Misdirected => (421, "misdirected_request", "This connection is for another host", "misdirected"),
        ErrorKind::NotImplemented => (501, "not_implemented", "The transfer coding is not supported", "not_implemented"),
        ErrorKind::VersionNotSupported => (505, "http_version_not_supported", "The HTTP version is not supported", "version"),
        ErrorKind::ClientGone => (499, "client_closed_request", "The client closed its connection", "client_gone"),
        ErrorKind::Forbidden => (403, "forbidden", "Forbidden", "websocket"),
        ErrorKind::NoRoute => (404, "not_found", "No route matches this request", "no_route"),
        ErrorKind::NoEndpoint => (503, "service_unavailable", "No healthy backend is available", "no_endpoint"),
        ErrorKind::CircuitOpen => (503, "service_unavailable", "The backend's circuit is open", "circuit_open"),
        ErrorKind::PoolExhausted => (503, "service_unavailable", "Every connection to the backend is in use", "pool_exhausted"),
        ErrorKind::ConnectFailed => (502, "bad_gateway", "Connecting to the backend failed", "connect"),
        ErrorKind::UpstreamTls => (502, "bad_gateway", "TLS with the backend failed", "upstream_tls"),
        ErrorKind::UpstreamReset => (502, "bad_gateway", "The backend closed the connection", "upstream_reset"),
        ErrorKind::BadUpstreamResponse => (502, "bad_gateway", "The backend's answer is malformed", "upstream_response"),
        ErrorKind::UpstreamTimeout => (504, "gateway_timeout", "The backend did not answer in time", "upstream_timeout"),
        ErrorKind::ShuttingDown => (503, "SERVER_SHUTTING_DOWN", "The server is shutting down", "shutdown"),
        ErrorKind::Overloaded => (503, "overloaded", "The server is overloaded", "overload"),
        ErrorKind::Internal => (500, "internal_error", "An internal error occurred", "internal"),
    };
    Form { status, code, message, stage }
}

/// Label of an error that came after the answer's head, where no answer can be given any more.
fn late_stage(error: &ProxyError) -> &'static str {
    match (error.kind, error.side) {
        (ErrorKind::ClientGone, _) => "client_gone",
        (ErrorKind::ClientTimeout, _) => "client_timeout",
        (ErrorKind::UpstreamTimeout, _) => "upstream_timeout",
        (ErrorKind::BodyTooLarge, _) => "body_limit",
        (_, Side::Client) => "client_body",
        _ => "upstream_body",
    }
}

/// Answers with the error, or cuts where an answer has begun.
pub(super) async fn rescue<D: Downstream>(x: &mut Exchange<'_>, down: &mut D, error: ProxyError) -> After {
    x.notes.detail = Some(error.detail.clone());
    if x.answered {
        x.notes.stage = Some(late_stage(&error));
        return if grpc::is_grpc(x.head()) { end_call(down, &error).await } else { After::Reset };
    }
    let form = form(error.kind);
    x.notes.stage = Some(form.stage);
    if error.kind == ErrorKind::ClientGone {
        x.notes.status = form.status;
        return After::Close;
    }
    // A client is told what it did wrong; what happened behind the gateway is for the log.
    let message = if error.side == Side::Client { &*error.detail } else { form.message };
    let mut answer = Answer::error(form.status, form.code, message, form.stage, &x.ids.request_id, x.head());
    if let Some(allow) = x.allow.take() {
        answer.headers.set("allow", allow);
    }
    if form.status == 503 {
        answer.headers.set("retry-after", "1");
    }
    if error.kind == ErrorKind::UnsupportedCoding {
        answer.headers.set("accept-encoding", "gzip, deflate, br, zstd");
    }
    let answer = hooks::error(x, down, answer, &error.detail).await;
    // The rest of the connection can't be trusted, or is not worth waiting for.
    if matches!(error.kind, ErrorKind::BadRequest | ErrorKind::ClientTimeout | ErrorKind::ShuttingDown | ErrorKind::BodyTooLarge) {
        down.close_after();
    }
    match reply(x, down, answer).await {
        Ok(After::Next) if matches!(error.kind, ErrorKind::BadRequest | ErrorKind::ClientTimeout) => After::Linger,
        Ok(after) => after,
        Err(_) => After::Close,
    }
}

/// Ends a gRPC call whose answer has begun with a status, where the client can still be told.
async fn end_call<D: Downstream>(down: &mut D, error: &ProxyError) -> After {
    if error.kind == ErrorKind::ClientGone {
        return After::Reset;
    }
    let form = form(error.kind);
    let trailers = grpc::trailers(form.status, form.message);
    let told = std::future::poll_fn(|cx| {
        let free = matches!(down.poll_flush(cx), Poll::Ready(Ok(())));
        let told = free && down.push(cx, &[], Some(&trailers)).is_ok() && matches!(down.poll_flush(cx), Poll::Ready(Ok(())));
        Poll::Ready(told)
    })
    .await;
    if told { After::Close } else { After::Reset }
}

/// Answers a request whose head could not be read. The connection closes after it.
pub async fn refuse<D: Downstream>(local: &Local, down: &mut D, error: &ProxyError, started: Instant) -> After {
    let form = form(error.kind);
    let (none, snapshot) = (HeaderOps::default(), local.snapshot());
    let ids = snapshot.forwarding.ids_without_head(&mut local.ids.borrow_mut());
    let answer = headless(error, &form, Some(&ids.request_id));
    down.close_after();
    down.answer(&answer, &Reply { ops: &none, forwarding: &snapshot.forwarding, ids: Some(&ids) });
    let deadline = crate::rt::clock::after(down.listener().timeouts.write);
    let sent = std::future::poll_fn(|cx| match down.poll_flush(cx) {
        Poll::Ready(done) => Poll::Ready(done.is_ok()),
        Poll::Pending => down.timer().poll(cx, deadline).map(|()| false),
    })
    .await;
    local.counts.done(&Done {
        route: Id::NONE,
        method: Method::Other,
        status: form.status,
        duration: started.elapsed(),
        bytes_in: 0,
        bytes_out: answer.body.len() as u64,
        stage: Some(form.stage),
    });
    if let Some(log) = &snapshot.access_log {
        let client = down.client();
        let ip: IpAddr = client.peer.ip().to_canonical();
        let time = SystemTime::now();
        let entry = super::record::bare(client, ip, &down.listener().name, &ids.request_id, form.status, form.stage, started, time);
        log.write(&Entry { detail: Some(&error.detail), ..entry });
    }
    if sent { After::Linger } else { After::Close }
}

/// An error's answer where there is no head to take a preference from; without an id where there is no request at all.
fn headless(error: &ProxyError, form: &Form, request_id: Option<&[u8]>) -> Answer {
    let message = if error.side == Side::Client { &*error.detail } else { form.message };
    let mut body = b"{\"error\":".to_vec();
    json_string(&mut body, form.code.as_bytes());
    body.extend_from_slice(b",\"message\":");
    json_string(&mut body, message.as_bytes());
    body.extend_from_slice(b",\"request_id\":");
    match request_id {
        Some(id) => json_string(&mut body, id),
        None => body.extend_from_slice(b"null"),
    }
    body.push(b'}');
    let mut headers = HeaderOps::default();
    headers.set("content-type", "application/json");
    if form.status == 503 {
        headers.set("retry-after", "1");
    }
    Answer { status: form.status, headers, body: body.into(), stage: form.stage }
}

/// The whole HTTP/1.1 message for a connection that is turned away before a request was read.
pub fn turned_away(message: &str) -> Vec<u8> {
    let error = ProxyError::client(ErrorKind::Overloaded, message.to_owned());
    let answer = headless(&error, &form(error.kind), None);
    let mut out = format!("HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", answer.body.len()).into_bytes();
    out.extend_from_slice(&answer.body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turned_away_connection_is_told_why_in_valid_json() {
        let text = String::from_utf8(turned_away("listener \"http\" is full")).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 ") && head.contains(&format!("content-length: {}", body.len())));
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((json["error"].as_str(), json["message"].as_str()), (Some("overloaded"), Some("listener \"http\" is full")));
    }
}
