use std::time::Duration;

use serde_json::{Value, json};

use super::table::{Id, Names};
use super::*;
use crate::http::head::Method;

fn done(route: Id, method: Method, status: u16, ms: u64) -> Done {
    Done { route, method, status, duration: Duration::from_millis(ms), bytes_in: 10, bytes_out: 100, stage: None }
}

fn scrape(registry: &Registry) -> Value {
    serde_json::from_str(&registry.json(&Gauges::default())).unwrap()
}

#[test]
fn shards_are_added_up_by_name() {
    let registry = Registry::new();
    let (one, two) = (registry.shard(), registry.shard());
    let (api, unused) = (registry.route("api"), registry.route("unused"));
    assert_ne!(api, unused);
    one.done(&done(api, Method::Get, 200, 1));
    one.done(&done(api, Method::Get, 200, 70_000));
    one.done(&done(api, Method::Post, 503, 3));
    two.done(&done(api, Method::Get, 200, 0));
    two.done(&Done { stage: Some("no_route"), ..done(Id::NONE, Method::Other, 404, 0) });
    let seen = scrape(&registry);
    let routes = seen["routes"].as_array().unwrap();
    assert_eq!(routes.len(), 2, "a route that was never used has no series");
    assert_eq!(routes[0]["route"], "");
    assert_eq!(routes[0]["requests"], json!([["OTHER", 404, 1]]));
    assert_eq!(routes[1]["route"], "api");
    assert_eq!(routes[1]["requests"], json!([["GET", 200, 3], ["POST", 503, 1]]));
    assert_eq!(routes[1]["bytes_out"], 400);
    assert_eq!(routes[1]["latency_sum_us"], 70_004_000);
    let latency: Vec<u64> = serde_json::from_value(routes[1]["latency"].clone()).unwrap();
    assert_eq!(latency.len(), seen["bounds_us"].as_array().unwrap().len() + 1);
    assert_eq!((latency[0], latency[1], latency[3], latency[15]), (1, 1, 1, 1), "0 ms, 1 ms, 3 ms, 70 s");
    assert_eq!(seen["errors"], json!({ "no_route": 1 }));
    two.done(&Done { stage: Some("body_limit"), ..done(api, Method::Post, 413, 0) });
    let hit = registry.limits().requests;
    assert_eq!((hit["body_limit"], hit["overload"], hit.get("no_route")), (1, 0, None), "an unknown path is no limit");
}

#[test]
fn a_reload_finds_its_series_again() {
    let registry = Registry::new();
    let shard = registry.shard();
    for _ in 0..2 {
        // Each compilation asks for the names anew, in another order.
        let _ = registry.route("other");
        shard.done(&done(registry.route("api"), Method::Get, 200, 1));
    }
    assert_eq!(scrape(&registry)["routes"][0]["requests"], json!([["GET", 200, 2]]));
}

#[test]
fn statuses_without_end_end_in_one_series() {
    let registry = Registry::new();
    let shard = registry.shard();
    let route = registry.route("api");
    for status in 100..1000 {
        shard.done(&done(route, Method::Get, status, 1));
    }
    let seen = scrape(&registry);
    let requests = seen["routes"][0]["requests"].as_array().unwrap();
    assert!(requests.len() <= 128, "{}", requests.len());
    assert_eq!(requests.iter().map(|entry| entry[2].as_u64().unwrap()).sum::<u64>(), 900);
    let rest = requests.iter().find(|entry| entry[1] == 0).unwrap();
    assert_eq!(rest[0], "OTHER");
}

#[test]
fn names_without_end_end_in_one_series() {
    let names = Names::default();
    let mut last = Id::NONE;
    for index in 0..70_000 {
        last = names.id(&format!("route-{index}"));
    }
    assert_eq!(last, Id::NONE);
    assert_ne!(names.id("route-1"), Id::NONE);
    let table = table::Table::<cells::Counter>::default();
    for (id, _) in names.all() {
        table.get(id).inc();
    }
    assert_eq!(table.used(names.id("route-65534")).map(cells::Counter::get), Some(1));
}

#[test]
fn upstreams_listeners_and_policies_count() {
    let registry = Registry::new();
    let shard = registry.shard();
    let (upstream, listener, policy) = (registry.upstream("u"), registry.listener("http"), registry.policy("strict"));
    shard.tried(upstream, Try::Answered, Duration::from_micros(700));
    shard.tried(upstream, Try::ConnectFailed, Duration::ZERO);
    shard.connected(upstream, Duration::from_millis(2));
    shard.retried(upstream);
    shard.retry_denied(upstream);
    shard.accepted(listener);
    shard.refused(listener, Refusal::PerAddress);
    shard.closed(listener, Close::Timeout);
    shard.handshake(listener, true);
    shard.handshake_failed(listener);
    shard.tunnel_opened(registry.route("ws"));
    shard.tunnel_closed(registry.route("ws"), 5, 7);
    enter(registry.shard());
    with(|shard| shard.limited(policy));
    let limits = serde_json::to_value(registry.limits()).unwrap();
    assert_eq!(limits["connections"], json!({ "limit": 0, "address": 1, "shutdown": 0 }));
    assert_eq!((&limits["policies"], &limits["retries"]), (&json!({ "strict": 1 }), &json!(1)));
    let seen = scrape(&registry);
    let upstream = &seen["upstreams"][0];
    assert_eq!((&upstream["answered"], &upstream["connect_failed"], &upstream["latency"][1]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!(upstream["latency"][0], json!(0), "a failure to connect has no latency");
    assert_eq!((&upstream["connect_us"], &upstream["retries"], &upstream["retries_denied"]), (&json!(2000), &json!(1), &json!(1)));
    let listener = &seen["listeners"][0];
    assert_eq!(listener["accepted"], 1);
    assert_eq!(listener["refused"], json!({ "limit": 0, "address": 1, "shutdown": 0 }));
    assert_eq!(listener["closed"]["timeout"], 1);
    assert_eq!(listener["tls"], json!({ "full": 0, "resumed": 1, "failed": 1 }));
    assert_eq!(seen["policies"], json!([{ "policy": "strict", "rejected": 1 }]));
    assert_eq!((&seen["routes"][0]["tunnels_opened"], &seen["routes"][0]["tunnel_bytes_out"]), (&json!(1), &json!(7)));
}

#[test]
fn a_thread_without_a_shard_counts_nothing() {
    let registry = Registry::new();
    let policy = registry.policy("p");
    std::thread::spawn(move || with(|shard| shard.limited(policy))).join().unwrap();
    assert_eq!(scrape(&registry)["policies"], json!([]));
}

#[test]
fn a_scrape_beside_writers_never_sees_more_than_was_counted() {
    let registry = Registry::new();
    let route = registry.route("api");
    let total = 200_000;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let shard = registry.shard();
            scope.spawn(move || (0..total).for_each(|n| shard.done(&done(route, Method::Get, 200 + (n % 20) as u16, 1))));
        }
        let mut last = 0;
        for _ in 0..20 {
            let seen = scrape(&registry);
            let sum = seen["routes"][0]["requests"].as_array().map_or(0, |list| list.iter().map(|entry| entry[2].as_u64().unwrap()).sum());
            assert!(sum >= last && sum <= 2 * total, "{last} {sum}");
            last = sum;
        }
    });
    let latency: Vec<u64> = serde_json::from_value(scrape(&registry)["routes"][0]["latency"].clone()).unwrap();
    assert_eq!(latency.iter().sum::<u64>(), 2 * total);
}
