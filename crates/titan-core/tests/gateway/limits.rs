//! Time limits, size limits, connection limits: each with its documented answer.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::*;

fn slow_origin() -> Origin {
    Origin::new(|mut peer| {
        let (head, _) = peer.request()?;
        if head.starts_with("GET /half") {
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")?;
        }
        std::thread::sleep(PATIENCE);
        Ok(())
    })
}

fn listener(extra: Value) -> Value {
    let mut one = json!({ "name": "http", "address": "127.0.0.1", "port": 0 });
    one.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!([one])
}

#[test]
fn a_silent_backend_is_504_by_each_of_the_limits() {
    let origin = slow_origin();
    for limit in ["first_byte", "try", "route"] {
        let mut config = proxy(origin.address);
        match limit {
            "first_byte" => config["upstreams"][0]["timeouts"] = json!({ "first_byte_ms": 100 }),
            "try" => config["upstreams"][0]["retry"] = json!({ "max": 0, "try_timeout_ms": 100 }),
            _ => config["routes"][0]["timeout_ms"] = json!(100),
        }
        config["upstreams"][0]["retry"]["max"] = json!(0);
        let gateway = gateway(config);
        let begin = Instant::now();
        let answer = Peer::connect(address(&gateway)).get("/").unwrap();
        assert_eq!((answer.status, answer.json()["error"].as_str()), (504, Some("gateway_timeout")), "{limit}");
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn an_answer_that_stops_halfway_is_cut() {
    let origin = slow_origin();
    let mut config = proxy(origin.address);
    config["upstreams"][0]["timeouts"] = json!({ "read_ms": 100 });
    let gateway = gateway(config);
    assert!(Peer::connect(address(&gateway)).get("/half").is_err());
}

#[test]
fn slow_clients_are_408() {
    let origin = slow_origin();
    let mut config = proxy(origin.address);
    config["listeners"] = listener(json!({ "timeouts": { "head_ms": 100, "read_ms": 100 } }));
    let gateway = gateway(config);
    for part in ["GET / HT", "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhe"] {
        let mut client = Peer::connect(address(&gateway));
        client.send(part.as_bytes()).unwrap();
        let answer = client.response().unwrap();
        assert_eq!((answer.status, answer.json()["error"].as_str()), (408, Some("request_timeout")), "{part}");
        assert!(client.is_closed_within(PATIENCE));
    }
}

#[test]
fn idle_connections_are_closed_without_an_answer() {
    let origin = Origin::echo();
    let mut config = proxy(origin.address);
    config["listeners"] = listener(json!({ "timeouts": { "idle_ms": 150 } }));
    let gateway = gateway(config);
    let mut client = Peer::connect(address(&gateway));
    client.get("/").unwrap();
    assert!(client.is_closed_within(PATIENCE));
    assert!(client.buf.is_empty());
}

#[test]
fn connection_limits_are_exact_and_say_so() {
    let origin = Origin::echo();
    for (limit, words) in [("max_connections", "max_connections of 3"), ("max_connections_per_ip", "max_connections_per_ip of 3")] {
        let mut config = proxy(origin.address);
        config["workers"] = json!(2);
        config["listeners"] = listener(json!({ "limits": { limit: 3 } }));
        let gateway = gateway(config);
        let mut held: Vec<Peer> = (0..3).map(|_| Peer::connect(address(&gateway))).collect();
        held.iter_mut().for_each(|client| assert_eq!(client.get("/").unwrap().status, 200));
        for _ in 0..4 {
            let mut extra = Peer::connect(address(&gateway));
            let answer = extra.response().unwrap();
            assert_eq!(answer.status, 503);
            assert!(answer.json()["message"].as_str().unwrap().contains(words), "{}", answer.text());
            assert!(extra.is_closed_within(PATIENCE));
        }
        drop(held.pop());
        eventually("the place is free again", || Peer::connect(address(&gateway)).get("/").is_ok_and(|answer| answer.status == 200));
    }
}

#[test]
fn heads_are_bounded() {
    let origin = Origin::echo();
    let mut config = proxy(origin.address);
    config["listeners"] = listener(json!({ "limits": { "max_head": 1024, "max_headers": 10 } }));
    let gateway = gateway(config);
    for (head, status) in [
        (format!("GET / HTTP/1.1\r\nHost: t\r\nX: {}\r\n\r\n", "x".repeat(2000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: t\r\n{}\r\n", "X: y\r\n".repeat(11)), 431),
        (format!("GET /{}", "x".repeat(2000)), 414),
    ] {
        let mut client = Peer::connect(address(&gateway));
        client.send(head.as_bytes()).unwrap();
        assert_eq!(client.response().unwrap().status, status);
    }
}

#[test]
fn requests_for_a_full_backend_wait_in_line_and_then_get_503() {
    let origin = Origin::new(|mut peer| {
        loop {
            let (head, _) = peer.request()?;
            if head.starts_with("GET /slow") {
                std::thread::sleep(Duration::from_millis(1_500));
            } else {
                std::thread::sleep(Duration::from_millis(20));
            }
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
    });
    let mut config = proxy(origin.address);
    config["workers"] = json!(2);
    config["upstreams"][0]["backends"][0]["max_connections"] = json!(2);
    config["upstreams"][0]["pool"] = json!({ "max_waiters": 50, "wait_timeout_ms": 1_000 });
    let gateway = gateway(config);
    let target = address(&gateway);
    let run = |path: &'static str, clients: usize| -> Vec<u16> {
        let threads: Vec<_> = (0..clients).map(|_| std::thread::spawn(move || Peer::connect(target).get(path).unwrap().status)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    };
    assert!(run("/", 20).iter().all(|status| *status == 200), "twenty short ones get through two connections");
    assert_eq!(origin.connections(), 2, "and there were never more");
    let mut slow = run("/slow", 4);
    slow.sort_unstable();
    assert_eq!(slow, [200, 200, 503, 503], "the wait has an end");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn a_client_that_takes_nothing_is_cut() {
    let origin = Origin::new(|mut peer| {
        peer.request()?;
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")?;
        let block = vec![b'x'; 1 << 16];
        while peer.send(&block).is_ok() {}
        Ok(())
    });
    let mut config = proxy(origin.address);
    config["listeners"] = listener(json!({ "timeouts": { "write_ms": 200 } }));
    let gateway = gateway(config);
    let mut client = Peer::connect(address(&gateway));
    client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    eventually("the slow reader is given up", || {
        serde_json::from_str::<Value>(&gateway.metrics_json()).unwrap()["errors"]["client_timeout"] == 1
    });
    assert!(client.rest().is_err() || client.buf.len() < 1 << 30, "cut in the middle of the answer");
}

#[test]
fn a_dripping_body_is_given_up_by_its_average_rate() {
    let origin = Origin::echo();
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    client.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n").unwrap();
    let begin = Instant::now();
    let mut writer = client.stream.try_clone().unwrap();
    // Never quiet for long, so the limit between two reads (a minute) says nothing.
    let dripping = std::thread::spawn(move || {
        while std::io::Write::write_all(&mut writer, b"x").is_ok() && begin.elapsed() < PATIENCE * 2 {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    client.stream.set_read_timeout(Some(PATIENCE * 2)).unwrap();
    assert_eq!(client.response().unwrap().status, 408);
    assert!(begin.elapsed() > Duration::from_secs(10), "a body may be slow at first");
    drop(client);
    dripping.join().unwrap();
}
