use serde_json::json;

use crate::policy::testing::{Exchange, chain, head, issues, value};
use crate::policy::{Chain, preflight_method};

fn cors(config: serde_json::Value) -> Chain {
    chain(json!([{"name": "c", "type": "cors", "config": config}]))
}

fn from(chain: &Chain, origin: &str) -> Vec<(String, String)> {
    Exchange::new("1.1.1.1", head("GET", "/", &[("origin", origin)])).run(chain).1
}

fn preflight(chain: &Chain, origin: &str, method: &str, headers: &str) -> (u16, Vec<(String, String)>) {
    let fields = [("origin", origin), ("access-control-request-method", method), ("access-control-request-headers", headers)];
    let (answer, headers) = Exchange::new("1.1.1.1", head("OPTIONS", "/", &fields)).run(chain);
    (answer.expect("a preflight ends here").status, headers)
}

#[test]
fn requirement_28_only_an_allowed_origin_is_reflected() {
    let chain = cors(json!({
        "allowed_origins": ["https://app.example", "https://*.example.com", "http://*.local:8080", "/https://pr-[0-9]+\\.dev/"],
        "allow_credentials": true, "exposed_headers": ["x-total"]
    }));
    for (origin, allowed) in [
        ("https://app.example", true),
        ("https://APP.example", true),
        ("https://a.example.com", true),
        ("https://a.b.example.com", true),
        ("http://x.local:8080", true),
        ("https://pr-12.dev", true),
        ("https://example.com", false),
        ("http://app.example", false),
        ("https://app.example.evil", false),
        ("https://evilexample.com", false),
        ("https://evil.test/x.example.com", false),
        ("https://evil.test#.example.com", false),
        ("https://.example.com", false),
        ("https://pr-12.dev.evil", false),
        ("xhttps://pr-12.dev", false),
        ("null", false),
        ("", false),
    ] {
        let headers = from(&chain, origin);
        assert_eq!(value(&headers, "access-control-allow-origin"), allowed.then_some(origin), "{origin}");
        assert_eq!(value(&headers, "access-control-allow-credentials"), allowed.then_some("true"), "{origin}");
        assert_eq!(value(&headers, "access-control-expose-headers"), allowed.then_some("x-total"), "{origin}");
        assert_eq!(value(&headers, "vary"), Some("Origin"), "{origin}");
    }
}

#[test]
fn a_star_is_a_star() {
    let chain = cors(json!({}));
    let headers = from(&chain, "https://any.example");
    assert_eq!(value(&headers, "access-control-allow-origin"), Some("*"));
    assert_eq!(value(&headers, "vary"), None);
    assert_eq!(value(&Exchange::get("1.1.1.1").run(&chain).1, "access-control-allow-origin"), None);
    let (status, headers) = preflight(&chain, "https://any.example", "DELETE", "Authorization, x-a");
    assert_eq!(status, 204);
    assert_eq!(value(&headers, "access-control-allow-headers"), Some("Authorization, x-a"), "a star would not cover Authorization");
}

#[test]
fn preflights_are_answered_here() {
    let chain = cors(
        json!({"allowed_origins": ["https://a.example"], "allowed_methods": ["GET", "PUT"], "allowed_headers": ["X-One", "content-type"], "max_age": 600}),
    );
    assert!(chain.answers_preflight());
    let (status, headers) = preflight(&chain, "https://a.example", "PUT", "content-type,x-one");
    assert_eq!(status, 204);
    for (name, expected) in [
        ("access-control-allow-origin", "https://a.example"),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "X-One, content-type"),
        ("access-control-max-age", "600"),
        ("vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    ] {
        assert_eq!(value(&headers, name), Some(expected), "{name}");
    }
    assert_eq!(preflight(&chain, "https://b.example", "PUT", "").0, 403);
    assert_eq!(value(&preflight(&chain, "https://b.example", "PUT", "").1, "access-control-allow-origin"), None);
    assert_eq!(preflight(&chain, "https://a.example", "DELETE", "").0, 403);
    assert_eq!(preflight(&chain, "https://a.example", "put", "").0, 403, "methods are case-sensitive");
    assert_eq!(preflight(&chain, "https://a.example", "POST", "").0, 204, "safelisted");
    assert_eq!(preflight(&chain, "https://a.example", "PUT", "x-two").0, 403);
    let plain = Exchange::new("1.1.1.1", head("OPTIONS", "/", &[("origin", "https://a.example")])).run(&chain).0;
    assert!(plain.is_none(), "an OPTIONS request without a requested method is none");
    assert!(preflight_method(&head("GET", "/", &[("origin", "x"), ("access-control-request-method", "GET")])).is_none());
}

#[test]
fn cors_headers_are_on_the_answers_of_earlier_steps() {
    let chain = chain(json!([
        {"name": "c", "type": "cors", "config": {"allowed_origins": ["https://a.example"]}},
        {"name": "f", "type": "ip_filter", "config": {"deny": ["0.0.0.0/0"]}}
    ]));
    let (answer, headers) = Exchange::new("1.1.1.1", head("GET", "/", &[("origin", "https://a.example")])).run(&chain);
    assert_eq!(answer.unwrap().status, 403);
    assert_eq!(value(&headers, "access-control-allow-origin"), Some("https://a.example"));
}

#[test]
fn what_would_be_a_hole_is_refused() {
    let wrong = |config: serde_json::Value| issues(json!([{"name": "c", "type": "cors", "config": config}])).join("\n");
    assert!(wrong(json!({"allow_credentials": true})).contains("c.allow_credentials: credentials with the origin"));
    for origin in
        ["example.com", "https://*", "https://a.example/", "https://a*.example", "https://*.*.x", "*://x.example", "/(/", "https://"]
    {
        assert!(wrong(json!({"allowed_origins": [origin]})).contains("c.allowed_origins[0]: "), "{origin}");
    }
    assert!(wrong(json!({"allowed_methods": ["GE T"], "allowed_headers": ["a:b"]})).contains("allowed_headers[0]"));
    assert!(wrong(json!({"allowed_origins": []})).contains("at least one origin"));
}
