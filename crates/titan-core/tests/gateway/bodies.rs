//! Bodies that are changed on their way: compression and JSON fields.

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::*;

const SOON: Duration = Duration::from_millis(300);

/// One route to `origin` with one policy.
fn with_policy(origin: &Origin, kind: &str, config: Value) -> Value {
    let mut all = proxy(origin.address);
    all["policies"] = json!([{ "name": "it", "type": kind, "config": config }]);
    all["routes"][0]["policies"] = json!([0]);
    all
}

fn ask(client: &mut Peer, accept: &str) -> Response {
    client.send(format!("GET / HTTP/1.1\r\nHost: t\r\nAccept-Encoding: {accept}\r\n\r\n").as_bytes()).unwrap();
    client.response().unwrap()
}

fn decode(coding: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(data).read_to_end(&mut out).unwrap(),
        "br" => brotli::Decompressor::new(data, 4096).read_to_end(&mut out).unwrap(),
        "zstd" => zstd::stream::read::Decoder::new(data).unwrap().read_to_end(&mut out).unwrap(),
        other => panic!("{other}"),
    };
    out
}

#[test]
fn answers_are_compressed_as_the_client_likes_on_one_connection() {
    let text: &'static str = Box::leak("a line of text\n".repeat(20_000).into_boxed_str());
    let origin = Origin::new(move |mut peer| {
        loop {
            peer.request()?;
            peer.send(
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"v1\"\r\nContent-Length: {}\r\n\r\n", text.len()).as_bytes(),
            )?;
            peer.send(text.as_bytes())?;
        }
    });
    let gateway = gateway(with_policy(&origin, "compression", json!({})));
    let mut client = Peer::connect(address(&gateway));
    for coding in ["gzip", "br", "zstd"] {
        let answer = ask(&mut client, coding);
        assert_eq!(answer.header("content-encoding"), Some(coding));
        assert_eq!(answer.header("content-length"), None, "{coding}");
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
        assert_eq!(answer.header("etag"), Some("W/\"v1\""));
        assert!(answer.body.len() < text.len() / 20, "{coding}: {}", answer.body.len());
        assert_eq!(decode(coding, &answer.body), text.as_bytes());
    }
    let plain = ask(&mut client, "identity");
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, Some("accept-encoding")));
    assert_eq!(plain.header("etag"), Some("\"v1\""));
    assert_eq!(plain.body, text.as_bytes());
    assert_eq!(origin.connections(), 1, "the upstream connection is used again");
}

#[test]
fn an_event_stream_is_compressed_without_being_held_back() {
    let origin = Origin::new(|mut peer| {
        peer.request()?;
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        loop {
            peer.send(b"9\r\ndata: x\n\n\r\n")?;
            std::thread::sleep(SOON);
        }
    });
    let gateway = gateway(with_policy(&origin, "compression", json!({})));
    let mut client = Peer::connect(address(&gateway));
    client.send(b"GET / HTTP/1.1\r\nHost: t\r\nAccept-Encoding: gzip\r\n\r\n").unwrap();
    client.head().unwrap();
    let mut decoder = flate2::write::GzDecoder::new(Vec::new());
    client.stream.set_read_timeout(Some(SOON * 10)).unwrap();
    for events in 1..=3 {
        while decoder.get_ref().len() < 9 * events {
            let size = client.until(b"\r\n").unwrap();
            let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap().trim(), 16).unwrap();
            let chunk = client.exactly(size + 2).unwrap();
            decoder.write_all(&chunk[..size]).unwrap();
            decoder.flush().unwrap();
        }
    }
}

#[test]
fn what_is_compressed_already_or_sets_a_cookie_passes_untouched() {
    let origin = Origin::new(|mut peer| {
        loop {
            let (head, _) = peer.request()?;
            let extra = if head.starts_with("GET /cookie") { "Set-Cookie: a=b" } else { "Content-Encoding: gzip" };
            let body = "x".repeat(4000);
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{extra}\r\nContent-Length: 4000\r\n\r\n{body}").as_bytes())?;
        }
    });
    let gateway = gateway(with_policy(&origin, "compression", json!({})));
    let mut client = Peer::connect(address(&gateway));
    for path in ["/cookie", "/gzip"] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: t\r\nAccept-Encoding: br\r\n\r\n").as_bytes()).unwrap();
        let answer = client.response().unwrap();
        assert_ne!(answer.header("content-encoding"), Some("br"), "{path}");
        assert_eq!(answer.body, "x".repeat(4000).as_bytes(), "{path}");
    }
}

#[test]
fn json_fields_change_in_both_directions_and_lengths_follow() {
    let origin = Origin::echo();
    let rules = json!({
        "request": [{ "action": "remove", "field": "password" }, { "action": "add", "field": "via.gateway", "value": "titan" }],
        "response": [{ "action": "modify", "field": "name", "value": "changed" }]
    });
    let gateway = gateway(with_policy(&origin, "json_body", rules));
    let mut client = Peer::connect(address(&gateway));
    let body = r#"{"name":"a","password":"p"}"#;
    for _ in 0..2 {
        let head = format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        client.send((head + body).as_bytes()).unwrap();
        let answer = client.response().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let seen = origin.received();
    assert!(seen.contains(r#"{"name":"a","via":{"gateway":"titan"}}"#), "{seen}");
    assert!(!seen.contains("password"), "{seen}");
    assert!(seen.to_ascii_lowercase().contains("accept-encoding: identity"), "{seen}");
}

#[test]
fn an_answer_in_json_is_changed_whole() {
    let origin = Origin::new(|mut peer| {
        loop {
            peer.request()?;
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: \"1\"\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            peer.send(b"9\r\n{\"id\":1,\"\r\n")?;
            std::thread::sleep(Duration::from_millis(20));
            peer.send(b"b\r\nsecret\":2}\n\r\n0\r\n\r\n")?;
        }
    });
    let rules = json!({ "response": [{ "action": "remove", "field": "secret" }] });
    let gateway = gateway(with_policy(&origin, "json_body", rules));
    let mut client = Peer::connect(address(&gateway));
    for _ in 0..2 {
        let answer = client.get("/").unwrap();
        assert_eq!(answer.text(), r#"{"id":1}"#);
        assert_eq!(answer.header("content-length"), Some("8"));
        assert_eq!(answer.header("etag"), Some("W/\"1\""));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn bodies_that_cannot_be_changed_are_refused() {
    let origin = Origin::fixed(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n{\"a\":");
    let rules =
        json!({ "request": [{ "action": "remove", "field": "a" }], "response": [{ "action": "remove", "field": "a" }], "max_body": 64 });
    let gateway = gateway(with_policy(&origin, "json_body", rules));
    let post = |body: &str| {
        let mut client = Peer::connect(address(&gateway));
        let head = format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        client.send((head + body).as_bytes()).unwrap();
        client.response().unwrap()
    };
    assert_eq!(post("{\"a\"").status, 400);
    assert_eq!(post(&format!("\"{}\"", "x".repeat(100))).status, 413);
    assert_eq!(origin.received(), "", "nothing of these went upstream");
    assert_eq!(post("{}").status, 502, "the answer is no JSON document");
}

#[test]
fn who_expects_a_go_ahead_gets_it_before_a_body_is_held() {
    let origin = Origin::echo();
    let gateway = gateway(with_policy(&origin, "json_body", json!({ "request": [{ "action": "add", "field": "b", "value": 1 }] })));
    let mut client = Peer::connect(address(&gateway));
    client
        .send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\n")
        .unwrap();
    assert!(client.head().unwrap().starts_with("HTTP/1.1 100"));
    client.send(b"{\"a\":1}").unwrap();
    assert_eq!(client.response().unwrap().status, 200);
    assert!(origin.received().contains(r#"{"a":1,"b":1}"#), "{}", origin.received());
    assert!(!origin.received().to_ascii_lowercase().contains("expect:"));
}

/// One route that answers by itself, with compression.
fn fixed(headers: Value, body: &str, config: Value) -> Value {
    json!({
        "workers": 1,
        "listeners": [{ "name": "http", "address": "127.0.0.1", "port": 0 }],
        "policies": [{ "name": "it", "type": "compression", "config": config }],
        "routes": [{
            "name": "fixed", "match": { "path": "/*" }, "policies": [0],
            "action": { "type": "fixed", "status": 200, "headers": headers, "body": body }
        }]
    })
}

#[test]
fn titans_own_answers_are_compressed_where_their_route_says_so() {
    let text = "a line of text\n".repeat(200);
    let gateway = gateway(fixed(json!([["content-type", "text/plain"], ["etag", "\"v1\""]]), &text, json!({})));
    let mut client = Peer::connect(address(&gateway));
    for coding in ["gzip", "br", "zstd"] {
        let answer = ask(&mut client, coding);
        assert_eq!(answer.header("content-encoding"), Some(coding));
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
        assert_eq!(answer.header("etag"), Some("W/\"v1\""));
        assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()));
        assert!(answer.body.len() < text.len() / 10, "{coding}: {}", answer.body.len());
        assert_eq!(decode(coding, &answer.body), text.as_bytes());
    }
    let plain = ask(&mut client, "identity");
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, Some("accept-encoding")));
    assert_eq!((plain.header("etag"), plain.text()), (Some("\"v1\""), text.clone()));
    client.send(b"HEAD / HTTP/1.1\r\nHost: t\r\nAccept-Encoding: gzip\r\n\r\n").unwrap();
    let head = client.head().unwrap();
    assert!(head.contains(&format!("Content-Length: {}", text.len())) && !head.to_lowercase().contains("content-encoding"), "{head}");
}

#[test]
fn own_answers_that_are_small_or_set_a_cookie_stay_as_they_are() {
    let text = "a line of text\n".repeat(200);
    let cases = [
        (json!([["content-type", "text/plain"]]), "short", json!({})),
        (json!([["content-type", "text/plain"], ["set-cookie", "a=b"]]), text.as_str(), json!({})),
        (json!([["content-type", "text/plain"], ["cache-control", "no-transform"]]), text.as_str(), json!({})),
        (json!([["content-type", "text/plain"]]), text.as_str(), json!({ "disable_for_paths": ["/*"] })),
    ];
    for (headers, body, config) in cases {
        let gateway = gateway(fixed(headers.clone(), body, config));
        let answer = ask(&mut Peer::connect(address(&gateway)), "gzip");
        assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, None), "{headers}");
        assert_eq!(answer.body, body.as_bytes(), "{headers}");
    }
}
