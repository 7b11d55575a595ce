//! Streams that live through a hundred reloads: none is cut, and none keeps a configuration in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::Request;
use serde_json::{Value, json};
use titan_core::gateway::Gateway;

use crate::h2_world::{self, H2Origin, ask, get, run};
use crate::world::*;

/// Reloads.
const RELOADS: usize = 100;
/// A new stream of each kind is opened after so many reloads.
const EVERY: usize = 20;

/// Upgrades whoever asks and echoes pieces of four bytes; sends everyone else an event each time that `tick` rises.
fn origin(tick: Arc<AtomicUsize>) -> Origin {
    Origin::new(move |mut peer| {
        let (head, _) = peer.request()?;
        if head.to_ascii_lowercase().contains("upgrade: websocket") {
            peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")?;
            loop {
                let piece = peer.exactly(4)?;
                peer.send(&piece)?;
            }
        }
        // Before the head: who has that has missed no tick.
        let mut seen = tick.load(SeqCst);
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        loop {
            while tick.load(SeqCst) == seen {
                std::thread::sleep(Duration::from_millis(5));
            }
            seen = tick.load(SeqCst);
            peer.send(b"7\r\ndata:x\n\r\n")?;
        }
    })
}

/// The streams, and a route and a policy that differ in each generation.
fn config(http1: &Origin, grpc: &H2Origin, generation: usize) -> Value {
    let mut calls = upstream(grpc.address);
    (calls["name"], calls["protocol"]) = (json!("calls"), json!("h2c"));
    let mut chat = route("/chat", "origin");
    chat["websocket"] = json!({});
    let changes = json!({ "name": "changes", "match": { "path": format!("/generation/{generation}") }, "action": { "type": "fixed", "status": 204 } });
    json!({
        "workers": 2,
        "upstreams": [upstream(http1.address), calls],
        "routes": [chat, route("/events", "origin"), route("/call/*", "calls"), changes],
    })
}

/// A stream of each kind: over HTTP/1.1 a WebSocket and events; over HTTP/2 a WebSocket, events and a gRPC call.
struct Streams {
    chat: Peer,
    events: Peer,
    chat2: (SendStream<Bytes>, RecvStream),
    events2: RecvStream,
    call: (SendStream<Bytes>, RecvStream),
}

impl Streams {
    async fn open(gateway: &Gateway) -> Self {
        let at = address(gateway);
        let mut chat = Peer::connect(at);
        chat.send(b"GET /chat HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").unwrap();
        assert_eq!(chat.response().unwrap().status, 101);
        let mut events = Peer::connect(at);
        events.send(b"GET /events HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
        assert!(events.head().unwrap().starts_with("HTTP/1.1 200"));
        let mut client = h2_world::connect(at).await;
        // The server's settings must have come before an extended CONNECT may be sent.
        ask(&client, get("/_health"), b"", None).await.unwrap();
        let mut connect = Request::builder().method("CONNECT").uri("http://t/chat").header("sec-websocket-version", "13").body(()).unwrap();
        connect.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (answer, up) = client.send_request(connect, false).unwrap();
        let chat2 = (up, answer.await.unwrap().into_body());
        let (answer, _) = client.send_request(get("/events"), true).unwrap();
        let events2 = answer.await.unwrap().into_body();
        let call =
            Request::builder().method("POST").uri("http://t/call/x").header("content-type", "application/grpc").header("te", "trailers");
        let (answer, up) = client.send_request(call.body(()).unwrap(), false).unwrap();
        let call = (up, answer.await.unwrap().into_body());
        Self { chat, events, chat2, events2, call }
    }

    /// Every one still carries what is sent; `tick` has risen.
    async fn check(&mut self) {
        self.chat.send(b"ping").unwrap();
        assert_eq!(self.chat.exactly(4).unwrap(), b"ping");
        self.events.until(b"data:x\n").unwrap();
        for (send, recv) in [&mut self.chat2, &mut self.call] {
            send.reserve_capacity(4);
            send.send_data(Bytes::from_static(b"ping"), false).unwrap();
            assert_eq!(take(recv, 4).await, b"ping");
        }
        assert_eq!(take(&mut self.events2, 7).await, b"data:x\n");
    }
}

async fn take(recv: &mut RecvStream, n: usize) -> Vec<u8> {
    let mut got = Vec::new();
    while got.len() < n {
        let piece = recv.data().await.expect("the stream is open").expect("the stream is whole");
        recv.flow_control().release_capacity(piece.len()).unwrap();
        got.extend_from_slice(&piece);
    }
    got
}

fn snapshots(gateway: &Gateway) -> u64 {
    let status: Value = serde_json::from_str(&gateway.status_json()).unwrap();
    status["snapshots"].as_u64().unwrap()
}

#[test]
fn streams_live_through_a_hundred_reloads_and_hold_no_configuration() {
    let tick = Arc::new(AtomicUsize::new(0));
    let (http1, grpc) = (origin(tick.clone()), H2Origin::echo_open());
    let gateway = Arc::new(gateway(config(&http1, &grpc, 0)));
    assert_eq!(snapshots(&gateway), 1);
    run(async {
        let mut streams = Vec::new();
        for generation in 1..=RELOADS {
            if generation % EVERY == 1 {
                // Each of these begins under another configuration.
                streams.push(Streams::open(&gateway).await);
            }
            // Applying blocks until every shard has it.
            let (next, gateway) = (complete(config(&http1, &grpc, generation)), gateway.clone());
            tokio::task::spawn_blocking(move || gateway.apply(next).unwrap()).await.unwrap();
        }
        tick.fetch_add(1, SeqCst);
        for streams in &mut streams {
            streams.check().await;
        }
        // What was dropped by a shard is freed by another thread.
        let begin = Instant::now();
        while snapshots(&gateway) != 1 {
            assert!(
                begin.elapsed() < PATIENCE / 2,
                "{} configurations are held by {} streams of each kind",
                snapshots(&gateway),
                streams.len()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // They are as alive as before.
        tick.fetch_add(1, SeqCst);
        for streams in &mut streams {
            streams.check().await;
        }
    });
}

#[test]
fn a_request_under_way_holds_its_configuration_and_no_other() {
    let origin = Origin::new(|mut peer| {
        peer.request()?;
        // Never answers.
        while peer.fill()? {}
        Ok(())
    });
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    client.send(b"GET /wait HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    eventually("the request is at the origin", || !origin.received().is_empty());
    for _ in 0..20 {
        gateway.apply(complete(proxy(origin.address))).unwrap();
    }
    eventually("two are left", || snapshots(&gateway) == 2);
    // An orderly end would be half a close: the client still wants its answer.
    reset_on_close(&client.stream);
    drop(client);
    eventually("one is left", || snapshots(&gateway) == 1);
}
