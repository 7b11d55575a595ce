//! HTTP/2 towards backends: streams on shared connections, gRPC, and every mix with HTTP/1.1.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use serde_json::{Value, json};

use crate::h2_world::*;
use crate::world::*;

fn h2c(origin: SocketAddr) -> Value {
    let mut config = proxy(origin);
    config["upstreams"][0]["protocol"] = json!("h2c");
    config
}

#[test]
fn http1_clients_reach_http2_backends() {
    let origin = H2Origin::echo();
    let gateway = gateway(h2c(origin.address));
    let mut client = Peer::connect(address(&gateway));
    for n in 0..20 {
        client
            .send(
                format!(
                    "POST /p{n}?x HTTP/1.1\r\nHost: t.test\r\nContent-Length: 5\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\r\nhello"
                )
                .as_bytes(),
            )
            .unwrap();
        let answer = client.response().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
        let seen = answer.header("x-seen").unwrap().to_owned();
        assert!(
            seen.starts_with(&format!("POST http://t.test/p{n}?x ")) && seen.contains("x-forwarded-for") && !seen.contains("x-hop"),
            "{seen}"
        );
    }
    // Chunked, and an answer without a body.
    client.send(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().text(), "abc");
    assert_eq!(client.get("/").unwrap().text(), "");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn streams_share_a_connection_and_grow_another_when_they_run_out() {
    let origin = H2Origin::new(4, |_, mut respond| async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut send = respond.send_response(Response::new(()), false)?;
        send.send_data(Bytes::from_static(b"slow"), true)
    });
    let gateway = gateway(h2c(origin.address));
    run(async {
        let client = connect(address(&gateway)).await;
        ask(&client, get("/first"), b"", None).await.unwrap();
        assert_eq!(origin.connections(), 1);
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { ask(&client, get("/"), b"", None).await })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap().unwrap().text(), "slow");
        }
    });
    assert_eq!((origin.connections(), origin.streams()), (3, 11));
}

#[test]
fn max_connections_bounds_http2_and_streams_are_waited_for() {
    let origin = H2Origin::new(1, |_, mut respond| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        respond.send_response(Response::new(()), true).map(|_| ())
    });
    let mut config = h2c(origin.address);
    config["upstreams"][0]["backends"][0]["max_connections"] = json!(2);
    config["upstreams"][0]["pool"] = json!({ "wait_timeout_ms": 5000 });
    let gateway = gateway(config);
    run(async {
        let client = connect(address(&gateway)).await;
        ask(&client, get("/first"), b"", None).await.unwrap();
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { ask(&client, get("/"), b"", None).await })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap().unwrap().status, 200);
        }
    });
    assert_eq!(origin.connections(), 2);
}

#[test]
fn trailers_pass_both_ways_unannounced() {
    let origin = H2Origin::echo();
    let gateway = gateway(h2c(origin.address));
    run(async {
        let client = connect(address(&gateway)).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        trailers.insert("x-any", "1".parse().unwrap());
        trailers.insert("authorization", "no".parse().unwrap());
        let request = Request::builder().method("POST").uri("http://titan.test/").header("te", "trailers").body(()).unwrap();
        let answer = ask(&client, request, b"message", Some(trailers)).await.unwrap();
        assert_eq!(answer.text(), "message");
        assert!(answer.header("x-seen").unwrap().contains("\"te\": \"trailers\""));
        let back = answer.trailers.unwrap();
        assert_eq!(
            (back.get("grpc-status").unwrap(), back.get("x-any").unwrap(), back.get("authorization")),
            (&"0".parse::<http::HeaderValue>().unwrap(), &"1".parse::<http::HeaderValue>().unwrap(), None)
        );
    });
}

#[test]
fn both_directions_of_a_stream_are_open_at_once() {
    let origin = H2Origin::echo_open();
    let gateway = gateway(h2c(origin.address));
    run(async {
        let client = connect(address(&gateway)).await;
        let mut ready = client.clone().ready().await.unwrap();
        let (response, mut send) = ready.send_request(post("/chat"), false).unwrap();
        let mut recv = response.await.unwrap().into_body();
        for n in 0..5u8 {
            send.reserve_capacity(1);
            send.send_data(Bytes::copy_from_slice(&[n]), false).unwrap();
            assert_eq!(&recv.data().await.unwrap().unwrap()[..], [n]);
        }
        send.send_data(Bytes::new(), true).unwrap();
        assert_eq!(drain(&mut recv).await.unwrap(), (Vec::new(), None));
    });
}

#[test]
fn refused_streams_are_tried_again_whatever_the_method() {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    let origin = H2Origin::new(100, move |request, mut respond| {
        let first = seen.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
                return Ok(());
            }
            let (body, _) = drain(&mut request.into_body()).await?;
            let mut send = respond.send_response(Response::new(()), false)?;
            send.send_data(body.into(), true)
        }
    });
    let gateway = gateway(h2c(origin.address));
    run(async {
        let client = connect(address(&gateway)).await;
        assert_eq!(ask(&client, post("/"), b"once", None).await.unwrap().text(), "once");
        assert_eq!(count.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_reset_by_the_client_reaches_the_backend_as_one() {
    let resets = Arc::new(AtomicUsize::new(0));
    let count = resets.clone();
    let origin = H2Origin::new(100, move |_, mut respond| {
        let count = count.clone();
        async move {
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await?;
            assert_eq!(reason, h2::Reason::CANCEL);
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    });
    let gateway = gateway(h2c(origin.address));
    run(async {
        let client = connect(address(&gateway)).await;
        let mut ready = client.clone().ready().await.unwrap();
        let (response, mut stream) = ready.send_request(get("/"), true).unwrap();
        while origin.streams() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stream.send_reset(h2::Reason::CANCEL);
        drop(response);
        while resets.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

fn grpc(path: &str) -> http::request::Builder {
    Request::builder()
        .method("POST")
        .uri(format!("http://titan.test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

#[test]
fn grpc_gets_statuses_instead_of_json() {
    let origin = H2Origin::new(100, |_, respond| async move {
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop(respond);
        Ok(())
    });
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config = h2c(origin.address);
    config["upstreams"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "dead", "protocol": "h2c", "backends": [{ "host": "127.0.0.1", "port": dead.port() }] }));
    config["routes"].as_array_mut().unwrap().push(route("/dead/*", "dead"));
    let gateway = gateway(config);
    run(async {
        let client = connect(address(&gateway)).await;
        let status = |answer: &Answer| {
            (answer.status, answer.header("grpc-status").map(str::to_owned), answer.header("content-type").map(str::to_owned))
        };
        let expect = |code: &str| (200, Some(code.to_owned()), Some("application/grpc".to_owned()));
        let answer = ask(&client, grpc("/dead/x").body(()).unwrap(), b"m", None).await.unwrap();
        assert_eq!(status(&answer), expect("14"), "{answer:?}");
        let late = grpc("/slow/x").header("grpc-timeout", "200m").body(()).unwrap();
        assert_eq!(status(&ask(&client, late, b"m", None).await.unwrap()), expect("4"));
        // The same without gRPC is JSON.
        assert_eq!(ask(&client, get("/dead/x"), b"", None).await.unwrap().status, 502);
    });
}

#[test]
fn a_grpc_deadline_is_forwarded_with_what_is_left() {
    let origin = H2Origin::echo();
    let mut config = h2c(origin.address);
    config["routes"][0]["timeout_ms"] = json!(5_000);
    let gateway = gateway(config);
    run(async {
        let client = connect(address(&gateway)).await;
        for (asked, at_most) in [("1S", 1_000u64), ("1H", 5_000)] {
            let answer = ask(&client, grpc("/s/m").header("grpc-timeout", asked).body(()).unwrap(), b"m", None).await.unwrap();
            let seen = answer.header("x-seen").unwrap();
            let left: u64 = seen.split("\"grpc-timeout\": \"").nth(1).and_then(|s| s.split('m').next()).unwrap().parse().unwrap();
            assert!(left <= at_most && left + 900 > at_most, "{left} of {asked}");
        }
    });
}

#[test]
fn websockets_reach_http2_backends_from_both_protocols() {
    let origin = H2Origin::new(100, |request, respond| async move {
        assert_eq!(request.method(), "CONNECT");
        assert_eq!(request.extensions().get::<h2::ext::Protocol>().unwrap().as_str(), "websocket");
        echo_pieces(request.into_body(), respond).await
    });
    let mut config = h2c(origin.address);
    config["routes"][0]["websocket"] = json!({});
    let gateway = gateway(config);
    let mut client = Peer::connect(address(&gateway));
    client.send(b"GET /chat HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nearly").unwrap();
    let answer = client.response().unwrap();
    assert_eq!((answer.status, answer.header("sec-websocket-accept")), (101, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
    assert_eq!(client.exactly(5).unwrap(), b"early");
    client.send(b"more").unwrap();
    assert_eq!(client.exactly(4).unwrap(), b"more");
}
