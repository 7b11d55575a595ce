//! The sum of all bodies that are held is bounded: what needs to hold one is refused, what only likes to goes without, all else is served.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use titan_core::gateway::{Event, Gateway, Host};

use crate::world::*;

/// Limit of the process.
const LIMIT: usize = 512 << 10;
/// What each client sends of its body, and then waits: four of them fit, since a buffer grows by doubling.
const PART: usize = 100 << 10;

/// `/json` changes whole documents; `/*` keeps bodies for another try.
fn config(origin: &Origin) -> Value {
    let mut all = proxy(origin.address);
    all["max_buffered"] = json!(LIMIT);
    all["upstreams"][0]["retry"] = json!({ "max": 2, "max_body": LIMIT });
    let rules = json!({ "request": [{ "action": "add", "field": "b", "value": 1 }], "max_body": LIMIT });
    all["policies"] = json!([{ "name": "json", "type": "json_body", "config": rules }]);
    let mut json_route = route("/json", "origin");
    json_route["policies"] = json!([0]);
    all["routes"].as_array_mut().unwrap().push(json_route);
    all
}

fn buffers(gateway: &Gateway) -> Value {
    let status: Value = serde_json::from_str(&gateway.status_json()).unwrap();
    status["buffers"].clone()
}

fn head(path: &str, length: usize) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n").into_bytes()
}

/// A document of `length` bytes.
fn document(length: usize) -> Vec<u8> {
    format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8)).into_bytes()
}

#[test]
fn what_must_be_held_beyond_the_limit_is_refused_and_the_rest_is_served() {
    let origin = Origin::new(|mut peer| {
        loop {
            let (_, body) = peer.request()?;
            peer.send(format!("HTTP/1.1 200 OK\r\nX-Length: {}\r\nContent-Length: 2\r\n\r\nok", body.len()).as_bytes())?;
        }
    });
    let told: Arc<std::sync::Mutex<Vec<Event>>> = Arc::default();
    let sink = told.clone();
    let host = Host { events: Some(Arc::new(move |event| sink.lock().unwrap().push(event))), ..Host::default() };
    let gateway = start(config(&origin), host).unwrap();
    let heard = |name: &str| told.lock().unwrap().iter().filter(|event| event.name == name).count();

    // Four clients fill it and wait.
    let body = document(2 * PART);
    let mut waiting: Vec<Peer> = (0..4)
        .map(|_| {
            let mut client = Peer::connect(address(&gateway));
            client.send(&head("/json", body.len())).unwrap();
            client.send(&body[..PART]).unwrap();
            client
        })
        .collect();
    eventually("four bodies are held", || buffers(&gateway)["bytes"].as_u64().unwrap() >= 4 * PART as u64);
    assert!(buffers(&gateway)["bytes"].as_u64().unwrap() <= LIMIT as u64);

    // Whoever needs room now is told to come back.
    let mut late = Peer::connect(address(&gateway));
    late.send(&head("/json", PART)).unwrap();
    late.send(&document(PART)).unwrap();
    let refused = late.response().unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{}", refused.text());
    assert_eq!(refused.json()["error"], "overloaded");
    assert_eq!(heard("buffers_full"), 1);

    // Nothing to hold: served. Something to hold for another try only: served without.
    assert_eq!(Peer::connect(address(&gateway)).get("/").unwrap().status, 200);
    let mut streams = Peer::connect(address(&gateway));
    streams.send(&head("/upload", 3 * PART)).unwrap();
    streams.send(&document(3 * PART)).unwrap();
    let answer = streams.response().unwrap();
    assert_eq!((answer.status, answer.header("x-length")), (200, Some(&*(3 * PART).to_string())));
    let counted = buffers(&gateway);
    assert_eq!((&counted["refused"], &counted["limit"]), (&json!(1), &json!(LIMIT)));
    assert!(counted["forgone"].as_u64().unwrap() >= 1, "{counted}");

    // Two give up, the others then have room for the rest of theirs.
    for client in waiting.drain(..2) {
        reset_on_close(&client.stream);
    }
    eventually("their room is free", || buffers(&gateway)["bytes"].as_u64().unwrap() < 3 * PART as u64);
    for client in &mut waiting {
        client.send(&body[PART..]).unwrap();
        assert_eq!(client.response().unwrap().status, 200);
    }
    eventually("nothing is held", || buffers(&gateway)["bytes"] == 0);
    eventually("that there is room is told", || heard("buffers_free") == 1);
}

#[test]
fn answers_that_are_changed_count_and_compression_is_done_without() {
    let text: &'static str = Box::leak("a line of text\n".repeat(10_000).into_boxed_str());
    let origin = Origin::new(move |mut peer| {
        loop {
            let (head, _) = peer.request()?;
            let kind = if head.contains("/json") { "application/json" } else { "text/plain" };
            let body = if head.contains("/json") { String::from_utf8(document(text.len())).unwrap() } else { text.to_owned() };
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
        }
    });
    let mut config = proxy(origin.address);
    config["max_buffered"] = json!(64 << 10);
    config["policies"] = json!([
        { "name": "json", "type": "json_body", "config": { "response": [{ "action": "add", "field": "b", "value": 1 }] } },
        { "name": "small", "type": "compression", "config": {} }
    ]);
    let mut json_route = route("/json", "origin");
    json_route["policies"] = json!([0]);
    config["routes"].as_array_mut().unwrap().push(json_route);
    config["routes"][0]["policies"] = json!([1]);
    let gateway = gateway(config);
    let mut client = Peer::connect(address(&gateway));
    let refused = client.get("/json").unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    let mut client = Peer::connect(address(&gateway));
    client.send(b"GET / HTTP/1.1\r\nHost: t\r\nAccept-Encoding: gzip\r\n\r\n").unwrap();
    let plain = client.response().unwrap();
    assert_eq!((plain.status, plain.header("content-encoding"), plain.header("vary")), (200, None, Some("accept-encoding")));
    assert_eq!(plain.text(), text);
    let counted = buffers(&gateway);
    assert_eq!((&counted["refused"], &counted["forgone"]), (&json!(1), &json!(1)), "{counted}");
    eventually("nothing is held", || buffers(&gateway)["bytes"] == 0);
}

#[test]
fn a_body_kept_for_another_try_is_freed_with_the_answers_head() {
    let origin = Origin::new(|mut peer| {
        peer.request()?;
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n")?;
        std::thread::sleep(Duration::from_secs(30));
        Ok(())
    });
    let gateway = gateway(config(&origin));
    let mut client = Peer::connect(address(&gateway));
    client.send(&head("/events", PART)).unwrap();
    client.send(&document(PART)).unwrap();
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
    eventually("the stream holds nothing", || buffers(&gateway)["bytes"] == 0);
}
