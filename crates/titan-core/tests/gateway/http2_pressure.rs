//! HTTP/2 where one side is slow, stingy or gone: nobody else waits for it, and nothing is left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::h2_world::*;
use crate::world::*;

fn config(origin: std::net::SocketAddr, protocol: &str) -> Value {
    let mut config = proxy(origin);
    config["upstreams"][0]["protocol"] = json!(protocol);
    config["routes"][0]["max_body"] = json!(64 << 20);
    config
}

/// Answers `/large` with 4 MiB, everything else with its request's body.
fn large() -> H2Origin {
    H2Origin::new(1000, |request, mut respond| async move {
        let (head, mut recv) = request.into_parts();
        let (body, _) = drain(&mut recv).await?;
        let body = if head.uri.path() == "/large" { vec![b'x'; 4 << 20] } else { body };
        let mut send = respond.send_response(Response::new(()), false)?;
        if body.is_empty() { send.send_data(Bytes::new(), true) } else { send_all(&mut send, &body, None).await }
    })
}

#[test]
fn clients_that_do_not_read_do_not_stop_the_others_of_a_shared_connection() {
    let origin = large();
    let gateway = gateway(config(origin.address, "h2c"));
    run(async {
        let mut held = Vec::new();
        for _ in 0..3 {
            let client = connect(address(&gateway)).await;
            for _ in 0..20 {
                let (response, _) = client.clone().ready().await.unwrap().send_request(get("/large"), true).unwrap();
                // Its window is not given back.
                held.push(response.await.unwrap().into_body());
            }
        }
        // What the backend may send ahead is on its way.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let honest = connect(address(&gateway)).await;
        let answer = ask(&honest, get("/large"), b"", None).await.unwrap();
        assert_eq!(answer.body.len(), 4 << 20);
        assert_eq!(origin.connections(), 1, "on the connection that the slow ones use");
    });
}

#[test]
fn a_reset_ends_an_upload_that_the_backend_holds_up() {
    for protocol in ["http1", "h2c"] {
        let gone = Arc::new(AtomicUsize::new(0));
        let (one, two) = (gone.clone(), gone.clone());
        let read = Arc::new(AtomicUsize::new(0));
        let may_read = read.clone();
        let http1 = Origin::new(move |mut peer| {
            peer.head()?;
            while may_read.load(SeqCst) == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
            // What was sent comes first, then the end.
            peer.stream.set_read_timeout(Some(PATIENCE))?;
            while matches!(peer.fill(), Ok(true)) {
                peer.buf.clear();
            }
            one.fetch_add(1, SeqCst);
            Ok(())
        });
        let h2c = H2Origin::new(100, move |request, mut respond| {
            let gone = two.clone();
            async move {
                // Held, and not read.
                let _recv = request.into_body();
                let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await?;
                assert_eq!(reason, h2::Reason::CANCEL);
                gone.fetch_add(1, SeqCst);
                Ok(())
            }
        });
        let gateway = gateway(config(if protocol == "http1" { http1.address } else { h2c.address }, protocol));
        run(async {
            let client = connect(address(&gateway)).await;
            let (_response, mut stream) = client.clone().ready().await.unwrap().send_request(post("/"), false).unwrap();
            let mut sent = 0;
            // More than the backend's windows and sockets take.
            let mut moved = Instant::now();
            while moved.elapsed() < Duration::from_millis(700) {
                stream.reserve_capacity(64 << 10);
                match stream.capacity() {
                    0 => tokio::time::sleep(Duration::from_millis(5)).await,
                    room => {
                        stream.send_data(Bytes::from(vec![0; room]), false).unwrap();
                        (sent, moved) = (sent + room, Instant::now());
                    }
                }
            }
            assert!(sent < 32 << 20, "the backend holds it up");
            stream.send_reset(h2::Reason::CANCEL);
            // Time enough to be noticed; then the socket's end can be seen behind what was sent.
            tokio::time::sleep(Duration::from_millis(200)).await;
            read.store(1, SeqCst);
            let begin = Instant::now();
            while gone.load(SeqCst) == 0 {
                assert!(begin.elapsed() < Duration::from_secs(10), "{protocol}: the backend was not told");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
}

#[test]
fn requests_that_come_at_once_are_spread_over_connections_by_the_backends_limit() {
    // Its limit is known when its settings have come, not before the first requests have.
    let origin = H2Origin::new(1, |_, mut respond| async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        respond.send_response(Response::new(()), true).map(drop)
    });
    let gateway = gateway(config(origin.address, "h2c"));
    run(async {
        let client = connect(address(&gateway)).await;
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
    assert_eq!((origin.connections(), origin.streams()), (8, 8));
}

fn opening() -> &'static [u8] {
    b"GET /chat HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
}

#[test]
fn an_upgrade_that_is_given_up_does_not_hold_up_the_next_one() {
    // Accepts connections, and speaks HTTP/2 on them a little later: the settings are waited for.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                tokio::time::sleep(Duration::from_millis(700)).await;
                let mut builder = h2::server::Builder::new();
                builder.enable_connect_protocol();
                let mut connection = builder.handshake::<_, Bytes>(socket).await.unwrap();
                tokio::spawn(async move {
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(echo_pieces(request.into_body(), respond));
                    }
                });
            }
        });
    });
    let mut config = config(at, "h2c");
    config["routes"][0]["websocket"] = json!({});
    let gateway = gateway(config);
    let mut first = Peer::connect(address(&gateway));
    first.send(opening()).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let mut second = Peer::connect(address(&gateway));
    second.send(opening()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    reset_on_close(&first.stream);
    drop(first);
    second.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(second.response().expect("an answer").status, 101);
    second.send(b"ping").unwrap();
    assert_eq!(second.exactly(4).unwrap(), b"ping");
}

#[test]
fn an_answer_that_comes_before_the_upload_has_ended_reaches_the_client() {
    // 413 and the end, then a reset that says that nothing is wrong (RFC 9113 §8.1).
    let origin = H2Origin::new(100, |request, mut respond| async move {
        let head = Response::builder().status(413).body(()).unwrap();
        let mut send = respond.send_response(head, false)?;
        send.send_data(Bytes::from_static(b"too much"), true)?;
        // Not read: h2 resets the stream with NO_ERROR.
        drop(request);
        Ok(())
    });
    let gateway = gateway(config(origin.address, "h2c"));
    for _ in 0..20 {
        let mut http1 = Peer::connect(address(&gateway));
        http1.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 8000000\r\n\r\nbegin").unwrap();
        let answer = http1.response().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (413, "too much"));
    }
    run(async {
        let client = connect(address(&gateway)).await;
        for _ in 0..20 {
            let (response, mut stream) = client.clone().ready().await.unwrap().send_request(post("/"), false).unwrap();
            stream.send_data(Bytes::from_static(b"begin"), false).unwrap();
            let answer = read(response.await.unwrap()).await.unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (413, "too much"));
        }
    });
}

#[test]
fn heads_without_bodies_come_whole_from_http2_backends() {
    let origin = H2Origin::new(100, |request, mut respond| async move {
        let head = match request.uri().path() {
            "/204" => Response::builder().status(204),
            "/304" => Response::builder().status(304).header("etag", "\"e\"").header("content-length", "99"),
            _ => Response::builder().status(200).header("content-length", "99"),
        };
        respond.send_response(head.body(()).unwrap(), true).map(drop)
    });
    let gateway = gateway(config(origin.address, "h2c"));
    let cases = [("HEAD", "/", 200, Some("99")), ("GET", "/204", 204, None), ("GET", "/304", 304, Some("99")), ("HEAD", "/204", 204, None)];
    let mut http1 = Peer::connect(address(&gateway));
    for (method, path, status, length) in cases.iter().cycle().take(12) {
        http1.send(format!("{method} {path} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes()).unwrap();
        let answer = http1.response_to(method).unwrap();
        assert_eq!((answer.status, answer.header("content-length")), (*status, *length), "HTTP/1.1 {method} {path}");
        assert_eq!(answer.header("transfer-encoding"), None);
    }
    run(async {
        let client = connect(address(&gateway)).await;
        for (method, path, status, length) in cases {
            let request = Request::builder().method(method).uri(format!("http://t{path}")).body(()).unwrap();
            let answer = ask(&client, request, b"", None).await.unwrap();
            assert_eq!((answer.status, answer.header("content-length")), (status, length), "HTTP/2 {method} {path}");
        }
    });
    assert_eq!(origin.connections(), 1);
}

#[test]
fn bodies_pass_through_the_smallest_windows() {
    let origin = large();
    let gateway = gateway(config(origin.address, "h2c"));
    run(async {
        let socket = TcpStream::connect(address(&gateway)).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(100).initial_connection_window_size(65_535);
        let (client, connection) = builder.handshake::<_, Bytes>(socket).await.unwrap();
        tokio::spawn(connection);
        let body: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        let answers: Vec<_> = (0..4)
            .map(|_| {
                let (client, body) = (client.clone(), body.clone());
                tokio::spawn(async move { ask(&client, post("/"), &body, None).await })
            })
            .collect();
        for answer in answers {
            assert!(answer.await.unwrap().unwrap().body == body);
        }
    });
}

#[test]
fn when_a_backend_dies_its_streams_end_and_the_other_backend_takes_over() {
    // The first one's connections are cut when it has ten streams.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dying = listener.local_addr().unwrap();
    let streams = Arc::new(AtomicUsize::new(0));
    let count = streams.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let (socket, _) = listener.accept().await.unwrap();
            drop(listener);
            let mut connection = h2::server::handshake(socket).await.unwrap();
            let mut held = Vec::new();
            while let Some(Ok(stream)) = connection.accept().await {
                held.push(stream);
                if count.fetch_add(1, SeqCst) + 1 == 10 {
                    return;
                }
            }
        });
    });
    let alive = H2Origin::echo();
    let mut config = config(dying, "h2c");
    let second = json!({ "host": "127.0.0.1", "port": alive.address.port() });
    config["upstreams"][0]["backends"].as_array_mut().unwrap().push(second);
    config["upstreams"][0]["retry"] = json!({ "max": 2, "backoff_ms": 1, "budget_percent": 100.0 });
    let gateway = gateway(config);
    run(async {
        let client = connect(address(&gateway)).await;
        let ask_it = |n: usize| {
            let client = client.clone();
            // Every fourth may not be repeated.
            tokio::spawn(async move {
                if n % 4 == 3 {
                    let answer = ask(&client, post(&format!("/{n}")), b"body", None).await.unwrap();
                    assert!(answer.status == 502 || answer.text() == "body", "{answer:?}");
                    usize::from(answer.status == 502)
                } else {
                    assert_eq!(ask(&client, get(&format!("/{n}")), b"", None).await.unwrap().status, 200, "GET {n}");
                    0
                }
            })
        };
        let mut failed = 0;
        let all: Vec<_> = (0..20).map(ask_it).collect();
        for one in all {
            failed += one.await.unwrap();
        }
        assert!(streams.load(SeqCst) == 10 && failed <= 10, "{failed} of {}", streams.load(SeqCst));
        // From now on nobody is sent there in vain.
        for n in 0..20 {
            assert_eq!(ask(&client, post(&format!("/{n}")), b"body", None).await.unwrap().text(), "body");
        }
    });
}

#[test]
fn requests_that_are_given_up_after_a_while_are_no_flood() {
    let origin = H2Origin::new(1000, |request, mut respond| async move {
        if request.uri().path() == "/fine" {
            return respond.send_response(Response::new(()), true).map(drop);
        }
        std::future::poll_fn(|cx| respond.poll_reset(cx)).await.map(drop)
    });
    let gateway = gateway(config(origin.address, "h2c"));
    run(async {
        let client = connect(address(&gateway)).await;
        // 270 in a few seconds, on one connection, where 200 rapid ones would end it.
        for _ in 0..3 {
            let mut held = Vec::new();
            for _ in 0..90 {
                let (response, stream) = client.clone().ready().await.unwrap().send_request(get("/slow"), true).unwrap();
                held.push((response, stream));
            }
            tokio::time::sleep(Duration::from_millis(1_300)).await;
            for (_, stream) in &mut held {
                stream.send_reset(h2::Reason::CANCEL);
            }
        }
        assert_eq!(ask(&client, get("/fine"), b"", None).await.unwrap().status, 200);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(ask(&client, get("/fine"), b"", None).await.unwrap().status, 200);
    });
}

#[test]
fn a_deadline_that_is_over_when_it_comes_is_a_deadline() {
    let origin = H2Origin::echo();
    let gateway = gateway(config(origin.address, "h2c"));
    run(async {
        let client = connect(address(&gateway)).await;
        for timeout in ["0S", "1n"] {
            let call = Request::builder().method("POST").uri("http://t/s/m").header("content-type", "application/grpc");
            let call = call.header("te", "trailers").header("grpc-timeout", timeout).body(()).unwrap();
            let answer = ask(&client, call, b"m", None).await.unwrap();
            assert_eq!(answer.header("grpc-status"), Some("4"), "{timeout}: {answer:?}");
        }
    });
}
