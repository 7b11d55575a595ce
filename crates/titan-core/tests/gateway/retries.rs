//! What is tried again, what is not, and where.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::world::*;

/// An address that refuses connections.
fn dead() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn two(first: SocketAddr, second: SocketAddr) -> Value {
    let mut config = proxy(first);
    config["upstreams"][0]["backends"] = json!([first, second].map(|a| json!({ "host": a.ip().to_string(), "port": a.port() })));
    config["upstreams"][0]["retry"] = json!({ "max": 2, "backoff_ms": 1, "budget_percent": 100.0 });
    config
}

/// Reads a request and closes without an answer; counts.
fn closing() -> (Origin, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    let origin = Origin::new(move |mut peer| {
        peer.request()?;
        seen.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    (origin, count)
}

#[test]
fn a_dead_backend_costs_no_request_whatever_the_method() {
    let origin = Origin::echo();
    let gateway = gateway(two(dead(), origin.address));
    let mut client = Peer::connect(address(&gateway));
    for n in 0..20 {
        assert_eq!(client.get("/").unwrap().status, 200, "request {n}");
        client.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nbody").unwrap();
        let answer = client.response().unwrap();
        assert!(answer.status == 200 && answer.text().ends_with("body"), "nothing was written to the dead one");
    }
}

#[test]
fn only_idempotent_requests_are_sent_twice() {
    let (bad, count) = closing();
    let good = Origin::echo();
    let gateway = gateway(two(bad.address, good.address));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let mut client = Peer::connect(address(&gateway));
        client.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        statuses.push(client.response().unwrap().status);
    }
    assert_eq!(statuses.iter().filter(|s| **s == 502).count(), count.load(Ordering::SeqCst), "{statuses:?}");
    assert!(statuses.contains(&502) && statuses.contains(&200), "{statuses:?}");
    for _ in 0..4 {
        let mut client = Peer::connect(address(&gateway));
        client.send(b"PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi").unwrap();
        let answer = client.response().unwrap();
        assert!(answer.status == 200 && answer.text().ends_with("hi"), "the body was kept and sent again");
    }
}

#[test]
fn a_body_beyond_the_replay_limit_is_not_sent_again() {
    let (bad, _) = closing();
    let mut config = two(bad.address, bad.address);
    config["upstreams"][0]["retry"]["max_body"] = json!(4);
    let gateway = gateway(config);
    let mut client = Peer::connect(address(&gateway));
    client.send(b"PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello").unwrap();
    assert_eq!(client.response().unwrap().status, 502);
    assert_eq!(bad.connections(), 1);
}

#[test]
fn an_idle_connection_that_the_backend_closed_fails_no_request() {
    let origin = Origin::new(|mut peer| {
        peer.request()?;
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        // Closes without saying so: the gateway has pooled the connection.
    });
    let mut config = proxy(origin.address);
    config["upstreams"][0]["retry"] = json!({ "max": 0 });
    let gateway = gateway(config);
    let mut client = Peer::connect(address(&gateway));
    for n in 0..50 {
        assert_eq!(client.get("/").unwrap().status, 200, "request {n}");
        if n % 2 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

#[test]
fn a_request_that_an_idle_connection_failed_for_good_is_counted() {
    let origin = Origin::new(|mut peer| {
        peer.request()?;
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        // Takes a second request and closes without a word.
        peer.request().map(|_| ())
    });
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    assert_eq!(client.get("/").unwrap().status, 200);
    client.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().status, 502, "a POST that was sent is not sent again");
    let seen: serde_json::Value = serde_json::from_str(&gateway.metrics_json()).unwrap();
    let upstream = &seen["upstreams"][0];
    assert_eq!((&upstream["answered"], &upstream["reset"]), (&json!(1), &json!(1)));
    assert_eq!(origin.received().matches("POST").count(), 1);
}

#[test]
fn chosen_statuses_are_tried_again_elsewhere() {
    let bad = Origin::fixed(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let good = Origin::echo();
    let mut config = two(bad.address, good.address);
    config["upstreams"][0]["retry"]["statuses"] = json!([503]);
    let gateway = gateway(config);
    let mut client = Peer::connect(address(&gateway));
    for _ in 0..10 {
        assert_eq!(client.get("/").unwrap().status, 200);
    }
    client.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n").unwrap();
    let first = client.response().unwrap().status;
    client.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert_eq!(first.min(client.response().unwrap().status), 200);
    assert!(bad.received().contains("POST"), "a POST was answered with what the backend said");
}

#[test]
fn when_every_backend_fails_the_error_says_which_kind() {
    let gateway = gateway(two(dead(), dead()));
    let answer = Peer::connect(address(&gateway)).get("/").unwrap();
    assert_eq!((answer.status, answer.json()["error"].as_str()), (502, Some("bad_gateway")));
    assert!(!answer.text().contains("127.0.0.1"), "addresses behind the gateway are not the client's business");
}

#[test]
fn what_exactly_failed_is_in_the_log_and_not_in_the_answer() {
    let file = std::env::temp_dir().join(format!("titan-detail-{}.log", std::process::id()));
    let mut config = two(dead(), dead());
    config["access_log"] = json!({ "format": "json", "fields": ["error", "error_detail"], "output": file.to_str().unwrap() });
    let gateway = gateway(config);
    let answer = Peer::connect(address(&gateway)).get("/").unwrap();
    assert!(!answer.text().contains("refused"));
    let read = || std::fs::read_to_string(&file).ok().and_then(|text| serde_json::from_str::<serde_json::Value>(text.lines().next()?).ok());
    eventually("the line of the failed request", || read().is_some());
    let line = read().unwrap();
    let _ = std::fs::remove_file(&file);
    assert_eq!(line["error"], "connect");
    let detail = line["error_detail"].as_str().unwrap();
    assert!(detail.starts_with("connecting to 127.0.0.1:") && detail.contains("refused"), "{detail}");
}

#[test]
fn an_open_circuit_answers_at_once() {
    let (bad, count) = closing();
    let mut config = proxy(bad.address);
    config["upstreams"][0]["retry"] = json!({ "max": 0 });
    config["upstreams"][0]["circuit_breaker"] = json!({ "failure_threshold": 3 });
    config["workers"] = json!(2);
    let gateway = gateway(config);
    let statuses: Vec<u16> = (0..8).map(|_| Peer::connect(address(&gateway)).get("/").unwrap().status).collect();
    assert_eq!(statuses, [502, 502, 502, 503, 503, 503, 503, 503], "counted for the process, not for each shard");
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[test]
fn idle_connections_that_went_stale_do_not_keep_a_full_backend_full() {
    let origin = Origin::new(|mut peer| {
        // Answers once; a second request on the connection is taken and never answered but by closing.
        peer.request()?;
        std::thread::sleep(std::time::Duration::from_millis(50));
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        peer.request().map(drop)
    });
    let mut config = proxy(origin.address);
    config["upstreams"][0]["backends"][0]["max_connections"] = json!(2);
    let gateway = gateway(config);
    let target = address(&gateway);
    let first: Vec<_> = (0..2).map(|_| std::thread::spawn(move || Peer::connect(target).get("/").unwrap().status)).collect();
    assert!(first.into_iter().all(|thread| thread.join().unwrap() == 200));
    assert_eq!(origin.connections(), 2, "both are idle now");
    assert_eq!(Peer::connect(target).get("/").unwrap().status, 200);
}

/// A backend that is stopped: the kernel accepts for it, and nobody answers.
fn stopped() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[test]
fn a_silent_backend_is_given_up_and_another_is_asked_though_the_time_for_retries_is_over() {
    let (hung, good) = (stopped(), Origin::echo());
    for limit in ["first_byte", "try"] {
        let mut config = two(hung.local_addr().unwrap(), good.address);
        // Longer than the time in which other failures are tried again.
        match limit {
            "first_byte" => config["upstreams"][0]["timeouts"] = json!({ "first_byte_ms": 1_000 }),
            _ => config["upstreams"][0]["retry"]["try_timeout_ms"] = json!(1_000),
        }
        config["upstreams"][0]["retry"]["within_ms"] = json!(100);
        let gateway = gateway(config);
        for n in 0..2 {
            assert_eq!(Peer::connect(address(&gateway)).get("/").unwrap().status, 200, "{limit}, request {n}");
        }
        // What may have been processed and is not idempotent is told, not repeated.
        let mut statuses = Vec::new();
        for _ in 0..2 {
            let mut client = Peer::connect(address(&gateway));
            client.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi").unwrap();
            statuses.push(client.response().unwrap().status);
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 504], "{limit}");
    }
}

#[test]
fn where_no_other_backend_is_left_a_silent_one_is_not_asked_again() {
    let hung = stopped();
    let mut config = proxy(hung.local_addr().unwrap());
    config["upstreams"][0]["retry"] = json!({ "max": 2, "within_ms": 100 });
    config["upstreams"][0]["timeouts"] = json!({ "first_byte_ms": 400 });
    let gateway = gateway(config);
    let begin = std::time::Instant::now();
    let answer = Peer::connect(address(&gateway)).get("/").unwrap();
    assert_eq!((answer.status, answer.json()["error"].as_str()), (504, Some("gateway_timeout")));
    assert!(begin.elapsed() >= std::time::Duration::from_millis(400));
    let status: Value = serde_json::from_str(&gateway.status_json()).unwrap();
    assert_eq!(status["upstreams"][0]["backends"][0]["requests"], 1);
}
