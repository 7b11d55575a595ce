//! What gRPC clients need of a proxy: their deadline kept, and errors as `grpc-status` instead of JSON.

use std::time::Duration;

use bytes::Bytes;

use crate::http::answer::Answer;
use crate::http::head::{HeaderId, RequestHead};

/// Whether a request is gRPC (not gRPC-Web, which is another protocol over HTTP).
pub(super) fn is_grpc(head: &RequestHead) -> bool {
    let Some(rest) = head.get(HeaderId::ContentType).and_then(|v| v.strip_prefix(b"application/grpc")) else { return false };
    matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// The time that the client gives the call: `grpc-timeout`, 1–8 digits and a unit. `None` where there is none or it is malformed.
pub(super) fn timeout(head: &RequestHead) -> Option<Duration> {
    let value = head.get(HeaderId::GrpcTimeout)?;
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(n * 3_600),
        b'M' => Duration::from_secs(n * 60),
        b'S' => Duration::from_secs(n),
        b'm' => Duration::from_millis(n),
        b'u' => Duration::from_micros(n),
        b'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

/// What is left of a timeout, as `grpc-timeout` says it.
pub(super) fn left(ms: u64) -> String {
    if ms < 100_000_000 { format!("{ms}m") } else { format!("{}S", (ms / 1_000).min(99_999_999)) }
}

/// `grpc-status` of an answer of Titan's own. The official mapping of HTTP statuses is for clients that meet a proxy which knows nothing of
/// gRPC; this one knows its causes: a deadline is DEADLINE_EXCEEDED, a limit RESOURCE_EXHAUSTED.
pub(super) fn code(status: u16) -> u8 {
    match status {
        400 | 421 | 505 => 13,
        401 => 16,
        403 => 7,
        404 | 405 | 501 => 12,
        408 | 504 => 4,
        409 => 10,
        413 | 414 | 429 | 431 => 8,
        499 => 1,
        502 | 503 => 14,
        500 => 13,
        _ => 2,
    }
}

/// HTTP status that a `grpc-status` in an answer's head (trailers-only) counts as for retries and the judgement of a backend.
pub(super) fn status_of(code: &[u8]) -> u16 {
    match code {
        b"0" => 200,
        b"4" => 504,
        b"8" => 429,
        b"13" | b"2" | b"15" => 500,
        b"14" => 503,
        _ => 400,
    }
}

/// The same answer for a gRPC client: trailers-only, with the HTTP status 200. Headers such as `retry-after` stay.
pub(super) fn answer(answer: &Answer) -> Answer {
    let mut headers = answer.headers.clone();
    headers.set("content-type", "application/grpc");
    headers.set("grpc-status", code(answer.status).to_string());
    headers.set("grpc-message", encode(&message(answer)));
    Answer { status: 200, headers, body: Bytes::new(), stage: answer.stage }
}

/// Trailer lines that end a call whose answer has begun.
pub(super) fn trailers(status: u16, message: &str) -> Vec<u8> {
    format!("grpc-status: {}\r\ngrpc-message: {}\r\n", code(status), encode(message)).into_bytes()
}

fn message(answer: &Answer) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
    let text = json.as_ref().and_then(|j| j["message"].as_str().or_else(|| j["detail"].as_str()));
    text.unwrap_or_else(|| crate::http::h1::encode::reason(answer.status)).to_owned()
}

/// Percent-encoded, as the protocol asks for outside printable ASCII.
fn encode(message: &str) -> String {
    use std::fmt::Write;
    message.bytes().fold(String::with_capacity(message.len()), |mut out, b| {
        if matches!(b, b' '..=b'~') && b != b'%' {
            out.push(char::from(b));
        } else {
            // Writing to a String does not fail.
            let _ = write!(out, "%{b:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h1::parse::request_from;

    fn head(fields: &str) -> RequestHead {
        request_from(format!("POST /s/m HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn grpc_is_told_from_what_only_looks_like_it() {
        for (value, yes) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;a=b", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&head(&format!("Content-Type: {value}\r\n"))), yes, "{value}");
        }
        assert!(!is_grpc(&head("")));
    }

    #[test]
    fn timeouts_in_every_unit() {
        let of = |v: &str| timeout(&head(&format!("grpc-timeout: {v}\r\n")));
        assert_eq!(of("2H"), Some(Duration::from_secs(7_200)));
        assert_eq!(of("1M"), Some(Duration::from_secs(60)));
        assert_eq!(of("10S"), Some(Duration::from_secs(10)));
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("99999999u"), Some(Duration::from_micros(99_999_999)));
        assert_eq!(of("1n"), Some(Duration::from_nanos(1)));
        for bad in ["", "m", "1", "-1m", "123456789m", "1x", "1.5S"] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert_eq!((left(1_500), left(100_000_000)), ("1500m".into(), "100000S".into()));
    }

    #[test]
    fn an_answer_keeps_its_message_and_headers() {
        let mut headers = crate::http::ops::HeaderOps::default();
        headers.set("content-type", "application/json");
        headers.set("retry-after", "1");
        let json =
            Answer { status: 503, headers, body: Bytes::from_static(b"{\"error\":\"x\",\"message\":\"caf\xc3\xa9 50%\"}"), stage: "s" };
        let got = answer(&json);
        let text = format!("{:?}", got.headers.iter().map(|op| format!("{op:?}")).collect::<Vec<_>>());
        assert_eq!((got.status, got.body.len()), (200, 0));
        let find = |name: &str| {
            got.headers.iter().rev().find_map(|op| match op {
                crate::http::ops::HeaderOp::Set(n, v) if n == name.as_bytes() => Some(String::from_utf8_lossy(v).into_owned()),
                _ => None,
            })
        };
        assert_eq!(find("grpc-status").as_deref(), Some("14"), "{text}");
        assert_eq!(find("grpc-message").as_deref(), Some("caf%C3%A9 50%25"));
        assert_eq!((find("content-type").as_deref(), find("retry-after").as_deref()), (Some("application/grpc"), Some("1")));
    }
}
