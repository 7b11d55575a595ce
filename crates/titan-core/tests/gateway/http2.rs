//! HTTP/2 from clients: what reaches an HTTP/1.1 origin, and how streams and connections end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, Request};
use serde_json::json;

use crate::h2_world::*;
use crate::world::*;

#[test]
fn a_stream_is_a_request_and_many_share_a_connection() {
    let origin = Origin::echo();
    let gateway = gateway(proxy(origin.address));
    run(async {
        let client = connect(address(&gateway)).await;
        let request = Request::builder()
            .uri("http://titan.test/a/b?q=1")
            .header("cookie", "a=1")
            .header("x-odd", "v")
            .header("cookie", "b=2")
            .header("x-forwarded-for", "6.6.6.6")
            .body(())
            .unwrap();
        let answer = ask(&client, request, b"", None).await.unwrap();
        let seen = answer.text().to_ascii_lowercase();
        assert_eq!(answer.status, 200);
        assert!(seen.starts_with("get /a/b?q=1 http/1.1\r\nhost: titan.test\r\n"), "{seen}");
        assert!(
            seen.contains("cookie: a=1; b=2\r\n") && seen.contains("via: 2 titan") && seen.contains("x-forwarded-for: 127.0.0.1\r\n"),
            "{seen}"
        );
        assert!(answer.header("via").is_some() && answer.header("connection").is_none());
        let all: Vec<_> = (0..50)
            .map(|n| {
                let client = client.clone();
                async move { ask(&client, get(&format!("/{n}")), b"", None).await }
            })
            .collect();
        for (n, answer) in futures_all(all).await.into_iter().enumerate() {
            assert!(answer.unwrap().text().starts_with(&format!("GET /{n} ")));
        }
    });
}

async fn futures_all<F: Future + 'static>(all: Vec<F>) -> Vec<F::Output>
where
    F::Output: 'static,
{
    let local = tokio::task::LocalSet::new();
    let handles: Vec<_> = all.into_iter().map(|f| local.spawn_local(f)).collect();
    local
        .run_until(async {
            let mut out = Vec::new();
            for handle in handles {
                out.push(handle.await.unwrap());
            }
            out
        })
        .await
}

#[test]
fn bodies_pass_both_ways_through_the_windows() {
    let origin = Origin::echo();
    let mut config = proxy(origin.address);
    config["routes"][0]["max_body"] = json!(10 << 20);
    let gateway = gateway(config);
    run(async {
        let client = connect(address(&gateway)).await;
        let body: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        let answer = ask(&client, post("/large"), &body, None).await.unwrap();
        let at = answer.body.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        assert!(answer.body[at..] == body[..], "{} bytes", answer.body.len());
        assert!(answer.text().to_ascii_lowercase().contains("transfer-encoding: chunked"));
        let sized = Request::builder().method("POST").uri("http://titan.test/").header("content-length", "5").body(()).unwrap();
        let seen = ask(&client, sized, b"hello", None).await.unwrap().text().to_ascii_lowercase();
        assert!(seen.contains("content-length: 5\r\n") && seen.ends_with("hello"), "{seen}");
    });
}

#[test]
fn a_request_without_a_body_says_so_to_http1_where_a_body_would_have_a_meaning() {
    let origin = Origin::echo();
    let gateway = gateway(proxy(origin.address));
    run(async {
        let client = connect(address(&gateway)).await;
        for (method, said) in [("POST", true), ("PUT", true), ("PATCH", true), ("GET", false), ("DELETE", false), ("OPTIONS", false)] {
            let request = Request::builder().method(method).uri("http://titan.test/").body(()).unwrap();
            let seen = ask(&client, request, b"", None).await.unwrap().text().to_ascii_lowercase();
            assert_eq!(seen.contains("content-length: 0\r\n"), said, "{method}: {seen}");
            assert!(!seen.contains("transfer-encoding"), "{method}: {seen}");
        }
    });
}

#[test]
fn heads_without_bodies_end_their_streams() {
    let origin = Origin::new(|mut peer| {
        loop {
            let (head, _) = peer.request()?;
            let answer: &[u8] = if head.starts_with("HEAD") {
                b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
            } else if head.contains("/204") {
                b"HTTP/1.1 204 No Content\r\n\r\n"
            } else {
                b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\n\r\n"
            };
            peer.send(answer)?;
        }
    });
    let gateway = gateway(proxy(origin.address));
    run(async {
        let client = connect(address(&gateway)).await;
        let head = Request::builder().method("HEAD").uri("http://titan.test/").body(()).unwrap();
        let answer = ask(&client, head, b"", None).await.unwrap();
        assert_eq!((answer.status, answer.header("content-length"), answer.body.len()), (200, Some("99"), 0));
        assert_eq!(ask(&client, get("/204"), b"", None).await.unwrap().status, 204);
        let mut ready = client.clone().ready().await.unwrap();
        let (mut response, _) = ready.send_request(get("/hints"), true).unwrap();
        let hint = std::future::poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!((hint.status().as_u16(), hint.headers()["link"].to_str().unwrap()), (103, "</x>"));
        assert_eq!(read(response.await.unwrap()).await.unwrap().status, 304);
    });
}

#[test]
fn titans_own_answers_and_limits() {
    let origin = Origin::echo();
    let mut config = proxy(origin.address);
    config["routes"] = json!([{ "name": "r", "match": { "path": "/only" }, "max_body": 10, "action": { "type": "proxy", "targets": [{ "upstream": "origin" }] } }]);
    let gateway = gateway(config);
    run(async {
        let client = connect(address(&gateway)).await;
        let answer = ask(&client, get("/nowhere"), b"", None).await.unwrap();
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, json["error"].as_str()), (404, Some("not_found")));
        assert_eq!(answer.header("content-length").unwrap(), answer.body.len().to_string());
        let large = Request::builder().method("POST").uri("http://titan.test/only").header("content-length", "100").body(()).unwrap();
        assert_eq!(ask(&client, large, &[b'x'; 100], None).await.unwrap().status, 413);
        let connect = Request::builder().method("CONNECT").uri("titan.test:443").body(()).unwrap();
        assert_eq!(ask(&client, connect, b"", None).await.unwrap().status, 405);
        assert_eq!(ask(&client, get("/only"), b"", None).await.unwrap().status, 200);
    });
    assert!(!origin.received().contains("POST"));
}

#[test]
fn v10_malformed_heads_are_stream_errors_and_nothing_reaches_the_origin() {
    let origin = Origin::echo();
    let gateway = gateway(proxy(origin.address));
    run(async {
        let client = connect(address(&gateway)).await;
        for (name, value) in [("host", "other.test"), ("content-length", "7")] {
            let request = Request::builder().uri("http://titan.test/").header(name, value).body(()).unwrap();
            let error = ask(&client, request, b"", None).await.expect_err(name);
            assert_eq!(error.reason(), Some(h2::Reason::PROTOCOL_ERROR), "{name}");
        }
        assert_eq!(origin.received(), "");
        assert_eq!(ask(&client, get("/fine"), b"", None).await.unwrap().status, 200);
    });
}

#[test]
fn a_clients_reset_ends_the_request_at_the_origin() {
    let gone = Arc::new(AtomicUsize::new(0));
    let count = gone.clone();
    let origin = Origin::new(move |mut peer| {
        peer.request()?;
        // Nothing is answered: the other end closes, or the test fails.
        if peer.is_closed_within(PATIENCE) {
            count.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    let gateway = gateway(proxy(origin.address));
    run(async {
        let client = connect(address(&gateway)).await;
        let mut ready = client.clone().ready().await.unwrap();
        let (response, mut stream) = ready.send_request(get("/slow"), true).unwrap();
        while origin.connections() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        stream.send_reset(h2::Reason::CANCEL);
        drop(response);
        while gone.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn an_origin_that_breaks_off_resets_the_stream_and_only_that() {
    let origin = Origin::new(|mut peer| {
        let (head, _) = peer.request()?;
        if head.contains("/broken") {
            return peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        }
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine")
    });
    let gateway = gateway(proxy(origin.address));
    run(async {
        let client = connect(address(&gateway)).await;
        let error = ask(&client, get("/broken"), b"", None).await.expect_err("cut");
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
        assert_eq!(ask(&client, get("/fine"), b"", None).await.unwrap().text(), "fine");
    });
}

#[test]
fn a_drain_says_goaway_and_finishes_what_is_under_way() {
    let origin = Origin::new(|mut peer| {
        peer.request()?;
        std::thread::sleep(Duration::from_millis(400));
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
    });
    let gateway = gateway(proxy(origin.address));
    run(async {
        let client = connect(address(&gateway)).await;
        let mut ready = client.clone().ready().await.unwrap();
        let (response, _) = ready.send_request(get("/"), true).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        gateway.drain();
        assert_eq!(read(response.await.unwrap()).await.unwrap().text(), "late");
        // The connection ends by itself.
        let mut client = client;
        while std::future::poll_fn(|cx| client.poll_ready(cx)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        gateway.closed().await;
    });
}

#[test]
fn v1_rapid_resets_end_the_connection_before_they_reach_the_origin() {
    let origin = Origin::new(|mut peer| {
        loop {
            peer.request()?;
            std::thread::sleep(Duration::from_millis(20));
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
    });
    let gateway = gateway(proxy(origin.address));
    run(async {
        let client = connect(address(&gateway)).await;
        let mut sent = 0;
        for _ in 0..5_000 {
            let Ok(mut ready) = client.clone().ready().await else { break };
            let Ok((_, mut stream)) = ready.send_request(get("/attack"), true) else { break };
            stream.send_reset(h2::Reason::CANCEL);
            sent += 1;
            if sent % 16 == 0 {
                tokio::task::yield_now().await;
            }
        }
        let error = ask(&client, get("/after"), b"", None).await.expect_err("the connection is ended");
        assert!(error.is_go_away() || error.is_io(), "{error:?} after {sent}");
        // Others are served.
        let other = connect(address(&gateway)).await;
        assert_eq!(ask(&other, get("/other"), b"", None).await.unwrap().status, 200);
    });
    let reached = origin.received().matches("GET /attack").count();
    assert!(reached <= 300, "{reached} of 5000 reset requests reached the origin");
}

#[test]
fn a_websocket_over_http2_is_a_tunnel() {
    let origin = Origin::new(|mut peer| {
        let (head, _) = peer.request()?;
        assert!(head.to_ascii_lowercase().contains("upgrade: websocket") && head.to_ascii_lowercase().contains("sec-websocket-key: "));
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")?;
        loop {
            let n = peer.exactly(4)?;
            peer.send(&n)?;
        }
    });
    let mut config = proxy(origin.address);
    config["routes"][0]["websocket"] = json!({});
    let gateway = gateway(config);
    run(async {
        let mut client = connect(address(&gateway)).await;
        // The server's settings must have come before an extended CONNECT may be sent.
        ask(&client, get("/_health"), b"", None).await.unwrap();
        assert!(client.is_extended_connect_protocol_enabled());
        let mut request =
            Request::builder().method("CONNECT").uri("http://titan.test/chat").header("sec-websocket-version", "13").body(()).unwrap();
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (response, mut send) = client.send_request(request, false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.headers().get("sec-websocket-accept").is_none() && response.headers().get("upgrade").is_none());
        let mut recv = response.into_body();
        for word in [&b"ping"[..], b"pong"] {
            send_all_open(&mut send, word).await;
            let mut got = Vec::new();
            while got.len() < 4 {
                got.extend_from_slice(&recv.data().await.unwrap().unwrap());
            }
            assert_eq!(got, word);
        }
    });
}

async fn send_all_open(send: &mut h2::SendStream<bytes::Bytes>, data: &[u8]) {
    send.reserve_capacity(data.len());
    send.send_data(bytes::Bytes::copy_from_slice(data), false).unwrap();
}

#[test]
fn request_trailers_pass_when_announced_to_http1() {
    let origin = Origin::new(|mut peer| {
        let head = peer.head()?;
        let (body, trailers) = peer.chunked()?;
        assert!(head.to_ascii_lowercase().contains("trailer: x-sum"));
        let text = format!("{}|{trailers}", String::from_utf8_lossy(&body));
        peer.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-end\r\n\r\n{:x}\r\n{text}\r\n0\r\nx-end: 1\r\nx-other: 2\r\n\r\n", text.len()).as_bytes())
    });
    let gateway = gateway(proxy(origin.address));
    run(async {
        let client = connect(address(&gateway)).await;
        let request = Request::builder().method("POST").uri("http://titan.test/").header("trailer", "x-sum").body(()).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        trailers.insert("x-unsaid", "8".parse().unwrap());
        let answer = ask(&client, request, b"body", Some(trailers)).await.unwrap();
        assert_eq!(answer.text(), "body|x-sum: 7\r\n");
        let trailers = answer.trailers.unwrap();
        assert_eq!((trailers.len(), trailers["x-end"].to_str().unwrap()), (1, "1"));
    });
}
