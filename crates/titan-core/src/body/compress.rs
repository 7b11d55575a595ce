//! Compression of answers: whether, and with what.

use std::io;

use crate::config::raw;
use crate::http::head::{HeaderId, Method, RequestHead, ResponseHead};
use crate::http::ops::HeaderOps;

pub use super::encoder::Encoder;
pub use crate::config::raw::Coding;

/// Text formats that gain from compression; everything else on the web is compressed already or is not known to gain.
const DEFAULT_TYPES: &[&str] = &[
    "text/*",
    "application/json",
    "application/*+json",
    "application/javascript",
    "application/xml",
    "application/*+xml",
    "application/manifest+json",
    "application/wasm",
    "application/x-ndjson",
    "application/graphql-response+json",
    "image/svg+xml",
    "font/ttf",
    "font/otf",
];

/// A compiled compression policy.
#[derive(Debug)]
pub struct Compression {
    config: raw::Compression,
    types: Vec<TypePattern>,
    excluded: Vec<TypePattern>,
}

/// What to do with one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Not a candidate: nothing changes.
    Skip,
    /// A candidate that this client gets uncompressed: caches must still be told (`Vary`).
    Identity,
    /// Compress; Content-Length goes, the body is re-framed.
    Compress(Coding),
}

#[derive(Debug)]
struct TypePattern {
    prefix: String,
    suffix: Option<String>,
}

impl TypePattern {
    fn new(pattern: &str) -> Self {
        let pattern = pattern.trim().to_ascii_lowercase();
        match pattern.split_once('*') {
            Some((prefix, suffix)) => Self { prefix: prefix.into(), suffix: Some(suffix.into()) },
            None => Self { prefix: pattern, suffix: None },
        }
    }

    fn matches(&self, media_type: &[u8]) -> bool {
        match &self.suffix {
            None => media_type.eq_ignore_ascii_case(self.prefix.as_bytes()),
            Some(suffix) => {
                media_type.len() >= self.prefix.len() + suffix.len()
                    && media_type[..self.prefix.len()].eq_ignore_ascii_case(self.prefix.as_bytes())
                    && media_type[media_type.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
            }
        }
    }
}

impl Compression {
    /// Compiles a policy whose values the control plane has validated; levels out of range are brought into it.
    pub fn new(config: &raw::Compression) -> Self {
        let patterns = |list: &[String]| list.iter().map(|p| TypePattern::new(p)).collect::<Vec<_>>();
        let types = if config.content_types.is_empty() {
            DEFAULT_TYPES.iter().map(|p| TypePattern::new(p)).collect()
        } else {
            patterns(&config.content_types)
        };
        Self { types, excluded: patterns(&config.excluded_content_types), config: config.clone() }
    }

    /// Decides for one answer. `path` is the match path; `length` the body's length where the head tells it.
    pub fn decide(&self, request: &RequestHead, path: &[u8], response: &ResponseHead, length: Option<u64>) -> Decision {
        if !self.is_candidate(request, path, response, length) {
            return Decision::Skip;
        }
        match self.negotiate(request) {
            Some(coding) => Decision::Compress(coding),
            None => Decision::Identity,
        }
    }

    /// Whether an answer that sets a cookie is left alone.
    pub fn spares_cookies(&self) -> bool {
        self.config.disable_when_setting_cookies
    }

    fn is_candidate(&self, request: &RequestHead, path: &[u8], response: &ResponseHead, length: Option<u64>) -> bool {
        // 204 and 304 have no body, 206 is a part of an identity representation, 1xx and 101 are not final answers.
        if response.status < 200 || matches!(response.status, 204 | 205 | 206 | 304) || request.method == Method::Connect {
            return false;
        }
        if length.is_some_and(|n| n < self.config.min_size) {
            return false;
        }
        let Some(content_type) = response.get(HeaderId::ContentType) else { return false };
        let media_type = content_type.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
        if !self.types.iter().any(|p| p.matches(media_type)) || self.excluded.iter().any(|p| p.matches(media_type)) {
            return false;
        }
        if response.get_all(HeaderId::ContentEncoding).any(|v| !v.is_empty() && !v.eq_ignore_ascii_case(b"identity")) {
            return false;
        }
        // RFC 9110 §7.7: no-transform. A digest or a range of the sent bytes would no longer be true.
        if response.get_all(HeaderId::CacheControl).any(|v| has_directive(v, b"no-transform"))
            || response.get_name(b"content-range").is_some()
            || response.get_name(b"content-digest").is_some()
        {
            return false;
        }
        if self.config.disable_when_setting_cookies && response.get(HeaderId::SetCookie).is_some() {
            return false;
        }
        !self.config.disable_for_paths.iter().any(|p| match p.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix.as_bytes()),
            None => path == p.as_bytes(),
        })
    }

    /// RFC 9110 §12.5.3: the coding with the highest weight; among equals, the server's order.
    fn negotiate(&self, request: &RequestHead) -> Option<Coding> {
        let mut best: Option<(u16, usize)> = None;
        for (rank, &coding) in self.config.algorithms.iter().enumerate() {
            let weight = weight_of(request, token(coding));
            if weight > 0 && best.is_none_or(|(w, _)| weight > w) {
                best = Some((weight, rank));
            }
        }
        best.map(|(_, rank)| self.config.algorithms[rank])
    }

    /// Head edits of a decision.
    pub fn edit_head(&self, decision: Decision, response: &ResponseHead, ops: &mut HeaderOps) {
        if decision == Decision::Skip {
            return;
        }
        let varies = response.get_all(HeaderId::Vary).any(|v| has_directive(v, b"accept-encoding") || has_directive(v, b"*"));
        if !varies {
            ops.add(&b"vary"[..], &b"accept-encoding"[..]);
        }
        if let Decision::Compress(coding) = decision {
            ops.set(&b"content-encoding"[..], token(coding));
            ops.remove(&b"accept-ranges"[..]);
            // The bytes differ from the origin's, so a strong validator would lie (RFC 9110 §8.8.1).
            if let Some(tag) = response.get(HeaderId::ETag).filter(|t| t.starts_with(b"\"")) {
                ops.set(&b"etag"[..], [b"W/", tag].concat());
            }
        }
    }

    /// Bytes that an encoder takes, about, as measured at the default levels.
    pub fn memory(coding: Coding) -> u64 {
        match coding {
            Coding::Gzip => 320 << 10,
            Coding::Zstd => 2 << 20,
            Coding::Br => 5 << 20,
        }
    }

    /// An encoder at the configured level. `length` is the body's exact length where it is known.
    pub fn encoder(&self, coding: Coding, length: Option<u64>) -> io::Result<Encoder> {
        Ok(match coding {
            Coding::Gzip => Encoder::gzip(self.config.gzip_level),
            Coding::Br => Encoder::brotli(self.config.brotli_level),
            Coding::Zstd => Encoder::zstd(self.config.zstd_level, length)?,
        })
    }
}

fn token(coding: Coding) -> &'static [u8] {
    match coding {
        Coding::Zstd => b"zstd",
        Coding::Br => b"br",
        Coding::Gzip => b"gzip",
    }
}

fn has_directive(list: &[u8], name: &[u8]) -> bool {
    list.split(|&b| b == b',').any(|d| d.split(|&b| b == b'=').next().unwrap_or_default().trim_ascii().eq_ignore_ascii_case(name))
}

/// Weight of a coding in thousandths: named ones first, then `*`, else 0. No Accept-Encoding at all means identity here: clients that
/// can decode say so.
fn weight_of(request: &RequestHead, coding: &[u8]) -> u16 {
    let mut any = 0;
    for item in request.get_all(HeaderId::AcceptEncoding).flat_map(|v| v.split(|&b| b == b',')) {
        let mut parts = item.split(|&b| b == b';');
        let name = parts.next().unwrap_or_default().trim_ascii();
        let weight = || {
            parts.map(|p| p.trim_ascii()).find_map(|p| p.strip_prefix(b"q=").or_else(|| p.strip_prefix(b"Q="))).map_or(1000, parse_weight)
        };
        if name.eq_ignore_ascii_case(coding) || (coding == b"gzip" && name.eq_ignore_ascii_case(b"x-gzip")) {
            return weight();
        }
        if name == b"*" {
            any = weight();
        }
    }
    any
}

/// `0`, `1`, `0.5`, `1.000` (RFC 9110 §12.4.2); anything else counts as 0.
fn parse_weight(text: &[u8]) -> u16 {
    match text {
        [b'1'] => 1000,
        [b'1', b'.', zeros @ ..] if zeros.len() <= 3 && zeros.iter().all(|&b| b == b'0') => 1000,
        [b'0', b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => {
            digits.iter().zip([100, 10, 1]).map(|(&d, unit)| u16::from(d - b'0') * unit).sum()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h1::parse;

    fn request(accept: &str) -> RequestHead {
        parse::request_from(format!("GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: {accept}\r\n\r\n").as_bytes()).unwrap()
    }

    fn response(status: u16, fields: &[&str]) -> ResponseHead {
        let fields: String = fields.iter().map(|f| format!("{f}\r\n")).collect();
        parse::response_from(format!("HTTP/1.1 {status} X\r\n{fields}\r\n").as_bytes()).unwrap()
    }

    const JSON: &str = "Content-Type: application/json; charset=utf-8";

    fn decide(accept: &str, list: &[&str], length: Option<u64>) -> Decision {
        Compression::new(&raw::Compression::default()).decide(&request(accept), b"/", &response(200, list), length)
    }

    #[test]
    fn the_highest_weight_wins_and_the_servers_order_breaks_ties() {
        let cases = [
            ("gzip, br, zstd", Decision::Compress(Coding::Zstd)),
            ("gzip;q=1, br;q=0.9", Decision::Compress(Coding::Gzip)),
            ("gzip;q=0.1, br;q=0.9", Decision::Compress(Coding::Br)),
            ("gzip;q=0", Decision::Identity),
            ("*", Decision::Compress(Coding::Zstd)),
            ("*, zstd;q=0", Decision::Compress(Coding::Gzip)),
            ("x-gzip", Decision::Compress(Coding::Gzip)),
            ("identity", Decision::Identity),
            ("", Decision::Identity),
            ("gzip;q=2", Decision::Identity),
        ];
        for (accept, expected) in cases {
            assert_eq!(decide(accept, &[JSON], Some(5000)), expected, "{accept}");
        }
    }

    #[test]
    fn what_must_not_change_is_left_alone() {
        let cases: &[(&str, &[&str], Option<u64>)] = &[
            ("small", &[JSON], Some(1023)),
            ("no type", &[], Some(5000)),
            ("image", &["content-type: image/png"], Some(5000)),
            ("encoded", &[JSON, "content-encoding: br"], Some(5000)),
            ("no-transform", &[JSON, "cache-control: public, no-transform"], Some(5000)),
            ("cookie", &[JSON, "set-cookie: a=b"], Some(5000)),
            ("range", &[JSON, "content-range: bytes 0-1/2"], Some(5000)),
        ];
        for (name, list, length) in cases {
            assert_eq!(decide("gzip", list, *length), Decision::Skip, "{name}");
        }
        assert_eq!(decide("gzip", &[JSON], None), Decision::Compress(Coding::Gzip), "unknown length");
        assert_eq!(decide("gzip", &["content-type: application/problem+json"], None), Decision::Compress(Coding::Gzip));
        let policy = Compression::new(&raw::Compression { disable_for_paths: vec!["/account/*".into()], ..Default::default() });
        assert_eq!(policy.decide(&request("gzip"), b"/account/1", &response(200, &[JSON]), None), Decision::Skip);
        for status in [204, 206, 304] {
            assert_eq!(policy.decide(&request("gzip"), b"/", &response(status, &[JSON]), None), Decision::Skip, "{status}");
        }
    }

    #[test]
    fn the_head_tells_what_was_done() {
        let policy = Compression::new(&raw::Compression::default());
        let answer = response(200, &[JSON, "etag: \"abc\""]);
        let mut ops = HeaderOps::default();
        policy.edit_head(Decision::Compress(Coding::Br), &answer, &mut ops);
        let edits: Vec<String> = ops.iter().map(|op| format!("{op:?}")).collect();
        let mut expected = HeaderOps::default();
        expected.add("vary", "accept-encoding");
        expected.set("content-encoding", "br");
        expected.remove("accept-ranges");
        expected.set("etag", "W/\"abc\"");
        assert_eq!(edits, expected.iter().map(|op| format!("{op:?}")).collect::<Vec<_>>());
        let mut none = HeaderOps::default();
        policy.edit_head(Decision::Skip, &answer, &mut none);
        assert!(none.is_empty());
    }
}
