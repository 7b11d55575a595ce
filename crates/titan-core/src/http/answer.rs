//! An answer that Titan makes itself.

use bytes::Bytes;

use super::head::{HeaderId, RequestHead};
use super::ops::HeaderOps;

/// Status, headers and a whole body.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Headers beside Content-Length and Date, which the encoder writes.
    pub headers: HeaderOps,
    /// Body; not sent for HEAD, 204 and 304.
    pub body: Bytes,
    /// Which stage made it: metric label and log field, such as `rate_limit` or `no_route`.
    pub stage: &'static str,
}

impl Answer {
    /// Whether it is what the configuration says, whatever its status: a fixed answer of 404 or a readiness of 503 is no error of anybody's.
    pub fn is_wanted(&self) -> bool {
        matches!(self.stage, "" | "fixed" | "builtin")
    }

    /// The one form of an error: `{"error","message","request_id"}`, or problem+json (RFC 9457, with the same members beside its own) for a
    /// client that asks for it.
    pub fn error(status: u16, error: &str, message: &str, stage: &'static str, request_id: &[u8], head: &RequestHead) -> Self {
        let mut body = Vec::with_capacity(96 + error.len() + message.len() + request_id.len());
        let problem = head.get_all(HeaderId::Accept).any(|accept| memchr::memmem::find(accept, b"application/problem+json").is_some());
        body.push(b'{');
        if problem {
            body.extend_from_slice(b"\"type\":\"about:blank\",\"title\":");
            json_string(&mut body, reason(status).as_bytes());
            body.extend_from_slice(b",\"status\":");
            body.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
            body.extend_from_slice(b",\"detail\":");
            json_string(&mut body, message.as_bytes());
            body.push(b',');
        }
        body.extend_from_slice(b"\"error\":");
        json_string(&mut body, error.as_bytes());
        body.extend_from_slice(b",\"message\":");
        json_string(&mut body, message.as_bytes());
        body.extend_from_slice(b",\"request_id\":");
        json_string(&mut body, request_id);
        body.push(b'}');
        let mut headers = HeaderOps::default();
        headers.set("content-type", if problem { "application/problem+json" } else { "application/json" });
        Answer { status, headers, body: body.into(), stage }
    }
}

/// Reason phrase of a status (RFC 9110 and registered ones); `Unknown` where there is none.
pub fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Unknown")
}

/// Appends `text` as a JSON string. What is not UTF-8 becomes U+FFFD.
pub fn json_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            match byte {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\n' => out.extend_from_slice(b"\\n"),
                0..0x20 | 0x7f => {
                    const HEX: &[u8; 16] = b"0123456789abcdef";
                    out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]]);
                }
                _ => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_so_that_a_parser_gives_them_back() {
        for text in ["plain", "q\"b\\n\n\u{1}\u{7f}é\u{2028}"] {
            let mut out = Vec::new();
            json_string(&mut out, text.as_bytes());
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
        let mut out = Vec::new();
        json_string(&mut out, b"a\xff\xfeb");
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), "a\u{fffd}\u{fffd}b");
    }
}
