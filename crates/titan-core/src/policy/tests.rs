use serde_json::json;

use super::testing::{Exchange, chain, issues, policies};

#[test]
fn the_order_is_fixed_whatever_the_configuration_says() {
    let limit = |key: &str| json!({"limits": [{"requests": 1, "window_ms": 1000, "burst": 1, "key": [{"from": key}]}]});
    let policies = policies(
        json!([
            {"name": "h", "type": "headers", "config": {}},
            {"name": "late", "type": "rate_limit", "config": limit("subject")},
            {"name": "c", "type": "cors", "config": {}},
            {"name": "n", "type": "concurrency", "config": {"max": 1}},
            {"name": "early", "type": "rate_limit", "config": limit("ip")},
            {"name": "ip", "type": "ip_filter", "config": {}}
        ]),
        None,
    );
    assert_eq!(policies.order(&[4, 5]), [("ip", "ip_filter"), ("early", "rate_limit")]);
    let order: Vec<_> = policies.order(&[0, 1, 2, 3, 4, 5]).into_iter().map(|(name, _)| name).collect();
    assert_eq!(order, ["ip", "n", "c", "late", "h"]);
    assert_eq!(policies.order(&[4, 1, 0, 0]), [("early", "rate_limit"), ("h", "headers"), ("h", "headers")], "the first of a type");
    assert!(policies.chain(&[]).is_empty());
    assert_eq!(policies.order(&[2, 5]), [("ip", "ip_filter"), ("c", "cors")]);
}

#[test]
fn address_lists() {
    let file = std::env::temp_dir().join(format!("titan-ip-{}", std::process::id()));
    std::fs::write(&file, "# lab\n192.168.1.0/24 # one\n\n2001:db8::/32\n").unwrap();
    let chain = chain(
        json!([{"name": "f", "type": "ip_filter", "config": {"allow": ["10.0.0.0/8"], "allow_file": file, "deny": ["10.6.0.0/16"]}}]),
    );
    for (ip, allowed) in [
        ("10.1.1.1", true),
        ("::ffff:10.1.1.1", true),
        ("10.6.1.1", false),
        ("::ffff:10.6.1.1", false),
        ("192.168.1.9", true),
        ("192.168.2.9", false),
        ("2001:db8::9", true),
        ("::1", false),
    ] {
        let answer = Exchange::get(ip).run(&chain).0;
        assert_eq!(answer.map(|a| a.status), (!allowed).then_some(403), "{ip}");
    }
    std::fs::write(&file, "nonsense\n10.0.0.0/33\n").unwrap();
    let found =
        issues(json!([{"name": "f", "type": "ip_filter", "config": {"allow": ["x"], "deny_file": file, "allow_file": "/nowhere"}}]));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.iter().any(|f| f.contains(":2): \"10.0.0.0/33\"")), "{found:?}");
    assert!(found.iter().any(|f| f.contains("can't read /nowhere")), "{found:?}");
}

#[test]
fn concurrency_counts_until_the_exchange_ends() {
    let config = json!([{"name": "n", "type": "concurrency", "config": {"max": 2, "key": [{"from": "ip"}]}}]);
    let first = policies(config.clone(), None);
    let chain = first.chain(&[0]);
    let mut held: Vec<_> = (0..2).map(|_| Exchange::get("1.1.1.1")).collect();
    assert!(held.iter_mut().all(|e| e.run(&chain).0.is_none()));
    let refused = Exchange::get("1.1.1.1").run(&chain).0.unwrap();
    assert_eq!((refused.status, refused.stage), (503, "concurrency"));
    assert!(Exchange::get("1.1.1.2").run(&chain).0.is_none(), "another address");
    let second = policies(config, Some(&first));
    assert!(Exchange::get("1.1.1.1").run(&second.chain(&[0])).0.is_some(), "a reload forgets nothing in flight");
    let tunnel = held[0].state.take_permits();
    held[0].state.clear();
    assert!(Exchange::get("1.1.1.1").run(&chain).0.is_some(), "a tunnel still counts");
    drop(tunnel);
    assert!(Exchange::get("1.1.1.1").run(&chain).0.is_none());
    held[1].state.clear();
    assert!(held[0].run(&chain).0.is_none() && held[1].run(&chain).0.is_none());
}
