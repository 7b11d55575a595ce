//! Heads to be sent, read off the lines that the HTTP/1.1 encoder wrote.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::http::h1::header_id;
use crate::http::head::HeaderId;

/// What an encoded HTTP/1.1 head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// Start line without its CRLF.
    pub start: Bytes,
    /// Host.
    pub host: Option<Bytes>,
    /// Every other field that HTTP/2 has too.
    pub fields: HeaderMap,
}

/// Reads a head that [`crate::http::h1::encode`] wrote; what stands behind it is left alone.
pub fn fields(head: Bytes) -> Lines {
    let end = memchr::memchr(b'\r', &head).unwrap_or(head.len());
    let mut lines = Lines { start: head.slice(..end), host: None, fields: HeaderMap::with_capacity(16) };
    read(&head, (end + 2).min(head.len()), |id, name, value| match id {
        HeaderId::Host => lines.host = Some(value),
        HeaderId::Connection
        | HeaderId::KeepAlive
        | HeaderId::ProxyConnection
        | HeaderId::TransferEncoding
        | HeaderId::Upgrade
        | HeaderId::Te => {}
        _ => add(&mut lines.fields, id, name, value),
    });
    lines
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

    #[test]
    fn lines_become_fields_in_lower_case() {
        let head = Bytes::from_static(b"POST /x?y HTTP/1.1\r\nHost: a\r\nX-A:  1 \r\nx-a: 2\r\nConnection: upgrade\r\nTransfer-Encoding: chunked\r\nEmpty:\r\n\r\nBody: x\r\n");
        let lines = fields(head);
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
