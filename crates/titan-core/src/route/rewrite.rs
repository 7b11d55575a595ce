//! Path rewriting: after policy, before the upstream. The result is normalised again.
//!
//! In this order: the whole path from a template, or a prefix taken off; a prefix put before what is left; regular expressions, each over
//! the result of the one before. A `?` in the outcome begins a query, which comes before the request's own.

use std::borrow::Cow;
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use super::Params;
use super::condition::last_line;
use super::target::ForwardTarget;
use super::template::Template;
use crate::error::ProxyError;
use crate::http::path;

/// Compiled rewriting rules.
#[derive(Debug, Clone, Default)]
pub struct Rewrite {
    /// Whole new path.
    pub path: Option<Template>,
    /// Taken off where the path begins with it, at the end of a segment.
    pub strip_prefix: Option<String>,
    /// Put before what is left.
    pub add_prefix: Option<String>,
    /// Linear-time regular expressions and their replacements.
    pub regex: Vec<(Regex, Vec<u8>)>,
}

impl Rewrite {
    /// Compiles a rule: every match of `pattern` is replaced; `$1` … stand for groups, `$$` for `$`.
    pub fn rule(pattern: &str, replacement: &str) -> Result<(Regex, Vec<u8>), String> {
        let regex = RegexBuilder::new(pattern)
            .size_limit(1 << 20)
            .build()
            .map_err(|e| format!("not a valid regular expression: {}", last_line(&e.to_string())))?;
        // `$1x` is group 1 and an `x` here, as everywhere but in the regex crate, which reads a group called `1x`.
        let mut safe = String::new();
        let mut rest = replacement;
        while let Some(at) = rest.find('$') {
            safe.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            if digits > 0 {
                let group = &rest[..digits];
                if group.parse::<usize>().map_or(true, |n| n >= regex.captures_len()) {
                    return Err(format!("\"${group}\": the pattern has {} groups", regex.captures_len() - 1));
                }
                safe.push_str(&format!("${{{group}}}"));
                rest = &rest[digits..];
            } else if let Some(name) = rest.strip_prefix('{').and_then(|r| r.split_once('}')).map(|(name, _)| name) {
                if !regex.capture_names().flatten().any(|n| n == name) && name.parse::<usize>().map_or(true, |n| n >= regex.captures_len())
                {
                    return Err(format!("\"${{{name}}}\": the pattern has no such group"));
                }
                safe.push_str(&format!("${{{name}}}"));
                rest = &rest[name.len() + 2..];
            } else {
                safe.push_str("$$");
                rest = rest.strip_prefix('$').unwrap_or(rest);
            }
        }
        safe.push_str(rest);
        Ok((regex, safe.into_bytes()))
    }

    /// The whole new path, from a template.
    pub fn template(text: &str, names: &[Arc<str>]) -> Result<Template, String> {
        if !text.starts_with('/') {
            return Err(format!("a path begins with \"/\": write \"/{text}\""));
        }
        Template::parse(text, names, false)
    }

    /// Rewrites.
    pub fn apply<'a>(&self, path: &'a [u8], params: &Params, query: Option<&'a [u8]>) -> Result<ForwardTarget<'a>, ProxyError> {
        let mut new: Cow<'a, [u8]> = match &self.path {
            Some(template) => Cow::Owned(template.render(path, params, None)),
            None => Cow::Borrowed(self.strip_prefix.as_deref().and_then(|prefix| stripped(path, prefix.as_bytes())).unwrap_or(path)),
        };
        if let Some(prefix) = &self.add_prefix {
            let mut joined = Vec::with_capacity(prefix.len() + new.len() + 1);
            joined.extend_from_slice(prefix.trim_end_matches('/').as_bytes());
            if !new.starts_with(b"/") {
                joined.push(b'/');
            }
            joined.extend_from_slice(&new);
            new = Cow::Owned(joined);
        }
        for (regex, replacement) in &self.regex {
            if let Cow::Owned(replaced) = regex.replace_all(&new, &**replacement) {
                new = Cow::Owned(replaced);
            }
        }
        if !new.starts_with(b"/") {
            new.to_mut().insert(0, b'/');
        }
        // A request's path never holds a bare `?`, so it can only come from the rules.
        let own_query = memchr::memchr(b'?', &new).map(|at| {
            let own = new[at + 1..].to_vec();
            new.to_mut().truncate(at);
            own
        });
        let query = match (own_query.filter(|q| !q.is_empty()), query) {
            (None, query) => query.map(Cow::Borrowed),
            (Some(own), None) => Some(Cow::Owned(own)),
            (Some(mut own), Some(query)) => {
                own.push(b'&');
                own.extend_from_slice(query);
                Some(Cow::Owned(own))
            }
        };
        let path = match new {
            Cow::Borrowed(part) => path::normalise(part)?.0,
            Cow::Owned(whole) => Cow::Owned(path::normalise(&whole)?.0.into_owned()),
        };
        Ok(ForwardTarget { path, query })
    }
}

/// What is left after the prefix; it must end where a segment does.
fn stripped<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
    let rest = path.strip_prefix(prefix)?;
    match rest.first() {
        None => Some(b"/"),
        Some(b'/') => Some(rest),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::Span;

    fn apply(rewrite: &Rewrite, path: &str, query: Option<&str>) -> String {
        let params = Params { spans: [Span { start: 5, end: path.len() as u32 }].as_slice().into() };
        let target = rewrite.apply(path.as_bytes(), &params, query.map(str::as_bytes)).unwrap();
        let query = target.query.map(|q| format!("?{}", String::from_utf8_lossy(&q))).unwrap_or_default();
        format!("{}{query}", String::from_utf8_lossy(&target.path))
    }

    fn strip(prefix: &str) -> Rewrite {
        Rewrite { strip_prefix: Some(prefix.into()), ..Rewrite::default() }
    }

    #[test]
    fn prefixes() {
        assert_eq!(apply(&strip("/api"), "/api/users", Some("a=1")), "/users?a=1");
        assert_eq!(apply(&strip("/api/"), "/api/users", None), "/users");
        assert_eq!(apply(&strip("/api"), "/api", None), "/");
        assert_eq!(apply(&strip("/api"), "/apix/y", None), "/apix/y", "only whole segments");
        let both = Rewrite { add_prefix: Some("/v2/".into()), ..strip("/api") };
        assert_eq!(apply(&both, "/api/users", None), "/v2/users");
        assert_eq!(apply(&both, "/api", None), "/v2/");
    }

    #[test]
    fn templates_and_their_query() {
        let rewrite = Rewrite { path: Some(Rewrite::template("/v2/*?from=old", &["*".into()]).unwrap()), ..Rewrite::default() };
        assert_eq!(apply(&rewrite, "/api/a/b", Some("x=1")), "/v2/a/b?from=old&x=1");
        assert_eq!(apply(&rewrite, "/api/a/b", None), "/v2/a/b?from=old");
        assert!(Rewrite::template("v2", &[]).is_err());
    }

    #[test]
    fn regular_expressions() {
        let rule = |p, r| Rewrite { regex: vec![Rewrite::rule(p, r).unwrap()], ..Rewrite::default() };
        assert_eq!(apply(&rule("^/users/([0-9]+)$", "/u/$1x"), "/users/42", None), "/u/42x");
        assert_eq!(apply(&rule("^/users/(?P<id>[0-9]+)$", "/u/${id}?old=$$1"), "/users/42", Some("q")), "/u/42?old=$1&q");
        assert_eq!(apply(&rule("o", "0"), "/foo/o", None), "/f00/0");
        assert_eq!(apply(&rule("^/x", ""), "/xyz", None), "/yz", "always begins with a slash");
        assert!(Rewrite::rule("(a)", "$2").unwrap_err().contains("1 groups"));
        assert!(Rewrite::rule("(a", "").unwrap_err().contains("unclosed"));
        assert!(Rewrite::rule("a", "${b}").unwrap_err().contains("no such group"));
    }
}
