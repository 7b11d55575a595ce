//! Forwarding headers: who the client is, and what the upstream is told about it.
//!
//! A peer that is not a trusted proxy is believed nothing: what it says in `X-Forwarded-*`, `Forwarded`, `X-Real-IP` and `X-Request-Id` is
//! dropped, also under names with `_` (which CGI-like backends read as `-`). Through trusted peers the client is the rightmost address
//! that is not a trusted proxy itself.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use smallvec::SmallVec;

use super::client::{ClientInfo, Scheme};
use super::h1::header_id;
use super::head::{HeaderId, RequestHead, Version};
use super::out::{Out, line, line_with, span};
use super::token;

/// Compiled forwarding rules.
#[derive(Debug, Clone, Default)]
pub struct Forwarding {
    /// Peers whose forwarding headers are believed.
    pub trusted: Vec<IpNet>,
    /// Write X-Forwarded-For, -Proto, -Host.
    pub x_forwarded: bool,
    /// Write Forwarded.
    pub forwarded: bool,
    /// Pseudonym for Via.
    pub via: Option<Box<str>>,
    /// Name of the request id header, lower case.
    pub request_id: Option<Box<str>>,
    /// Ids that are taken from any client, matched whole; `None` = only trusted proxies' are.
    pub id_pattern: Option<regex::bytes::Regex>,
    /// Name of the correlation id header, lower case.
    pub correlation_id: Option<Box<str>>,
    /// Write Server-Timing on answers.
    pub server_timing: bool,
    /// Begin `traceparent` where there is no valid one.
    pub trace_context: bool,
}

/// Ids of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestIds {
    /// Request id: the client's where its peer is trusted (or the id has the pattern) and the id is plain, else 32 hexadecimal digits (those of the trace id, where a
    /// trace is begun too).
    pub request_id: SmallVec<[u8; 40]>,
    /// Correlation id, where there is a header for it: the client's under the same rule, else the request id.
    pub correlation_id: Option<Box<[u8]>>,
    /// `traceparent` to be written: absent where the received one is kept.
    pub traceparent: Option<[u8; 55]>,
}

/// Source of ids, one a shard: unique, not secret.
#[derive(Debug)]
pub struct IdSource {
    state: u64,
}

impl IdSource {
    /// Seeded by the operating system.
    pub fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self { state: RandomState::new().hash_one(std::process::id()) }
    }

    /// wyrand: one multiplication a number.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0xa076_1d64_78bd_642f);
        let m = u128::from(self.state) * u128::from(self.state ^ 0xe703_7ed1_a0b4_28db);
        (m >> 64) as u64 ^ m as u64
    }
}

impl Default for IdSource {
    fn default() -> Self {
        Self::new()
    }
}

/// Headers in which a client could claim to be someone else: only a trusted proxy's are passed on.
const CLAIMS: u64 = HeaderId::XForwardedFor.bit()
    | HeaderId::XForwardedProto.bit()
    | HeaderId::XForwardedHost.bit()
    | HeaderId::XForwardedPort.bit()
    | HeaderId::XRealIp.bit()
    | HeaderId::Forwarded.bit()
    | HeaderId::Claim.bit();

/// Whether a name that holds `_` is, to a backend that reads `_` as `-`, the name of a header that Titan sets, strips or decides by.
/// Such a field is never forwarded (V13). Names of policy headers are compared by the encoder.
pub fn aliases_trusted(name: &[u8]) -> bool {
    let mut folded = [0u8; 32];
    let Some(folded) = folded.get_mut(..name.len()) else { return false };
    for (to, &from) in folded.iter_mut().zip(name) {
        *to = if from == b'_' { b'-' } else { from.to_ascii_lowercase() };
    }
    header_id(folded) != HeaderId::Other
}

impl Forwarding {
    /// Whether an address is a trusted proxy's.
    pub fn trusts(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.trusted.iter().any(|n| n.contains(&ip))
    }

    /// Sets `trusted`, `ip` and `scheme` of a connection's client for this request: X-Forwarded-For (or else Forwarded) is read right to
    /// left through trusted hops, and only when the peer itself is trusted.
    pub fn identify(&self, head: &RequestHead, client: &mut ClientInfo) {
        client.ip = client.peer.ip().to_canonical();
        client.scheme = if client.tls.is_some() { Scheme::Https } else { Scheme::Http };
        client.trusted = !self.trusted.is_empty() && self.trusts(client.ip);
        if !client.trusted {
            return;
        }
        if head.facts.has(HeaderId::XForwardedFor) {
            let hops: SmallVec<[&[u8]; 8]> = head.get_all(HeaderId::XForwardedFor).flat_map(token::list).collect();
            self.walk(hops.into_iter().rev().map(parse_hop), client);
        } else if head.facts.has(HeaderId::Forwarded) {
            let hops: SmallVec<[&[u8]; 8]> = head.get_all(HeaderId::Forwarded).flat_map(token::list).collect();
            self.walk(hops.into_iter().rev().map(|e| parse_hop(parameter(e, b"for")?)), client);
        }
        let scheme = head
            .get_all(HeaderId::XForwardedProto)
            .flat_map(token::list)
            .last()
            .or_else(|| parameter(head.get_all(HeaderId::Forwarded).flat_map(token::list).last()?, b"proto"));
        match scheme {
            Some(s) if s.eq_ignore_ascii_case(b"https") || s.eq_ignore_ascii_case(b"wss") => client.scheme = Scheme::Https,
            Some(s) if s.eq_ignore_ascii_case(b"http") || s.eq_ignore_ascii_case(b"ws") => client.scheme = Scheme::Http,
            _ => {}
        }
    }

    /// From the nearest hop outwards: the first one that is no trusted proxy is the client. An unreadable hop ends the walk, since nobody
    /// vouches for what stands before it.
    fn walk(&self, hops: impl Iterator<Item = Option<IpAddr>>, client: &mut ClientInfo) {
        for hop in hops {
            let Some(ip) = hop else { return };
            client.ip = ip;
            if !self.trusts(ip) {
                return;
            }
        }
    }

    /// Ids of a request.
    pub fn ids(&self, head: &RequestHead, client: &ClientInfo, source: &mut IdSource) -> RequestIds {
        let traceparent = if self.trace_context && !keeps_traceparent(head) { Some(begin_trace(source)) } else { None };
        let believes = client.trusted || self.id_pattern.is_some();
        let kept = self.request_id.as_deref().filter(|_| believes).and_then(|name| self.received_id(name, head, client));
        let request_id = match (kept, &traceparent) {
            (Some(id), _) => SmallVec::from_slice(id),
            (None, Some(begun)) => {
                let mut id = [0; 40];
                id[..32].copy_from_slice(&begun[3..35]);
                SmallVec::from_buf_and_len(id, 32)
            }
            (None, None) => fresh_id(source),
        };
        let correlation_id = self.correlation_id.as_deref().map(|name| {
            let kept = if believes { self.received_id(name, head, client) } else { None };
            kept.unwrap_or(&request_id).into()
        });
        RequestIds { request_id, correlation_id, traceparent }
    }

    /// Ids of a request whose head could not be read: a request id, which names it in the answer and the log.
    pub fn ids_without_head(&self, source: &mut IdSource) -> RequestIds {
        RequestIds { request_id: fresh_id(source), correlation_id: None, traceparent: None }
    }

    /// The one plain id in a header of a request, where it is to be believed.
    fn received_id<'a>(&self, name: &str, head: &'a RequestHead, client: &ClientInfo) -> Option<&'a [u8]> {
        let mut fields = head.fields.iter().filter(|f| f.name.of(&head.bytes).eq_ignore_ascii_case(name.as_bytes()));
        let id = fields.next()?.value.of(&head.bytes);
        let plain = (1..=128).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:+=/@".contains(b));
        let believed = client.trusted || self.id_pattern.as_ref().is_some_and(|pattern| pattern.is_match(id));
        (plain && fields.next().is_none() && believed).then_some(id)
    }

    /// Received headers that must not reach the upstream, because [`Forwarding::write_request`] writes them anew or because nobody vouches
    /// for them.
    pub(crate) fn dropped(&self, client: &ClientInfo, ids: &RequestIds) -> u64 {
        let mut drop = 0;
        if !client.trusted || self.request_id.as_deref() == Some("x-request-id") {
            drop |= HeaderId::XRequestId.bit();
        }
        if client.trusted {
            if self.x_forwarded {
                drop |= HeaderId::XForwardedFor.bit();
            }
            if self.forwarded {
                drop |= HeaderId::Forwarded.bit();
            }
        } else {
            drop |= CLAIMS;
        }
        if ids.traceparent.is_some() {
            drop |= HeaderId::Traceparent.bit() | HeaderId::Tracestate.bit();
        }
        drop
    }

    /// The request id's header where it is not X-Request-Id (which [`Forwarding::dropped`] covers).
    pub(crate) fn other_id_name(&self) -> Option<&[u8]> {
        self.request_id.as_deref().map(str::as_bytes).filter(|n| *n != b"x-request-id")
    }

    /// Appends the forwarding headers, but not those whose id is in `except` (a policy has decided about them).
    pub(crate) fn write_request<O: Out>(&self, head: &RequestHead, client: &ClientInfo, ids: &RequestIds, except: u64, out: &mut O) {
        let wanted = |id: HeaderId| except & id.bit() == 0;
        // A trusted proxy's own word on protocol and host stays; the chain of addresses gets one more.
        let kept = |id: HeaderId| client.trusted && head.facts.has(id);
        if self.x_forwarded {
            if wanted(HeaderId::XForwardedFor) {
                line_with(out, HeaderId::XForwardedFor, b"X-Forwarded-For: ", |out| {
                    if client.trusted {
                        for value in head.get_all(HeaderId::XForwardedFor).filter(|v| !v.is_empty()) {
                            out.extend_from_slice(value);
                            out.extend_from_slice(b", ");
                        }
                    }
                    write_ip(client.peer.ip().to_canonical(), out);
                });
            }
            if wanted(HeaderId::XForwardedProto) && !kept(HeaderId::XForwardedProto) {
                line(out, HeaderId::XForwardedProto, b"X-Forwarded-Proto: ", client.scheme.as_str().as_bytes());
            }
            let authority = head.authority_bytes();
            if wanted(HeaderId::XForwardedHost) && !kept(HeaderId::XForwardedHost) && !authority.is_empty() {
                line(out, HeaderId::XForwardedHost, b"X-Forwarded-Host: ", authority);
            }
        }
        if self.forwarded && wanted(HeaderId::Forwarded) {
            line_with(out, HeaderId::Forwarded, b"Forwarded: ", |out| self.write_forwarded(head, client, out));
        }
        if let Some(via) = self.via.as_deref().filter(|_| wanted(HeaderId::Via)) {
            write_via(head.version, via, out);
        }
        if let Some(name) = self.request_id.as_deref() {
            match name {
                "x-request-id" if !wanted(HeaderId::XRequestId) => {}
                "x-request-id" => line(out, HeaderId::XRequestId, b"X-Request-Id: ", &ids.request_id),
                _ => field(out, name.as_bytes(), &ids.request_id),
            }
        }
        if let Some(t) = &ids.traceparent
            && wanted(HeaderId::Traceparent)
        {
            line(out, HeaderId::Traceparent, b"traceparent: ", t);
        }
    }

    fn write_forwarded(&self, head: &RequestHead, client: &ClientInfo, out: &mut Vec<u8>) {
        if client.trusted {
            for value in head.get_all(HeaderId::Forwarded).filter(|v| !v.is_empty()) {
                out.extend_from_slice(value);
                out.extend_from_slice(b", ");
            }
        }
        out.extend_from_slice(b"for=");
        match client.peer.ip().to_canonical() {
            ip @ IpAddr::V4(_) => write_ip(ip, out),
            ip @ IpAddr::V6(_) => {
                out.extend_from_slice(b"\"[");
                write_ip(ip, out);
                out.extend_from_slice(b"]\"");
            }
        }
        out.extend_from_slice(b";proto=");
        out.extend_from_slice(client.scheme.as_str().as_bytes());
        let authority = head.authority_bytes();
        if token::is_token(authority) {
            out.extend_from_slice(b";host=");
            out.extend_from_slice(authority);
        } else if !authority.is_empty() {
            // A valid authority holds neither `"` nor `\`, so that quoting is enough.
            out.extend_from_slice(b";host=\"");
            out.extend_from_slice(authority);
            out.push(b'"');
        }
    }
}

/// Appends `Via` for a message received in that version.
pub(crate) fn write_via<O: Out>(version: Version, pseudonym: &str, out: &mut O) {
    line_with(out, HeaderId::Via, b"Via: ", |out| {
        out.extend_from_slice(match version {
            Version::H10 => b"1.0 ",
            Version::H11 => b"1.1 ",
            Version::H2 => b"2 ",
        });
        out.extend_from_slice(pseudonym.as_bytes());
    });
}

/// Appends a line of any name.
fn field<O: Out>(out: &mut O, name: &[u8], value: &[u8]) {
    let text = out.text();
    let start = text.len();
    text.extend_from_slice(name);
    text.extend_from_slice(b": ");
    text.extend_from_slice(value);
    let end = text.len();
    text.extend_from_slice(b"\r\n");
    out.note(header_id(name), span(start, start + name.len()), span(end - value.len(), end));
}

/// Appends an address. IPv4 by hand: `Display` costs as much as the rest of the head.
pub fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(v4) => {
            let mut text = [b'.'; 16];
            let mut at = 0;
            for octet in v4.octets() {
                if octet >= 100 {
                    text[at] = b'0' + octet / 100;
                    at += 1;
                }
                if octet >= 10 {
                    text[at] = b'0' + octet / 10 % 10;
                    at += 1;
                }
                text[at] = b'0' + octet % 10;
                at += 2;
            }
            out.extend_from_slice(&text[..at - 1]);
        }
        IpAddr::V6(_) => {
            use std::io::Write;
            // Writing to a Vec does not fail.
            let _ = write!(out, "{ip}");
        }
    }
}

/// One hop of X-Forwarded-For or the value of `for=`: an address, with a port or brackets where some proxies put them.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?.trim_matches('"');
    let ip = hop
        .parse::<IpAddr>()
        .ok()
        .or_else(|| hop.parse::<SocketAddr>().ok().map(|a| a.ip()))
        .or_else(|| hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok())?;
    Some(ip.to_canonical())
}

/// A parameter of one element of `Forwarded`.
fn parameter<'a>(element: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    element.split(|&b| b == b';').map(token::trim).find_map(|p| {
        let at = memchr::memchr(b'=', p)?;
        p[..at].eq_ignore_ascii_case(name).then(|| token::trim(&p[at + 1..]))
    })
}

/// Whether the received trace context is valid (W3C Trace Context §3.2), so that it goes on as it is.
fn keeps_traceparent(head: &RequestHead) -> bool {
    let mut values = head.get_all(HeaderId::Traceparent);
    let (Some(v), None) = (values.next(), values.next()) else { return false };
    let lower_hex = |s: &[u8]| s.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |s: &[u8]| s.iter().all(|&b| b == b'0');
    v.len() >= 55
        && [v[2], v[35], v[52]] == *b"---"
        && lower_hex(&v[..2])
        && lower_hex(&v[3..35])
        && lower_hex(&v[36..52])
        && lower_hex(&v[53..55])
        && &v[..2] != b"ff"
        && !zero(&v[3..35])
        && !zero(&v[36..52])
        && (v.len() == 55 || (&v[..2] != b"00" && v[55] == b'-'))
}

/// A new trace, marked as sampled: services that follow their parent's decision would otherwise never record one.
fn begin_trace(source: &mut IdSource) -> [u8; 55] {
    let mut t = *b"00-00000000000000000000000000000000-0000000000000000-01";
    t[3..19].copy_from_slice(&hex(source.next() | 1));
    t[19..35].copy_from_slice(&hex(source.next()));
    t[36..52].copy_from_slice(&hex(source.next() | 1));
    t
}

/// 32 hexadecimal digits.
fn fresh_id(source: &mut IdSource) -> SmallVec<[u8; 40]> {
    let mut id = [0; 40];
    id[..16].copy_from_slice(&hex(source.next()));
    id[16..32].copy_from_slice(&hex(source.next()));
    SmallVec::from_buf_and_len(id, 32)
}

/// The sixteen hexadecimal digits of a number, eight at a time.
fn hex(n: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    digits[..8].copy_from_slice(&hex_half((n >> 32) as u32));
    digits[8..].copy_from_slice(&hex_half(n as u32));
    digits
}

fn hex_half(n: u32) -> [u8; 8] {
    // One nibble a byte.
    let mut x = u64::from(n);
    x = (x & 0xffff_0000) << 16 | (x & 0xffff);
    x = (x & 0x0000_ff00_0000_ff00) << 8 | (x & 0x0000_00ff_0000_00ff);
    x = (x & 0x00f0_00f0_00f0_00f0) << 4 | (x & 0x000f_000f_000f_000f);
    // Those above 9 are letters, which lie so much further up.
    let letters = (x + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (x + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
