//! What clients ask of the gateway itself: `Expect`, `Max-Forwards`, `OPTIONS *`; and what old clients leave out.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::world::*;

#[test]
fn an_expectation_that_nobody_defines_is_refused() {
    let origin = Origin::echo();
    let gateway = gateway(proxy(origin.address));
    for expect in ["200-ok", "100-continue, x", "x\r\nExpect: 100-continue"] {
        let mut client = Peer::connect(address(&gateway));
        client.send(format!("POST / HTTP/1.1\r\nHost: t\r\nExpect: {expect}\r\nContent-Length: 2\r\n\r\nok").as_bytes()).unwrap();
        let answer = client.response().unwrap();
        assert_eq!((answer.status, answer.json()["error"].as_str()), (417, Some("expectation_failed")), "{expect}");
    }
    assert_eq!(origin.received(), "");
    // Of an HTTP/1.0 client it means nothing, and the backend is not asked either.
    let mut old = Peer::connect(address(&gateway));
    old.send(b"POST / HTTP/1.0\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok").unwrap();
    let answer = old.response().unwrap().text();
    assert!(answer.ends_with("ok") && !answer.to_ascii_lowercase().contains("expect:"), "{answer}");
}

#[test]
fn a_client_without_a_host_is_given_the_backends() {
    let origin = Origin::echo();
    let gateway = gateway(proxy(origin.address));
    let mut old = Peer::connect(address(&gateway));
    old.send(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let answer = old.response().unwrap().text();
    assert!(answer.contains(&format!("\r\nHost: {}\r\n", origin.address)), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("x-forwarded-host"), "{answer}");
}

#[test]
fn options_of_the_server_is_answered_here() {
    let origin = Origin::echo();
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    client.send(b"OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    let answer = client.response().unwrap();
    assert_eq!(answer.status, 204);
    assert!(answer.header("allow").unwrap().contains("GET"));
    assert_eq!(origin.connections(), 0);
}

#[test]
fn hops_of_options_and_trace_are_counted() {
    let origin = Origin::echo();
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    let mut ask = |method: &str, hops: &str| {
        client.send(format!("{method} /x HTTP/1.1\r\nHost: t\r\nMax-Forwards: {hops}\r\n\r\n").as_bytes()).unwrap();
        client.response().unwrap()
    };
    for (method, hops, passed) in [("OPTIONS", "5", "4"), ("TRACE", "1", "0"), ("OPTIONS", "many", "many"), ("GET", "0", "0")] {
        let head = ask(method, hops).text().to_ascii_lowercase();
        assert!(head.contains(&format!("\r\nmax-forwards: {passed}\r\n")), "{method} {hops}: {head}");
        assert_eq!(head.matches("max-forwards").count(), 1);
    }
    let before = origin.received();
    assert_eq!(ask("OPTIONS", "0").status, 204);
    let refused = ask("TRACE", "0");
    assert_eq!((refused.status, refused.json()["error"].as_str()), (405, Some("method_not_allowed")));
    assert_eq!(origin.received(), before);
}

#[test]
fn a_target_alone_over_the_limit_is_414_however_it_comes() {
    let gateway = gateway(json!({ "listeners": [{ "name": "http", "address": "127.0.0.1", "port": 0, "limits": { "max_head": 1024 } }] }));
    let target = "a".repeat(1024);
    for (end, status) in [("", 414), (" HTTP/1.1\r\nHost: t\r\n\r\n", 414)] {
        let mut client = Peer::connect(address(&gateway));
        client.send(format!("GET /{target}{end}").as_bytes()).unwrap();
        let answer = client.response().unwrap();
        assert_eq!((answer.status, answer.json()["error"].as_str()), (status, Some("uri_too_long")), "{end:?}");
    }
    let mut client = Peer::connect(address(&gateway));
    client.send(format!("GET / HTTP/1.1\r\nHost: t\r\nX: {target}\r\n\r\n").as_bytes()).unwrap();
    assert_eq!(client.response().unwrap().status, 431);
}

#[test]
fn a_head_that_cannot_be_read_has_an_id_and_took_its_time() {
    let file = std::env::temp_dir().join(format!("titan-unread-{}.log", std::process::id()));
    let gateway = gateway(json!({
        "listeners": [{ "name": "http", "address": "127.0.0.1", "port": 0, "timeouts": { "head_ms": 700 } }],
        "access_log": { "format": "json", "fields": ["request_id", "status", "duration_ms"], "output": file.to_str().unwrap() } }));
    let mut client = Peer::connect(address(&gateway));
    let began = Instant::now();
    client.send(b"GET / HTTP/1.1\r\nHo").unwrap();
    let answer = client.response().unwrap();
    assert_eq!(answer.status, 408);
    assert!(began.elapsed() >= Duration::from_millis(600));
    let id = answer.json()["request_id"].as_str().expect("an id").to_owned();
    assert_eq!((id.len(), answer.header("x-request-id")), (32, Some(id.as_str())));
    let line = || std::fs::read_to_string(&file).ok().and_then(|text| serde_json::from_str::<serde_json::Value>(text.lines().next()?).ok());
    eventually("the line of the refused request", || line().is_some());
    let line = line().unwrap();
    let _ = std::fs::remove_file(&file);
    assert_eq!((line["request_id"].as_str(), line["status"].as_u64()), (Some(id.as_str()), Some(408)));
    assert!(line["duration_ms"].as_f64().is_some_and(|ms| ms >= 600.0), "{line}");
}
