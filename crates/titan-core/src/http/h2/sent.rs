//! Heads to be sent: what the HTTP/1.1 encoder wrote, taken apart where it says that the fields lie.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use smallvec::SmallVec;

use crate::http::h1::header_id;
use crate::http::head::{HeaderId, Span};
use crate::http::out::Out;

/// A head as [`crate::http::h1::encode`] writes it, and where its fields lie.
#[derive(Debug, Default)]
pub struct Block {
    text: Vec<u8>,
    lines: SmallVec<[(HeaderId, Span, Span); 16]>,
}

impl Out for Block {
    #[inline(always)]
    fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    fn note(&mut self, id: HeaderId, name: Span, value: Span) {
        self.lines.push((id, name, value));
    }
}

/// What an encoded head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// Start line without its CRLF.
    pub start: Bytes,
    /// Host.
    pub host: Option<Bytes>,
    /// Every other field that HTTP/2 has too.
    pub fields: HeaderMap,
}

impl Block {
    /// The head as HTTP/2 has it; what stands behind it is left alone.
    pub fn into_lines(self) -> Lines {
        let text = Bytes::from(self.text);
        let end = memchr::memchr(b'\r', &text).unwrap_or(text.len());
        let mut lines = Lines { start: text.slice(..end), host: None, fields: HeaderMap::with_capacity(self.lines.len()) };
        for (id, name, value) in self.lines {
            let (mut from, mut to) = (value.start as usize, value.end as usize);
            while from < to && matches!(text[from], b' ' | b'\t') {
                from += 1;
            }
            while to > from && matches!(text[to - 1], b' ' | b'\t') {
                to -= 1;
            }
            let value = text.slice(from..to);
            match id {
                HeaderId::Host => lines.host = Some(value),
                HeaderId::Connection
                | HeaderId::KeepAlive
                | HeaderId::ProxyConnection
                | HeaderId::TransferEncoding
                | HeaderId::Upgrade
                | HeaderId::Te => {}
                _ => add(&mut lines.fields, id, name.of(&text), value),
            }
        }
        lines
    }
}

/// Trailers from the lines that may pass.
pub fn trailers(lines: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    let block = Bytes::copy_from_slice(lines);
    read(&block, 0, |id, name, value| add(&mut fields, id, name, value));
    fields
}

/// Every `name: value` line from `at` to an empty line or the end.
fn read(block: &Bytes, mut at: usize, mut each: impl FnMut(HeaderId, &[u8], Bytes)) {
    while let Some(length) = memchr::memchr(b'\r', &block[at..]) {
        let line = &block[at..at + length];
        let Some(colon) = memchr::memchr(b':', line) else { return };
        let (mut start, mut end) = (at + colon + 1, at + length);
        while start < end && matches!(block[start], b' ' | b'\t') {
            start += 1;
        }
        while end > start && matches!(block[end - 1], b' ' | b'\t') {
            end -= 1;
        }
        each(header_id(&line[..colon]), &line[..colon], block.slice(start..end));
        at = (at + length + 2).min(block.len());
    }
}

/// A name or value that HTTP/2 can't carry is left out; the encoder writes none.
fn add(fields: &mut HeaderMap, id: HeaderId, name: &[u8], value: Bytes) {
    let name = known(id).or_else(|| HeaderName::from_bytes(name).ok());
    if let (Some(name), Ok(mut value)) = (name, HeaderValue::from_maybe_shared(value)) {
        value.set_sensitive(is_unindexed(id));
        fields.append(name, value);
    }
}

/// The names that most heads have, without a look at their letters.
fn known(id: HeaderId) -> Option<HeaderName> {
    const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
    const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
    const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
    Some(match id {
        HeaderId::Accept => header::ACCEPT,
        HeaderId::AcceptEncoding => header::ACCEPT_ENCODING,
        HeaderId::Authorization => header::AUTHORIZATION,
        HeaderId::CacheControl => header::CACHE_CONTROL,
        HeaderId::ContentEncoding => header::CONTENT_ENCODING,
        HeaderId::ContentLength => header::CONTENT_LENGTH,
        HeaderId::ContentType => header::CONTENT_TYPE,
        HeaderId::Cookie => header::COOKIE,
        HeaderId::Date => header::DATE,
        HeaderId::ETag => header::ETAG,
        HeaderId::Location => header::LOCATION,
        HeaderId::Origin => header::ORIGIN,
        HeaderId::Referer => header::REFERER,
        HeaderId::Server => header::SERVER,
        HeaderId::SetCookie => header::SET_COOKIE,
        HeaderId::Traceparent => TRACEPARENT,
        HeaderId::UserAgent => header::USER_AGENT,
        HeaderId::Vary => header::VARY,
        HeaderId::Via => header::VIA,
        HeaderId::XForwardedFor => X_FORWARDED_FOR,
        HeaderId::XForwardedHost => X_FORWARDED_HOST,
        HeaderId::XForwardedProto => X_FORWARDED_PROTO,
        HeaderId::XRequestId => X_REQUEST_ID,
        _ => return None,
    })
}

/// Fields that stay out of the compression table (never-indexed literals, RFC 7541 §6.2.3): secrets, which a guess could be compared with
/// there (§7.1), and values that no other message has, which would only push useful ones out.
fn is_unindexed(id: HeaderId) -> bool {
    matches!(
        id,
        HeaderId::Authorization
            | HeaderId::ProxyAuthorization
            | HeaderId::Cookie
            | HeaderId::SetCookie
            | HeaderId::XRequestId
            | HeaderId::Traceparent
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::out::line;

    #[test]
    fn lines_become_fields_in_lower_case() {
        let mut block = Block::default();
        block.text().extend_from_slice(b"POST /x?y HTTP/1.1\r\n");
        for (name, value) in
            [("Host", "a"), ("X-A", " 1 "), ("x-a", "2"), ("Connection", "upgrade"), ("Transfer-Encoding", "chunked"), ("Empty", "")]
        {
            line(&mut block, header_id(name.as_bytes()), format!("{name}: ").as_bytes(), value.as_bytes());
        }
        block.text().extend_from_slice(b"\r\nBody: x\r\n");
        let lines = block.into_lines();
        assert_eq!((&lines.start[..], lines.host.as_deref()), (&b"POST /x?y HTTP/1.1"[..], Some(&b"a"[..])));
        let got: Vec<_> = lines.fields.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(got, [("x-a", "1"), ("x-a", "2"), ("empty", "")]);
    }

    #[test]
    fn a_known_name_is_written_as_it_is_read() {
        let names = ["accept", "accept-encoding", "authorization", "cache-control", "content-encoding", "content-length", "content-type"];
        let more = ["cookie", "date", "etag", "location", "origin", "referer", "server", "set-cookie", "traceparent", "user-agent", "vary"];
        let ours = ["via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id"];
        for name in names.iter().chain(&more).chain(&ours) {
            assert_eq!(known(header_id(name.as_bytes())).unwrap().as_str(), *name);
        }
    }

    #[test]
    fn trailers_from_lines() {
        let t = trailers(b"grpc-status: 0\r\nGrpc-Message: a b\r\n");
        assert_eq!(t.get("grpc-status").unwrap(), "0");
        assert_eq!(t.get("grpc-message").unwrap(), "a b");
        assert!(trailers(b"").is_empty());
    }
}
