//! Limits, keys and tokens on a real Redis.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::config::raw;
use crate::policy::testing::{Exchange, head, value};
use crate::policy::{Chain, Policies, Services, compile};
use crate::store::testing::Server;

/// One Titan: its own services, so its own connection and its own memory.
fn titan(config: &Value) -> (Chain, Policies, Services) {
    let raw: Vec<raw::Policy> = serde_json::from_value(config.clone()).unwrap();
    let services = Services { auxiliary: Some(Handle::current()), ..Services::default() };
    let (policies, issues) = compile(&raw, None, &services);
    assert_eq!(issues, []);
    (policies.chain(&[0]), policies, services)
}

fn limits(url: &str, extra: Value, limits: Value) -> Value {
    let mut redis = json!({"url": url, "timeout_ms": 200});
    redis.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!([{"name": "s", "type": "rate_limit", "config": {"limits": limits, "redis": redis, "draft_headers": true}}])
}

fn bucket(requests: u64, burst: u64) -> Value {
    json!([{"requests": requests, "window_ms": 1000, "burst": burst, "key": [{"from": "ip"}]}])
}

async fn status(chain: &Chain, ip: &str) -> u16 {
    Exchange::get(ip).run_async(chain).await.0.map_or(200, |a| a.status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requirement_27_one_limit_for_all_titans() {
    let Some(server) = Server::start() else { return };
    let slow = json!([{"requests": 1, "window_ms": 60_000, "burst": 3, "key": [{"from": "ip"}]}]);
    let config = limits(&server.url(), json!({}), slow);
    let (a, b) = (titan(&config), titan(&config));
    for (chain, remaining) in [(&a.0, "2"), (&b.0, "1"), (&a.0, "0")] {
        let (answer, headers) = Exchange::get("10.0.0.1").run_async(chain).await;
        assert!(answer.is_none());
        assert_eq!((value(&headers, "x-ratelimit-limit"), value(&headers, "x-ratelimit-remaining")), (Some("3"), Some(remaining)));
    }
    let (answer, headers) = Exchange::get("10.0.0.1").run_async(&b.0).await;
    assert_eq!(answer.unwrap().status, 429);
    assert_eq!(value(&headers, "retry-after"), Some("60"));
    assert_eq!(value(&headers, "ratelimit"), Some("\"s\";r=0;t=180"));
    assert_eq!(status(&b.0, "10.0.0.2").await, 200, "another key");
    let keys: Vec<String> = server.command(&["KEYS", "*"]);
    assert!(keys.iter().all(|k| k.starts_with("titan:rl:s:ip:b:1:60000:3:")) && keys.len() == 2, "{keys:?}");
    let ttl: i64 = server.command(&["PTTL", &keys[0]]);
    assert!((1..=181_000).contains(&ttl), "what is forgotten by nobody is forgotten by Redis: {ttl}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_limits_take_all_or_nothing_and_windows_slide() {
    let Some(server) = Server::start() else { return };
    let two = json!([
        {"requests": 100, "window_ms": 60_000, "burst": 10, "key": []},
        {"requests": 3, "window_ms": 60_000, "algorithm": "sliding_window", "key": [{"from": "ip"}]}
    ]);
    let titan = titan(&limits(&server.url(), json!({}), two));
    let mut admitted = Vec::new();
    for ip in ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"] {
        let mut count = 0;
        for _ in 0..10 {
            count += usize::from(status(&titan.0, ip).await == 200);
        }
        admitted.push(count);
    }
    assert_eq!(admitted[..3], [3, 3, 3], "what the second refused is given back to the first");
    assert!((1..=2).contains(&admitted[3]), "the first is used up: {admitted:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sliding_window_slides_on_the_servers_clock() {
    let Some(server) = Server::start() else { return };
    let window = json!([{"requests": 40, "window_ms": 400, "algorithm": "sliding_window", "key": []}]);
    let titan = titan(&limits(&server.url(), json!({}), window));
    let (begin, mut admitted) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_millis(2_000) {
        admitted += u32::from(status(&titan.0, "10.0.0.1").await == 200);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // 40 at once, then 40 for each 400 ms; the weighted window is at most one window's worth off at the ends.
    let most = 40.0 + 40.0 * begin.elapsed().as_secs_f64() / 0.4;
    assert!((140.0..=most).contains(&f64::from(admitted)), "{admitted} of at most {most}");
}

/// Figure 14: two instances on one Redis, ± 5 %.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figure_14_two_instances_within_five_percent() {
    let Some(server) = Server::start() else { return };
    let config = limits(&server.url(), json!({"timeout_ms": 1000}), bucket(300, 100));
    let time = Duration::from_millis(2_000);
    let begin = Instant::now();
    let run = async |config: &Value| {
        let titan = titan(config);
        let mut admitted = 0;
        while begin.elapsed() < time {
            admitted += u32::from(status(&titan.0, "10.0.0.1").await == 200);
        }
        admitted
    };
    let (a, b) = tokio::join!(run(&config), run(&config));
    let total = f64::from(a + b);
    assert!(a > 50 && b > 50, "both are served: {a} and {b}");
    let elapsed = begin.elapsed().as_secs_f64();
    let (low, high) = (100.0 + 300.0 * time.as_secs_f64(), 100.0 + 300.0 * elapsed);
    assert!(total >= low * 0.95 && total <= high * 1.05, "{total}, expected {low} to {high}");
}

/// Figure 13: what each policy does while Redis is away, and how long it takes to notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figure_13_fail_modes() {
    let Some(mut server) = Server::start() else { return };
    let slow = || json!([{"requests": 1, "window_ms": 60_000, "burst": 2, "key": []}]);
    let with = |mode: &str| titan(&limits(&server.url(), json!({"fail_mode": mode, "prefix": format!("{mode}:")}), slow()));
    let (open, closed, local) = (with("open"), with("closed"), with("local"));
    for titan in [&open, &closed, &local] {
        assert_eq!(
            [status(&titan.0, "1.1.1.1").await, status(&titan.0, "1.1.1.1").await, status(&titan.0, "1.1.1.1").await],
            [200, 200, 429]
        );
    }
    server.kill();
    tokio::time::sleep(Duration::from_millis(50)).await;
    for (titan, expected) in [(&open, [200, 200, 200]), (&closed, [503, 503, 503]), (&local, [200, 200, 429])] {
        let begin = Instant::now();
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(status(&titan.0, "1.1.1.1").await);
        }
        assert_eq!(seen, expected);
        assert!(begin.elapsed() < Duration::from_millis(600), "one request may wait its 200 ms, the others none: {:?}", begin.elapsed());
    }
    let (_, headers) = Exchange::get("1.1.1.1").run_async(&closed.0).await;
    assert_eq!(value(&headers, "retry-after"), Some("1"));
    assert_eq!(closed.1.lost(), ["redis"]);
    server.restart();
    let begin = Instant::now();
    while status(&closed.0, "1.1.1.1").await == 503 {
        assert!(begin.elapsed() < Duration::from_secs(2), "back within 2 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(closed.1.lost().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_keys_in_redis() {
    let Some(mut server) = Server::start() else { return };
    let digest = crate::auth::api_key::hash(b"remote-key").iter().map(|b| format!("{b:02x}")).collect::<String>();
    let set = |server: &Server| {
        let key = format!("titan:apikey:{digest}");
        server.command::<i64>(&["HSET", &key, "id", "r1", "scopes", "a b", "tier", "gold", "expires_at", "99999999999"]);
        server.command::<i64>(&["HSET", "titan:apikey:x", "id", ""]);
    };
    set(&server);
    let url = server.url();
    let config = |mode: &str| {
        json!([{"name": "k", "type": "auth", "config": {"methods": [{"method": "api_key", "redis_cache_ms": 300,
            "keys": [{"id": "inline", "key": "inline-key"}], "redis": {"url": url, "fail_mode": mode, "timeout_ms": 200}}]}}])
    };
    let (closed, local) = (titan(&config("closed")), titan(&config("local")));
    let ask = async |chain: &Chain, key: &str| {
        let mut exchange = Exchange::new("10.0.0.1", head("GET", "/a", &[("x-api-key", key)]));
        let status = exchange.run_async(chain).await.0.map_or(200, |a| a.status);
        (status, exchange.state.identity().map(|i| (i.subject().to_owned(), i.tier().map(ToOwned::to_owned))))
    };
    for titan in [&closed, &local] {
        assert_eq!(ask(&titan.0, "remote-key").await, (200, Some(("r1".into(), Some("gold".into())))));
        assert_eq!(ask(&titan.0, "unknown-key").await.0, 401);
        assert_eq!(ask(&titan.0, "inline-key").await.0, 200);
    }
    server.command::<i64>(&["HSET", &format!("titan:apikey:{digest}"), "disabled", "1"]);
    assert_eq!(ask(&closed.0, "remote-key").await.0, 200, "remembered");
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(ask(&closed.0, "remote-key").await.0, 401, "and not for ever");
    server.kill();
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!([ask(&closed.0, "remote-key").await.0, ask(&closed.0, "inline-key").await.0], [503, 200]);
    assert_eq!(ask(&local.0, "remote-key").await.0, 200, "known keys are used on");
    assert_eq!(ask(&local.0, "never-seen").await.0, 503, "whether it is good nobody can say");
    let raw: Vec<raw::Policy> = serde_json::from_value(config("open")).unwrap();
    assert!(compile(&raw, None, &Services::default()).1[0].1.to_string().contains("would take any key"));
}
