//! Cross-origin resource sharing (the Fetch standard).
//!
//! Titan owns the `Access-Control-*` headers of answers under a CORS policy: an upstream that reflects any origin can't widen it.

use regex::bytes::RegexSet;

use super::{RequestCx, ResponseCx, preflight_method};
use crate::config::{Issue, raw};
use crate::http::answer::Answer;
use crate::http::head::HeaderId;
use crate::http::ops::HeaderOps;
use crate::http::token::is_token;
use crate::metrics::{self, Id};

/// A CORS policy.
#[derive(Debug)]
pub(super) struct Cors {
    any_origin: bool,
    exact: Vec<Box<[u8]>>,
    wildcards: Vec<Wildcard>,
    patterns: RegexSet,
    any_method: bool,
    methods: Vec<Box<[u8]>>,
    methods_header: Box<[u8]>,
    any_header: bool,
    headers: Vec<Box<[u8]>>,
    headers_header: Box<[u8]>,
    exposed: Box<[u8]>,
    credentials: bool,
    max_age: Box<[u8]>,
    rejected: Id,
}

/// `https://*.example.com:8443`: what comes before the star, and what after.
#[derive(Debug)]
struct Wildcard {
    prefix: Box<[u8]>,
    suffix: Box<[u8]>,
}

impl Cors {
    pub(super) fn compile(name: &str, raw: &raw::Cors, rejected: Id, issues: &mut Vec<Issue>) -> Self {
        let mut wrong = |field: String, message: String| issues.push(Issue::new(format!("{name}.{field}"), message));
        let mut any_origin = false;
        let (mut exact, mut wildcards, mut patterns) = (Vec::new(), Vec::new(), Vec::new());
        if raw.allowed_origins.is_empty() {
            wrong("allowed_origins".into(), "at least one origin, or \"*\"".into());
        }
        for (i, origin) in raw.allowed_origins.iter().enumerate() {
            let place = || format!("allowed_origins[{i}]");
            if origin == "*" {
                any_origin = true;
            } else if let Some(pattern) = origin.strip_prefix('/').and_then(|o| o.strip_suffix('/')) {
                match regex::bytes::Regex::new(pattern) {
                    Ok(_) => patterns.push(format!("^(?:{pattern})$")),
                    Err(error) => wrong(place(), format!("not a regular expression: {error}")),
                }
            } else if let Err(message) = check_origin(origin) {
                wrong(place(), message);
            } else if let Some((prefix, suffix)) = origin.to_ascii_lowercase().split_once('*') {
                wildcards.push(Wildcard { prefix: prefix.as_bytes().into(), suffix: suffix.as_bytes().into() });
            } else {
                exact.push(origin.to_ascii_lowercase().into_bytes().into());
            }
        }
        if raw.allow_credentials && any_origin {
            wrong(
                "allow_credentials".into(),
                "credentials with the origin \"*\" would let any site act for its visitors; name the origins, or turn credentials off"
                    .into(),
            );
        }
        for (field, list) in [
            ("allowed_methods", &raw.allowed_methods),
            ("allowed_headers", &raw.allowed_headers),
            ("exposed_headers", &raw.exposed_headers),
        ] {
            for (i, token) in list.iter().enumerate() {
                if !is_token(token.as_bytes()) {
                    wrong(
                        format!("{field}[{i}]"),
                        format!("\"{token}\" can't be a {}", if field == "allowed_methods" { "method" } else { "header name" }),
                    );
                }
            }
        }
        let patterns = RegexSet::new(&patterns).unwrap_or_else(|error| {
            wrong("allowed_origins".into(), format!("the regular expressions are too large together: {error}"));
            RegexSet::empty()
        });
        let bytes = |list: &[String]| list.iter().map(|t| t.as_bytes().into()).collect::<Vec<Box<[u8]>>>();
        let joined = |list: &[String]| list.join(", ").into_bytes().into_boxed_slice();
        Self {
            any_origin,
            exact,
            wildcards,
            patterns,
            any_method: raw.allowed_methods.iter().any(|m| m == "*"),
            methods: bytes(&raw.allowed_methods),
            methods_header: joined(&raw.allowed_methods),
            any_header: raw.allowed_headers.iter().any(|h| h == "*"),
            headers: bytes(&raw.allowed_headers),
            headers_header: joined(&raw.allowed_headers),
            exposed: joined(&raw.exposed_headers),
            credentials: raw.allow_credentials,
            max_age: raw.max_age.to_string().into_bytes().into(),
            rejected,
        }
    }

    /// Answers a preflight.
    pub(super) fn request(&self, cx: &RequestCx<'_>) -> Option<Answer> {
        let head = cx.req.head;
        let method = preflight_method(head)?;
        let origin = head.get(HeaderId::Origin)?;
        let asked = head.get(HeaderId::AccessControlRequestHeaders).unwrap_or_default();
        let refusal = if !self.allows_origin(origin) {
            "This origin is not allowed"
        } else if !self.allows_method(method) {
            "This method is not allowed across origins"
        } else if !self.allows_headers(asked) {
            "One of these headers is not allowed across origins"
        } else {
            return Some(self.preflight(method, asked));
        };
        metrics::with(|shard| shard.limited(self.rejected));
        Some(Answer::error(403, "cors_refused", refusal, "cors", cx.req.request_id, head))
    }

    fn preflight(&self, method: &[u8], asked: &[u8]) -> Answer {
        let mut headers = HeaderOps::default();
        headers.set("access-control-allow-methods", if self.any_method { method } else { &self.methods_header });
        // `*` would not cover Authorization, nor anything once there are credentials: what was asked for is named.
        let allowed = if self.any_header { asked } else { &self.headers_header };
        if !allowed.is_empty() {
            headers.set("access-control-allow-headers", allowed);
        }
        headers.set("access-control-max-age", &self.max_age);
        Answer { status: 204, headers, body: bytes::Bytes::new(), stage: "cors" }
    }

    /// On every answer, the preflight's too.
    pub(super) fn response(&self, cx: &ResponseCx<'_>, ops: &mut HeaderOps) {
        let preflight = preflight_method(cx.req.head).is_some();
        let origin = cx.req.head.get(HeaderId::Origin).filter(|origin| self.allows_origin(origin));
        match origin {
            Some(_) if self.any_origin => ops.set("access-control-allow-origin", "*"),
            Some(origin) => ops.set("access-control-allow-origin", origin),
            None => ops.remove("access-control-allow-origin"),
        }
        match origin {
            Some(_) if self.credentials => ops.set("access-control-allow-credentials", "true"),
            _ => ops.remove("access-control-allow-credentials"),
        }
        match origin {
            Some(_) if !preflight && !self.exposed.is_empty() => ops.set("access-control-expose-headers", &self.exposed),
            _ => ops.remove("access-control-expose-headers"),
        }
        // A cache must not give one origin's answer to another; without an Origin too, or that answer would be the one that is given.
        if preflight {
            ops.add("vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers");
        } else if !self.any_origin {
            ops.add("vary", "Origin");
        }
    }

    fn allows_origin(&self, origin: &[u8]) -> bool {
        self.any_origin
            || self.exact.iter().any(|o| o.eq_ignore_ascii_case(origin))
            || self.wildcards.iter().any(|w| w.matches(origin))
            || (!self.patterns.is_empty() && self.patterns.is_match(origin))
    }

    fn allows_method(&self, method: &[u8]) -> bool {
        // The safelisted methods need no permission (Fetch §4.9).
        self.any_method || matches!(method, b"GET" | b"HEAD" | b"POST") || self.methods.iter().any(|m| **m == *method)
    }

    fn allows_headers(&self, asked: &[u8]) -> bool {
        asked
            .split(|&b| b == b',')
            .map(<[u8]>::trim_ascii)
            .filter(|name| !name.is_empty())
            .all(|name| is_token(name) && (self.any_header || self.headers.iter().any(|h| h.eq_ignore_ascii_case(name))))
    }
}

impl Wildcard {
    fn matches(&self, origin: &[u8]) -> bool {
        let Some(middle) = origin.len().checked_sub(self.prefix.len() + self.suffix.len()).filter(|&n| n > 0) else { return false };
        let (start, rest) = origin.split_at(self.prefix.len());
        let (middle, end) = rest.split_at(middle);
        // One or more labels: a byte that could end the host (`https://evil.example/x.example.com`) is none of a label's.
        start.eq_ignore_ascii_case(&self.prefix)
            && end.eq_ignore_ascii_case(&self.suffix)
            && middle.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
    }
}

fn check_origin(origin: &str) -> Result<(), String> {
    if origin == "null" {
        return Ok(());
    }
    let Some((scheme, host)) = origin.split_once("://") else {
        return Err(format!(
            "\"{origin}\" is no origin: write scheme and host (https://app.example.com), \"*\", or a /regular expression/"
        ));
    };
    if scheme.is_empty() || host.is_empty() {
        return Err(format!("\"{origin}\" is no origin: scheme or host is missing"));
    }
    if host.contains(['/', '?', '#', '@', ' ']) {
        return Err(format!("\"{origin}\" is no origin: an origin ends after host and port, without a path or a last slash"));
    }
    if host.contains('*') && !(host.starts_with("*.") && host.matches('*').count() == 1) {
        return Err(format!("\"{origin}\": a star stands for the first labels of the host only, as in https://*.example.com"));
    }
    if scheme.contains('*') {
        return Err(format!("\"{origin}\": name the scheme"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
