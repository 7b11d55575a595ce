//! Rules for query parameters.

use std::borrow::Cow;

use super::RequestView;
use super::template::Template;
use crate::auth::Identity;
use crate::config::raw::{HeaderAction, QueryRule};
use crate::config::{Issue, raw};
use crate::http::token::hex;

/// The rules of a policy, in order.
#[derive(Debug)]
pub(super) struct QueryRules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    action: HeaderAction,
    name: Box<str>,
    value: Template,
}

impl QueryRules {
    pub(super) fn compile(place: &str, raw: &[raw::QueryRule], issues: &mut Vec<Issue>) -> Self {
        let compile = |(i, rule): (usize, &QueryRule)| {
            if rule.name.is_empty() {
                issues.push(Issue::new(format!("{place}[{i}].name"), "a query parameter needs a name"));
                return None;
            }
            let value = Template::parse(&rule.value);
            let value = value.map_err(|message| issues.push(Issue::new(format!("{place}[{i}].value"), message))).ok()?;
            Some(Rule { action: rule.action, name: rule.name.as_str().into(), value })
        };
        Self(raw.iter().enumerate().filter_map(compile).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The query with the rules applied; empty = there is none.
    pub(super) fn apply(&self, query: Option<&[u8]>, req: &RequestView<'_>, identity: Option<&Identity>) -> Vec<u8> {
        let given = query.unwrap_or_default().split(|&b| b == b'&').filter(|pair| !pair.is_empty());
        let mut pairs: Vec<Cow<'_, [u8]>> = given.map(Cow::Borrowed).collect();
        for rule in &self.0 {
            let is_named = |pair: &Cow<'_, [u8]>| decoded_eq(pair.split(|&b| b == b'=').next().unwrap_or_default(), rule.name.as_bytes());
            let first = pairs.iter().position(is_named);
            if rule.action != HeaderAction::Add {
                pairs.retain(|pair| !is_named(pair));
            }
            if rule.action == HeaderAction::Remove {
                continue;
            }
            let mut value = Vec::new();
            rule.value.write(req, identity, &mut value);
            if value.is_empty() && rule.value.only_variables() {
                continue;
            }
            let mut pair = encode(rule.name.as_bytes());
            pair.push(b'=');
            pair.extend_from_slice(&encode(&value));
            // A replaced parameter keeps its place: everything before it is still there.
            let at = first.filter(|_| rule.action == HeaderAction::Set).unwrap_or(pairs.len());
            pairs.insert(at, Cow::Owned(pair));
        }
        pairs.join(&b'&')
    }
}

/// Whether an encoded name is `name`: spelt with `%6e` it is the same parameter to a backend.
fn decoded_eq(encoded: &[u8], name: &[u8]) -> bool {
    let mut bytes = encoded.iter().copied();
    let mut decoded = std::iter::from_fn(|| {
        let byte = bytes.next()?;
        let mut ahead = bytes.clone();
        match (byte, ahead.next().and_then(hex), ahead.next().and_then(hex)) {
            (b'%', Some(high), Some(low)) => {
                bytes = ahead;
                Some(high << 4 | low)
            }
            (b'+', ..) => Some(b' '),
            _ => Some(byte),
        }
    });
    name.iter().all(|&b| decoded.next() == Some(b)) && decoded.next().is_none()
}

fn encode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(byte);
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.extend_from_slice(&[b'%', HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::policy::testing::{Exchange, chain, head, issues};

    fn query(rules: serde_json::Value, path: &str) -> String {
        let chain = chain(json!([{"name": "q", "type": "headers", "config": {"query": rules}}]));
        let mut exchange = Exchange::new("10.0.0.1", head("GET", path, &[]));
        assert!(exchange.run(&chain).0.is_none());
        String::from_utf8(exchange.state.rewrite().unwrap().query.clone().unwrap()).unwrap()
    }

    #[test]
    fn requirement_29_query_rules() {
        let rule = |action: &str, name: &str, value: &str| json!({"action": action, "name": name, "value": value});
        let set = || json!([rule("set", "v", "2")]);
        assert_eq!(query(set(), "/a"), "v=2");
        assert_eq!(query(set(), "/a?x=1&v=1&y=2&v=3"), "x=1&v=2&y=2");
        assert_eq!(query(set(), "/a?%76=1&w"), "v=2&w", "an encoded name is the same name");
        assert_eq!(query(json!([rule("add", "v", "2")]), "/a?v=1"), "v=1&v=2");
        assert_eq!(query(json!([rule("remove", "v", "")]), "/a?v=1&x=%20&v"), "x=%20");
        assert_eq!(query(json!([rule("remove", "v", "")]), "/a?v=1"), "");
        assert_eq!(query(json!([rule("add", "a b", "${client_ip}&x=1#")]), "/a?x=1"), "x=1&a%20b=10.0.0.1%26x%3D1%23");
        assert_eq!(query(json!([rule("set", "t", "${claim.sub}")]), "/a?t=forged"), "", "a claim that is absent lets no forgery stand");
        let wrong =
            issues(json!([{"name": "q", "type": "headers", "config": {"query": [rule("add", "", "x"), rule("add", "x", "${no}")]}}]));
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }
}
