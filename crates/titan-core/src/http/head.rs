//! The compact head: offsets into the bytes it arrived in, shared by HTTP/1.1 and HTTP/2.
//!
//! No header map is built. A lookup of a known header compares one byte a field; any other name compares lengths first.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// A range of a head's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes of the range.
    pub fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// HTTP version of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    H10,
    /// HTTP/1.1
    H11,
    /// HTTP/2
    H2,
}

/// Request method. Methods are case-sensitive (RFC 9110 §9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the methods")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Trace,
    Connect,
    /// Any other token: its bytes are in the head.
    Other,
}

/// Headers that Titan itself looks at. `Other` is every other name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the headers")]
pub enum HeaderId {
    Other = 0,
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Te,
    Trailer,
    Upgrade,
    KeepAlive,
    ProxyConnection,
    Http2Settings,
    ProxyAuthorization,
    ProxyAuthenticate,
    Expect,
    Cookie,
    SetCookie,
    Authorization,
    Origin,
    AccessControlRequestMethod,
    AccessControlRequestHeaders,
    ContentType,
    ContentEncoding,
    AcceptEncoding,
    CacheControl,
    ETag,
    Vary,
    Date,
    Server,
    Location,
    UserAgent,
    Referer,
    Forwarded,
    Via,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    XForwardedPort,
    XRealIp,
    XRequestId,
    Traceparent,
    Tracestate,
    SecWebSocketProtocol,
    SecWebSocketKey,
    SecWebSocketVersion,
    GrpcTimeout,
    GrpcStatus,
    GrpcMessage,
    RetryAfter,
    Accept,
    Range,
    StrictTransportSecurity,
    /// Any other `X-Forwarded-…`, `X-Original-…` or `X-Rewrite-…`: some backends decide by them, so only a trusted proxy may send them.
    Claim,
}

/// One field line.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Name as received (HTTP/2: lower case).
    pub name: Span,
    /// Value without surrounding white space.
    pub value: Span,
    /// Known name.
    pub id: HeaderId,
    /// The name holds a `_`: a backend that turns names into variables (CGI, WSGI) reads it as the name with `-`.
    pub underscore: bool,
}

/// What parsing found out about a head on its way, so that nobody has to look again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// Bit `1 << HeaderId as u8` of every known header that is present (bit 0: some other one is).
    pub ids: u64,
    /// Content-Length. A head that has both this and `chunked` never gets out of the parser.
    pub length: Option<u64>,
    /// `Transfer-Encoding: chunked`.
    pub chunked: bool,
    /// `Connection` has `close`.
    pub close: bool,
    /// `Connection` has `keep-alive`.
    pub keep_alive: bool,
    /// `Connection` has `upgrade`.
    pub upgrade: bool,
    /// `Connection` names other fields, which are hop-by-hop then.
    pub listed: bool,
    /// Some name holds a `_`.
    pub underscore: bool,
}

impl Facts {
    /// Whether a known header is present.
    pub fn has(&self, id: HeaderId) -> bool {
        self.ids & id.bit() != 0
    }
}

impl HeaderId {
    /// Its bit in [`Facts::ids`].
    pub const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// Whether it stands for many names.
    pub const fn is_generic(self) -> bool {
        matches!(self, Self::Other | Self::Claim)
    }
}

/// Field lines in order of arrival: a list whose memory the thread uses again for its next head. It lies outside the head, so that heads are
/// small and cheap to move.
#[derive(Debug)]
pub struct Fields(Vec<Field>);

/// Lists kept, and the largest that is.
const SPARE_LISTS: usize = 256;
const SPARE_FIELDS: usize = 128;

thread_local! {
    static SPARE: RefCell<Vec<Vec<Field>>> = const { RefCell::new(Vec::new()) };
}

impl Fields {
    /// An empty list.
    pub fn new() -> Self {
        Self(SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten().unwrap_or_else(|| Vec::with_capacity(24)))
    }
}

impl FromIterator<Field> for Fields {
    fn from_iter<I: IntoIterator<Item = Field>>(fields: I) -> Self {
        let mut list = Self::new();
        list.extend(fields);
        list
    }
}

impl Default for Fields {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        let mut list = std::mem::take(&mut self.0);
        if (1..=SPARE_FIELDS).contains(&list.capacity()) {
            list.clear();
            let _ = SPARE.try_with(|spare| {
                let mut spare = spare.borrow_mut();
                if spare.len() < SPARE_LISTS {
                    spare.push(list);
                }
            });
        }
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = &'a Field;
    type IntoIter = std::slice::Iter<'a, Field>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl Deref for Fields {
    type Target = Vec<Field>;

    fn deref(&self) -> &Vec<Field> {
        &self.0
    }
}

impl DerefMut for Fields {
    fn deref_mut(&mut self) -> &mut Vec<Field> {
        &mut self.0
    }
}

/// Head of a request. Owns the bytes it points into.
#[derive(Debug)]
pub struct RequestHead {
    /// The head's bytes: an HTTP/1 head as received, or the fields of an HTTP/2 one laid end to end.
    pub bytes: Vec<u8>,
    /// Method.
    pub method: Method,
    /// Its bytes.
    pub method_span: Span,
    /// Path of the target as received, query excluded; `*` for `OPTIONS *`. Never empty.
    pub path: Span,
    /// Query without the `?`; `None` where there is no `?`.
    pub query: Option<Span>,
    /// Authority: of an absolute-form target or `:authority` where there is one, else of Host. Empty only for HTTP/1.0 without Host.
    pub authority: Span,
    /// Version.
    pub version: Version,
    /// Field lines (HTTP/2: without pseudo-headers).
    pub fields: Fields,
    /// Found while parsing.
    pub facts: Facts,
}

/// Head of a response. Owns the bytes it points into.
#[derive(Debug)]
pub struct ResponseHead {
    /// The head's bytes.
    pub bytes: Vec<u8>,
    /// Status, 100–999.
    pub status: u16,
    /// Reason phrase; empty where there was none.
    pub reason: Span,
    /// Version.
    pub version: Version,
    /// Field lines.
    pub fields: Fields,
    /// Found while parsing.
    pub facts: Facts,
}

macro_rules! lookups {
    ($head:ty) => {
        impl $head {
            /// The first value of a known header.
            pub fn get(&self, id: HeaderId) -> Option<&[u8]> {
                debug_assert!(!id.is_generic());
                if !self.facts.has(id) {
                    return None;
                }
                self.fields.iter().find(|f| f.id == id).map(|f| f.value.of(&self.bytes))
            }

            /// Every value of a known header, in order.
            pub fn get_all(&self, id: HeaderId) -> impl Iterator<Item = &[u8]> {
                self.fields.iter().filter(move |f| f.id == id).map(|f| f.value.of(&self.bytes))
            }

            /// The first value of any header, by name in any case.
            pub fn get_name(&self, name: &[u8]) -> Option<&[u8]> {
                self.fields.iter().find(|f| f.name.of(&self.bytes).eq_ignore_ascii_case(name)).map(|f| f.value.of(&self.bytes))
            }

            /// Every value of any header, by name in any case.
            pub fn get_all_name<'a, 'n: 'a>(&'a self, name: &'n [u8]) -> impl Iterator<Item = &'a [u8]> {
                self.fields.iter().filter(move |f| f.name.of(&self.bytes).eq_ignore_ascii_case(name)).map(|f| f.value.of(&self.bytes))
            }
        }
    };
}

lookups!(RequestHead);
lookups!(ResponseHead);

impl RequestHead {
    /// Method as sent.
    pub fn method_bytes(&self) -> &[u8] {
        self.method_span.of(&self.bytes)
    }

    /// Raw path as sent (not normalised: policy must use the exchange's match path).
    pub fn raw_path(&self) -> &[u8] {
        self.path.of(&self.bytes)
    }

    /// Query as sent.
    pub fn raw_query(&self) -> Option<&[u8]> {
        self.query.map(|q| q.of(&self.bytes))
    }

    /// Authority (host and optional port).
    pub fn authority_bytes(&self) -> &[u8] {
        self.authority.of(&self.bytes)
    }
}
