//! Chunked transfer coding (RFC 9112 §7.1): an incremental decoder that yields ranges of its input, and an encoder.
//!
//! The decoder takes no short cuts that others fell for: a size is 1–16 hexadecimal digits and nothing else, extensions must follow the
//! grammar and go nowhere (a bare LF in one is what CVE-2025-55315 was), every line ends in CRLF, and what is not data is bounded.

use std::ops::Range;

use super::header_id;
use crate::error::{ErrorKind, ProxyError, RetrySafety};
use crate::http::head::HeaderId;
use crate::http::scan;
use crate::http::token::{self, TCHAR, VALUE};

/// Bytes of extensions in one body (they carry nothing, so this is room for a bad habit, not for a purpose).
const MAX_EXTENSIONS: u32 = 16 << 10;
/// Bytes of trailer lines.
const MAX_TRAILERS: usize = 8 << 10;
/// Trailer lines.
const MAX_TRAILER_FIELDS: usize = 64;

/// What a step found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Body bytes: a range of the input, never empty.
    Data(Range<usize>),
    /// The input is used up: more is needed.
    More,
    /// The body has ended, trailers included. Bytes after `consumed` belong to the next message.
    End,
}

/// Result of [`Decoder::step`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that are done with, data included. After [`Event::More`] this is all of them: the decoder keeps what it needs.
    pub consumed: usize,
    /// What was found.
    pub event: Event,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before or in a chunk's size: digits so far.
    Size(u8),
    /// White space after the size: only an extension may follow.
    SizeSpace,
    Extension(Ext),
    /// After the CR that ends a size line.
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// In the trailer section: collecting a line.
    Trailer,
    Done,
}

/// Where in `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ext {
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Value,
    Quoted,
    Escaped,
    AfterValue,
}

/// Incremental decoder.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// Size being read, then bytes of data left.
    left: u64,
    extensions: u32,
    trailer_fields: u8,
    of_client: bool,
    /// Trailer lines so far; not allocated before the first one.
    trailers: Vec<u8>,
    /// Where in `trailers` the line being collected begins.
    line: usize,
}

impl Decoder {
    /// For a request body: violations are the client's.
    pub fn request() -> Self {
        Self { state: State::Size(0), left: 0, extensions: 0, trailer_fields: 0, of_client: true, trailers: Vec::new(), line: 0 }
    }

    /// For a response body: violations are the upstream's.
    pub fn response() -> Self {
        Self { of_client: false, ..Self::request() }
    }

    /// Takes the next step in `input`, which begins where the last step's `consumed` ended. An error is final.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, ProxyError> {
        let mut i = 0;
        while let Some(&b) = input.get(i) {
            match self.state {
                State::Data => {
                    let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - i);
                    self.left -= n as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Step { consumed: i + n, event: Event::Data(i..i + n) });
                }
                State::Size(digits) => match (token::hex(b), b) {
                    (Some(_), _) if digits == 16 => return Err(self.fault("chunk size too large")),
                    (Some(d), _) => {
                        self.left = self.left << 4 | u64::from(d);
                        self.state = State::Size(digits + 1);
                    }
                    (None, _) if digits == 0 => return Err(self.fault("malformed chunk size")),
                    (None, b'\r') => self.state = State::SizeLf,
                    (None, b';') => self.state = State::Extension(Ext::BeforeName),
                    (None, b' ' | b'\t') => self.state = State::SizeSpace,
                    _ => return Err(self.fault("malformed chunk size")),
                },
                State::SizeSpace => match b {
                    b' ' | b'\t' => self.count_extension()?,
                    b';' => self.state = State::Extension(Ext::BeforeName),
                    _ => return Err(self.fault("malformed chunk size")),
                },
                State::Extension(ext) => {
                    self.count_extension()?;
                    self.state = extension(ext, b).ok_or_else(|| self.fault("malformed chunk extension"))?;
                }
                State::SizeLf => {
                    self.expect(b, b'\n')?;
                    self.state = if self.left == 0 { State::Trailer } else { State::Data };
                }
                State::DataCr => {
                    self.expect(b, b'\r')?;
                    self.state = State::DataLf;
                }
                State::DataLf => {
                    self.expect(b, b'\n')?;
                    self.state = State::Size(0);
                }
                State::Trailer => {
                    // The usual end: no trailers.
                    if self.trailers.is_empty() && input[i..].starts_with(b"\r\n") {
                        self.state = State::Done;
                        return Ok(Step { consumed: i + 2, event: Event::End });
                    }
                    let rest = &input[i..];
                    let stop = memchr::memchr(b'\n', rest).map_or(rest.len(), |n| n + 1);
                    if self.trailers.len() + stop > MAX_TRAILERS {
                        return Err(self.too_large("trailers too large"));
                    }
                    self.trailers.extend_from_slice(&rest[..stop]);
                    i += stop;
                    if self.trailers.last() == Some(&b'\n') && self.trailer_line()? {
                        self.state = State::Done;
                        return Ok(Step { consumed: i, event: Event::End });
                    }
                    continue;
                }
                State::Done => return Ok(Step { consumed: i, event: Event::End }),
            }
            i += 1;
        }
        let event = if self.state == State::Done { Event::End } else { Event::More };
        Ok(Step { consumed: i, event })
    }

    /// Whether the end has been seen.
    pub fn ended(&self) -> bool {
        self.state == State::Done
    }

    /// Trailer lines as received (`name: value\r\n`…); empty where there were none. Complete once the end has been seen.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Checks the line just collected; whether it is the empty one that ends the body (which is taken off again).
    fn trailer_line(&mut self) -> Result<bool, ProxyError> {
        let line = &self.trailers[self.line..];
        if line == b"\r\n" {
            self.trailers.truncate(self.line);
            return Ok(true);
        }
        if !line_is_valid(line) {
            return Err(self.fault("malformed trailer"));
        }
        self.line = self.trailers.len();
        self.trailer_fields += 1;
        if usize::from(self.trailer_fields) > MAX_TRAILER_FIELDS {
            return Err(self.too_large("too many trailers"));
        }
        Ok(false)
    }

    fn count_extension(&mut self) -> Result<(), ProxyError> {
        self.extensions += 1;
        if self.extensions > MAX_EXTENSIONS { Err(self.fault("chunk extensions too large")) } else { Ok(()) }
    }

    fn expect(&self, b: u8, wanted: u8) -> Result<(), ProxyError> {
        if b == wanted { Ok(()) } else { Err(self.fault("malformed chunk")) }
    }

    #[cold]
    fn fault(&self, detail: &'static str) -> ProxyError {
        if self.of_client {
            ProxyError::client(ErrorKind::BadRequest, detail)
        } else {
            ProxyError::upstream(ErrorKind::BadUpstreamResponse, RetrySafety::Never, detail)
        }
    }

    #[cold]
    fn too_large(&self, detail: &'static str) -> ProxyError {
        if self.of_client { ProxyError::client(ErrorKind::HeadTooLarge, detail) } else { self.fault(detail) }
    }
}

/// The state after one more byte of an extension.
fn extension(at: Ext, b: u8) -> Option<State> {
    let space = b == b' ' || b == b'\t';
    let tchar = token::is(b, TCHAR);
    let next = match (at, b) {
        (Ext::Name | Ext::AfterName | Ext::Value | Ext::AfterValue, b'\r') => return Some(State::SizeLf),
        (Ext::Name | Ext::AfterName | Ext::Value | Ext::AfterValue, b';') => Ext::BeforeName,
        (Ext::BeforeName, _) if space => Ext::BeforeName,
        (Ext::BeforeName | Ext::Name, _) if tchar => Ext::Name,
        (Ext::Name | Ext::AfterName, b'=') => Ext::BeforeValue,
        (Ext::Name | Ext::AfterName, _) if space => Ext::AfterName,
        (Ext::BeforeValue, b'"') => Ext::Quoted,
        (Ext::BeforeValue, _) if space => Ext::BeforeValue,
        (Ext::BeforeValue | Ext::Value, _) if tchar => Ext::Value,
        (Ext::Value | Ext::AfterValue, _) if space => Ext::AfterValue,
        (Ext::Quoted, b'"') => Ext::AfterValue,
        (Ext::Quoted, b'\\') => Ext::Escaped,
        (Ext::Quoted | Ext::Escaped, _) if token::is(b, VALUE) => Ext::Quoted,
        _ => return None,
    };
    Some(State::Extension(next))
}

/// Whether a line (with its LF) is `name: value\r\n`.
fn line_is_valid(line: &[u8]) -> bool {
    let (colon, _) = scan::token_end(line, 0);
    colon > 0 && line.get(colon) == Some(&b':') && scan::value_end(line, colon + 1) + 2 == line.len() && line.ends_with(b"\r\n")
}

/// Writes what goes before `len` bytes of data (`len` > 0); [`CHUNK_END`] goes after them.
pub fn chunk_head(len: usize, out: &mut Vec<u8>) {
    debug_assert!(len > 0, "an empty chunk would end the body");
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4);
    for i in (0..digits).rev() {
        out.push(b"0123456789abcdef"[len >> (4 * i) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Goes after a chunk's data.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Writes the last chunk and trailer lines (see [`passable_trailers`]).
pub fn last_chunk(trailers: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}

/// Of the trailer lines received, those announced in `Trailer` (its values are given) and allowed: never framing, routing, authentication,
/// forwarding or connection fields, nor those that say how the body is to be read (RFC 9110 §6.5.1).
pub fn passable_trailers<'a>(received: &[u8], announced: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let names: Vec<&[u8]> = announced.flat_map(token::list).collect();
    let mut out = Vec::new();
    for line in received.split_inclusive(|&b| b == b'\n') {
        let (end, _) = scan::token_end(line, 0);
        let name = &line[..end];
        if trailer_is_allowed(name) && names.iter().any(|n| n.eq_ignore_ascii_case(name)) {
            out.extend_from_slice(line);
        }
    }
    out
}

/// Of the trailer lines received, those that are allowed, announced or not: from HTTP/2 to HTTP/2, where nobody announces them.
pub fn allowed_trailers(received: &[u8]) -> Vec<u8> {
    let lines = received.split_inclusive(|&b| b == b'\n');
    lines.filter(|line| trailer_is_allowed(&line[..scan::token_end(line, 0).0])).collect::<Vec<_>>().concat()
}

/// Whether a field may stand in trailers: of those that Titan knows only the ones that gRPC needs and `ETag`, `Server`, … that decide
/// nothing; every unknown one.
pub fn trailer_is_allowed(name: &[u8]) -> bool {
    let mut dashed = [0u8; 32];
    let id = match dashed.get_mut(..name.len()) {
        Some(d) => {
            d.copy_from_slice(name);
            d.iter_mut().filter(|b| **b == b'_').for_each(|b| *b = b'-');
            header_id(d)
        }
        None => header_id(name),
    };
    token::is_token(name)
        && matches!(id, HeaderId::Other | HeaderId::GrpcStatus | HeaderId::GrpcMessage | HeaderId::ETag | HeaderId::Date | HeaderId::Server)
        && !name.eq_ignore_ascii_case(b"content-range")
        && !name.eq_ignore_ascii_case(b"max-forwards")
        && !name.eq_ignore_ascii_case(b"www-authenticate")
        && !name.eq_ignore_ascii_case(b"pragma")
}

#[cfg(test)]
#[path = "chunked_tests.rs"]
mod tests;
