//! Received heads.

use http::{HeaderMap, header, request, response};

use crate::error::{ErrorKind, ProxyError, RetrySafety};
use crate::http::h1::header_id;
use crate::http::head::{Facts, Field, Fields, HeaderId, Method, RequestHead, ResponseHead, Span, Version};
use crate::http::host;
use crate::http::token::{self, TARGET, VALUE};

/// Limits of a head beside those that the connection's settings state.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Field lines (cookie crumbs count as one).
    pub fields: usize,
}

/// A request's head. `protocol` is the `:protocol` of an extended CONNECT (RFC 8441): for `websocket` the head becomes the HTTP/1.1
/// handshake that asks for the same.
pub fn request(parts: &request::Parts, protocol: Option<&[u8]>, mut bytes: Vec<u8>, limits: &Limits) -> Result<RequestHead, ProxyError> {
    let websocket = match (parts.method == http::Method::CONNECT, protocol) {
        (true, Some(p)) if p.eq_ignore_ascii_case(b"websocket") => true,
        (true, Some(_)) => return Err(ProxyError::client(ErrorKind::NotImplemented, "this :protocol is not supported")),
        (true, None) => return Err(ProxyError::client(ErrorKind::MethodNotAllowed, "CONNECT is not supported")),
        (false, Some(_)) => return Err(malformed(":protocol without CONNECT")),
        (false, None) => false,
    };
    let method = if websocket { "GET" } else { parts.method.as_str() };
    bytes.clear();
    let method_span = put(&mut bytes, method.as_bytes());
    bytes.push(b' ');
    let path = put(&mut bytes, parts.uri.path().as_bytes());
    let query = parts.uri.query().map(|q| {
        bytes.push(b'?');
        put(&mut bytes, q.as_bytes())
    });
    let target = &bytes[path.start as usize..];
    let star = target == b"*" && parts.method == http::Method::OPTIONS;
    if !(star || target.first() == Some(&b'/')) || !token::all(target, TARGET) {
        return Err(malformed("malformed :path"));
    }
    bytes.extend_from_slice(b" HTTP/2\r\n");

    let mut lines = Writer { bytes, fields: Fields::new(), facts: Facts::default() };
    let authority = authority(parts)?;
    let field = lines.field("host", authority.as_bytes());
    let authority = field.value;
    copy(&mut lines, &parts.headers, limits.fields)?;
    if websocket {
        lines.field("connection", b"upgrade");
        lines.field("upgrade", b"websocket");
        lines.facts.upgrade = true;
        if !lines.facts.has(HeaderId::SecWebSocketKey) {
            lines.field("sec-websocket-key", &websocket_key());
        }
    }
    let Writer { mut bytes, fields, mut facts } = lines;
    bytes.extend_from_slice(b"\r\n");
    facts.length = length(&parts.headers).map_err(malformed)?;
    Ok(RequestHead { method: method_of(method), method_span, path, query, authority, version: Version::H2, fields, facts, bytes })
}

/// A response's head. `ended`: nothing follows it, so that an answer which may have a body is given the length 0.
pub fn response(parts: &response::Parts, ended: bool, to_head: bool, mut bytes: Vec<u8>) -> Result<ResponseHead, ProxyError> {
    bytes.clear();
    bytes.extend_from_slice(b"HTTP/2 ");
    bytes.extend_from_slice(parts.status.as_str().as_bytes());
    bytes.extend_from_slice(b"\r\n");
    let status = parts.status.as_u16();
    let upstream = |detail: &'static str| ProxyError::upstream(ErrorKind::BadUpstreamResponse, RetrySafety::Sent, detail);
    let mut lines = Writer { bytes, fields: Fields::new(), facts: Facts::default() };
    copy(&mut lines, &parts.headers, 256).map_err(|e| ProxyError::upstream(ErrorKind::BadUpstreamResponse, RetrySafety::Sent, e.detail))?;
    let mut length = length(&parts.headers).map_err(upstream)?;
    if length.is_none() && ended && !to_head && status >= 200 && status != 204 && status != 304 {
        lines.field("content-length", b"0");
        length = Some(0);
    }
    let Writer { mut bytes, fields, mut facts } = lines;
    bytes.extend_from_slice(b"\r\n");
    facts.length = length;
    Ok(ResponseHead { bytes, status, reason: Span::default(), version: Version::H2, fields, facts })
}

/// Trailers as HTTP/1.1 lines.
pub fn trailer_lines(trailers: &HeaderMap) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in trailers {
        if token::all(value.as_bytes(), VALUE) {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

struct Writer {
    bytes: Vec<u8>,
    fields: Fields,
    facts: Facts,
}

impl Writer {
    fn field(&mut self, name: &str, value: &[u8]) -> Field {
        let name_span = put(&mut self.bytes, name.as_bytes());
        self.bytes.extend_from_slice(b": ");
        let value = put(&mut self.bytes, value);
        self.bytes.extend_from_slice(b"\r\n");
        let id = header_id(name.as_bytes());
        let underscore = name.contains('_');
        self.facts.ids |= id.bit();
        self.facts.underscore |= underscore;
        let field = Field { name: name_span, value, id, underscore };
        self.fields.push(field);
        field
    }
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) -> Span {
    let start = bytes.len() as u32;
    bytes.extend_from_slice(part);
    Span { start, end: bytes.len() as u32 }
}

/// Every field but Host, cookie crumbs joined (RFC 9113 §8.2.3). Fields of HTTP/1.1 connections are malformed here (§8.2.2).
fn copy(lines: &mut Writer, headers: &HeaderMap, limit: usize) -> Result<(), ProxyError> {
    let mut cookies_done = false;
    for (name, value) in headers {
        if lines.fields.len() > limit {
            return Err(ProxyError::client(ErrorKind::HeadTooLarge, "too many header fields"));
        }
        let value = trim(value.as_bytes());
        if !token::all(value, VALUE) {
            return Err(malformed("control byte in a field value"));
        }
        match header_id(name.as_str().as_bytes()) {
            HeaderId::Host => continue,
            HeaderId::Connection | HeaderId::KeepAlive | HeaderId::ProxyConnection | HeaderId::TransferEncoding | HeaderId::Upgrade => {
                return Err(malformed("field of an HTTP/1.1 connection"));
            }
            HeaderId::Te if !value.eq_ignore_ascii_case(b"trailers") => return Err(malformed("te other than trailers")),
            HeaderId::Cookie if cookies_done => continue,
            HeaderId::Cookie => {
                cookies_done = true;
                let mut all = headers.get_all(header::COOKIE).iter().map(|v| v.as_bytes());
                let mut joined = all.next().unwrap_or_default().to_vec();
                for crumb in all {
                    joined.extend_from_slice(b"; ");
                    joined.extend_from_slice(crumb);
                }
                if !token::all(&joined, VALUE) {
                    return Err(malformed("control byte in a field value"));
                }
                lines.field("cookie", trim(&joined));
            }
            _ => {
                lines.field(name.as_str(), value);
            }
        }
    }
    Ok(())
}

fn trim(value: &[u8]) -> &[u8] {
    token::trim(value)
}

/// `:authority`, or Host where there is none; where there are both they must be the same.
fn authority(parts: &request::Parts) -> Result<&str, ProxyError> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    let host = host.map(|h| h.to_str().map_err(|_| malformed("malformed Host"))).transpose()?;
    let authority = match (parts.uri.authority().map(|a| a.as_str()), host, more) {
        (_, _, Some(_)) => return Err(malformed("more than one Host")),
        (Some(a), Some(h), _) if !a.eq_ignore_ascii_case(h) => return Err(malformed("Host and :authority differ")),
        (Some(a), ..) => a,
        (None, Some(h), _) => h,
        (None, None, _) => return Err(malformed(":authority is missing")),
    };
    if authority.is_empty() || !host::is_valid(authority.as_bytes()) {
        return Err(malformed("malformed :authority"));
    }
    Ok(authority)
}

fn length(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut all = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err("more than one Content-Length");
    }
    let digits = first.as_bytes();
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let n = if plain { std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok()) } else { None };
    n.map(Some).ok_or("malformed Content-Length")
}

fn method_of(method: &str) -> Method {
    match method {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "HEAD" => Method::Head,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        _ => Method::Other,
    }
}

/// A key for the HTTP/1.1 handshake (RFC 6455 §4.1): it proves nothing to anybody, it must only differ.
fn websocket_key() -> Vec<u8> {
    use base64::Engine;
    use std::hash::{BuildHasher, RandomState};
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&RandomState::new().hash_one(1).to_le_bytes());
    nonce[8..].copy_from_slice(&RandomState::new().hash_one(2).to_le_bytes());
    base64::engine::general_purpose::STANDARD.encode(nonce).into_bytes()
}

fn malformed(detail: &'static str) -> ProxyError {
    ProxyError::client(ErrorKind::BadRequest, detail)
}

#[cfg(test)]
#[path = "received_tests.rs"]
mod tests;
