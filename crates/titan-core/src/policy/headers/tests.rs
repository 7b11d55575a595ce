use serde_json::json;

use crate::http::client::Scheme;
use crate::policy::testing::{Exchange, chain, head, issues, value};

fn rule(action: &str, name: &str, text: &str) -> serde_json::Value {
    json!({"action": action, "name": name, "value": text})
}

#[test]
fn rules_write_variables_and_nothing_can_break_out() {
    let chain = chain(json!([{"name": "h", "type": "headers", "config": {
        "request": [
            rule("set", "x-who", "${client_ip}/${method}/${scheme}/${host}${path}"),
            rule("set", "x-id", "p-${param.id}"),
            rule("set", "x-trace", "${header.x-in}"),
            rule("add", "x-none", "${param.none}"),
            rule("set", "x-literal", "$${client_ip} costs $5"),
            rule("set", "x-claim", "${claim.sub}"),
            rule("remove", "x-secret", "")
        ],
        "response": [rule("set", "x-route", "${route} ${request_id}"), rule("add", "x-route", "2")]
    }}]));
    let mut exchange = Exchange::new("::ffff:10.0.0.1", head("GET", "/a", &[("x-in", "v"), ("x-claim", "forged")]));
    let (answer, response) = exchange.run(&chain);
    assert!(answer.is_none());
    let request = exchange.request_headers();
    assert_eq!(value(&request, "x-who"), Some("10.0.0.1/GET/http/gateway.example/a/42%0D%0A"));
    assert_eq!(value(&request, "x-id"), Some("p-42%0D%0A"));
    assert_eq!(value(&request, "x-trace"), Some("v"));
    assert_eq!(value(&request, "x-none"), None);
    assert_eq!(value(&request, "x-literal"), Some("${client_ip} costs $5"));
    assert_eq!(value(&request, "x-claim"), None);
    let removed = exchange.request_ops.iter().any(|op| op == crate::http::ops::HeaderOp::Remove(b"x-claim"));
    assert!(removed, "a client's own header must not stand where the claim is absent");
    assert_eq!(response, [("x-route".into(), "r req-1".into()), ("x-route".into(), "2".into())]);
}

#[test]
fn security_presets() {
    let with = |preset: &str, scheme| {
        let chain = chain(
            json!([{"name": "s", "type": "headers", "config": {"security": preset, "response": [rule("remove", "x-frame-options", "")]}}]),
        );
        let mut exchange = Exchange::get("1.1.1.1");
        exchange.client.scheme = scheme;
        exchange.run(&chain).1
    };
    let basic = with("basic", Scheme::Http);
    assert_eq!(value(&basic, "x-content-type-options"), Some("nosniff"));
    assert_eq!(value(&basic, "strict-transport-security"), None, "never over plain http");
    assert_eq!(value(&basic, "x-frame-options"), None, "rules come after the preset");
    assert_eq!(value(&basic, "content-security-policy"), None);
    let strict = with("strict", Scheme::Https);
    assert_eq!(value(&strict, "strict-transport-security"), Some("max-age=63072000; includeSubDomains"));
    assert!(value(&strict, "content-security-policy").unwrap().starts_with("default-src 'self'"));
    assert_eq!(value(&with("api", Scheme::Https), "content-security-policy"), Some("default-src 'none'; frame-ancestors 'none'"));
}

#[test]
fn names_and_values_that_can_not_be_are_issues() {
    for (name, text, place) in [
        ("content-length", "1", "name"),
        ("transfer-encoding", "chunked", "name"),
        ("host", "x", "name"),
        ("a b", "x", "name"),
        ("X-Upper", "x", "name"),
        ("x", "a\r\nb", "value"),
        ("x", "${nothing}", "value"),
        ("x", "${client_ip", "value"),
        ("x", "${param.}", "value"),
    ] {
        let found = issues(json!([{"name": "h", "type": "headers", "config": {"response": [rule("set", name, text)]}}]));
        assert!(found.len() == 1 && found[0].starts_with(&format!("h.response[0].{place}: ")), "{name} {text} {found:?}");
    }
}
