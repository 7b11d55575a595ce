//! What must never reach a log: credentials in queries and headers.

use std::borrow::Cow;
use std::sync::Arc;

/// Parts of a parameter's name that make its value a secret.
const PARTS: [&[u8]; 9] = [b"token", b"secret", b"password", b"passwd", b"signature", b"credential", b"jwt", b"session", b"assertion"];
/// Whole names that do, and ends of names (`api_key`, `x-amz-key`).
const WHOLE: [&[u8]; 9] = [b"key", b"sig", b"auth", b"authorization", b"code", b"pwd", b"pass", b"nonce", b"sid"];

/// Appends a query with the values of secret parameters (`hidden` ones, and those that are secret by their name) replaced by `***`.
pub(super) fn query(query: &[u8], hidden: &[Arc<str>], out: &mut Vec<u8>) {
    let mut rest = query;
    loop {
        let end = rest.iter().position(|&byte| byte == b'&' || byte == b';').unwrap_or(rest.len());
        let pair = &rest[..end];
        match pair.iter().position(|&byte| byte == b'=') {
            Some(at) if secret_name(&pair[..at]) || hidden.iter().any(|name| name.as_bytes() == &pair[..at]) => {
                out.extend_from_slice(&pair[..=at]);
                out.extend_from_slice(b"***");
            }
            _ => out.extend_from_slice(pair),
        }
        if end == rest.len() {
            return;
        }
        out.push(rest[end]);
        rest = &rest[end + 1..];
    }
}

/// Appends a URL with the secrets of its query and fragment (implicit OAuth flows put tokens there) and its user info redacted.
pub(super) fn url(url: &[u8], hidden: &[Arc<str>], out: &mut Vec<u8>) {
    let end = url.iter().position(|&byte| byte == b'?' || byte == b'#').unwrap_or(url.len());
    let (base, rest) = url.split_at(end);
    match memchr::memmem::find(base, b"://") {
        Some(scheme) => {
            let after = scheme + 3;
            let authority = base[after..].iter().position(|&byte| byte == b'/').map_or(base.len(), |at| after + at);
            let user = base[after..authority].iter().rposition(|&byte| byte == b'@').map_or(after, |at| after + at);
            out.extend_from_slice(&base[..after]);
            if user > after {
                out.extend_from_slice(b"***");
            }
            out.extend_from_slice(&base[user..]);
        }
        None => out.extend_from_slice(base),
    }
    let mut rest = rest;
    while let Some((&mark, tail)) = rest.split_first() {
        out.push(mark);
        let end = tail.iter().position(|&byte| byte == b'#').unwrap_or(tail.len());
        query(&tail[..end], hidden, out);
        rest = &tail[end..];
    }
}

/// Whether a header's value is, or may hold, a credential.
pub(super) fn secret_header(name: &[u8]) -> bool {
    matches!(name, b"authorization" | b"proxy-authorization" | b"cookie" | b"set-cookie") || secret_name(name)
}

/// Whether a parameter of this name holds a secret. Names are compared decoded and in lower case.
fn secret_name(name: &[u8]) -> bool {
    let name = decoded(name);
    let name = name.to_ascii_lowercase();
    PARTS.iter().any(|part| memchr::memmem::find(&name, part).is_some())
        || WHOLE.contains(&name.as_slice())
        || name.ends_with(b"key")
        || WHOLE.iter().any(|whole| name.strip_suffix(*whole).is_some_and(|rest| matches!(rest.last(), Some(b'_' | b'-' | b'.' | b'['))))
}

fn decoded(name: &[u8]) -> Cow<'_, [u8]> {
    if !name.contains(&b'%') {
        return Cow::Borrowed(name);
    }
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = |at: usize| tail.get(at).and_then(|&digit| (digit as char).to_digit(16));
        match (byte, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    Cow::Owned(out)
}
