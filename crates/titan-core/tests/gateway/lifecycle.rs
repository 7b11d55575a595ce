//! Start, reload, drain.

use std::time::{Duration, Instant};

use serde_json::json;
use titan_core::gateway::Host;

use crate::world::*;

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn version(text: &str) -> serde_json::Value {
    json!({ "routes": [{ "name": "v", "match": { "path": "/*" }, "action": { "type": "fixed", "status": 200, "body": text } }] })
}

#[test]
fn a_second_gateway_on_the_port_is_an_error_with_its_place() {
    let first = gateway(json!({ "workers": 2 }));
    let port = address(&first).port();
    let config = json!({ "workers": 2, "listeners": [{ "name": "http", "address": "127.0.0.1", "port": port }] });
    let issues = start(config, Host::default()).err().expect("the port is taken");
    assert_eq!(issues[0].path, "listeners[0].port");
    assert!(issues[0].message.contains("in use"), "{}", issues[0]);
}

#[test]
fn a_reload_reaches_every_shard_and_held_connections() {
    let mut config = version("one");
    config["workers"] = json!(2);
    let gateway = gateway(config);
    let mut clients: Vec<Peer> = (0..8).map(|_| Peer::connect(address(&gateway))).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/").unwrap().text(), "one"));
    assert_eq!(gateway.apply(complete_like(&gateway, version("two"))).unwrap(), 2);
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/").unwrap().text(), "two"));
}

fn complete_like(gateway: &titan_core::gateway::Gateway, mut config: serde_json::Value) -> titan_core::config::raw::Config {
    config["workers"] = json!(0);
    let _ = gateway;
    complete(config)
}

#[test]
fn a_bad_configuration_changes_nothing() {
    let gateway = gateway(version("one"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = version("two");
    config["listeners"] = json!([
        { "name": "http", "address": "127.0.0.1", "port": 0 },
        { "name": "more", "address": "127.0.0.1", "port": taken.local_addr().unwrap().port() }
    ]);
    let issues = gateway.apply(complete(config)).unwrap_err();
    assert_eq!(issues[0].path, "listeners[1].port");
    assert_eq!(Peer::connect(address(&gateway)).get("/").unwrap().text(), "one");
    assert_eq!(gateway.addresses().len(), 1);
}

#[test]
fn a_removed_listener_finishes_what_it_has_and_closes() {
    let mut config = version("x");
    let (http, more) =
        (json!({ "name": "http", "address": "127.0.0.1", "port": 0 }), json!({ "name": "more", "address": "127.0.0.1", "port": 0 }));
    config["listeners"] = json!([http, more]);
    let gateway = gateway(config);
    let addresses = gateway.addresses();
    let (kept, removed) = (addresses[0].1, addresses[1].1);
    let mut held = Peer::connect(removed);
    assert_eq!(held.get("/").unwrap().status, 200);
    gateway.apply(complete(version("x"))).unwrap();
    assert_eq!(held.get("/").unwrap().header("connection"), Some("close"));
    assert!(held.is_closed_within(PATIENCE));
    assert_eq!(Peer::connect(kept).get("/").unwrap().status, 200);
    eventually("the socket is closed", || std::net::TcpStream::connect(removed).is_err());
}

#[test]
fn reloads_under_load_fail_no_request() {
    let origin = Origin::echo();
    let mut config = proxy(origin.address);
    config["workers"] = json!(2);
    let gateway = gateway(config.clone());
    let target = address(&gateway);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let (mut client, mut count) = (Peer::connect(target), 0);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    assert_eq!(client.get("/").unwrap().status, 200);
                    count += 1;
                }
                count
            })
        })
        .collect();
    for _ in 0..50 {
        gateway.apply(complete(config.clone())).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let total: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(total > 100, "{total}");
}

#[test]
fn a_drain_answers_what_is_under_way_and_ends() {
    let origin = Origin::new(|mut peer| {
        loop {
            peer.request()?;
            std::thread::sleep(Duration::from_millis(600));
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
    });
    let mut config = proxy(origin.address);
    config["routes"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "f", "match": { "path": "/f" }, "action": { "type": "fixed", "status": 200 } }));
    config["shutdown_delay_ms"] = json!(200);
    config["shutdown_timeout_ms"] = json!(10_000);
    let gateway = gateway(config);
    let target = address(&gateway);
    let (mut busy, mut held, mut held2) = (Peer::connect(target), Peer::connect(target), Peer::connect(target));
    assert_eq!((held.get("/f").unwrap().status, held2.get("/f").unwrap().status), (200, 200));
    busy.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    eventually("the request is under way", || origin.received().contains("GET /"));
    gateway.drain();
    // Before the listeners close, everything is served and readiness says what is coming.
    assert_eq!(held.get("/_ready").unwrap().status, 503);
    assert_eq!(held.get("/f").unwrap().status, 200);
    assert_eq!(Peer::connect(target).get("/f").unwrap().status, 200);
    eventually("new connections are refused", || std::net::TcpStream::connect(target).is_err());
    let answer = held.get("/f").unwrap();
    assert_eq!(
        (answer.status, answer.json()["error"].as_str(), answer.header("connection")),
        (503, Some("SERVER_SHUTTING_DOWN"), Some("close"))
    );
    let answer = busy.response().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert!(busy.is_closed_within(PATIENCE) && held2.is_closed_within(PATIENCE));
    let begin = Instant::now();
    block_on(gateway.closed());
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let origin = Origin::new(|mut peer| {
        peer.request()?;
        std::thread::sleep(PATIENCE * 2);
        Ok(())
    });
    let mut config = proxy(origin.address);
    config["shutdown_timeout_ms"] = json!(300);
    let gateway = gateway(config);
    let mut client = Peer::connect(address(&gateway));
    client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    eventually("the request is under way", || origin.connections() == 1);
    gateway.drain();
    block_on(gateway.closed());
    assert!(client.is_closed_within(PATIENCE));
}

#[test]
fn status_metrics_and_routes_are_json() {
    let origin = Origin::echo();
    let gateway = gateway(proxy(origin.address));
    Peer::connect(address(&gateway)).get("/x").unwrap();
    let parse = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap();
    let status = parse(gateway.status_json());
    assert_eq!((status["phase"].as_str(), status["generation"].as_u64(), status["workers"].as_u64()), (Some("running"), Some(1), Some(1)));
    let metrics = parse(gateway.metrics_json());
    let route = metrics["routes"].as_array().unwrap().iter().find(|route| route["route"] == "/*").unwrap();
    assert_eq!(route["requests"], json!([["GET", 200, 1]]));
    assert_eq!(metrics["gauges"]["backends"][0]["idle"], 1);
    assert_eq!(parse(gateway.routes_json())[0]["action"]["targets"][0]["upstream"], "origin");
    let why = gateway.explain(r#"{"method":"GET","host":"t","target":"/x"}"#).unwrap();
    assert_eq!(parse(why)["route"]["name"], "/*");
}

#[test]
fn a_drain_says_1001_to_websockets_between_two_frames() {
    let origin = Origin::new(|mut peer| {
        peer.request()?;
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")?;
        // Half of a frame, and the other half a while after the drain has begun.
        peer.send(&[0x82, 4, b'h', b'a'])?;
        std::thread::sleep(Duration::from_millis(500));
        peer.send(b"lf")?;
        peer.rest().map(|_| ())
    });
    let mut config = proxy(origin.address);
    config["routes"][0]["websocket"] = serde_json::json!({});
    let gateway = gateway(config);
    let mut client = Peer::connect(address(&gateway));
    client.send(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().status, 101);
    assert_eq!(client.exactly(4).unwrap(), [0x82, 4, b'h', b'a']);
    gateway.drain();
    let rest = client.rest().unwrap();
    assert_eq!(rest, [b'l', b'f', 0x88, 2, 0x03, 0xe9]);
    drop(client);
    eventually("the origin is told too, masked", || {
        origin.received.lock().unwrap().ends_with(&[0x88, 0x82, 0x1a, 0x2b, 0x3c, 0x4d, 0x19, 0xc2])
    });
}

#[test]
fn a_frame_above_its_limit_closes_a_websocket_with_1009_and_does_not_pass() {
    let origin = Origin::new(|mut peer| {
        peer.request()?;
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")?;
        peer.rest().map(|_| ())
    });
    let mut config = proxy(origin.address);
    config["routes"][0]["websocket"] = serde_json::json!({ "max_frame_size": 4 });
    let gateway = gateway(config);
    let mut client = Peer::connect(address(&gateway));
    client.send(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().status, 101);
    client.send(&[0x82, 0x84, 0, 0, 0, 0, b'f', b'o', b'u', b'r']).unwrap();
    client.send(&[0x82, 0x85, 0, 0, 0, 0, b'f', b'i', b'v', b'e', b'5']).unwrap();
    assert_eq!(client.rest().unwrap(), [0x88, 2, 0x03, 0xf1]);
    drop(client);
    eventually("the origin is told that the client goes away", || {
        origin.received.lock().unwrap().ends_with(&[b'f', b'o', b'u', b'r', 0x88, 0x82, 0x1a, 0x2b, 0x3c, 0x4d, 0x19, 0xc2])
    });
}

#[test]
fn an_idle_tunnel_is_closed() {
    let origin = Origin::new(|mut peer| {
        peer.head()?;
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")?;
        peer.rest().map(drop)
    });
    let mut config = proxy(origin.address);
    config["routes"][0]["websocket"] = json!({ "idle_timeout_ms": 150 });
    let gateway = gateway(config);
    let mut client = Peer::connect(address(&gateway));
    client.send(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().status, 101);
    assert!(client.is_closed_within(PATIENCE));
}
