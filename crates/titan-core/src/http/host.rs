//! One reading of an authority: what routing matches and what SNI is compared with.

use std::borrow::Cow;

use crate::error::{ErrorKind, ProxyError};
use crate::http::token::{self, CLASS, HOST, LOWER};

/// Host and port of an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host<'a> {
    /// Lower case, without a trailing dot, ASCII; an IPv6 literal keeps its brackets. Empty only for an empty authority.
    pub name: Cow<'a, [u8]>,
    /// Port, where one is given.
    pub port: Option<u16>,
}

impl Host<'_> {
    /// Its name as text.
    pub fn name(&self) -> &str {
        // It was found to be ASCII.
        std::str::from_utf8(&self.name).unwrap_or_default()
    }
}

/// Reads `host[:port]`. User information, percent-encoding, white space and empty hosts before a port are refused.
pub fn normalise(authority: &[u8]) -> Result<Host<'_>, ProxyError> {
    if let Some(host) = simple(authority) {
        return Ok(host);
    }
    let bad = || ProxyError::client(ErrorKind::BadRequest, "malformed Host");
    let (name, port) = split(authority).ok_or_else(bad)?;
    let port = match port {
        None | Some(b"") => None,
        Some(p) => Some(std::str::from_utf8(p).ok().and_then(|p| p.parse().ok()).ok_or_else(bad)?),
    };
    // `a.example.` is `a.example`; only one dot is a root label.
    let name = match name {
        [rest @ .., b'.'] if !rest.is_empty() && !rest.ends_with(b".") => rest,
        [.., b'.'] => return Err(bad()),
        n => n,
    };
    let name = if name.iter().any(u8::is_ascii_uppercase) { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) };
    Ok(Host { name, port })
}

/// The usual case in one pass: lower-case letters, digits, `-`, `.`, not ending in a dot, and perhaps a port.
#[inline]
fn simple(authority: &[u8]) -> Option<Host<'_>> {
    const MASK: u8 = HOST | LOWER;
    let end = authority.iter().position(|&b| CLASS[b as usize] & MASK != MASK).unwrap_or(authority.len());
    let port = match &authority[end..] {
        [] => None,
        [b':', digits @ ..] if (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) => {
            let n = digits.iter().fold(0u32, |n, b| n * 10 + u32::from(b - b'0'));
            Some(u16::try_from(n).ok()?)
        }
        _ => return None,
    };
    let name = &authority[..end];
    if name.is_empty() || name.ends_with(b".") {
        return None;
    }
    Some(Host { name: Cow::Borrowed(name), port })
}

/// Whether an authority follows the grammar.
pub fn is_valid(authority: &[u8]) -> bool {
    simple(authority).is_some() || split(authority).is_some()
}

/// Host and digits after the colon; `None` where the grammar is not met.
fn split(authority: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let (name, rest) = if authority.first() == Some(&b'[') {
        let end = authority.iter().position(|&b| b == b']')?;
        let inside = std::str::from_utf8(&authority[1..end]).ok()?;
        inside.parse::<std::net::Ipv6Addr>().ok()?;
        (&authority[..=end], &authority[end + 1..])
    } else {
        let end = authority.iter().position(|&b| b == b':').unwrap_or(authority.len());
        if !token::all(&authority[..end], HOST) {
            return None;
        }
        (&authority[..end], &authority[end..])
    };
    match rest {
        [] => Some((name, None)),
        [b':', digits @ ..] if !name.is_empty() && digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => Some((name, Some(digits))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_one_way() {
        for (raw, name, port) in [
            ("example.com", "example.com", None),
            ("EXAMPLE.com:8080", "example.com", Some(8080)),
            ("example.com.", "example.com", None),
            ("example.com.:80", "example.com", Some(80)),
            ("example.com:", "example.com", None),
            ("[::1]", "[::1]", None),
            ("[2001:DB8::1]:443", "[2001:db8::1]", Some(443)),
            ("my_svc", "my_svc", None),
            ("", "", None),
        ] {
            let host = normalise(raw.as_bytes()).expect(raw);
            assert_eq!((&*host.name, host.port), (name.as_bytes(), port), "{raw}");
        }
    }

    #[test]
    fn refuses_what_is_read_two_ways() {
        for raw in [
            "a b",
            "user@host",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a,b",
            "a;b",
            "h:80:90",
            "h:+80",
            "h:99999",
            "h:0x50",
            "[::1",
            "[::1]x",
            "[zz]",
            ":80",
            "..",
            ".",
            "a..",
            "h%00",
            "h%2e",
            "\u{e9}",
        ] {
            assert!(normalise(raw.as_bytes()).is_err(), "{raw}");
        }
    }
}
