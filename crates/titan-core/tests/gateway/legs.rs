//! Every mix of protocols on the two legs: early hints, and ends that come before their time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use crate::h2_world::*;
use crate::world::*;

fn config(origin: SocketAddr, protocol: &str) -> Value {
    let mut config = proxy(origin);
    config["upstreams"][0]["protocol"] = json!(protocol);
    config
}

/// An HTTP/2 origin that begins an answer of unknown length with `half` and then resets the stream once it is told to.
fn breaking(reason: h2::Reason) -> (H2Origin, Arc<AtomicUsize>) {
    let go = Arc::new(AtomicUsize::new(0));
    let told = go.clone();
    let origin = H2Origin::new(100, move |request, mut respond| {
        let told = told.clone();
        async move {
            if request.uri().path() == "/fine" {
                return respond.send_response(Response::new(()), true).map(drop);
            }
            if request.uri().path() == "/headless" {
                respond.send_reset(reason);
                return Ok(());
            }
            let mut send = respond.send_response(Response::new(()), false)?;
            send.send_data(Bytes::from_static(b"half"), false)?;
            while told.load(Ordering::SeqCst) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            send.send_reset(reason);
            Ok(())
        }
    });
    (origin, go)
}

#[test]
fn early_hints_pass_on_every_mix() {
    let h1 = Origin::new(|mut peer| {
        loop {
            peer.request()?;
            peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")?;
        }
    });
    let h2 = H2Origin::new(100, |_, mut respond| async move {
        let hints = Response::builder().status(103).header("link", "</a.css>").body(()).unwrap();
        respond.send_informational(hints)?;
        let mut send = respond.send_response(Response::new(()), false)?;
        send.send_data(Bytes::from_static(b"body"), true)
    });
    for (origin, protocol) in [(h1.address, "http1"), (h2.address, "h2c")] {
        let gateway = gateway(config(origin, protocol));
        let mut client = Peer::connect(address(&gateway));
        client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
        let hints = client.head().unwrap().to_ascii_lowercase();
        assert!(hints.starts_with("http/1.1 103") && hints.contains("link: </a.css>\r\n"), "HTTP/1.1 to {protocol}: {hints}");
        assert_eq!(client.response().unwrap().text(), "body");
        run(async {
            let client = connect(address(&gateway)).await;
            let mut ready = client.clone().ready().await.unwrap();
            let (mut response, _) = ready.send_request(get("/"), true).unwrap();
            let hints = std::future::poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
            assert_eq!((hints.status().as_u16(), hints.headers()["link"].to_str().unwrap()), (103, "</a.css>"), "HTTP/2 to {protocol}");
            assert_eq!(read(response.await.unwrap()).await.unwrap().text(), "body");
        });
    }
}

#[test]
fn an_http1_client_that_goes_away_resets_its_stream_at_the_backend() {
    let resets = Arc::new(AtomicUsize::new(0));
    let count = resets.clone();
    let origin = H2Origin::new(100, move |_, mut respond| {
        let count = count.clone();
        async move {
            let mut send = respond.send_response(Response::new(()), false)?;
            send.send_data(Bytes::from_static(b"half"), false)?;
            let reason = std::future::poll_fn(|cx| send.poll_reset(cx)).await?;
            assert_eq!(reason, h2::Reason::CANCEL);
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    });
    let gateway = gateway(config(origin.address, "h2c"));
    let mut client = Peer::connect(address(&gateway));
    client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    client.head().unwrap();
    reset_on_close(&client.stream);
    drop(client);
    eventually("the backend's stream is reset", || resets.load(Ordering::SeqCst) == 1);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_backends_reset_reaches_the_clients_stream_and_nothing_else() {
    let (origin, go) = breaking(h2::Reason::INTERNAL_ERROR);
    let gateway = gateway(config(origin.address, "h2c"));
    run(async {
        let client = connect(address(&gateway)).await;
        let mut ready = client.clone().ready().await.unwrap();
        let (response, _) = ready.send_request(get("/broken"), true).unwrap();
        let mut recv = response.await.unwrap().into_body();
        assert_eq!(&recv.data().await.unwrap().unwrap()[..], b"half");
        go.store(1, Ordering::SeqCst);
        let error = recv.data().await.expect("an end").expect_err("cut");
        assert!(error.is_reset(), "{error:?}");
        assert_eq!(ask(&client, get("/headless"), b"", None).await.unwrap().status, 502, "before a head there is an answer");
        assert_eq!(ask(&client, get("/fine"), b"", None).await.unwrap().status, 200);
    });
}

#[test]
fn a_backends_reset_cuts_an_http1_client_whose_answer_has_begun() {
    let (origin, go) = breaking(h2::Reason::CANCEL);
    let gateway = gateway(config(origin.address, "h2c"));
    let mut client = Peer::connect(address(&gateway));
    client.send(b"GET /broken HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    client.head().unwrap();
    client.until(b"half\r\n").unwrap();
    go.store(1, Ordering::SeqCst);
    let rest = client.rest().unwrap_or_default();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "it does not look whole: {rest:?}");
}

#[test]
fn a_call_above_goaways_last_id_is_sent_again_on_another_connection() {
    let origin = Origin::new(|mut peer| {
        peer.exactly(24)?;
        // SETTINGS, then what the client sends up to its request.
        peer.send(&[0, 0, 0, 4, 0, 0, 0, 0, 0])?;
        let mut seen = Vec::new();
        loop {
            let head = peer.exactly(9)?;
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            let payload = peer.exactly(length)?;
            match (head[3], head[4]) {
                // The first connection: GOAWAY with last id 0 once the request is there, and the end.
                (1, _) if peer.number == 1 => {
                    peer.send(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
                    return peer.rest().map(drop);
                }
                (0, flags) => {
                    seen.extend(payload);
                    if flags & 1 == 1 {
                        // HEADERS `:status 200`, END_HEADERS; the body back.
                        peer.send(&[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88])?;
                        peer.send(&[&[0, 0, seen.len() as u8, 0, 1, 0, 0, 0, 1][..], &seen].concat())?;
                    }
                }
                // SETTINGS that are no acknowledgement.
                (4, 0) => peer.send(&[0, 0, 0, 4, 1, 0, 0, 0, 0])?,
                _ => {}
            }
        }
    });
    let gateway = gateway(config(origin.address, "h2c"));
    run(async {
        let client = connect(address(&gateway)).await;
        let answer = ask(&client, post("/"), b"once", None).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "once"));
    });
    assert_eq!(origin.connections(), 2);
}
