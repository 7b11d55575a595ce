//! Heads to bytes: straight from the received bytes into one buffer, field lines that nobody touches copied as blocks.
//!
//! What is left out (RFC 9110 §7.6.1): the hop-by-hop fields, and those that `Connection` names, but for the fields that Titan knows. A
//! client could otherwise have its `X-Forwarded-For` or a colleague's `Authorization` taken off by naming it there (V12). Framing and
//! connection fields are written here alone; no edit can reach them.

use smallvec::SmallVec;

use super::header_id;
use crate::http::answer::Answer;
use crate::http::client::ClientInfo;
use crate::http::date::HttpDate;
use crate::http::forward::{self, Forwarding, RequestIds};
use crate::http::head::{Facts, Field, Fields, HeaderId, RequestHead, ResponseHead, Span, Version};
use crate::http::ops::{HeaderOp, HeaderOps};
use crate::http::out::{Out, line, line_with, span};
use crate::http::token;

/// Framing of a body as it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body follows, and no framing field is written. (Request: nothing. Response: 1xx, 204, 101.)
    None,
    /// No body follows, but the received Content-Length is kept: HEAD and 304.
    Headless,
    /// Content-Length; 0 is written too.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// Until close, for an HTTP/1.0 client: `Connection: close` goes with it.
    UntilClose,
}

/// How a request goes to its upstream.
#[derive(Debug, Clone, Copy)]
pub struct RequestPlan<'a> {
    /// Path: normalised, rewritten where the route says so.
    pub path: &'a [u8],
    /// Query.
    pub query: Option<&'a [u8]>,
    /// Value of Host (to preserve it: [`RequestHead::authority_bytes`], which is right for an absolute-form target too).
    pub host: &'a [u8],
    /// Body.
    pub framing: Framing,
    /// Pass `Upgrade` on: the protocol from [`super::framing::upgrade`].
    pub upgrade: Option<&'a [u8]>,
    /// Keep `Expect: 100-continue` (the upstream decides) instead of taking it off (Titan has answered it).
    pub expect: bool,
    /// Keep `Trailer`: the body is chunked on both sides and trailers are passed.
    pub trailers: bool,
    /// Edits.
    pub ops: &'a HeaderOps,
    /// Forwarding headers.
    pub forwarding: &'a Forwarding,
    /// The client.
    pub client: &'a ClientInfo,
    /// Ids of this request.
    pub ids: &'a RequestIds,
}

/// Fields of one connection only; written anew where they are wanted.
const HOP_BY_HOP: u64 = HeaderId::Connection.bit()
    | HeaderId::KeepAlive.bit()
    | HeaderId::ProxyConnection.bit()
    | HeaderId::Http2Settings.bit()
    | HeaderId::ProxyAuthorization.bit()
    | HeaderId::ProxyAuthenticate.bit()
    | HeaderId::Te.bit()
    | HeaderId::TransferEncoding.bit()
    | HeaderId::Upgrade.bit();

/// Fields that no edit may touch: with one of them a policy could change where a message ends.
const RESERVED: u64 = HOP_BY_HOP | HeaderId::ContentLength.bit() | HeaderId::Trailer.bit() | HeaderId::Expect.bit();

/// Appends the request head for an HTTP/1.1 upstream.
pub fn request<O: Out>(head: &RequestHead, plan: &RequestPlan<'_>, out: &mut O) {
    let text = out.text();
    text.reserve(head.bytes.len() + plan.path.len() + plan.host.len() + 320);
    text.extend_from_slice(head.method_bytes());
    text.push(b' ');
    text.extend_from_slice(plan.path);
    if let Some(query) = plan.query {
        text.push(b'?');
        text.extend_from_slice(query);
    }
    text.extend_from_slice(b" HTTP/1.1\r\n");

    let mut drop = HOP_BY_HOP | plan.forwarding.dropped(plan.client, plan.ids);
    if !plan.expect {
        drop |= HeaderId::Expect.bit();
    }
    if !plan.trailers {
        drop |= HeaderId::Trailer.bit();
    }
    let mut edits = Edits::of(plan.ops);
    let host = plan.ops.iter().rev().find_map(|op| match op {
        HeaderOp::Set(b"host", value) if token::is_value(value) => Some(value),
        _ => None,
    });
    // Host stays in its block when it is what it should be.
    let host = host.unwrap_or(plan.host);
    edits.ids &= !HeaderId::Host.bit();
    if head.get(HeaderId::Host) != Some(host) {
        drop |= HeaderId::Host.bit();
        line(out, HeaderId::Host, b"Host: ", host);
    }
    let length = length_line(plan.framing, &head.facts, &mut drop);
    drop |= edits.ids;
    if let Some(name) = plan.forwarding.other_id_name() {
        edits.names.push(name);
    }
    edits.aliases = head.facts.underscore;
    copy(&head.bytes, &head.fields, &head.facts, drop, &edits, out);
    plan.forwarding.write_request(head, plan.client, plan.ids, edits.ids, out);
    write_edits(plan.ops, HeaderId::Host.bit(), out);
    write_framing(plan.framing, length, out);
    if let Some(protocol) = plan.upgrade {
        line(out, HeaderId::Connection, b"Connection: ", b"upgrade");
        line(out, HeaderId::Upgrade, b"Upgrade: ", protocol);
    }
    out.text().extend_from_slice(b"\r\n");
}

/// How a response goes to its client.
#[derive(Debug, Clone, Copy)]
pub struct ResponsePlan<'a> {
    /// Body.
    pub framing: Framing,
    /// The client's version: HTTP/1.0 is told `Connection: keep-alive` where the connection lives on.
    pub version: Version,
    /// The connection lives on; otherwise `Connection: close` is written.
    pub keep_alive: bool,
    /// 101: `Upgrade` and `Connection: upgrade` are passed.
    pub upgrade: bool,
    /// Keep `Trailer`.
    pub trailers: bool,
    /// Edits.
    pub ops: &'a HeaderOps,
    /// `Via` and the request id.
    pub forwarding: &'a Forwarding,
    /// Ids of the request.
    pub ids: &'a RequestIds,
    /// `Date`, where the upstream sent none.
    pub date: &'a HttpDate,
}

/// Appends the response head for an HTTP/1 client. Works for 1xx heads too: they get neither date, ids nor connection fields, and edits only where
/// they are a 101.
pub fn response<O: Out>(head: &ResponseHead, plan: &ResponsePlan<'_>, out: &mut O) {
    out.text().reserve(head.bytes.len() + 160);
    status_line(head.status, head.reason.of(&head.bytes), out.text());
    let interim = head.status < 200;
    let mut drop = HOP_BY_HOP;
    if !plan.trailers {
        drop |= HeaderId::Trailer.bit();
    }
    let length = length_line(plan.framing, &head.facts, &mut drop);
    let mut edits = Edits::of(plan.ops);
    // 101 ends the exchange of messages: what policies and hooks want on the answer (a sticky cookie, say) has no later place.
    let edited = !interim || head.status == 101;
    if !edited {
        edits = Edits::default();
    }
    if !interim && let Some(name) = plan.forwarding.request_id.as_deref() {
        if name == "x-request-id" {
            drop |= HeaderId::XRequestId.bit();
        } else {
            edits.names.push(name.as_bytes());
        }
    }
    drop |= edits.ids;
    copy(&head.bytes, &head.fields, &head.facts, drop, &edits, out);
    if !interim {
        if !head.facts.has(HeaderId::Date) && edits.ids & HeaderId::Date.bit() == 0 {
            write_date(plan.date, out);
        }
        if let Some(via) = plan.forwarding.via.as_deref().filter(|_| edits.ids & HeaderId::Via.bit() == 0) {
            forward::write_via(head.version, via, out);
        }
        write_id(plan.forwarding, plan.ids, edits.ids, out);
        write_edits(plan.ops, 0, out);
        write_framing(plan.framing, length, out);
    } else if edited {
        write_edits(plan.ops, 0, out);
    }
    if plan.upgrade && head.status == 101 {
        line(out, HeaderId::Connection, b"Connection: ", b"upgrade");
        if let Some(protocol) = head.get(HeaderId::Upgrade) {
            write_field(b"Upgrade", protocol, out);
        }
    } else if !interim {
        write_connection(plan.version, plan.keep_alive && plan.framing != Framing::UntilClose, out);
    }
    out.text().extend_from_slice(b"\r\n");
}

/// How one of Titan's own answers goes to its client.
#[derive(Debug, Clone, Copy)]
pub struct AnswerPlan<'a> {
    /// The request was HEAD: no body.
    pub head_only: bool,
    /// The client's version.
    pub version: Version,
    /// The connection lives on.
    pub keep_alive: bool,
    /// Edits by response policies.
    pub ops: &'a HeaderOps,
    /// Names the request id header.
    pub forwarding: &'a Forwarding,
    /// Ids of the request; absent where no head could be parsed.
    pub ids: Option<&'a RequestIds>,
    /// `Date`.
    pub date: &'a HttpDate,
}

/// Appends a whole answer: head with Content-Length and Date, and body.
pub fn answer<O: Out>(answer: &Answer, plan: &AnswerPlan<'_>, out: &mut O) {
    out.text().reserve(answer.body.len() + 256);
    status_line(answer.status, b"", out.text());
    let merged;
    let ops = match (answer.headers.is_empty(), plan.ops.is_empty()) {
        (true, _) => plan.ops,
        (_, true) => &answer.headers,
        _ => {
            let mut both = answer.headers.clone();
            both.extend(plan.ops);
            merged = both;
            &merged
        }
    };
    let edits = Edits::of(ops);
    if edits.ids & HeaderId::Date.bit() == 0 {
        write_date(plan.date, out);
    }
    if let Some(ids) = plan.ids {
        write_id(plan.forwarding, ids, edits.ids, out);
    }
    write_edits(ops, 0, out);
    let bodiless = answer.status < 200 || answer.status == 204 || answer.status == 304;
    if !bodiless {
        write_framing(Framing::Length(answer.body.len() as u64), true, out);
    }
    write_connection(plan.version, plan.keep_alive, out);
    out.text().extend_from_slice(b"\r\n");
    if !bodiless && !plan.head_only {
        out.text().extend_from_slice(&answer.body);
    }
}

/// What edits and other rules take off beside the mask of ids.
#[derive(Default)]
struct Edits<'a> {
    /// Known names that an edit replaces or removes.
    ids: u64,
    /// Other such names.
    names: SmallVec<[&'a [u8]; 6]>,
    /// Fields whose name is one of these, or a header that Titan takes decisions by, but for `_` in place of `-`, go too.
    aliases: bool,
}

impl<'a> Edits<'a> {
    fn of(ops: &'a HeaderOps) -> Self {
        let mut edits = Self::default();
        if ops.is_empty() {
            return edits;
        }
        for op in ops.iter() {
            if let HeaderOp::Set(name, _) | HeaderOp::Remove(name) = op {
                match header_id(name) {
                    HeaderId::Other | HeaderId::Claim => edits.names.push(name),
                    id => edits.ids |= id.bit() & !RESERVED,
                }
            }
        }
        edits
    }
}

/// Copies the field lines that stay.
fn copy<O: Out>(bytes: &[u8], fields: &Fields, facts: &Facts, drop: u64, edits: &Edits<'_>, out: &mut O) {
    let (Some(first), Some(end)) = (fields.first(), bytes.len().checked_sub(2)) else { return };
    let plain = edits.names.is_empty() && !edits.aliases && !facts.listed;
    if plain && facts.ids & drop == 0 {
        run(bytes, fields, first.name.start as usize, end, out);
        return;
    }
    let listed = if facts.listed { listed_names(bytes, fields) } else { SmallVec::new() };
    // A run of lines that stay begins at the first one's name and ends where the next line that goes begins.
    let (mut from, mut begin) = (0, None);
    for (at, f) in fields.iter().enumerate() {
        let goes = drop & f.id.bit() != 0 || (!plain && f.id.is_generic() && named(f.name.of(bytes), f.underscore, edits, &listed));
        if !goes {
            if begin.is_none() {
                (from, begin) = (at, Some(f.name.start as usize));
            }
        } else if let Some(start) = begin.take() {
            run(bytes, &fields[from..at], start, f.name.start as usize, out);
        }
    }
    if let Some(start) = begin {
        run(bytes, &fields[from..], start, end, out);
    }
}

/// Copies a run of whole lines.
#[inline(always)]
fn run<O: Out>(bytes: &[u8], fields: &[Field], start: usize, end: usize, out: &mut O) {
    let text = out.text();
    let at = text.len();
    text.extend_from_slice(&bytes[start..end]);
    let moved = |s: Span| span(s.start as usize - start + at, s.end as usize - start + at);
    for f in fields {
        out.note(f.id, moved(f.name), moved(f.value));
    }
}

/// Names in `Connection`. Only names without an id count: every field that Titan knows is either hop-by-hop anyway or end-to-end.
fn listed_names<'a>(bytes: &'a [u8], fields: &Fields) -> SmallVec<[&'a [u8]; 6]> {
    let values = fields.iter().filter(|f| f.id == HeaderId::Connection).map(|f| f.value.of(bytes));
    values.flat_map(token::list).filter(|n| header_id(n).is_generic()).collect()
}

#[cold]
fn named(name: &[u8], underscore: bool, edits: &Edits<'_>, listed: &[&[u8]]) -> bool {
    let same = |n: &&[u8]| n.eq_ignore_ascii_case(name);
    if edits.names.iter().any(same) || listed.iter().any(same) {
        return true;
    }
    let fold = |b: &u8| if *b == b'_' { b'-' } else { b.to_ascii_lowercase() };
    let alias = |n: &&[u8]| n.len() == name.len() && n.iter().map(fold).eq(name.iter().map(fold));
    edits.aliases && underscore && (forward::aliases_trusted(name) || edits.names.iter().any(alias))
}

/// Drops the received Content-Length unless it is the right one; whether it must be written.
fn length_line(framing: Framing, facts: &Facts, drop: &mut u64) -> bool {
    let kept = match framing {
        Framing::Headless => true,
        Framing::Length(n) => facts.length == Some(n),
        _ => false,
    };
    if !kept {
        *drop |= HeaderId::ContentLength.bit();
    }
    !kept
}

fn write_framing<O: Out>(framing: Framing, length: bool, out: &mut O) {
    match framing {
        Framing::Length(n) if length => {
            line_with(out, HeaderId::ContentLength, b"Content-Length: ", |out| {
                out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
            });
        }
        Framing::Chunked => line(out, HeaderId::TransferEncoding, b"Transfer-Encoding: ", b"chunked"),
        _ => {}
    }
}

fn write_connection<O: Out>(version: Version, keep_alive: bool, out: &mut O) {
    if !keep_alive {
        line(out, HeaderId::Connection, b"Connection: ", b"close");
    } else if version == Version::H10 {
        line(out, HeaderId::Connection, b"Connection: ", b"keep-alive");
    }
}

fn write_date<O: Out>(date: &HttpDate, out: &mut O) {
    line(out, HeaderId::Date, b"Date: ", &date.0);
}

fn write_id<O: Out>(forwarding: &Forwarding, ids: &RequestIds, except: u64, out: &mut O) {
    match forwarding.request_id.as_deref() {
        Some("x-request-id") if except & HeaderId::XRequestId.bit() == 0 => {
            line(out, HeaderId::XRequestId, b"X-Request-Id: ", &ids.request_id);
        }
        None | Some("x-request-id") => {}
        Some(name) => write_field(name.as_bytes(), &ids.request_id, out),
    }
}

/// Writes the edits that nothing later on the same name undoes.
fn write_edits<O: Out>(ops: &HeaderOps, except: u64, out: &mut O) {
    if ops.is_empty() {
        return;
    }
    for (i, op) in ops.iter().enumerate() {
        let (HeaderOp::Add(name, value) | HeaderOp::Set(name, value)) = op else { continue };
        let undone = ops.iter().skip(i + 1).any(|later| matches!(later, HeaderOp::Set(n, _) | HeaderOp::Remove(n) if n == name));
        if !undone && token::is_token(name) && (RESERVED | except) & header_id(name).bit() == 0 {
            write_field(name, value, out);
        }
    }
}

/// Writes a field line. Values from policies may hold a client's bytes: a control byte among them becomes a space.
fn write_field<O: Out>(name: &[u8], value: &[u8], out: &mut O) {
    let text = out.text();
    let begin = text.len();
    text.extend_from_slice(name);
    text.extend_from_slice(b": ");
    let start = text.len();
    text.extend_from_slice(value);
    if !token::is_value(value) {
        text[start..].iter_mut().filter(|b| !token::is(**b, token::VALUE)).for_each(|b| *b = b' ');
    }
    let end = text.len();
    text.extend_from_slice(b"\r\n");
    out.note(header_id(name), span(begin, begin + name.len()), span(start, end));
}

fn status_line(status: u16, received: &[u8], out: &mut Vec<u8>) {
    if status == 200 && (received.is_empty() || received == b"OK") {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(if received.is_empty() { reason(status).as_bytes() } else { received });
    out.extend_from_slice(b"\r\n");
}

/// The registered reason phrase of a status; empty for others.
pub fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("")
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
