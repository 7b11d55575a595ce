//! Paths and locations with the parameters of a pattern filled in.

use std::sync::Arc;

use super::router::Params;

/// A compiled template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<[u8]>),
    /// Parameter by its number.
    Param(usize),
    /// The request's query.
    Query,
}

impl Template {
    /// Parses a template: `:name` is a parameter of the pattern, `*` its rest, `$query` the request's query (redirects only).
    pub fn parse(text: &str, names: &[Arc<str>], query: bool) -> Result<Self, String> {
        let mut template = Template::default();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            let (piece, taken) = match next {
                ':' => match Self::param(&rest[1..], names) {
                    Some((index, length)) => (Some(Piece::Param(index)), 1 + length),
                    None if plain.ends_with('/') && identifier(&rest[1..]) > 0 => {
                        let unknown = &rest[1..1 + identifier(&rest[1..])];
                        return Err(format!("\":{unknown}\" is not a parameter of the route's path{}", known(names)));
                    }
                    None => (None, 1),
                },
                '*' => match names.iter().position(|n| &**n == "*").or(names.len().checked_sub(1)) {
                    Some(index) => (Some(Piece::Param(index)), 1),
                    None => return Err("\"*\" stands for the wildcard of the route's path, which has none".into()),
                },
                '$' if query && rest.starts_with("$query") => (Some(Piece::Query), "$query".len()),
                other => (None, other.len_utf8()),
            };
            match piece {
                Some(piece) => {
                    template.text(&mut plain);
                    template.pieces.push(piece);
                }
                None => plain.push_str(&rest[..taken]),
            }
            rest = &rest[taken..];
        }
        template.text(&mut plain);
        Ok(template)
    }

    /// The filled-in template.
    pub fn render(&self, path: &[u8], params: &Params, query: Option<&[u8]>) -> Vec<u8> {
        let mut out = Vec::with_capacity(path.len() + 32);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Param(index) => out.extend_from_slice(params.at(*index, path).unwrap_or_default()),
                Piece::Query => {
                    // After `?` or `&` the bare query, elsewhere `?query`; without a query nothing, the separator included.
                    let separated = matches!(out.last(), Some(b'?' | b'&'));
                    match query.filter(|q| !q.is_empty()) {
                        Some(query) => {
                            if !separated {
                                out.push(b'?');
                            }
                            out.extend_from_slice(query);
                        }
                        None if separated => {
                            out.pop();
                        }
                        None => {}
                    }
                }
            }
        }
        out
    }

    fn text(&mut self, plain: &mut String) {
        if !plain.is_empty() {
            self.pieces.push(Piece::Text(std::mem::take(plain).into_bytes().into()));
        }
    }

    /// The longest parameter whose name the text begins with, so that `:id-old` is the parameter `id` and `-old`.
    fn param(text: &str, names: &[Arc<str>]) -> Option<(usize, usize)> {
        let word = &text[..identifier(text)];
        names.iter().enumerate().filter(|(_, n)| &***n != "*" && word.starts_with(&***n)).map(|(i, n)| (i, n.len())).max_by_key(|m| m.1)
    }
}

/// Length of the name that the text begins with.
fn identifier(text: &str) -> usize {
    let end = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if text.starts_with(|c: char| c.is_ascii_digit()) { 0 } else { text.find(end).unwrap_or(text.len()) }
}

fn known(names: &[Arc<str>]) -> String {
    let names: Vec<_> = names.iter().filter(|n| &***n != "*").map(|n| format!(":{n}")).collect();
    if names.is_empty() { String::new() } else { format!("; it has {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::Span;

    fn render(text: &str, query: Option<&str>) -> Result<String, String> {
        // As matched by /users/:id/:id2/* on this path.
        let path = b"/users/42/x/a/b.txt";
        let spans = [(7, 9), (10, 11), (12, 19)].map(|(start, end)| Span { start, end });
        let names = ["id".into(), "id2".into(), "*".into()];
        let template = Template::parse(text, &names, true)?;
        Ok(String::from_utf8(template.render(path, &Params { spans: spans.as_slice().into() }, query.map(str::as_bytes))).unwrap())
    }

    #[test]
    fn fills_in() {
        assert_eq!(render("/v2/:id/files/*", None).unwrap(), "/v2/42/files/a/b.txt");
        assert_eq!(render("/:id2-old/:id", None).unwrap(), "/x-old/42");
        assert_eq!(render("https://example.com:8443/*$query", Some("a=1")).unwrap(), "https://example.com:8443/a/b.txt?a=1");
        assert_eq!(render("/x$query", None).unwrap(), "/x");
        assert_eq!(render("/x?$query", None).unwrap(), "/x");
        assert_eq!(render("/x?b=2&$query", Some("a=1")).unwrap(), "/x?b=2&a=1");
        assert_eq!(render("/x?b=2&$query", None).unwrap(), "/x?b=2");
    }

    #[test]
    fn says_what_is_unknown() {
        let error = render("/:nope", None).unwrap_err();
        assert!(error.contains("\":nope\" is not a parameter") && error.contains(":id, :id2"), "{error}");
        assert!(Template::parse("/*", &[], false).unwrap_err().contains("has none"));
    }
}
