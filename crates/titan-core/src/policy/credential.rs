//! Where a request carries a credential, and taking it off again.

use std::borrow::Cow;
use std::sync::Arc;

use super::cx::RequestView;
use super::{HeaderOps, RequestCx};
use crate::http::cookie;
use crate::http::head::{HeaderId, RequestHead};
use crate::http::token::hex;

/// Places to look at, in order.
#[derive(Debug)]
pub(super) struct Places {
    header: Box<str>,
    /// Words before the credential, one of which must be there; empty = the whole value.
    schemes: Vec<Box<str>>,
    /// The whole value where no scheme is before it.
    bare: bool,
    cookie: Option<Box<str>>,
    query: Option<Arc<str>>,
    /// Whether the header is taken off before forwarding.
    strip: bool,
}

/// What was found.
pub(super) enum Found<'a> {
    Nothing,
    /// More than one, or one that can't be read: never good.
    Ambiguous,
    One(Cow<'a, [u8]>),
}

impl Places {
    pub(super) fn new(header: &str, strip: bool) -> Self {
        Self { header: header.into(), schemes: Vec::new(), bare: true, cookie: None, query: None, strip }
    }

    /// Only after this word.
    pub(super) fn scheme(mut self, scheme: &str) -> Self {
        if !scheme.is_empty() {
            self.schemes.push(scheme.into());
            self.bare = false;
        }
        self
    }

    /// After this word or alone.
    pub(super) fn optional_scheme(mut self, scheme: &str) -> Self {
        self.schemes.push(scheme.into());
        self
    }

    pub(super) fn cookie(mut self, name: Option<&str>) -> Self {
        self.cookie = name.map(Into::into);
        self
    }

    pub(super) fn query(mut self, name: Option<&str>) -> Self {
        self.query = name.map(Into::into);
        self
    }

    pub(super) fn find<'a>(&self, req: &RequestView<'a>) -> Found<'a> {
        match self.in_header(req.head) {
            Found::Nothing => {}
            found => return found,
        }
        if let Some(name) = &self.cookie {
            // Two cookies of one name: a subdomain can plant the other.
            if let Some(found) = only(cookie::values(req.head, name.as_bytes())) {
                return found;
            }
        }
        let (Some(name), Some(query)) = (&self.query, req.query) else { return Found::Nothing };
        let pairs = query.split(|&b| b == b'&').filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        match only(pairs) {
            Some(Found::One(raw)) => percent_decode(raw).map_or(Found::Ambiguous, Found::One),
            Some(found) => found,
            None => Found::Nothing,
        }
    }

    /// Takes the credential off what goes upstream, wherever it may be, and out of the logs.
    pub(super) fn hide(&self, cx: &mut RequestCx<'_>) {
        if self.strip {
            strip(cx.req.head, &self.header, cx.request_ops);
        }
        if let Some(name) = self.query.as_ref().filter(|_| cx.req.query.is_some()) {
            cx.state.hidden.push(name.clone());
        }
    }

    fn in_header<'a>(&self, head: &'a RequestHead) -> Found<'a> {
        let authorization = &*self.header == "authorization";
        let mut known = authorization.then(|| head.get_all(HeaderId::Authorization)).into_iter().flatten();
        let mut named = (!authorization).then(|| lines(head, &self.header)).into_iter().flatten();
        let Some(value) = known.next().or_else(|| named.next()) else { return Found::Nothing };
        if known.next().or_else(|| named.next()).is_some() {
            return Found::Ambiguous;
        }
        for scheme in &self.schemes {
            let Some((word, rest)) = value.split_at_checked(scheme.len()) else { continue };
            if word.eq_ignore_ascii_case(scheme.as_bytes()) && rest.first().is_some_and(|&b| b == b' ') {
                return Found::One(Cow::Borrowed(rest.trim_ascii()));
            }
        }
        if self.bare && !value.is_empty() { Found::One(Cow::Borrowed(value)) } else { Found::Nothing }
    }
}

/// Takes a header off what goes upstream, and with it the spellings that a backend may read as the same (`X_User` for `X-User`).
pub(super) fn strip(head: &RequestHead, name: &str, ops: &mut HeaderOps) {
    ops.remove(name);
    if !head.facts.underscore {
        return;
    }
    for field in head.fields.iter().filter(|f| f.underscore) {
        let alias = field.name.of(&head.bytes);
        let same = alias.len() == name.len() && alias.iter().zip(name.bytes()).all(|(a, n)| dash(a.to_ascii_lowercase()) == dash(n));
        if same {
            ops.remove(alias.to_ascii_lowercase());
        }
    }
}

fn dash(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte }
}

fn lines<'a>(head: &'a RequestHead, name: &str) -> impl Iterator<Item = &'a [u8]> {
    head.fields.iter().filter(move |f| f.name.of(&head.bytes).eq_ignore_ascii_case(name.as_bytes())).map(|f| f.value.of(&head.bytes))
}

fn only<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<Found<'a>> {
    let first = values.next()?;
    Some(if values.next().is_some() { Found::Ambiguous } else { Found::One(Cow::Borrowed(first)) })
}

fn percent_decode(text: Cow<'_, [u8]>) -> Option<Cow<'_, [u8]>> {
    if !text.contains(&b'%') {
        return Some(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        out.push(match byte {
            b'%' => hex(*bytes.next()?)? << 4 | hex(*bytes.next()?)?,
            other => other,
        });
    }
    Some(Cow::Owned(out))
}
