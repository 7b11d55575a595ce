use super::*;
use crate::http::head::RequestHead;
use crate::route::condition::tests::head;
use crate::route::{Action, Found, MatchInput};

fn parse(json: &str) -> raw::Config {
    serde_json::from_str(json).unwrap()
}

fn base(upstreams: &str, routes: &str) -> raw::Config {
    parse(&format!(r#"{{"listeners":[{{"name":"http","address":"127.0.0.1","port":0}}],"upstreams":[{upstreams}],"routes":[{routes}]}}"#))
}

const API: &str = r#"{"name":"api","backends":[{"host":"127.0.0.1","port":3000}]}"#;

fn issues(config: &raw::Config) -> Vec<String> {
    compile(config, None, &Services::detached()).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

fn find(snapshot: &Snapshot, head: &RequestHead) -> Found {
    let path = head.raw_path().to_vec();
    snapshot.router.find(&MatchInput { host: b"h", path: &path, method: head.method_bytes(), head })
}

#[test]
fn compiles_and_matches() {
    let route = r#"{"name":"users","match":{"path":"/api/:id","methods":["GET"]},"timeout_ms":5000,
        "action":{"type":"proxy","targets":[{"upstream":"api"}],"rewrite":{"strip_prefix":"/api"}}}"#;
    let snapshot = compile(&base(API, route), None, &Services::detached()).unwrap();
    let Found::Route(0, params) = find(&snapshot, &head("GET", "/api/7", &[])) else { panic!() };
    let route = &snapshot.routes[0];
    assert_eq!(params.get(&route.param_names, "id", b"/api/7"), Some(&b"7"[..]));
    assert_eq!(route.timeout, Some(Duration::from_secs(5)));
    let Action::Proxy(proxy) = &route.action else { panic!() };
    assert_eq!(&*proxy.forward(b"/api/7", &params, None).unwrap().path, b"/7");
    assert_eq!(snapshot.upstreams[0].members()[0].endpoint.addr.to_string(), "127.0.0.1:3000");
}

#[test]
fn collects_every_issue() {
    let upstreams = r#"{"name":"a","backends":[]},
        {"name":"b","backends":[{"host":"http://x","port":1},{"host":"x:80","port":80},{"host":"y","port":0,"max_connections":0}],"protocol":"h2"},
        {"name":"c","balance":{"algorithm":"sticky","cookie":"a b","secret":"0123456789abcdef"},"backends":[{"host":"c","port":1}]}"#;
    let routes = r#"
        {"name":"r","match":{"path":"x"},"action":{"type":"proxy","targets":[{"upstream":"a"}]}},
        {"name":"r","match":{"path":"/x","methods":["get"],"hosts":["a:80"]},"action":{"type":"proxy","targets":[{"upstream":"nope"}]}},
        {"name":"s","match":{"path":"/s","headers":[{"name":"a","regex":"("}]},"policies":[3],
         "action":{"type":"redirect","status":200,"location":"/:x"}}"#;
    let found = issues(&base(upstreams, routes));
    for part in [
        "upstreams[0].backends: at least one",
        "upstreams[1].backends[0].host: \"http://x\" is a URL",
        "upstreams[1].backends[1].host: \"x:80\" holds a port",
        "upstreams[1].backends[2].port",
        "upstreams[1].backends[2].max_connections",
        "upstreams[1].protocol",
        "upstreams[2].balance: \"a b\" is not a cookie name",
        "routes[0].match.path: a path begins",
        "routes[1].name: routes[0] has the name",
        "routes[1].match.methods[0]: methods are case-sensitive: write \"GET\"",
        "routes[1].match.hosts[0]",
        "routes[1].action.targets[0].upstream: there is no upstream \"nope\"",
        "routes[2].match.headers[0].regex",
        "routes[2].policies[0]",
        "routes[2].action.status",
        "routes[2].action.location: \":x\" is not a parameter",
    ] {
        assert!(found.iter().any(|i| i.starts_with(part)), "{part} in {found:#?}");
    }
    assert!(!found.iter().any(|i| i.starts_with("routes[0].action")), "a route is not to blame for its upstream's issues");
}

#[test]
fn an_unchanged_upstream_is_the_same_after_a_reload() {
    let services = Services::detached();
    let other = r#"{"name":"web","backends":[{"host":"127.0.0.1","port":3001}]}"#;
    let first = compile(&base(&format!("{API},{other}"), ""), None, &services).unwrap();
    let changed = r#"{"name":"web","backends":[{"host":"127.0.0.1","port":3001,"weight":2},{"host":"127.0.0.1","port":3002}]}"#;
    let second = compile(&base(&format!("{API},{changed}"), ""), Some(&first), &services).unwrap();
    assert_eq!(second.generation, 2);
    assert!(Arc::ptr_eq(&first.upstreams[0], &second.upstreams[0]));
    assert!(!Arc::ptr_eq(&first.upstreams[1], &second.upstreams[1]));
    let endpoint = |s: &Snapshot| s.upstreams[1].members()[0].endpoint.id;
    assert_eq!(endpoint(&first), endpoint(&second), "its backend that stayed keeps its state");
    assert_eq!(second.upstreams[1].members()[0].weight, 2);
}

#[test]
fn addresses_of_names_survive_a_change() {
    let services = Services::detached();
    let named = |weight| format!(r#"{{"name":"n","backends":[{{"host":"Backend.Test.","port":80,"weight":{weight}}}]}}"#);
    let first = compile(&base(&named(1), ""), None, &services).unwrap();
    assert!(first.upstreams[0].members().is_empty());
    let addr = "10.0.0.9:80".parse().unwrap();
    first.upstreams[0].resolve(&[crate::upstream::Resolved { backend: 0, addr, alternate: None, target: None, weight: None }], None);
    let second = compile(&base(&named(2), ""), Some(&first), &services).unwrap();
    assert_eq!(second.upstreams[0].members()[0].endpoint.addr, addr);
    assert_eq!(&*second.upstreams[0].members()[0].endpoint.backend, "backend.test:80");
}

#[test]
fn ten_thousand_routes_compile_quickly() {
    let route = |i: usize| {
        format!(
            r#"{{"name":"r{i}","match":{{"path":"/api/v{}/items{i}/:id"}},"action":{{"type":"proxy","targets":[{{"upstream":"api"}}]}}}}"#,
            i % 7
        )
    };
    let config = base(API, &(0..10_000).map(route).collect::<Vec<_>>().join(","));
    let services = Services::detached();
    let started = std::time::Instant::now();
    let snapshot = compile(&config, None, &services).unwrap();
    let took = started.elapsed();
    assert!(matches!(find(&snapshot, &head("GET", "/api/v3/items17/42", &[])), Found::Route(17, _)));
    // 100 ms is the figure of a release build; this one is not optimised and may share its CPU.
    assert!(took < Duration::from_secs(3), "{took:?}");
}

/// Text that is more often nearly right than noise is.
fn text() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let piece = prop::sample::select(vec![
        "/",
        ":id",
        "*",
        "*rest",
        "a",
        "..",
        "%2e",
        "%2F",
        ";x",
        "{b}",
        "$1",
        "${x}",
        "$",
        "$query",
        "?",
        "(",
        ")",
        "[",
        "]",
        ".",
        "*.",
        "_http._tcp.",
        "127.0.0.1",
        "::1",
        "localhost",
        "\u{e9}",
        "\0",
        " ",
        "-",
        ":80",
        "https://",
    ]);
    // Mostly plain: a configuration holds a dozen of them and compiles only where all are right.
    prop_oneof![6 => Just("a".to_string()), 2 => prop::collection::vec(piece, 0..6).prop_map(|parts| parts.concat()), 1 => ".{0,12}"]
}

static COMPILED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

#[test]
fn no_configuration_panics() {
    any_configuration();
    let compiled = COMPILED.load(std::sync::atomic::Ordering::Relaxed);
    assert!(compiled > 20, "only {compiled} of the configurations were right, so little was tried");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(1_500))]

    fn any_configuration(
        texts in proptest::collection::vec(text(), 12),
        numbers in proptest::collection::vec(proptest::prelude::any::<u32>(), 6),
        request in text(),
    ) {
        let t = |at: usize| serde_json::Value::from(texts[at].as_str());
        let p = |at: usize| serde_json::Value::from(format!("/{}", texts[at]));
        let n = |at: usize| numbers[at];
        let config = serde_json::json!({
            "listeners": [{ "name": t(0), "address": "127.0.0.1", "port": 0 }],
            "upstreams": [{ "name": "api", "backends": [{ "host": t(1), "port": n(0) as u16, "weight": n(1), "max_connections": n(2) }, { "host": "::1", "port": 1, "weight": n(5) }],
                "balance": { "algorithm": "consistent_hash", "key": { "from": "header", "name": t(2) }, "bound": f64::from(n(3)) / 1e6 },
                "retry": { "budget_percent": f64::from(n(4)) / 1e6, "within_ms": n(0) }, "slow_start_ms": n(1),
                "health_check": { "path": p(3), "interval_ms": n(2) }, "outlier": { "max_ejected": f64::from(n(3)) / 4e9 } }],
            "routes": [
                { "name": "a", "match": { "path": p(4), "hosts": [t(5)], "methods": [t(6)], "headers": [{ "name": t(2), "regex": t(7) }] },
                  "action": { "type": "proxy", "targets": [{ "upstream": "api", "weight": n(4) }], "rewrite": { "path": p(8), "add_prefix": p(9), "regex": [[t(7), t(10)]] } } },
                { "name": "b", "match": { "path": format!("/{}", texts[4]) },
                  "action": { "type": "proxy", "targets": [{ "upstream": "api" }], "rewrite": { "strip_prefix": format!("/{}", texts[9]), "regex": [[t(7), t(10)]] } } },
                { "name": "c", "match": { "path": "/*" }, "action": { "type": "redirect", "status": 302, "location": format!("/{}", texts[11]) } }],
        });
        let config: raw::Config = serde_json::from_value(config).unwrap();
        // Refused or not: nothing panics, and what compiles serves any path.
        if let Ok(snapshot) = compile(&config, None, &Services::detached()) {
            COMPILED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let path = format!("/{request}");
            let head = head("GET", &path, &[]);
            let input = MatchInput { host: texts[5].as_bytes(), path: path.as_bytes(), method: b"GET", head: &head };
            if let Found::Route(index, params) = snapshot.router.find(&input) {
                match &snapshot.routes[index].action {
                    Action::Proxy(proxy) => {
                        let upstream = proxy.choose(&head, "127.0.0.1".parse().unwrap());
                        let client = "127.0.0.1".parse().unwrap();
                        let _ = upstream.pick(&crate::upstream::PickInput { client, head: &head, path: path.as_bytes(), exclude: &[], only: None });
                        if let Ok(target) = proxy.forward(path.as_bytes(), &params, Some(b"q=1")) {
                            proptest::prop_assert!(target.path.starts_with(b"/") && !target.path.contains(&b'?'));
                        }
                    }
                    Action::Redirect(redirect) => {
                        let location = redirect.location(path.as_bytes(), &params, None);
                        proptest::prop_assert!(location.iter().all(|b| (0x21..0x7f).contains(b)));
                    }
                    Action::Fixed(_) => {}
                }
            }
        }
    }
}
