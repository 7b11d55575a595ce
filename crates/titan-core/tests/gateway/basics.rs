//! Requests and answers in their plain forms.

use serde_json::json;

use crate::world::*;

const SMALL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: raw\r\n\r\nhello";

#[test]
fn a_request_reaches_the_origin_and_its_answer_comes_back() {
    let origin = Origin::fixed(SMALL);
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    let answer = client.get("/a/b?q=1").unwrap();
    assert_eq!((answer.status, answer.text().as_str(), answer.header("server")), (200, "hello", Some("raw")));
    let seen = origin.received();
    assert!(seen.starts_with("GET /a/b?q=1 HTTP/1.1\r\n"), "{seen}");
    assert!(seen.to_ascii_lowercase().contains("x-forwarded-for: 127.0.0.1"), "{seen}");
}

#[test]
fn keep_alive_uses_one_connection_on_each_leg() {
    let origin = Origin::fixed(SMALL);
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    for _ in 0..100 {
        assert_eq!(client.get("/").unwrap().text(), "hello");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::echo();
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    let many: String = (0..20).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: t\r\n\r\n")).collect();
    client.send(many.as_bytes()).unwrap();
    for n in 0..20 {
        assert!(client.response().unwrap().text().starts_with(&format!("GET /{n} ")));
    }
}

#[test]
fn bodies_pass_in_both_framings() {
    let origin = Origin::echo();
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    client.send(b"POST /l HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello").unwrap();
    let answer = client.response().unwrap().text();
    assert!(answer.ends_with("\r\n\r\nhello") && answer.to_ascii_lowercase().contains("content-length: 5"), "{answer}");
    client.send(b"POST /c HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n").unwrap();
    client.send(b"2\r\nlo\r\n0\r\n\r\n").unwrap();
    let answer = client.response().unwrap().text();
    assert!(answer.ends_with("\r\n\r\nhello") && answer.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{answer}");
    assert!(!origin.received().contains("x=y"));
}

#[test]
fn a_large_body_is_bounded_by_the_route_and_not_buffered() {
    let origin = Origin::echo();
    let mut config = proxy(origin.address);
    config["routes"][0]["max_body"] = json!(10);
    let gateway = gateway(config);
    let mut client = Peer::connect(address(&gateway));
    client.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 11\r\n\r\n").unwrap();
    let answer = client.response().unwrap();
    assert_eq!((answer.status, answer.json()["error"].as_str()), (413, Some("payload_too_large")));
    assert_eq!(origin.connections(), 0);
    let mut client = Peer::connect(address(&gateway));
    client.send(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n").unwrap();
    client.send(b"6\r\nabcdef\r\n").unwrap();
    assert_eq!(client.response().unwrap().status, 413);
}

#[test]
fn unmatched_requests_get_json() {
    let origin = Origin::fixed(SMALL);
    let mut config = proxy(origin.address);
    config["routes"] = json!([{ "name": "r", "match": { "path": "/only", "methods": ["GET"] },
        "action": { "type": "proxy", "targets": [{ "upstream": "origin" }] } }]);
    let gateway = gateway(config);
    let mut client = Peer::connect(address(&gateway));
    let answer = client.get("/none").unwrap();
    assert_eq!((answer.status, answer.json()["error"].as_str()), (404, Some("not_found")));
    assert!(answer.json()["request_id"].as_str().is_some_and(|id| id.len() >= 16));
    client.send(b"DELETE /only HTTP/1.1\r\nHost: t\r\nAccept: application/problem+json\r\n\r\n").unwrap();
    let answer = client.response().unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (405, Some("application/problem+json")));
    assert!(answer.header("allow").unwrap().contains("GET"));
}

#[test]
fn health_answers_by_itself() {
    let gateway = gateway(json!({}));
    let mut client = Peer::connect(address(&gateway));
    let answer = client.get("/_health").unwrap();
    assert_eq!((answer.status, answer.json()), (200, json!({ "status": "healthy", "version": "0.1.0" })));
    assert_eq!(client.get("/_live").unwrap().status, 200);
    assert_eq!(client.get("/_ready").unwrap().json()["status"], "ok");
    assert_eq!(client.get("/services/health").unwrap().status, 200);
    assert_eq!(client.get("/_metrics").unwrap().status, 404, "no page was given");
}

#[test]
fn fixed_and_redirect_routes() {
    let gateway = gateway(json!({ "routes": [
        { "name": "f", "match": { "path": "/fixed" }, "action": { "type": "fixed", "status": 418, "body": "short" } },
        { "name": "r", "match": { "path": "/old/*" }, "action": { "type": "redirect", "status": 308, "location": "/new/*" } } ] }));
    let mut client = Peer::connect(address(&gateway));
    let answer = client.get("/fixed").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (418, "short"));
    let answer = client.get("/old/x/y").unwrap();
    assert_eq!((answer.status, answer.header("location")), (308, Some("/new/x/y")));
    let seen: serde_json::Value = serde_json::from_str(&gateway.metrics_json()).unwrap();
    assert_eq!(seen["errors"], json!({}), "an answer that the configuration asks for is no error");
}

#[test]
fn head_has_no_body_and_keeps_the_length() {
    let origin = Origin::new(|mut peer| {
        loop {
            peer.request()?;
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")?;
        }
    });
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    for _ in 0..3 {
        client.send(b"HEAD / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
        let answer = client.response_to("HEAD").unwrap();
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("5")));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_answer_until_close_becomes_chunked_or_closes_for_http_1_0() {
    let origin = Origin::new(|mut peer| {
        peer.request()?;
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nsome bytes")
    });
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    let answer = client.get("/").unwrap();
    assert_eq!((answer.header("transfer-encoding"), answer.text().as_str()), (Some("chunked"), "some bytes"));
    assert_eq!(client.get("/").unwrap().text(), "some bytes", "the client's connection lives on");
    let mut old = Peer::connect(address(&gateway));
    old.send(b"GET / HTTP/1.0\r\nHost: t\r\nConnection: keep-alive\r\n\r\n").unwrap();
    let all = String::from_utf8(old.rest().unwrap()).unwrap();
    assert!(all.ends_with("\r\n\r\nsome bytes") && !all.to_ascii_lowercase().contains("chunked"), "{all}");
}

#[test]
fn malformed_requests_are_refused_and_the_connection_closed() {
    let origin = Origin::fixed(SMALL);
    let gateway = gateway(proxy(origin.address));
    for bad in [
        &b"GET / HTTP/1.1\r\nHost : t\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let mut client = Peer::connect(address(&gateway));
        client.send(bad).unwrap();
        let answer = client.response().unwrap();
        assert_eq!((answer.status, answer.json()["error"].as_str()), (400, Some("bad_request")));
        assert!(client.is_closed_within(PATIENCE));
    }
    assert_eq!(origin.received(), "");
}
