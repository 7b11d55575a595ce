use std::collections::HashMap;

use super::settings::{BreakerSettings, OutlierSettings};
use super::*;
use crate::balance::key::HashKey;
use crate::balance::sticky::Sticky;
use crate::route::condition::tests::head;

#[path = "pick_properties.rs"]
mod properties;

fn settings(balance: Balance) -> Settings {
    let second = Some(Duration::from_secs(1));
    Settings {
        balance,
        protocol: Protocol::Http1,
        tls: None,
        sni: None,
        host: HostRule::Preserve,
        retry: Retry {
            max: 2,
            within: None,
            try_timeout: None,
            statuses: vec![],
            non_idempotent: false,
            max_body: 0,
            backoff: Duration::ZERO,
        },
        budget_percent: 20.0,
        pool: PoolLimits { max_idle: 1, idle_timeout: second, max_waiters: 1, wait_timeout: second },
        timeouts: Timeouts { connect: second, first_byte: second, read: second, write: second },
        outlier: None,
        breaker: None,
        slow_start: Duration::ZERO,
        health: None,
    }
}

fn upstream_with(settings: Settings, weights: &[u32], before: Option<&Upstream>) -> Upstream {
    let backend =
        |(at, weight): (usize, &u32)| Backend { host: format!("10.0.0.{}", at + 1), port: 80, weight: *weight, max_connections: 10 };
    let backends: Vec<_> = weights.iter().enumerate().map(backend).collect();
    let upstream = Upstream::new("api", String::new(), settings, 0, backends, metrics::Id::NONE, before);
    let address = |at: usize| Resolved {
        backend: at,
        addr: format!("10.0.0.{}:80", at + 1).parse().unwrap(),
        alternate: None,
        target: None,
        weight: None,
    };
    upstream.resolve(&(0..weights.len()).map(address).collect::<Vec<_>>(), before);
    upstream
}

/// An upstream without endpoints, for tests of routes.
pub(crate) fn upstream_named(name: &str) -> Arc<Upstream> {
    Arc::new(Upstream::new(name, String::new(), settings(Balance::RoundRobin), 0, vec![], metrics::Id::NONE, None))
}

fn upstream(balance: Balance, weights: &[u32]) -> Upstream {
    upstream_with(settings(balance), weights, None)
}

fn pick_as(upstream: &Upstream, client: &str, headers: &[(&str, &str)], exclude: &[u64]) -> Result<Picked, ErrorKind> {
    let head = head("GET", "/", headers);
    upstream.pick(&PickInput { client: client.parse().unwrap(), head: &head, path: b"/", exclude, only: None })
}

fn pick(upstream: &Upstream) -> Result<Picked, ErrorKind> {
    pick_as(upstream, "192.0.2.1", &[], &[])
}

fn shares(upstream: &Upstream, count: usize) -> HashMap<String, usize> {
    let mut seen = HashMap::new();
    (0..count).for_each(|_| *seen.entry(pick(upstream).unwrap().endpoint().addr.to_string()).or_default() += 1);
    seen
}

fn fail(upstream: &Upstream, at: usize, times: usize) {
    let endpoint = upstream.members()[at].endpoint.clone();
    (0..times).for_each(|_| endpoint.report(false, Outcome::ConnectFailed, Duration::ZERO));
}

#[test]
fn weighted_round_robin_is_exact_across_threads() {
    let upstream = upstream(Balance::RoundRobin, &[3, 1]);
    let seen: HashMap<String, usize> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| shares(&upstream, 100))).collect();
        let mut all = HashMap::new();
        threads.into_iter().for_each(|t| t.join().unwrap().into_iter().for_each(|(k, v)| *all.entry(k).or_default() += v));
        all
    });
    assert_eq!((seen["10.0.0.1:80"], seen["10.0.0.2:80"]), (300, 100));
}

#[test]
fn weight_zero_takes_no_traffic() {
    let upstream = upstream(Balance::RoundRobin, &[1, 0]);
    assert_eq!(shares(&upstream, 10).len(), 1);
    assert_eq!(pick(&upstream_with(settings(Balance::Random), &[0], None)).err(), Some(ErrorKind::NoEndpoint));
}

#[test]
fn least_connections_counts_for_the_process() {
    let upstream = upstream(Balance::LeastConnections, &[1, 1, 2]);
    let held: Vec<_> = (0..8).map(|_| pick(&upstream).unwrap()).collect();
    let count = |at: usize| held.iter().filter(|p| p.endpoint().addr.to_string() == format!("10.0.0.{at}:80")).count();
    assert_eq!((count(1), count(2), count(3)), (2, 2, 4));
    drop(held);
    assert!(upstream.members().iter().all(|m| m.endpoint.in_flight.load(Relaxed) == 0));
}

#[test]
fn tried_endpoints_are_chosen_again_only_when_no_other_is_left() {
    for balance in [Balance::RoundRobin, Balance::LeastConnections, Balance::Random, Balance::PowerOfTwo, Balance::Ewma] {
        let upstream = upstream(balance, &[1, 1]);
        let first = upstream.members()[0].endpoint.id;
        let second = upstream.members()[1].endpoint.id;
        for _ in 0..20 {
            assert_eq!(pick_as(&upstream, "192.0.2.1", &[], &[first]).unwrap().endpoint().id, second);
        }
        assert!(pick_as(&upstream, "192.0.2.1", &[], &[first, second]).is_ok());
    }
}

#[test]
fn a_backend_with_a_connection_to_spare_goes_before_a_full_one() {
    let upstream = upstream(Balance::RoundRobin, &[100, 1]);
    let held: Vec<_> = (0..14).map(|_| pick(&upstream).unwrap()).collect();
    let count = |at: usize| upstream.members()[at].endpoint.in_flight.load(Relaxed);
    assert_eq!((count(0), count(1)), (10, 4), "ten connections at most, then the other one");
    let more: Vec<_> = (0..8).map(|_| pick(&upstream).unwrap()).collect();
    assert_eq!(held.len() + more.len(), 22, "where all are full, one is queued for");
}

#[test]
fn unhealthy_and_drained_endpoints_are_left_out_and_come_back() {
    let upstream = upstream(Balance::RoundRobin, &[1, 1]);
    upstream.members()[0].endpoint.set_healthy(false, "test");
    assert_eq!(shares(&upstream, 10).keys().collect::<Vec<_>>(), ["10.0.0.2:80"]);
    assert_eq!(upstream.set_drained("10.0.0.2:80", true), 1);
    assert_eq!(pick(&upstream).err(), Some(ErrorKind::NoEndpoint));
    assert_eq!(upstream.set_drained("nobody:80", true), 0);
    upstream.members()[0].endpoint.set_healthy(true, "test");
    assert_eq!(shares(&upstream, 10).keys().collect::<Vec<_>>(), ["10.0.0.1:80"]);
    upstream.set_drained("10.0.0.2:80", false);
    assert_eq!(shares(&upstream, 10).len(), 2);
}

fn breaking(timeout: Duration) -> Settings {
    let window = Duration::from_secs(10);
    Settings {
        breaker: Some(BreakerSettings { failure_threshold: 5, success_threshold: 2, timeout, window }),
        ..settings(Balance::RoundRobin)
    }
}

#[test]
fn five_failures_open_the_circuit_wherever_they_happened() {
    let upstream = upstream_with(breaking(Duration::from_millis(60)), &[1], None);
    std::thread::scope(|scope| {
        (0..5).for_each(|_| {
            scope.spawn(|| pick(&upstream).unwrap().report(Outcome::ServerError, Duration::ZERO));
        });
    });
    assert_eq!(pick(&upstream).err(), Some(ErrorKind::CircuitOpen));
    std::thread::sleep(Duration::from_millis(80));
    let mut probes = [pick(&upstream).unwrap(), pick(&upstream).unwrap()];
    assert_eq!(pick(&upstream).err(), Some(ErrorKind::CircuitOpen), "as many probes as successes are needed");
    probes.iter_mut().for_each(|p| p.report(Outcome::Success, Duration::ZERO));
    assert!((0..5).all(|_| pick(&upstream).is_ok()));
}

#[test]
fn an_open_circuit_leaves_the_others() {
    let upstream = upstream_with(breaking(Duration::from_secs(30)), &[1, 1], None);
    fail(&upstream, 0, 5);
    assert_eq!(shares(&upstream, 10).keys().collect::<Vec<_>>(), ["10.0.0.2:80"]);
    upstream.members()[0].endpoint.set_healthy(false, "");
    upstream.members()[0].endpoint.set_healthy(true, "");
    let mut probe = (0..2).map(|_| pick(&upstream).unwrap()).find(|p| p.endpoint().addr.to_string() == "10.0.0.1:80").unwrap();
    probe.report(Outcome::Success, Duration::ZERO);
}

fn ejecting(max_ejected: f64, panic_threshold: f64) -> Settings {
    let interval = Duration::from_secs(10);
    let outlier = OutlierSettings {
        consecutive_failures: 3,
        error_rate: 0.0,
        min_requests: 1,
        interval,
        ejection: Duration::from_millis(80),
        max_ejected,
        panic_threshold,
    };
    Settings { outlier: Some(outlier), ..settings(Balance::RoundRobin) }
}

#[test]
fn outliers_are_ejected_up_to_a_share_and_come_back() {
    let upstream = upstream_with(ejecting(0.5, 0.0), &[1, 1, 1], None);
    fail(&upstream, 0, 3);
    fail(&upstream, 1, 3);
    assert_eq!(shares(&upstream, 30).len(), 2, "one of three at most");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(shares(&upstream, 30).len(), 3);
}

#[test]
fn panic_uses_everybody_again() {
    let upstream = upstream_with(ejecting(1.0, 0.6), &[1, 1, 1], None);
    fail(&upstream, 0, 3);
    assert_eq!(shares(&upstream, 30).len(), 2);
    fail(&upstream, 1, 3);
    assert_eq!(shares(&upstream, 30).len(), 3, "one of three is below the threshold");
    upstream.members()[0].endpoint.set_healthy(false, "");
    assert_eq!(shares(&upstream, 30).len(), 2, "but never an endpoint that its health check refuses");
}

#[test]
fn hash_sticks_and_moves_only_the_keys_of_who_is_out() {
    let upstream = upstream(Balance::Hash { key: HashKey::Ip, bound: None }, &[1, 1, 1, 1]);
    let who = |client: usize| pick_as(&upstream, &format!("10.1.{}.{}", client / 256, client % 256), &[], &[]).unwrap().endpoint().addr;
    let before: Vec<_> = (0..1_000).map(who).collect();
    assert_eq!(before, (0..1_000).map(who).collect::<Vec<_>>());
    upstream.members()[2].endpoint.set_healthy(false, "");
    let out = upstream.members()[2].endpoint.addr;
    let during: Vec<_> = (0..1_000).map(who).collect();
    assert!(before.iter().zip(&during).all(|(b, d)| if *b == out { *d != out } else { b == d }));
    let moved: std::collections::HashSet<_> = before.iter().zip(&during).filter(|(b, _)| **b == out).map(|(_, d)| *d).collect();
    assert_eq!(moved.len(), 3, "its keys are spread over all others");
    upstream.members()[2].endpoint.set_healthy(true, "");
    assert_eq!(before, (0..1_000).map(who).collect::<Vec<_>>());
}

#[test]
fn bounded_load_spills_over() {
    let settings = Settings { protocol: Protocol::H2c, ..settings(Balance::Hash { key: HashKey::Ip, bound: Some(1.25) }) };
    let upstream = upstream_with(settings, &[1, 1, 1, 1], None);
    let held: Vec<_> = (0..100).map(|_| pick(&upstream).unwrap()).collect();
    let most = upstream.members().iter().map(|m| m.endpoint.in_flight.load(Relaxed)).max().unwrap();
    assert!((25..=32).contains(&most), "one client, 100 requests, at most 125 % of 25: {most}");
    drop(held);
}

#[test]
fn sticky_binds_by_a_signed_cookie() {
    let upstream = upstream(Balance::Sticky(Box::new(Sticky::new("srv", b"secret", 0))), &[1, 1, 1]);
    let none = head("GET", "/", &[]);
    let first = pick(&upstream).unwrap();
    let cookie = upstream.sticky_cookie(&first, &none, false).unwrap();
    let pair = cookie.split(';').next().unwrap().to_string();
    let bound = |pair: &str| pick_as(&upstream, "192.0.2.1", &[("Cookie", pair)], &[]).unwrap();
    assert!((0..10).all(|_| bound(&pair).endpoint().id == first.endpoint().id));
    assert_eq!(upstream.sticky_cookie(&first, &head("GET", "/", &[("Cookie", &pair)]), false), None);
    let forged = format!("srv={}", "A".repeat(22));
    assert!((0..9).map(|_| bound(&forged).endpoint().id).collect::<std::collections::HashSet<_>>().len() > 1);
    first.endpoint().set_healthy(false, "");
    let other = bound(&pair);
    assert_ne!(other.endpoint().id, first.endpoint().id);
    assert!(upstream.sticky_cookie(&other, &head("GET", "/", &[("Cookie", &pair)]), true).unwrap().ends_with("Secure"));
}

#[test]
fn slow_start_grows() {
    let upstream = upstream_with(Settings { slow_start: Duration::from_millis(400), ..settings(Balance::RoundRobin) }, &[1, 1], None);
    assert_eq!(shares(&upstream, 100)["10.0.0.1:80"], 50, "no slow start for endpoints that were there from the beginning");
    let endpoint = upstream.members()[0].endpoint.clone();
    endpoint.set_healthy(false, "");
    endpoint.set_healthy(true, "");
    let early = shares(&upstream, 100).get("10.0.0.1:80").copied().unwrap_or(0);
    assert!((1..30).contains(&early), "{early}");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(shares(&upstream, 100)["10.0.0.1:80"], 50);
}

#[test]
fn a_reload_keeps_what_it_knows() {
    let before = upstream_with(breaking(Duration::from_secs(30)), &[1, 1], None);
    fail(&before, 0, 5);
    before.set_drained("10.0.0.2:80", true);
    let after = upstream_with(Settings { budget_percent: 50.0, ..breaking(Duration::from_secs(30)) }, &[1, 2, 1], Some(&before));
    assert!(Arc::ptr_eq(&before.members()[0].endpoint, &after.members()[0].endpoint));
    assert_eq!(shares(&after, 10).keys().collect::<Vec<_>>(), ["10.0.0.3:80"], "circuit and drain survive");
    let changed = upstream_with(breaking(Duration::from_secs(1)), &[1, 1], Some(&after));
    assert!(!Arc::ptr_eq(&after.members()[0].endpoint, &changed.members()[0].endpoint), "other rules, another endpoint");
}
