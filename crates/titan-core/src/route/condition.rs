//! Conditions of a route beside host and path: methods, headers, query parameters, cookies.

use regex::bytes::{Regex, RegexBuilder};
use smallvec::SmallVec;

use crate::http::cookie;
use crate::http::head::{Method, RequestHead};

/// Known methods in the order in which `Allow` lists them.
const KNOWN: [(Method, &str); 9] = [
    (Method::Get, "GET"),
    (Method::Head, "HEAD"),
    (Method::Post, "POST"),
    (Method::Put, "PUT"),
    (Method::Patch, "PATCH"),
    (Method::Delete, "DELETE"),
    (Method::Options, "OPTIONS"),
    (Method::Trace, "TRACE"),
    (Method::Connect, "CONNECT"),
];

/// A set of methods. GET includes HEAD.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Methods {
    /// Every method.
    any: bool,
    /// One bit for each of [`KNOWN`].
    known: u16,
    other: Vec<Box<[u8]>>,
}

/// The method of a request, found in [`KNOWN`] once a match.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    bit: u16,
    name: &'a [u8],
}

impl<'a> Asked<'a> {
    /// Looks the method up.
    pub fn new(name: &'a [u8]) -> Self {
        let bit = KNOWN.iter().position(|(_, known)| known.as_bytes() == name).map_or(0, |at| 1 << at);
        Self { bit, name }
    }
}

impl Methods {
    /// The methods named; none = every method.
    pub fn new(names: &[String]) -> Self {
        let mut set = Methods { any: names.is_empty(), ..Methods::default() };
        for name in names {
            let asked = Asked::new(name.as_bytes());
            set.known |= asked.bit;
            if asked.bit == 0 {
                set.other.push(name.as_bytes().into());
            }
        }
        if set.known & 1 != 0 {
            set.known |= 2;
        }
        set
    }

    /// Whether the method is in the set.
    pub fn contains(&self, asked: Asked<'_>) -> bool {
        self.any || self.known & asked.bit != 0 || self.other.iter().any(|m| **m == *asked.name)
    }

    /// Whether every method is.
    pub fn is_any(&self) -> bool {
        self.any
    }

    /// Whether a name is one of the usual methods.
    pub fn is_known(name: &str) -> bool {
        KNOWN.iter().any(|(_, known)| *known == name)
    }

    /// Whether HEAD is in the set without GET.
    pub fn is_head_only(&self) -> bool {
        !self.any && self.known & 3 == 2
    }

    /// Adds another set.
    pub fn extend(&mut self, more: &Methods) {
        self.any |= more.any;
        self.known |= more.known;
        for other in &more.other {
            if !self.other.contains(other) {
                self.other.push(other.clone());
            }
        }
    }

    /// Names, in the order of `Allow`.
    pub fn names(&self) -> Vec<String> {
        let known = KNOWN.iter().enumerate().filter(|(at, _)| self.known & (1 << at) != 0).map(|(_, (_, name))| (*name).to_string());
        known.chain(self.other.iter().map(|m| String::from_utf8_lossy(m).into_owned())).collect()
    }
}

/// What a value is compared with.
#[derive(Debug, Clone)]
pub enum Test {
    /// Anything.
    Present,
    /// These bytes.
    Exact(Box<[u8]>),
    /// These bytes first.
    Prefix(Box<[u8]>),
    /// A linear-time regular expression over the whole value.
    Regex(Regex),
}

impl Test {
    /// A regular expression anchored at both ends, with a bounded program.
    pub fn regex(pattern: &str) -> Result<Self, String> {
        RegexBuilder::new(&format!("^(?:{pattern})$"))
            .size_limit(1 << 20)
            .build()
            .map(Test::Regex)
            .map_err(|e| format!("not a valid regular expression: {}", last_line(&e.to_string())))
    }

    fn holds(&self, value: &[u8]) -> bool {
        match self {
            Test::Present => true,
            Test::Exact(exact) => value == &**exact,
            Test::Prefix(prefix) => value.starts_with(prefix),
            Test::Regex(regex) => regex.is_match(value),
        }
    }
}

/// A condition on a named value: holds when any value of the name passes the test; inverted, when none does.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Where the value is.
    pub place: Place,
    /// Name (headers: lower case).
    pub name: String,
    /// The test.
    pub test: Test,
    /// Turned round.
    pub invert: bool,
}

/// Where a value is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A header field.
    Header,
    /// A query parameter.
    Query,
    /// A cookie.
    Cookie,
}

impl Condition {
    /// Whether it holds for this request.
    pub fn holds(&self, head: &RequestHead) -> bool {
        let name = self.name.as_bytes();
        let any = match self.place {
            Place::Header => head.get_all_name(name).any(|value| self.test.holds(value)),
            Place::Query => head.raw_query().is_some_and(|query| query_values(query, name).any(|value| self.test.holds(&decoded(value)))),
            Place::Cookie => cookie::values(head, name).any(|value| self.test.holds(value)),
        };
        any != self.invert
    }
}

/// The text of the condition, for `explain`.
impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match self.place {
            Place::Header => "header",
            Place::Query => "query",
            Place::Cookie => "cookie",
        };
        let not = if self.invert { "not " } else { "" };
        write!(f, "{not}{place} {}", self.name)?;
        match &self.test {
            Test::Present => write!(f, " is present"),
            Test::Exact(exact) => write!(f, " = {}", String::from_utf8_lossy(exact)),
            Test::Prefix(prefix) => write!(f, " begins with {}", String::from_utf8_lossy(prefix)),
            Test::Regex(regex) => write!(f, " matches {}", regex.as_str()),
        }
    }
}

/// Every value of a query parameter, still encoded.
fn query_values<'a>(query: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    query.split(|b| *b == b'&').filter_map(move |pair| {
        let at = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        (*decoded(&pair[..at]) == *name).then(|| pair.get(at + 1..).unwrap_or_default())
    })
}

/// A query component with `+` and `%XX` decoded.
fn decoded(raw: &[u8]) -> SmallVec<[u8; 64]> {
    let mut out = SmallVec::new();
    let mut at = 0;
    while at < raw.len() {
        let byte = match raw[at] {
            b'+' => b' ',
            b'%' => match raw.get(at + 1..at + 3).and_then(hex) {
                Some(byte) => {
                    at += 2;
                    byte
                }
                None => b'%',
            },
            byte => byte,
        };
        out.push(byte);
        at += 1;
    }
    out
}

fn hex(pair: &[u8]) -> Option<u8> {
    let digit = |b: u8| (b as char).to_digit(16);
    Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8)
}

/// The regex crate draws the pattern over several lines; the last one says what is wrong.
pub(super) fn last_line(text: &str) -> &str {
    text.trim_end().rsplit('\n').next().unwrap_or(text).trim().trim_start_matches("error: ")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::http::head::{Facts, Field, Fields, HeaderId, Span, Version};

    /// A head laid out by hand.
    pub(crate) fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> RequestHead {
        let mut bytes = Vec::new();
        let mut span = |text: &str| {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(text.as_bytes());
            Span { start, end: bytes.len() as u32 }
        };
        let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
        let method_span = span(method);
        let path = span(path);
        let query = query.map(&mut span);
        let mut authority = Span::default();
        let mut fields = Fields::new();
        let mut ids = 0;
        for (name, value) in headers {
            let id = match name.to_ascii_lowercase().as_str() {
                "cookie" => HeaderId::Cookie,
                "host" => HeaderId::Host,
                "origin" => HeaderId::Origin,
                _ => HeaderId::Other,
            };
            let field = Field { name: span(name), value: span(value), id, underscore: name.contains('_') };
            if id == HeaderId::Host {
                authority = field.value;
            }
            ids |= id.bit();
            fields.push(field);
        }
        let method = KNOWN.iter().find(|(_, name)| *name == method).map_or(Method::Other, |(m, _)| *m);
        RequestHead {
            bytes,
            method,
            method_span,
            path,
            query,
            authority,
            version: Version::H11,
            fields,
            facts: Facts { ids, ..Facts::default() },
        }
    }

    fn condition(place: Place, name: &str, test: Test, invert: bool) -> Condition {
        Condition { place, name: name.into(), test, invert }
    }

    #[test]
    fn get_includes_head_and_other_methods_are_compared_whole() {
        let set = Methods::new(&["GET".into(), "PURGE".into()]);
        for (name, expected) in [("GET", true), ("HEAD", true), ("POST", false), ("PURGE", true), ("purge", false), ("get", false)] {
            assert_eq!(set.contains(Asked::new(name.as_bytes())), expected, "{name}");
        }
        assert_eq!(set.names(), ["GET", "HEAD", "PURGE"]);
        assert!(Methods::new(&[]).contains(Asked::new(b"ANY")));
        assert!(!Methods::new(&["HEAD".into()]).contains(Asked::new(b"GET")));
    }

    #[test]
    fn headers_query_and_cookies() {
        let head = head("GET", "/x?a=1&b=two+words%21&flag", &[("X-Canary", "v2"), ("Cookie", "s=1; t=a=b"), ("cookie", "u=9")]);
        let exact = |text: &str| Test::Exact(text.as_bytes().into());
        assert!(condition(Place::Header, "x-canary", exact("v2"), false).holds(&head));
        assert!(!condition(Place::Header, "x-canary", exact("V2"), false).holds(&head));
        assert!(condition(Place::Query, "b", exact("two words!"), false).holds(&head));
        assert!(condition(Place::Query, "flag", Test::Present, false).holds(&head));
        assert!(condition(Place::Query, "none", Test::Present, true).holds(&head));
        assert!(condition(Place::Cookie, "t", exact("a=b"), false).holds(&head));
        assert!(condition(Place::Cookie, "u", Test::Prefix((*b"9").into()), false).holds(&head));
        assert!(condition(Place::Header, "x-canary", Test::regex("v[0-9]+").unwrap(), false).holds(&head));
        assert!(!condition(Place::Header, "x-canary", Test::regex("v").unwrap(), false).holds(&head), "anchored at both ends");
        assert!(Test::regex("a|b").unwrap().holds(b"b") && !Test::regex("a|b").unwrap().holds(b"xb"));
        assert!(Test::regex("(").unwrap_err().contains("unclosed"));
    }

    #[test]
    fn broken_escapes_are_text() {
        assert_eq!(&*decoded(b"%zz%4"), b"%zz%4");
        assert_eq!(&*decoded(b"%41%2b+"), b"A+ ");
    }
}
