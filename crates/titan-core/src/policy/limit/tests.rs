use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::policy::testing::{Exchange, chain, head, issues, policies, value, view};
use crate::policy::{Chain, Flow, HeaderOps, PolicyState, RequestCx};

fn limit(extra: serde_json::Value) -> serde_json::Value {
    let mut config = json!({"limits": [{"requests": 60, "window_ms": 60_000, "burst": 3, "key": [{"from": "ip"}]}]});
    config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!([{"name": "api", "type": "rate_limit", "config": config}])
}

fn admitted(chain: &Chain, ip: &str) -> bool {
    Exchange::get(ip).run(chain).0.is_none()
}

/// Takes until refused.
fn count(chain: &Chain, mut exchange: impl FnMut() -> Exchange) -> usize {
    (0..1000).take_while(|_| exchange().run(chain).0.is_none()).count()
}

#[test]
fn requirement_27_headers_and_body() {
    let chain = chain(limit(json!({"draft_headers": true})));
    for remaining in ["2", "1", "0"] {
        let (answer, headers) = Exchange::get("10.0.0.1").run(&chain);
        assert!(answer.is_none());
        assert_eq!(value(&headers, "x-ratelimit-limit"), Some("3"));
        assert_eq!(value(&headers, "x-ratelimit-remaining"), Some(remaining));
        assert_eq!(value(&headers, "x-ratelimit-reset"), Some(&*(3 - remaining.parse::<u64>().unwrap()).to_string()));
        assert_eq!(value(&headers, "ratelimit-policy"), Some("\"api\";q=3;w=60"));
        assert_eq!(value(&headers, "ratelimit"), Some(&*format!("\"api\";r={remaining};t={}", 3 - remaining.parse::<u64>().unwrap())));
    }
    let (answer, headers) = Exchange::get("10.0.0.1").run(&chain);
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.stage), (429, "rate_limit"));
    assert_eq!(value(&headers, "retry-after"), Some("1"));
    assert_eq!(value(&headers, "content-type"), Some("application/json"));
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body, json!({"error": "rate_limit_exceeded", "message": "Rate limit exceeded; try again in 1 s", "request_id": "req-1"}));
    let mut problem = Exchange::new("10.0.0.1", head("GET", "/", &[("accept", "application/problem+json, */*")]));
    let (answer, headers) = problem.run(&chain);
    assert_eq!(value(&headers, "content-type"), Some("application/problem+json"));
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&answer.unwrap().body).unwrap()["status"], 429);
}

#[test]
fn v22_key_games() {
    let v6 = chain(limit(json!({})));
    for (i, ip) in ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:0:0:1"].into_iter().enumerate() {
        assert!(admitted(&v6, ip), "{i}");
    }
    assert!(!admitted(&v6, "2001:db8::abcd"), "one /64 is one bucket");
    assert!(admitted(&v6, "2001:db8:0:1::1"), "the next /64 is another");
    assert_eq!(count(&v6, || Exchange::get("::ffff:192.0.2.1")), 3);
    assert!(!admitted(&v6, "192.0.2.1"), "v4-mapped is the v4 address");
    assert!(admitted(&v6, "::ffff:192.0.2.2"), "distinct v4 addresses are distinct when mapped");
    // X-Forwarded-For is no input of the key: only the address that the listener made of trusted proxies is.
    let forged = || Exchange::new("192.0.2.1", head("GET", "/", &[("x-forwarded-for", "8.8.8.8")]));
    assert_eq!(count(&v6, forged), 0);
}

#[test]
fn keys_combine_and_absent_values_share_a_bucket() {
    let key = json!({"limits": [{"requests": 1, "window_ms": 60_000, "burst": 2, "key": [{"from": "header", "name": "x-tenant"}, {"from": "cookie", "name": "s"}]}]});
    let chain = chain(json!([{"name": "k", "type": "rate_limit", "config": key}]));
    let with = |fields: &[(&str, &str)]| Exchange::new("1.1.1.1", head("GET", "/", fields));
    assert_eq!(count(&chain, || with(&[("X-Tenant", "a"), ("cookie", "t=1; s=x")])), 2);
    assert_eq!(count(&chain, || with(&[("x-tenant", "a"), ("cookie", "s=y")])), 2);
    assert_eq!(count(&chain, || with(&[("x-tenant", "as"), ("cookie", "s=")])), 2);
    assert_eq!(count(&chain, || with(&[("x-tenant", "a")])), 2, "an absent cookie is not an empty one");
    assert_eq!(count(&chain, || with(&[])), 2);
    assert_eq!(count(&chain, || Exchange::new("2.2.2.2", head("POST", "/b", &[]))), 0);
}

#[test]
fn several_limits_take_all_or_nothing() {
    let chain = chain(json!([{"name": "two", "type": "rate_limit", "config": {"limits": [
        {"requests": 100, "window_ms": 60_000, "burst": 100, "key": []},
        {"requests": 5, "window_ms": 60_000, "algorithm": "sliding_window", "key": [{"from": "ip"}]}
    ]}}]));
    for ip in ["1.1.1.1", "1.1.1.2"] {
        assert_eq!((0..20).filter(|_| admitted(&chain, ip)).count(), 5);
    }
    let (_, headers) = Exchange::get("1.1.1.3").run(&chain);
    assert_eq!(value(&headers, "x-ratelimit-remaining"), Some("4"), "the tighter one");
    // 11 of the first limit are taken, not 41: the refused gave theirs back.
    assert_eq!((0..200).filter(|i| admitted(&chain, &format!("9.9.{}.{}", i / 5, i % 5))).count(), 89);
}

#[test]
fn cost_and_groups() {
    let policy = |name: &str, cost: u32| json!({"name": name, "type": "rate_limit", "config": {"cost": cost, "group": "g", "limits": [{"requests": 1, "window_ms": 60_000, "burst": 10}]}});
    let policies = policies(json!([policy("cheap", 1), policy("dear", 4)]), None);
    let (cheap, dear) = (policies.chain(&[0]), policies.chain(&[1]));
    assert!(admitted(&dear, "1.1.1.1") && admitted(&dear, "1.1.1.1"));
    assert!(!admitted(&dear, "1.1.1.1"));
    assert_eq!(count(&cheap, || Exchange::get("1.1.1.1")), 2, "what is left of the shared bucket");
}

#[test]
fn a_reload_keeps_what_was_counted_where_nothing_changed() {
    let first = policies(limit(json!({})), None);
    assert_eq!(count(&first.chain(&[0]), || Exchange::get("10.0.0.1")), 3);
    let second = policies(limit(json!({"headers": false})), Some(&first));
    assert!(!admitted(&second.chain(&[0]), "10.0.0.1"));
    let mut renamed = limit(json!({}));
    renamed[0]["name"] = "other".into();
    assert!(admitted(&policies(renamed, Some(&second)).chain(&[0]), "10.0.0.1"));
}

#[test]
fn refusals_are_counted_by_policy() {
    let registry = crate::metrics::Registry::new();
    crate::metrics::enter(registry.shard());
    let services = crate::policy::Services { metrics: registry.clone(), ..Default::default() };
    let raw: Vec<crate::config::raw::Policy> = serde_json::from_value(limit(json!({}))).unwrap();
    let chain = crate::policy::compile(&raw, None, &services).0.chain(&[0]);
    assert_eq!((0..5).filter(|_| admitted(&chain, "10.0.0.1")).count(), 3);
    let seen: serde_json::Value = serde_json::from_str(&registry.json(&Default::default())).unwrap();
    assert_eq!(seen["policies"], json!([{"policy": "api", "rejected": 2}]));
}

#[test]
fn tiers_need_an_identity_and_run_late() {
    let chain = chain(limit(
        json!({"tiers": {"limits": {"gold": [{"requests": 1, "window_ms": 60_000, "burst": 50, "key": [{"from": "subject"}]}]}}}),
    ));
    let gold = || {
        let mut exchange = Exchange::get("7.7.7.7");
        let claims = json!({"tier": "gold"});
        exchange.state.identity = Some(crate::auth::Identity::new(crate::auth::IdentityKind::ApiKey, "k", claims));
        exchange
    };
    assert_eq!(count(&chain, gold), 3, "the address limit still holds");
}

#[test]
fn wrong_limits_are_issues() {
    let text = issues(json!([{"name": "x", "type": "rate_limit", "config": {"cost": 5, "limits": [
        {"requests": 0, "window_ms": 0, "burst": 0},
        {"requests": 1000, "window_ms": 1000, "burst": 4},
        {"requests": 100_000_000, "window_ms": 1000, "burst": 10}
    ]}}]));
    for expected in ["limits[0].requests", "limits[0].window_ms", "limits[0].burst", "limits[1].burst", "limits[2].requests"] {
        assert!(text.iter().any(|t| t.starts_with(&format!("x.{expected}: "))), "{expected} in {text:?}");
    }
    assert_eq!(issues(json!([{"name": "x", "type": "rate_limit", "config": {}}])).len(), 1);
}

/// Figure 14: exact for the process, ± 1 %, under threads that do nothing but ask. The burst is larger than what the whole time brings, so that
/// nothing is lost where a busy machine keeps the threads from asking for a while.
#[test]
fn exact_across_threads() {
    let config = json!({"limits": [{"requests": 2000, "window_ms": 1000, "burst": 2000, "key": [{"from": "ip"}]}]});
    let chain = chain(json!([{"name": "t", "type": "rate_limit", "config": config}]));
    let total = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    let end = begin + Duration::from_millis(700);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (chain, total) = (chain.clone(), total.clone());
            std::thread::spawn(move || {
                let exchange = Exchange::get("10.0.0.1");
                let mut state = PolicyState::default();
                let mut ops = HeaderOps::default();
                let mut last = begin;
                loop {
                    let now = Instant::now();
                    if now >= end {
                        return last;
                    }
                    last = now;
                    let mut cx =
                        RequestCx { req: view(&exchange.head, &exchange.client, exchange.route), request_ops: &mut ops, state: &mut state };
                    if matches!(chain.request(&mut cx), Flow::Continue) {
                        total.fetch_add(1, Ordering::Relaxed);
                    }
                    state.clear();
                }
            })
        })
        .collect();
    let last = threads.into_iter().map(|t| t.join().unwrap()).max().unwrap();
    let elapsed = begin.elapsed().as_secs_f64();
    let (low, high) = (2000.0 + 2000.0 * (last - begin).as_secs_f64(), 2000.0 + 2000.0 * elapsed);
    let got = total.load(Ordering::Relaxed) as f64;
    assert!(got <= high * 1.001 + 1.0, "{got} of at most {high}");
    assert!(got >= low * 0.99 - 2.0, "{got} of at least {low}");
}
