//! How long a body is and whether the connection lives on (RFC 9112 §6.3 and §9.3).

use crate::http::head::{HeaderId, Method, RequestHead, ResponseHead, Version};

/// Framing of a body as it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// No body.
    None,
    /// That many bytes; never 0.
    Length(u64),
    /// Chunked.
    Chunked,
    /// Until the sender closes (responses only).
    UntilClose,
    /// No message any more: a tunnel (101).
    Tunnel,
}

impl BodyKind {
    /// Whether nothing follows the head.
    pub fn is_empty(self) -> bool {
        self == Self::None
    }
}

/// Body of a request. The parser has already refused every ambiguity.
pub fn request_body(head: &RequestHead) -> BodyKind {
    if head.facts.chunked {
        BodyKind::Chunked
    } else {
        match head.facts.length {
            None | Some(0) => BodyKind::None,
            Some(n) => BodyKind::Length(n),
        }
    }
}

/// Body of a response to a request of this method.
pub fn response_body(head: &ResponseHead, method: Method) -> BodyKind {
    if head.status == 101 {
        return BodyKind::Tunnel;
    }
    if method == Method::Head || head.status < 200 || head.status == 204 || head.status == 304 {
        return BodyKind::None;
    }
    if head.facts.chunked {
        return BodyKind::Chunked;
    }
    match head.facts.length {
        Some(0) => BodyKind::None,
        Some(n) => BodyKind::Length(n),
        None => BodyKind::UntilClose,
    }
}

/// Whether the client lets its connection live on after this exchange.
pub fn request_keep_alive(head: &RequestHead) -> bool {
    match head.version {
        Version::H10 => head.facts.keep_alive && !head.facts.close,
        Version::H11 => !head.facts.close,
        Version::H2 => true,
    }
}

/// Whether the upstream's connection may be used again once this response's body has been read to its end.
pub fn response_keep_alive(head: &ResponseHead, body: BodyKind) -> bool {
    if matches!(body, BodyKind::UntilClose | BodyKind::Tunnel) || head.facts.close {
        return false;
    }
    match head.version {
        Version::H10 => head.facts.keep_alive,
        Version::H11 | Version::H2 => true,
    }
}

/// The protocol that a request asks to change to, where that may be passed on: no body, `Connection: upgrade` (in HTTP/2: an
/// extended CONNECT, which arrives here as that) and exactly one protocol, never `h2c` (a tunnel for it would step round every policy).
pub fn upgrade(head: &RequestHead) -> Option<&[u8]> {
    if head.version == Version::H10 || !head.facts.upgrade || request_body(head) != BodyKind::None || head.facts.length.is_some() {
        return None;
    }
    let mut values = head.get_all(HeaderId::Upgrade);
    let value = values.next()?;
    let plain = values.next().is_none() && !value.is_empty() && !value.contains(&b',') && !value.eq_ignore_ascii_case(b"h2c");
    plain.then_some(value)
}
