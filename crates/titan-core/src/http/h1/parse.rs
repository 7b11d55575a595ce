//! Heads from bytes, strictly (RFC 9112): what another parser might read differently is refused.
//!
//! A line ends in CRLF, never in a bare LF; nothing is folded; no white space stands before a colon; control bytes are nowhere; a message
//! has one Content-Length of plain digits or one `Transfer-Encoding: chunked`, and never both; a request has one Host.

use std::borrow::Cow;

use super::names::header_id;
use crate::error::{ErrorKind, ProxyError, RetrySafety};
use crate::http::head::{Facts, Field, Fields, HeaderId, Method, RequestHead, ResponseHead, Span, Version};
use crate::http::host;
use crate::http::scan;
use crate::http::token::{self, UNDERSCORE};
use crate::rt::recycle;

/// Limits of a head.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes, start line included.
    pub bytes: usize,
    /// Field lines.
    pub fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 8 << 10, fields: 100 }
    }
}

/// Where scanning stopped: kept by the caller while a head is incomplete, so that a sender of single bytes does not make Titan rescan at
/// each of them: an incomplete head is looked at again only when another line has come. Starts as `Progress::default()` for each head.
#[derive(Debug, Default, Clone, Copy)]
pub struct Progress {
    scanned: usize,
}

/// Why a head was refused; the sides differ only in what they make of it.
enum Fault {
    Malformed(&'static str),
    Other(ErrorKind, &'static str),
}

use Fault::{Malformed, Other};

impl Fault {
    fn of_client(self) -> ProxyError {
        match self {
            Malformed(detail) => ProxyError::client(ErrorKind::BadRequest, detail),
            Other(kind, detail) => ProxyError::client(kind, detail),
        }
    }

    fn of_upstream(self) -> ProxyError {
        let (Malformed(detail) | Other(_, detail)) = self;
        // An answer has begun: whatever the backend did, it did, so only what may be repeated is repeated.
        ProxyError::upstream(ErrorKind::BadUpstreamResponse, RetrySafety::Sent, Cow::Borrowed(detail))
    }
}

/// `None`: incomplete.
type Scan<T> = Result<Option<T>, Fault>;

/// A request head from the front of `buf`. `Ok(None)`: incomplete, read more and call again with the same `progress`.
///
/// When complete, the head takes `buf`'s allocation, `buf` holds what came after it (a fresh `Vec`, not allocated when nothing did), and
/// `progress` is ready for the next head. After an error the connection must be closed.
pub fn request(buf: &mut Vec<u8>, progress: &mut Progress, limits: &Limits) -> Result<Option<RequestHead>, ProxyError> {
    if !worth_a_look(buf, progress) {
        return over_limit(buf, limits).map_err(Fault::of_client);
    }
    let mut head = RequestHead {
        bytes: Vec::new(),
        method: Method::Other,
        method_span: Span::default(),
        path: Span::default(),
        query: None,
        authority: Span::default(),
        version: Version::H11,
        fields: Fields::new(),
        facts: Facts::default(),
    };
    match scan_request(buf, &mut head, limits).map_err(Fault::of_client)? {
        None => over_limit(buf, limits).map_err(Fault::of_client),
        Some(end) => {
            head.bytes = take(buf, end);
            *progress = Progress::default();
            Ok(Some(head))
        }
    }
}

/// A response head from the front of `buf`, as [`request`]. Violations are `BadUpstreamResponse`.
pub fn response(buf: &mut Vec<u8>, progress: &mut Progress, limits: &Limits) -> Result<Option<ResponseHead>, ProxyError> {
    if !worth_a_look(buf, progress) {
        return over_limit(buf, limits).map_err(Fault::of_upstream);
    }
    let mut head = empty_response();
    match scan_response(buf, &mut head, limits).map_err(Fault::of_upstream)? {
        None => over_limit(buf, limits).map_err(Fault::of_upstream),
        Some(end) => {
            head.bytes = take(buf, end);
            *progress = Progress::default();
            Ok(Some(head))
        }
    }
}

/// A response head from the front of `bytes`, which stay where they are, and its length. `Ok(None)`: incomplete, or over its limits; [`response`]
/// tells which.
pub fn response_at(bytes: &[u8], limits: &Limits) -> Result<Option<(ResponseHead, usize)>, ProxyError> {
    let mut head = empty_response();
    let Some(end) = scan_response(bytes, &mut head, limits).map_err(Fault::of_upstream)? else { return Ok(None) };
    head.bytes = recycle::buffer();
    head.bytes.extend_from_slice(&bytes[..end]);
    Ok(Some((head, end)))
}

fn empty_response() -> ResponseHead {
    ResponseHead {
        bytes: Vec::new(),
        status: 0,
        reason: Span::default(),
        version: Version::H11,
        fields: Fields::new(),
        facts: Facts::default(),
    }
}

/// A whole request head in one go: for tests and for `explain`.
pub fn request_from(bytes: &[u8]) -> Result<RequestHead, ProxyError> {
    let mut buf = bytes.to_vec();
    let done = request(&mut buf, &mut Progress::default(), &Limits { bytes: 1 << 20, fields: 1000 })?;
    done.ok_or_else(|| Malformed("incomplete head").of_client())
}

/// A whole response head in one go: for tests.
pub fn response_from(bytes: &[u8]) -> Result<ResponseHead, ProxyError> {
    let mut buf = bytes.to_vec();
    let done = response(&mut buf, &mut Progress::default(), &Limits { bytes: 1 << 20, fields: 1000 })?;
    done.ok_or_else(|| Malformed("incomplete head").of_upstream())
}

/// Detail of the error for what has no HTTP version where one must be: another protocol, perhaps, to which an answer means nothing.
pub const NOT_HTTP: &str = "malformed version";

/// What an HTTP/2 client with prior knowledge sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether a plain connection begins with HTTP/2's preface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preface {
    /// It does not: HTTP/1.
    No,
    /// Can't be told yet: read more.
    Partial,
    /// It does.
    Yes,
}

/// Looks for HTTP/2's preface at the front of a connection's first bytes.
pub fn preface(buf: &[u8]) -> Preface {
    let n = buf.len().min(PREFACE.len());
    if buf[..n] != PREFACE[..n] {
        Preface::No
    } else if n == PREFACE.len() {
        Preface::Yes
    } else {
        Preface::Partial
    }
}

/// Whether the bytes that came since the last look can change anything: the first ones, or those with the end of a line.
fn worth_a_look(buf: &[u8], progress: &mut Progress) -> bool {
    let from = std::mem::replace(&mut progress.scanned, buf.len());
    from == 0 || from > buf.len() || memchr::memchr(b'\n', &buf[from..]).is_some()
}

/// `Ok(None)` as long as an incomplete head may still grow.
fn over_limit<T>(buf: &[u8], limits: &Limits) -> Scan<T> {
    if buf.len() < limits.bytes {
        Ok(None)
    } else if memchr::memchr(b'\n', buf.get(2..).unwrap_or_default()).is_none() {
        Err(Other(ErrorKind::TargetTooLong, "start line too long"))
    } else {
        Err(Other(ErrorKind::HeadTooLarge, "head too large"))
    }
}

/// Takes the first `end` bytes of `buf` with its allocation; the rest stays.
fn take(buf: &mut Vec<u8>, end: usize) -> Vec<u8> {
    let mut rest = Vec::new();
    if buf.len() != end {
        rest = recycle::buffer();
        rest.extend_from_slice(&buf[end..]);
    }
    let mut head = std::mem::replace(buf, rest);
    head.truncate(end);
    head
}

#[inline(always)]
fn span(start: usize, end: usize) -> Span {
    Span { start: start as u32, end: end as u32 }
}

/// Index after a CRLF at `i`.
#[inline(always)]
fn crlf(bytes: &[u8], i: usize, otherwise: &'static str) -> Scan<usize> {
    match (bytes.get(i), bytes.get(i + 1)) {
        (Some(b'\r'), Some(b'\n')) => Ok(Some(i + 2)),
        (Some(b'\r'), None) | (None, _) => Ok(None),
        (Some(b'\n'), _) => Err(Malformed("line ends in a bare LF")),
        (Some(b'\r'), _) => Err(Malformed("bare CR")),
        _ => Err(Malformed(otherwise)),
    }
}

macro_rules! some {
    ($e:expr) => {
        match $e {
            Ok(Some(v)) => v,
            Ok(None) => return Ok(None),
            Err(e) => return Err(e),
        }
    };
}

/// Fills the head in; `Some(index after the head)` when it is complete.
fn scan_request(bytes: &[u8], head: &mut RequestHead, limits: &Limits) -> Scan<usize> {
    let mut i = 0;
    // RFC 9112 §2.2: one empty line before the request line is forgiven (old clients send one after a POST body).
    match bytes {
        [b'\r', b'\n', ..] => i = 2,
        [b'\r'] => return Ok(None),
        _ => {}
    }
    let (end, _) = scan::token_end(bytes, i);
    match bytes.get(end) {
        Some(b' ') if end > i => {}
        None if end - i <= 32 => return Ok(None),
        _ => return Err(Malformed("malformed method")),
    }
    head.method = method(&bytes[i..end]);
    head.method_span = span(i, end);
    i = end + 1;

    let end = scan::target_end(bytes, i);
    let target = &bytes[i..end];
    match bytes.get(end) {
        None => return Ok(None),
        Some(b' ') if !target.is_empty() => {}
        _ => return Err(Malformed("malformed request line")),
    }
    let (start, stop) = (i, end);
    i = end + 1;

    // A request with a method that is known is HTTP, however badly it ends, and gets its 400.
    let unreadable = if head.method == Method::Other { NOT_HTTP } else { "unreadable version" };
    let version = match bytes.get(i..i + 8) {
        Some(v) => v,
        None if b"HTTP/".starts_with(&bytes[i..(i + 5).min(bytes.len())]) => return Ok(None),
        None if bytes[i..].starts_with(b"HTTP/") => return Ok(None),
        None => return Err(Malformed(unreadable)),
    };
    head.version = match version {
        b"HTTP/1.1" => Version::H11,
        b"HTTP/1.0" => Version::H10,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            return Err(Other(ErrorKind::VersionNotSupported, "HTTP version not supported"));
        }
        v if v.starts_with(b"HTTP/") => return Err(Malformed("unreadable version")),
        _ => return Err(Malformed(unreadable)),
    };
    // After the version: what is not HTTP at all has no target to complain of.
    let authority = parse_target(bytes, start, stop, head)?;
    i = some!(crlf(bytes, i + 8, "malformed request line"));
    if i > limits.bytes {
        return Err(Other(ErrorKind::TargetTooLong, "start line too long"));
    }

    let end = some!(scan_fields(bytes, i, head.version, &mut head.fields, &mut head.facts, limits));
    if head.method == Method::Connect {
        return Err(Other(ErrorKind::MethodNotAllowed, "CONNECT is not supported"));
    }
    let mut hosts = head.fields.iter().filter(|f| f.id == HeaderId::Host);
    let host = match (hosts.next(), hosts.next()) {
        (Some(f), None) => {
            let value = f.value.of(bytes);
            if value.is_empty() || !host::is_valid(value) {
                return Err(Malformed("malformed Host"));
            }
            f.value
        }
        (None, _) if head.version == Version::H10 => Span::default(),
        (None, _) => return Err(Malformed("Host is missing")),
        _ => return Err(Malformed("more than one Host")),
    };
    head.authority = authority.unwrap_or(host);
    Ok(Some(end))
}

fn method(bytes: &[u8]) -> Method {
    match bytes {
        b"GET" => Method::Get,
        b"POST" => Method::Post,
        b"PUT" => Method::Put,
        b"HEAD" => Method::Head,
        b"PATCH" => Method::Patch,
        b"DELETE" => Method::Delete,
        b"OPTIONS" => Method::Options,
        b"TRACE" => Method::Trace,
        b"CONNECT" => Method::Connect,
        _ => Method::Other,
    }
}

/// Path, query and, of an absolute-form target, the authority.
#[inline]
fn parse_target(bytes: &[u8], start: usize, end: usize, head: &mut RequestHead) -> Result<Option<Span>, Fault> {
    let mut authority = None;
    let mut path = start;
    let target = &bytes[start..end];
    if target[0] != b'/' {
        if head.method == Method::Connect {
            return Ok(None);
        }
        if target == b"*" {
            head.path = span(start, end);
            let allowed = head.method == Method::Options;
            return if allowed { Ok(None) } else { Err(Malformed("target * is for OPTIONS only")) };
        }
        let after = match target {
            t if t.len() > 7 && t[..7].eq_ignore_ascii_case(b"http://") => start + 7,
            t if t.len() > 8 && t[..8].eq_ignore_ascii_case(b"https://") => start + 8,
            _ => return Err(Malformed("malformed request target")),
        };
        let length = bytes[after..end].iter().position(|&b| b == b'/' || b == b'?' || b == b'#').unwrap_or(end - after);
        path = after + length;
        if length == 0 || !host::is_valid(&bytes[after..path]) {
            return Err(Malformed("malformed authority in the request target"));
        }
        authority = Some(span(after, path));
    }
    let mut query = None;
    let mut path_end = end;
    if let Some(at) = memchr::memchr2(b'?', b'#', &bytes[path..end]) {
        path_end = path + at;
        if memchr::memchr(b'#', &bytes[path_end..end]).is_some() {
            return Err(Malformed("fragment in the request target"));
        }
        query = Some(span(path_end + 1, end));
    }
    // `http://host` and `http://host?q` mean the path `/`: the last one of `://` stands for it.
    head.path = if path == path_end {
        let slash = authority.map_or(start, |a: Span| a.start as usize - 1);
        span(slash, slash + 1)
    } else {
        span(path, path_end)
    };
    head.query = query;
    Ok(authority)
}

fn scan_response(bytes: &[u8], head: &mut ResponseHead, limits: &Limits) -> Scan<usize> {
    let Some(line) = bytes.get(..12) else {
        let n = bytes.len().min(7);
        return if bytes[..n] == b"HTTP/1."[..n] { Ok(None) } else { Err(Malformed("not an HTTP/1 answer")) };
    };
    head.version = match &line[..9] {
        b"HTTP/1.1 " => Version::H11,
        b"HTTP/1.0 " => Version::H10,
        _ => return Err(Malformed("not an HTTP/1 answer")),
    };
    head.status = match line[9..] {
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'),
        _ => return Err(Malformed("malformed status")),
    };
    let mut i = 12;
    if bytes.get(i) == Some(&b' ') {
        let end = scan::value_end(bytes, i + 1);
        head.reason = span(i + 1, end);
        i = end;
    }
    i = some!(crlf(bytes, i, "malformed status line"));
    let end = some!(scan_fields(bytes, i, head.version, &mut head.fields, &mut head.facts, limits));
    Ok(Some(end))
}

/// Field lines from `i` to the empty line; index after it.
fn scan_fields(bytes: &[u8], mut i: usize, version: Version, fields: &mut Fields, facts: &mut Facts, limits: &Limits) -> Scan<usize> {
    loop {
        let Some(&first) = bytes.get(i) else { return Ok(None) };
        if first == b'\r' {
            i = some!(crlf(bytes, i, "bare CR"));
            break;
        }
        // A name that is known is a token, and ends at its colon; any other one is looked at byte by byte.
        let mut end = scan::colon(bytes, i);
        let mut id = header_id(&bytes[i..end]);
        let mut classes = 0;
        if id.is_generic() {
            let colon = end;
            (end, classes) = scan::token_end(bytes, i);
            if end != colon {
                id = header_id(&bytes[i..end]);
            }
        }
        match bytes.get(end) {
            Some(b':') if end > i => {}
            None => return Ok(None),
            Some(b':') => return Err(Malformed("empty field name")),
            Some(b' ' | b'\t') if end == i => return Err(Malformed("folded field line")),
            Some(b' ' | b'\t') => return Err(Malformed("white space before a colon")),
            Some(b'\n') => return Err(Malformed("line ends in a bare LF")),
            _ => return Err(Malformed("malformed field name")),
        }
        let name = span(i, end);
        let mut start = end + 1;
        while let Some(b' ' | b'\t') = bytes.get(start) {
            start += 1;
        }
        let stop = scan::value_end(bytes, start);
        i = some!(crlf(bytes, stop, "control byte in a field value"));
        let mut stop = stop;
        while stop > start && matches!(bytes[stop - 1], b' ' | b'\t') {
            stop -= 1;
        }
        if fields.len() >= limits.fields {
            return Err(Other(ErrorKind::HeadTooLarge, "too many header fields"));
        }
        let underscore = classes & UNDERSCORE != 0;
        fields.push(Field { name, value: span(start, stop), id, underscore });
        facts.underscore |= underscore;
        note(id, &bytes[start..stop], version, facts)?;
    }
    if i > limits.bytes {
        return Err(Other(ErrorKind::HeadTooLarge, "head too large"));
    }
    if facts.chunked && facts.length.is_some() {
        return Err(Malformed("both Transfer-Encoding and Content-Length"));
    }
    Ok(Some(i))
}

const FRAMING: u64 = HeaderId::ContentLength.bit() | HeaderId::TransferEncoding.bit() | HeaderId::Connection.bit();

/// What a field says about framing and the connection.
#[inline(always)]
fn note(id: HeaderId, value: &[u8], version: Version, facts: &mut Facts) -> Result<(), Fault> {
    let repeated = facts.ids & id.bit() != 0;
    facts.ids |= id.bit();
    if FRAMING & id.bit() == 0 { Ok(()) } else { note_framing(id, value, version, facts, repeated) }
}

fn note_framing(id: HeaderId, value: &[u8], version: Version, facts: &mut Facts, repeated: bool) -> Result<(), Fault> {
    match id {
        HeaderId::ContentLength => {
            if repeated {
                return Err(Malformed("more than one Content-Length"));
            }
            facts.length = Some(length(value).ok_or(Malformed("malformed Content-Length"))?);
        }
        HeaderId::TransferEncoding => {
            if repeated {
                return Err(Malformed("more than one Transfer-Encoding"));
            }
            if version == Version::H10 {
                return Err(Malformed("Transfer-Encoding in HTTP/1.0"));
            }
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(coding(value));
            }
            facts.chunked = true;
        }
        _ => {
            for option in token::list(value) {
                if option.eq_ignore_ascii_case(b"close") {
                    facts.close = true;
                } else if option.eq_ignore_ascii_case(b"keep-alive") {
                    facts.keep_alive = true;
                } else if option.eq_ignore_ascii_case(b"upgrade") {
                    facts.upgrade = true;
                } else {
                    facts.listed = true;
                }
            }
        }
    }
    Ok(())
}

/// Digits only: no sign, no list, no white space, no overflow.
fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |n, &b| if b.is_ascii_digit() { n.checked_mul(10)?.checked_add(u64::from(b - b'0')) } else { None })
}

/// A coding that is honestly another one is 501 (RFC 9112 §6.1); what only looks like `chunked` is an attack or a bug: 400.
fn coding(value: &[u8]) -> Fault {
    const OTHERS: [&[u8]; 8] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress", b"br", b"zstd", b"identity"];
    let known = |c: &[u8]| OTHERS.iter().any(|o| o.eq_ignore_ascii_case(c));
    let mut codings: Vec<&[u8]> = token::list(value).collect();
    if codings.last().is_some_and(|c| c.eq_ignore_ascii_case(b"chunked")) {
        codings.pop();
    }
    if !codings.is_empty() && codings.iter().all(|c| known(c)) {
        Other(ErrorKind::NotImplemented, "transfer coding not supported")
    } else {
        Malformed("malformed Transfer-Encoding")
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
