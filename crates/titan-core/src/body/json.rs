//! Rules for the fields of JSON bodies.

use serde_json::{Map, Value};

use crate::config::Issue;
use crate::config::raw::{JsonAction, JsonBody, JsonRule};
use crate::http::head::{HeaderId, Method, RequestHead, ResponseHead};

/// A compiled policy: the rules of both directions.
#[derive(Debug)]
pub struct JsonPolicy {
    /// On requests.
    pub request: JsonRules,
    /// On answers.
    pub response: JsonRules,
    /// Bytes of the largest body that is held.
    pub max_body: u64,
}

impl JsonPolicy {
    /// Compiles the policy called `name`.
    pub fn compile(name: &str, raw: &JsonBody, issues: &mut Vec<Issue>) -> Self {
        let mut compile = |part: &str, rules: &[JsonRule]| JsonRules::compile(rules, &format!("{name}.{part}"), issues);
        Self { request: compile("request", &raw.request), response: compile("response", &raw.response), max_body: raw.max_body }
    }

    /// Whether the body of this request is to be changed.
    pub fn takes_request(&self, head: &RequestHead) -> bool {
        !self.request.is_empty() && JsonRules::applies_to(head.get(HeaderId::ContentType))
    }

    /// Whether the body of this answer is to be changed. A part (206) is no document.
    pub fn takes_response(&self, request: &RequestHead, head: &ResponseHead) -> bool {
        let has_body = request.method != Method::Head && head.status >= 200 && !matches!(head.status, 204 | 206 | 304);
        has_body && !self.response.is_empty() && JsonRules::applies_to(head.get(HeaderId::ContentType))
    }
}

/// Compiled rules of one direction.
///
/// Members keep their order. Numbers keep their value within what JSON implementations agree on (RFC 8259 §6: IEEE 754 doubles and
/// 64-bit integers).
#[derive(Debug, Default)]
pub struct JsonRules {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    action: JsonAction,
    path: Vec<String>,
    value: Value,
}

impl JsonRules {
    /// Compiles rules; `place` is their place in the native configuration.
    pub fn compile(rules: &[JsonRule], place: &str, issues: &mut Vec<Issue>) -> Self {
        let mut compiled = Vec::with_capacity(rules.len());
        for (i, rule) in rules.iter().enumerate() {
            let path = split(&rule.field);
            if path.iter().any(String::is_empty) {
                issues.push(Issue::new(format!("{place}[{i}].field"), "must be member names joined by dots, such as `user.name`"));
                continue;
            }
            compiled.push(Rule { action: rule.action, path, value: rule.value.clone() });
        }
        Self { rules: compiled }
    }

    /// Whether there is nothing to do, so that the body is not buffered.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a body with this Content-Type is a JSON document.
    pub fn applies_to(content_type: Option<&[u8]>) -> bool {
        let Some(value) = content_type else { return false };
        let media_type = value.split(|&b| b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
        media_type == b"application/json" || (media_type.starts_with(b"application/") && media_type.ends_with(b"+json"))
    }

    /// The document after the rules.
    ///
    /// # Errors
    /// The body is no JSON document.
    pub fn apply(&self, body: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
        let mut document: Value = serde_json::from_slice(body)?;
        for rule in &self.rules {
            apply_rule(&mut document, rule);
        }
        serde_json::to_vec(&document)
    }
}

/// `a.b\.c.0` → `a`, `b.c`, `0`.
fn split(field: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = field.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&'.') => {
                parts.last_mut().expect("one part").push('.');
                chars.next();
            }
            '.' => parts.push(String::new()),
            c => parts.last_mut().expect("one part").push(c),
        }
    }
    parts
}

fn apply_rule(document: &mut Value, rule: &Rule) {
    let (last, parents) = rule.path.split_last().expect("compile refuses empty paths");
    let mut at = document;
    for part in parents {
        let next = match at {
            Value::Object(map) => match rule.action {
                JsonAction::Add => Some(map.entry(part.as_str()).or_insert_with(|| Value::Object(Map::new()))),
                JsonAction::Modify | JsonAction::Remove => map.get_mut(part),
            },
            Value::Array(list) => part.parse::<usize>().ok().and_then(|i| list.get_mut(i)),
            _ => None,
        };
        let Some(next) = next else { return };
        at = next;
    }
    match (at, rule.action) {
        (Value::Object(map), JsonAction::Add) => {
            map.entry(last.as_str()).or_insert_with(|| rule.value.clone());
        }
        (Value::Object(map), JsonAction::Modify) => {
            if let Some(old) = map.get_mut(last) {
                *old = rule.value.clone();
            }
        }
        (Value::Object(map), JsonAction::Remove) => {
            map.shift_remove(last);
        }
        (Value::Array(list), action) => {
            let Ok(i) = last.parse::<usize>() else { return };
            match action {
                JsonAction::Add if i == list.len() => list.push(rule.value.clone()),
                JsonAction::Modify if i < list.len() => list[i] = rule.value.clone(),
                JsonAction::Remove if i < list.len() => {
                    list.remove(i);
                }
                _ => {}
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(rules: serde_json::Value, body: &str) -> String {
        let rules: Vec<JsonRule> = serde_json::from_value(rules).unwrap();
        let mut issues = Vec::new();
        let rules = JsonRules::compile(&rules, "x", &mut issues);
        assert_eq!(issues, []);
        String::from_utf8(rules.apply(body.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn fields_are_added_changed_and_removed_in_place() {
        let body = r#"{"z":1,"user":{"name":"a","password":"p"},"list":[1,2,3],"a.b":true}"#;
        let rules = json!([
            { "action": "remove", "field": "user.password" },
            { "action": "modify", "field": "user.name", "value": "b" },
            { "action": "modify", "field": "user.absent", "value": 1 },
            { "action": "add", "field": "meta.via", "value": "titan" },
            { "action": "add", "field": "z", "value": 2 },
            { "action": "remove", "field": "list.1" },
            { "action": "remove", "field": "a\\.b" }
        ]);
        assert_eq!(run(rules, body), r#"{"z":1,"user":{"name":"b"},"list":[1,3],"meta":{"via":"titan"}}"#);
    }

    #[test]
    fn a_path_through_a_scalar_does_nothing() {
        let rules = json!([{ "action": "add", "field": "a.b.c", "value": 1 }, { "action": "remove", "field": "a.b" }]);
        assert_eq!(run(rules, r#"{"a":5}"#), r#"{"a":5}"#);
    }

    #[test]
    fn no_json_is_an_error_and_an_empty_part_is_refused() {
        assert!(JsonRules::default().apply(b"{").is_err());
        let rules: Vec<JsonRule> = serde_json::from_value(json!([{ "action": "remove", "field": "a..b" }])).unwrap();
        let mut issues = Vec::new();
        JsonRules::compile(&rules, "policies[0].config.request", &mut issues);
        assert_eq!(issues[0].path, "policies[0].config.request[0].field");
    }

    #[test]
    fn json_types_are_told_from_others() {
        for (value, expected) in
            [("application/json; charset=utf-8", true), ("application/problem+JSON", true), ("text/json", false), ("image/x+json", false)]
        {
            assert_eq!(JsonRules::applies_to(Some(value.as_bytes())), expected, "{value}");
        }
        assert!(!JsonRules::applies_to(None));
    }
}
