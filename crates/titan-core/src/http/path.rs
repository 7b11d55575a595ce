//! The one path normalisation, before matching and policy (requirement 18, V14).
//!
//! Every path has one spelling, so that no two spellings of it can meet different rules:
//!
//! | received | becomes | why |
//! |---|---|---|
//! | `%41`, `%7e`, `%3A` | `A`, `~`, `:` | what may stand literally in a segment does (RFC 3986 §6.2.2.2, and sub-delims, `:`, `@`, which every known backend decodes before it routes); `+` and `;` keep their encoding, since some give the literal ones a meaning |
//! | `"`, `{`, `é`, `%e9` | `%22`, `%7B`, `%C3%A9`, `%E9` | everything else is encoded, in upper case |
//! | `//` | `/` | most backends merge them |
//! | `\` | `/` | as browsers and Windows do |
//! | `.`, `..`, also `%2e` | resolved (RFC 3986 §5.2.4), never above the root | |
//! | `;…` in a segment | taken off, before dot segments are looked for | servlet containers route without it: `/..;/` is `/../` there ([`Parameters`]) |
//! | `%2F`, `%5C` | 400 | a backend that decodes them would see other segments than policy did ([`EncodedSlash`]) |
//! | `%00` | 400 | ends a string in C |
//! | `%` without two digits | 400 | decoders differ |
//!
//! What policy matched is what is forwarded, unless the route rewrites it; the result of a rewrite is normalised again. Normalising twice
//! changes nothing.

use std::borrow::Cow;

use crate::error::{ErrorKind, ProxyError};
use crate::http::token::{self, SEGMENT};

/// A path in its one spelling. Policy matches it, and it (or the declared rewrite of it, normalised again) is what is forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Normalised<'a>(pub Cow<'a, [u8]>);

/// Normalises a path under the default [`Rules`].
pub fn normalise(raw: &[u8]) -> Result<Normalised<'_>, ProxyError> {
    normalise_with(raw, &Rules::default())
}

/// What becomes of an encoded `/` or `\`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EncodedSlash {
    /// 400: a backend that decodes before it routes would see another path than policy did.
    #[default]
    Reject,
    /// Kept as `%2F`, one segment. For backends that are known to route before they decode.
    Keep,
    /// Read as `/`.
    Decode,
}

/// What becomes of `;…` in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parameters {
    /// Taken off, as servlet containers do before they route.
    #[default]
    Strip,
    /// 400.
    Reject,
    /// Kept as part of the segment. For backends that give `;` no meaning.
    Keep,
}

/// Choices of normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// `%2F` and `%5C`.
    pub encoded_slash: EncodedSlash,
    /// `;`.
    pub parameters: Parameters,
}

/// Normalises a path. It must begin with `/`, or be the `*` of `OPTIONS *`, which stays.
pub fn normalise_with<'a>(raw: &'a [u8], rules: &Rules) -> Result<Normalised<'a>, ProxyError> {
    if is_normal(raw) || raw == b"*" {
        return Ok(Normalised(Cow::Borrowed(raw)));
    }
    if !matches!(raw.first(), Some(b'/' | b'\\')) {
        return Err(refuse("path does not begin with /"));
    }
    let mut out = Vec::with_capacity(raw.len() + 16);
    let mut i = 0;
    // Each turn: a separator at `i`, then the segment up to the next one.
    while i < raw.len() {
        i += 1;
        let start = out.len();
        out.push(b'/');
        i = segment(raw, i, rules, &mut out)?;
        let last = i >= raw.len();
        match &out[start..] {
            // `//` is `/`; an empty or `.` segment at the end leaves the slash.
            b"/" | b"/." => out.truncate(start + usize::from(last)),
            b"/.." => {
                let parent = memchr::memrchr(b'/', &out[..start]).unwrap_or(0);
                out.truncate(parent);
                if last {
                    out.push(b'/');
                }
            }
            _ => {}
        }
    }
    Ok(Normalised(Cow::Owned(out)))
}

/// Appends one segment from `i` on; index of the separator that ends it (or the end).
fn segment(raw: &[u8], mut i: usize, rules: &Rules, out: &mut Vec<u8>) -> Result<usize, ProxyError> {
    let start = out.len();
    let mut skipping = false;
    while let Some(&b) = raw.get(i) {
        let (byte, encoded, width) = match b {
            b'/' | b'\\' => break,
            b'%' => {
                let (Some(h), Some(l)) = (raw.get(i + 1).and_then(|b| token::hex(*b)), raw.get(i + 2).and_then(|b| token::hex(*b))) else {
                    return Err(refuse("malformed percent-encoding in the path"));
                };
                (h << 4 | l, true, 3)
            }
            b => (b, false, 1),
        };
        match byte {
            0 => return Err(refuse("NUL in the path")),
            b'/' | b'\\' => match rules.encoded_slash {
                EncodedSlash::Reject => return Err(refuse("encoded slash in the path")),
                // The last of the three bytes stands for the separator that the caller steps over.
                EncodedSlash::Decode => {
                    i += 2;
                    break;
                }
                EncodedSlash::Keep => {}
            },
            b';' if !encoded => match rules.parameters {
                Parameters::Reject => return Err(refuse("path parameter")),
                Parameters::Strip => skipping = true,
                Parameters::Keep => {}
            },
            _ => {}
        }
        if !skipping {
            let literal = token::is(byte, SEGMENT) || (!encoded && matches!(byte, b'+' | b';'));
            if literal {
                out.push(byte);
            } else {
                out.extend_from_slice(&[b'%', upper_hex(byte >> 4), upper_hex(byte & 15)]);
            }
        }
        i += width;
    }
    if rules.encoded_slash == EncodedSlash::Keep && hides_dots(&out[start..]) {
        return Err(refuse("dot segment beside an encoded slash in the path"));
    }
    if rules.parameters == Parameters::Keep && matches!(&out[start..], [b'.', b';', ..] | [b'.', b'.', b';', ..]) {
        return Err(refuse("dot segment with a parameter in the path"));
    }
    Ok(i)
}

/// Whether a segment with kept `%2F` or `%5C` would hold a dot segment for someone who decodes it.
fn hides_dots(segment: &[u8]) -> bool {
    if memchr::memchr(b'%', segment).is_none() {
        return false;
    }
    let mut decoded = segment.to_vec();
    for code in [&b"%2F"[..], b"%5C"] {
        while let Some(at) = memchr::memmem::find(&decoded, code) {
            decoded.splice(at..at + 3, [b'/']);
        }
    }
    let mut parts = decoded.split(|&b| b == b'/');
    parts.clone().count() > 1 && parts.any(|p| matches!(p, b"." | b".."))
}

/// Whether a path is already in its one spelling, whatever the rules: the usual case, found in one pass.
#[inline]
fn is_normal(raw: &[u8]) -> bool {
    if raw.first() != Some(&b'/') {
        return false;
    }
    let mut before = b'/';
    for &b in &raw[1..] {
        // A `.` at the front of a segment may be a dot segment, a second `/` is empty: both are for the slow way.
        let fine = if b == b'/' { before != b'/' } else { token::is(b, SEGMENT) && !(b == b'.' && before == b'/') };
        if !fine {
            return false;
        }
        before = b;
    }
    true
}

fn upper_hex(digit: u8) -> u8 {
    b"0123456789ABCDEF"[usize::from(digit)]
}

fn refuse(detail: &'static str) -> ProxyError {
    ProxyError::client(ErrorKind::BadRequest, detail)
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
