//! Backends that die, come back, move, fill up and fail: what a client sees of it.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use titan_core::gateway::{Event, Gateway, Host};

use crate::dns;
use crate::world::*;

/// An origin that can be killed as a process is (its connections are reset, its port refuses) and started again on the same port.
/// Answers with its name.
struct Mortal {
    name: &'static str,
    address: SocketAddr,
    status: Arc<AtomicU16>,
    requests: Arc<AtomicUsize>,
    life: Mutex<Arc<AtomicBool>>,
}

impl Mortal {
    fn new(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mortal = Self { name, address, status: Arc::new(AtomicU16::new(200)), requests: Arc::default(), life: Mutex::default() };
        mortal.live(listener);
        mortal
    }

    fn live(&self, listener: TcpListener) {
        let alive = Arc::new(AtomicBool::new(true));
        *self.life.lock().unwrap() = alive.clone();
        let (name, status, requests) = (self.name, self.status.clone(), self.requests.clone());
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let mut open: Vec<TcpStream> = Vec::new();
            while alive.load(SeqCst) {
                let Ok((stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                open.push(stream.try_clone().unwrap());
                let (status, requests) = (status.clone(), requests.clone());
                std::thread::spawn(move || {
                    let mut peer = Peer::new(stream);
                    while peer.request().is_ok() {
                        requests.fetch_add(1, SeqCst);
                        let answer = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n\r\n{name}", status.load(SeqCst), name.len());
                        if peer.send(answer.as_bytes()).is_err() {
                            break;
                        }
                    }
                });
            }
            for stream in open {
                reset_on_close(&stream);
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        });
    }

    fn kill(&self) {
        self.life.lock().unwrap().store(false, SeqCst);
        eventually("its port refuses", || TcpStream::connect(self.address).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused));
    }

    fn revive(&self) {
        self.live(TcpListener::bind(self.address).unwrap());
    }

    fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.life.lock().unwrap().store(false, SeqCst);
    }
}

fn backend(address: SocketAddr, weight: u32) -> Value {
    json!({ "host": address.ip().to_string(), "port": address.port(), "weight": weight })
}

/// Two shards before these backends; `extra` is added to the upstream.
fn config(backends: &[&Mortal], extra: Value) -> Value {
    let mut config = proxy(backends[0].address);
    config["workers"] = json!(2);
    config["upstreams"][0]["backends"] = backends.iter().map(|b| backend(b.address, 1)).collect();
    for (key, value) in extra.as_object().unwrap() {
        config["upstreams"][0][key] = value.clone();
    }
    config
}

/// Who answers `count` requests, each on a connection of its own so that every shard takes part.
fn shares(gateway: &Gateway, count: usize) -> HashMap<String, usize> {
    let mut seen = HashMap::new();
    for _ in 0..count {
        let answer = Peer::connect(address(gateway)).get("/").unwrap();
        *seen.entry(format!("{} {}", answer.status, answer.text())).or_default() += 1;
    }
    seen
}

fn only(gateway: &Gateway, name: &str) -> bool {
    shares(gateway, 6) == HashMap::from([(format!("200 {name}"), 6)])
}

fn events(config: Value) -> (Gateway, Arc<Mutex<Vec<Event>>>) {
    let told: Arc<Mutex<Vec<Event>>> = Arc::default();
    let sink = told.clone();
    let host = Host { events: Some(Arc::new(move |event| sink.lock().unwrap().push(event))), ..Host::default() };
    (start(config, host).unwrap(), told)
}

fn was_told(told: &Mutex<Vec<Event>>, name: &str) -> bool {
    told.lock().unwrap().iter().any(|event| event.name == name)
}

/// Events of this name so far.
fn times_told(told: &Mutex<Vec<Event>>, name: &str) -> usize {
    told.lock().unwrap().iter().filter(|event| event.name == name).count()
}

/// The first backend as a scrape shows it.
fn scraped(gateway: &Gateway) -> Value {
    let scrape: Value = serde_json::from_str(&gateway.metrics_json()).unwrap();
    scrape["gauges"]["backends"][0].clone()
}

#[test]
fn a_backend_killed_under_load_costs_no_get() {
    let (a, b) = (Mortal::new("a"), Mortal::new("b"));
    let gateway = gateway(config(&[&a, &b], json!({})));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Peer::connect(address(&gateway));
                    let mut served = 0;
                    while !stop.load(SeqCst) {
                        let answer = client.get("/").unwrap();
                        assert_eq!(answer.status, 200, "after {served}: {}", answer.text());
                        served += 1;
                    }
                    served
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(150));
        a.kill();
        std::thread::sleep(Duration::from_millis(300));
        a.revive();
        std::thread::sleep(Duration::from_millis(150));
        stop.store(true, SeqCst);
        let served: usize = clients.into_iter().map(|c| c.join().unwrap()).sum();
        assert!(served > 100, "{served}");
    });
}

#[test]
fn a_health_check_takes_a_dead_backend_out_and_brings_it_back() {
    let (a, b) = (Mortal::new("a"), Mortal::new("b"));
    // A timeout that a busy machine does not reach: only the dead one may be found out.
    let check = json!({ "path": "/", "interval_ms": 200, "timeout_ms": 1500 });
    let (gateway, told) = events(config(&[&a, &b], json!({ "health_check": check, "retry": { "max": 0 } })));
    assert_eq!(shares(&gateway, 10).len(), 2);
    a.kill();
    std::thread::sleep(Duration::from_millis(200 + 1500 + 100));
    assert!(only(&gateway, "b"), "no request reaches it after one interval and timeout");
    assert!(was_told(&told, "backend_unhealthy"));
    let mut client = Peer::connect(address(&gateway));
    let state = client.get("/services/health").unwrap();
    // The route for everything beats the built-in; the status has it too.
    assert!(state.text() == "b");
    let status: Value = serde_json::from_str(&gateway.status_json()).unwrap();
    assert_eq!(status["upstreams"][0]["status"], "degraded");
    let gauge = scraped(&gateway);
    assert!(gauge["healthy"] == false && gauge["checks_failed"].as_u64() >= Some(1), "{gauge}");
    assert_eq!((&gauge["ejections"], &gauge["circuit_opened"]), (&json!(0), &json!(0)), "a check is neither");
    a.revive();
    eventually("it comes back by itself", || shares(&gateway, 10).len() == 2);
    assert!(was_told(&told, "backend_healthy"));
    assert!(scraped(&gateway)["checks_ok"].as_u64() >= Some(1));
    assert_eq!((times_told(&told, "backend_unhealthy"), times_told(&told, "backend_healthy")), (1, 1), "changes are told, not checks");
}

#[test]
fn services_health_shows_every_backend() {
    let (a, b) = (Mortal::new("a"), Mortal::new("b"));
    let mut config = config(&[&a, &b], json!({}));
    config["routes"][0]["match"]["path"] = json!("/api/*");
    let gateway = gateway(config);
    let state = Peer::connect(address(&gateway)).get("/services/health").unwrap().json();
    assert_eq!((state["status"].as_str(), state["services"][0]["backends"].as_array().unwrap().len()), (Some("healthy"), 2));
    assert_eq!(state["services"][0]["backends"][0]["address"], a.address.to_string());
}

#[test]
fn weights_are_exact_over_shards() {
    let (a, b) = (Mortal::new("a"), Mortal::new("b"));
    let mut config = config(&[&a, &b], json!({ "balance": { "algorithm": "weighted_round_robin" } }));
    config["upstreams"][0]["backends"] = json!([backend(a.address, 3), backend(b.address, 1)]);
    let gateway = gateway(config);
    let seen = shares(&gateway, 400);
    assert_eq!((seen["200 a"], seen["200 b"]), (300, 100));
}

#[test]
fn max_connections_is_never_exceeded() {
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (open.clone(), most.clone());
    let origin = Origin::new(move |mut peer| {
        peak.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        while peer.request().is_ok() {
            std::thread::sleep(Duration::from_millis(2));
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        now.fetch_sub(1, SeqCst);
        Ok(())
    });
    let mut config = proxy(origin.address);
    config["workers"] = json!(2);
    config["upstreams"][0]["backends"][0]["max_connections"] = json!(3);
    config["upstreams"][0]["pool"] = json!({ "wait_timeout_ms": 10_000 });
    let gateway = gateway(config);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let mut client = Peer::connect(address(&gateway));
                (0..25).for_each(|_| assert_eq!(client.get("/").unwrap().status, 200));
            });
        }
    });
    assert_eq!(most.load(SeqCst), 3, "twenty clients on two shards, three connections");
}

/// What the metrics count of changes of backends.
fn changes(gateway: &Gateway) -> Vec<(String, u64)> {
    let scrape: Value = serde_json::from_str(&gateway.metrics_json()).unwrap();
    let changes = scrape["gauges"]["changes"].as_array().unwrap();
    changes.iter().map(|c| (c["change"].as_str().unwrap().to_owned(), c["count"].as_u64().unwrap())).collect()
}

#[test]
fn an_open_circuit_probes_and_closes() {
    let a = Mortal::new("a");
    let breaker = json!({ "failure_threshold": 4, "success_threshold": 2, "timeout_ms": 300 });
    let (gateway, told) = events(config(&[&a], json!({ "circuit_breaker": breaker, "retry": { "max": 0 } })));
    a.status.store(500, SeqCst);
    assert_eq!(shares(&gateway, 4), HashMap::from([("500 a".into(), 4)]), "what the backend says is passed on");
    let before = a.requests();
    assert!(shares(&gateway, 10).keys().all(|k| k.starts_with("503")), "open on every shard");
    assert_eq!(a.requests(), before, "and the backend is left alone");
    assert_eq!(times_told(&told, "circuit_open"), 1, "once, not for each request that it refuses");
    let gauge = scraped(&gateway);
    // Half open from the moment its time is over, used or not: that moment may be now.
    assert!(gauge["breaker"] == "open" || gauge["breaker"] == "half_open", "{gauge}");
    assert_eq!((&gauge["circuit_opened"], &gauge["failures"]), (&json!(1), &json!(4)));
    eventually("the status counts what the circuit refused", || {
        let status: Value = serde_json::from_str(&gateway.status_json()).unwrap();
        status["limits"]["requests"]["circuit_open"] == 10 && status["waiting"] == 0
    });
    a.status.store(200, SeqCst);
    eventually("half-open probes close it", || only(&gateway, "a"));
    assert!(was_told(&told, "circuit_closed"));
    let of_circuit = ["circuit_open", "circuit_half_open", "circuit_closed"].map(|event| (event.into(), 1));
    assert_eq!(of_circuit.each_ref().map(|(event, _): &(String, u64)| times_told(&told, event)), [1; 3]);
    assert_eq!(changes(&gateway), of_circuit);
    assert_eq!(scraped(&gateway)["breaker"], "closed");
}

#[test]
fn client_errors_do_not_open_a_circuit() {
    let a = Mortal::new("a");
    let gateway = gateway(config(&[&a], json!({ "circuit_breaker": { "failure_threshold": 1 } })));
    a.status.store(404, SeqCst);
    assert_eq!(shares(&gateway, 10), HashMap::from([("404 a".into(), 10)]));
}

#[test]
fn an_outlier_is_ejected_for_a_while() {
    let (a, b) = (Mortal::new("a"), Mortal::new("b"));
    a.status.store(502, SeqCst);
    let outlier = json!({ "consecutive_failures": 3, "ejection_ms": 1500 });
    let (gateway, told) = events(config(&[&a, &b], json!({ "outlier": outlier })));
    shares(&gateway, 6);
    assert!(only(&gateway, "b"), "three failures in a row, counted over shards");
    assert_eq!(times_told(&told, "backend_ejected"), 1);
    assert_eq!((&scraped(&gateway)["ejections"], &scraped(&gateway)["failures"]), (&json!(1), &json!(3)));
    a.status.store(200, SeqCst);
    // Nobody asks for anything in between: the end is told by the clock, not by the next request.
    eventually("its end is told", || was_told(&told, "backend_readmitted"));
    eventually("it is tried again", || shares(&gateway, 6).len() == 2);
    assert_eq!((times_told(&told, "backend_ejected"), times_told(&told, "backend_readmitted")), (1, 1));
    assert_eq!(changes(&gateway), [("backend_ejected".into(), 1), ("backend_readmitted".into(), 1)]);
}

#[test]
fn a_changed_dns_answer_moves_traffic_without_a_reload() {
    // Two addresses of loopback, one port: as a name that moves from one machine to another.
    let a = TcpListener::bind("127.0.0.2:0").unwrap();
    let b = TcpListener::bind(("127.0.0.3", a.local_addr().unwrap().port())).unwrap();
    let port = a.local_addr().unwrap().port();
    for (listener, name) in [(a, "a"), (b, "b")] {
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut peer = Peer::new(stream);
                while peer.request().is_ok() {
                    let _ = peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{name}").as_bytes());
                    if name == "a" {
                        // One connection a request: a pooled one may outlive the answer that led to it.
                        break;
                    }
                }
            }
        });
    }
    let last = Arc::new(AtomicU16::new(2));
    let answer = last.clone();
    let dns = dns::serve(move |_, kind| if kind == 1 { Some(vec![vec![127, 0, 0, answer.load(SeqCst) as u8]]) } else { Some(vec![]) });
    let mut config = proxy(SocketAddr::from(([127, 0, 0, 2], port)));
    config["dns"] = dns;
    config["upstreams"][0]["backends"][0]["host"] = json!("api.test");
    let (gateway, told) = events(config);
    assert!(only(&gateway, "a"), "resolved before the first request");
    last.store(3, SeqCst);
    eventually("the new address is used", || only(&gateway, "b"));
    assert!(was_told(&told, "dns_changed"));
}

#[test]
fn a_split_follows_weights_headers_and_cookies() {
    let (stable, canary) = (Mortal::new("stable"), Mortal::new("canary"));
    let mut config = config(&[&stable], json!({}));
    let named = |name: &str, address: SocketAddr| json!({ "name": name, "backends": [backend(address, 1)] });
    config["upstreams"] = json!([named("stable", stable.address), named("canary", canary.address)]);
    config["routes"][0]["action"]["targets"] = json!([
        { "upstream": "stable", "weight": 95 },
        { "upstream": "canary", "weight": 5, "cookies": [{ "name": "beta", "exact": "yes" }] },
    ]);
    let gateway = gateway(config);
    let seen = shares(&gateway, 200);
    assert_eq!((seen["200 stable"], seen["200 canary"]), (190, 10));
    let mut client = Peer::connect(address(&gateway));
    for _ in 0..10 {
        client.send(b"GET / HTTP/1.1\r\nHost: t\r\nCookie: a=b; beta=yes\r\n\r\n").unwrap();
        assert_eq!(client.response().unwrap().text(), "canary");
    }
}

#[test]
fn a_sticky_cookie_binds_until_its_backend_dies() {
    let (a, b) = (Mortal::new("a"), Mortal::new("b"));
    let balance = json!({ "algorithm": "sticky", "cookie": "srv", "secret": "0123456789abcdef" });
    let gateway = gateway(config(&[&a, &b], json!({ "balance": balance })));
    let get = |cookie: Option<&str>| {
        let mut client = Peer::connect(address(&gateway));
        let line = cookie.map(|c| format!("Cookie: {c}\r\n")).unwrap_or_default();
        client.send(format!("GET / HTTP/1.1\r\nHost: t\r\n{line}\r\n").as_bytes()).unwrap();
        client.response().unwrap()
    };
    let first = get(None);
    let set = first.header("set-cookie").expect("a cookie is set").to_string();
    assert!(set.starts_with("srv=") && set.contains("HttpOnly"), "{set}");
    let pair = set.split(';').next().unwrap();
    for _ in 0..10 {
        let again = get(Some(pair));
        assert_eq!((again.text(), again.header("set-cookie")), (first.text(), None));
    }
    let (bound, other) = if first.text() == "a" { (&a, "b") } else { (&b, "a") };
    bound.kill();
    let moved = get(Some(pair));
    assert_eq!((moved.status, moved.text().as_str()), (200, other));
    assert!(moved.header("set-cookie").is_some(), "bound to the other one now");
}

#[test]
fn a_drained_backend_ends_what_it_has_and_gets_nothing_new() {
    let (a, b) = (Mortal::new("a"), Mortal::new("b"));
    let config = config(&[&a, &b], json!({}));
    let (gateway, told) = events(config.clone());
    let target = format!("origin/{}", a.address);
    assert_eq!(gateway.drain_backend(&target, true), Ok(1));
    assert!(only(&gateway, "b"));
    assert!(was_told(&told, "backend_draining"));
    let mut changed = config;
    changed["upstreams"][0]["retry"] = json!({ "max": 1 });
    gateway.apply(complete(changed)).unwrap();
    assert!(only(&gateway, "b"), "a reload does not undo what an operator did");
    assert_eq!(gateway.drain_backend(&target, false), Ok(1));
    assert_eq!(shares(&gateway, 6).len(), 2);
    assert!(gateway.drain_backend("origin/127.0.0.1:1", true).unwrap_err().contains("it has: "));
    assert!(gateway.drain_backend("nobody/x", true).unwrap_err().contains("there are: origin"));
}

#[test]
fn all_backends_down_is_503_at_once_and_recovery_is_quick() {
    let (a, b) = (Mortal::new("a"), Mortal::new("b"));
    let breaker = json!({ "failure_threshold": 2, "success_threshold": 1, "timeout_ms": 500 });
    let gateway = gateway(config(&[&a, &b], json!({ "circuit_breaker": breaker })));
    assert_eq!(shares(&gateway, 4).len(), 2);
    a.kill();
    b.kill();
    eventually("both circuits are open", || Peer::connect(address(&gateway)).get("/").unwrap().status == 503);
    let begun = Instant::now();
    let answer = Peer::connect(address(&gateway)).get("/").unwrap();
    assert!(answer.status >= 502 && begun.elapsed() < Duration::from_millis(400), "{} {:?}", answer.status, begun.elapsed());
    a.revive();
    b.revive();
    let begun = Instant::now();
    eventually("traffic is back", || shares(&gateway, 4).keys().all(|k| k.starts_with("200")));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn the_retry_budget_spares_a_failing_origin() {
    let a = Mortal::new("a");
    a.status.store(503, SeqCst);
    let retry = json!({ "max": 3, "statuses": [503], "backoff_ms": 0, "budget_percent": 20.0 });
    let gateway = gateway(config(&[&a], json!({ "retry": retry })));
    let mut client = Peer::connect(address(&gateway));
    for _ in 0..400 {
        assert_eq!(client.get("/").unwrap().status, 503);
    }
    let sent = a.requests();
    assert!((400..=485).contains(&sent), "400 requests and at most 20 % retries: {sent}");
}

#[test]
fn readiness_fails_only_for_what_is_critical() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ready = |critical: Value| {
        let mut config = proxy(dead);
        config["upstreams"][0]["health_check"] = json!({ "kind": "tcp", "interval_ms": 50, "timeout_ms": 500 });
        config["builtin"] = json!({ "critical": critical });
        let gateway = gateway(config);
        eventually("the check finds it dead", || Peer::connect(address(&gateway)).get("/_ready").unwrap().json()["status"] != "ok");
        let answer = Peer::connect(address(&gateway)).get("/_ready").unwrap();
        (answer.status, answer.json()["status"].as_str().unwrap().to_owned())
    };
    assert_eq!(ready(json!([])), (200, "degraded".into()));
    assert_eq!(ready(json!(["redis"])), (200, "degraded".into()));
    assert_eq!(ready(json!(["upstream:origin"])), (503, "unhealthy".into()));
    assert_eq!(ready(json!(["upstreams"])), (503, "unhealthy".into()));
}
