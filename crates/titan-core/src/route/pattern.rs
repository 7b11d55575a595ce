//! Path patterns: literal segments, `:param` (one segment), a last `*` or `*name` (the rest).

use std::sync::Arc;

use crate::http::path;

/// Longest pattern, in segments: bounds the depth of a match.
const MAX_SEGMENTS: usize = 64;

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// In order; [`Segment::Rest`] only at the end.
    pub segments: Vec<Segment>,
    /// Names of the parameters, the rest's included.
    pub names: Vec<Arc<str>>,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// These bytes.
    Literal(Box<[u8]>),
    /// Any non-empty segment.
    Param,
    /// Everything that is left, empty included.
    Rest,
}

impl Pattern {
    /// Parses a pattern. Its literals are normalised as request paths are, so that `/%7Ejoe` matches what arrives as `/~joe`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("a path begins with \"/\": write \"/{text}\""));
        }
        if text.split('/').any(|segment| matches!(decoded_dots(segment), "." | "..")) {
            return Err("\".\" and \"..\" segments never match, because paths are normalised first".into());
        }
        if let Some(part) = text.split('/').find(|part| part.starts_with('{') && part.ends_with('}')) {
            return Err(format!("\"{part}\": a parameter is written \":{}\"", part.trim_matches(['{', '}'])));
        }
        let normal = path::normalise(text.as_bytes()).map_err(|e| format!("not a valid path: {}", e.detail))?;
        let normal = std::str::from_utf8(&normal.0).map_err(|_| "not a valid path".to_string())?;

        let mut pattern = Pattern { segments: Vec::new(), names: Vec::new() };
        let mut parts = normal[1..].split('/').peekable();
        while let Some(part) = parts.next() {
            let segment = if let Some(name) = part.strip_prefix(':') {
                pattern.name(name, part)?;
                Segment::Param
            } else if let Some(name) = part.strip_prefix('*') {
                if parts.peek().is_some() {
                    return Err(format!(
                        "\"{part}\" matches the rest of a path and can only be the last segment; use :name for one segment"
                    ));
                }
                if name.is_empty() {
                    pattern.names.push("*".into())
                } else {
                    pattern.name(name, part)?
                }
                Segment::Rest
            } else if part.contains('*') {
                return Err(format!("\"{part}\": a wildcard is a segment of its own, as in \"/static/*\""));
            } else {
                Segment::Literal(part.as_bytes().into())
            };
            pattern.segments.push(segment);
        }
        if pattern.segments.len() > MAX_SEGMENTS {
            return Err(format!("{} segments, at most {MAX_SEGMENTS} are allowed", pattern.segments.len()));
        }
        Ok(pattern)
    }

    /// Whether it has no parameter: it then matches exactly one path.
    pub fn is_literal(&self) -> bool {
        self.segments.iter().all(|s| matches!(s, Segment::Literal(_)))
    }

    /// The one path that a literal pattern matches.
    pub fn literal_path(&self) -> Vec<u8> {
        let mut path = Vec::new();
        for segment in &self.segments {
            path.push(b'/');
            if let Segment::Literal(bytes) = segment {
                path.extend_from_slice(bytes);
            }
        }
        path
    }

    fn name(&mut self, name: &str, part: &str) -> Result<(), String> {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            return Err(format!("\"{part}\": a parameter's name has letters, digits, \"_\" and \"-\" only"));
        }
        if self.names.iter().any(|n| &**n == name) {
            return Err(format!("parameter \"{name}\" occurs twice"));
        }
        self.names.push(name.into());
        Ok(())
    }
}

/// `%2e` in either case is a dot, so `%2e%2e` is `..`.
fn decoded_dots(segment: &str) -> &str {
    match segment.to_ascii_lowercase().replace("%2e", ".").as_str() {
        "." => ".",
        ".." => "..",
        _ => segment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_literals_params_and_rest() {
        let pattern = Pattern::parse("/api/:id/files/*path").unwrap();
        assert_eq!(
            pattern.segments,
            [Segment::Literal((*b"api").into()), Segment::Param, Segment::Literal((*b"files").into()), Segment::Rest]
        );
        assert_eq!(pattern.names.iter().map(|n| &**n).collect::<Vec<_>>(), ["id", "path"]);
        assert_eq!(Pattern::parse("/*").unwrap().names[0].as_ref(), "*");
        assert_eq!(Pattern::parse("/a/b/").unwrap().literal_path(), b"/a/b/");
        assert!(Pattern::parse("/v1/items:batch").unwrap().is_literal());
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, part) in [
            ("api", "write \"/api\""),
            ("/a/*/b", "last segment"),
            ("/api*", "segment of its own"),
            ("/{id}", "written \":id\""),
            ("/:", "letters, digits"),
            ("/:a/:a", "occurs twice"),
            ("/a/../b", "never match"),
            ("/a/%2E%2e", "never match"),
        ] {
            let error = Pattern::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(Pattern::parse(&"/a".repeat(65)).is_err());
    }
}
