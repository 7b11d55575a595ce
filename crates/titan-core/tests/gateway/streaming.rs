//! Bodies while they move: nothing is held back, nothing is held.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::world::*;

const SOON: Duration = Duration::from_millis(300);

#[test]
fn an_answer_may_begin_before_its_request_ends() {
    let origin = Origin::new(|mut peer| {
        peer.head()?;
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")?;
        let (body, _) = peer.chunked()?;
        peer.send(format!("{:x}\r\n", body.len()).as_bytes())?;
        peer.send(&body)?;
        peer.send(b"\r\n0\r\n\r\n")
    });
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    client.send(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").unwrap();
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(client.until(b"hi\r\n").unwrap(), b"2\r\nhi\r\n");
    client.send(b"3\r\ndef\r\n0\r\n\r\n").unwrap();
    assert_eq!(client.chunked().unwrap().0, b"abcdef");
}

#[test]
fn events_are_passed_on_at_once() {
    let origin = Origin::new(|mut peer| {
        peer.request()?;
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        loop {
            peer.send(b"9\r\ndata: x\n\n\r\n")?;
            std::thread::sleep(SOON);
        }
    });
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    client.head().unwrap();
    for _ in 0..3 {
        client.stream.set_read_timeout(Some(SOON * 10)).unwrap();
        assert_eq!(client.until(b"\n\n\r\n").unwrap(), b"9\r\ndata: x\n\n\r\n");
    }
}

#[test]
fn a_client_that_does_not_read_stops_the_origin() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let origin = Origin::new(move |mut peer| {
        peer.request()?;
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 268435456\r\n\r\n")?;
        let block = vec![b'x'; 1 << 16];
        for _ in 0..(256 << 20) / block.len() {
            peer.stream.write_all(&block)?;
            count.fetch_add(block.len(), Ordering::SeqCst);
        }
        Ok(())
    });
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    client.head().unwrap();
    eventually("the origin is stopped", || {
        let before = sent.load(Ordering::SeqCst);
        std::thread::sleep(SOON);
        before == sent.load(Ordering::SeqCst)
    });
    // Four socket buffers of the kernel's choice lie between the two; a gateway that buffers would take it all.
    assert!(sent.load(Ordering::SeqCst) < 64 << 20);
    assert_eq!(client.exactly(256 << 20).unwrap().len(), 256 << 20);
}

#[test]
fn a_large_upload_arrives_whole() {
    let origin = Origin::new(|mut peer| {
        let head = peer.head()?;
        let length: usize = head.to_ascii_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok()).unwrap();
        let (mut left, mut sum) = (length, 0_u64);
        while left != 0 {
            if peer.buf.is_empty() && !peer.fill()? {
                return Ok(());
            }
            sum += peer.buf.iter().map(|b| u64::from(*b)).sum::<u64>();
            left -= peer.buf.len();
            peer.buf.clear();
        }
        let text = sum.to_string();
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).as_bytes())
    });
    let mut config = proxy(origin.address);
    config["routes"][0]["max_body"] = json!(1u64 << 33);
    let gateway = gateway(config);
    let mut client = Peer::connect(address(&gateway));
    let block: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    client.send(format!("PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n", block.len() * 24).as_bytes()).unwrap();
    for _ in 0..24 {
        client.send(&block).unwrap();
    }
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum::<u64>() * 24;
    assert_eq!(client.response().unwrap().text(), sum.to_string());
}

#[test]
fn announced_trailers_pass_and_others_do_not() {
    let origin = Origin::new(|mut peer| {
        peer.request()?;
        peer.send(b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\nX-Other: 8\r\nContent-Length: 9\r\n\r\n")
    });
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    client.send(b"GET / HTTP/1.1\r\nHost: t\r\nTE: trailers\r\n\r\n").unwrap();
    client.head().unwrap();
    let (body, trailers) = client.chunked().unwrap();
    assert_eq!((body.as_slice(), trailers.to_ascii_lowercase().trim()), (&b"hi"[..], "x-sum: 7"));
}

#[test]
fn early_hints_pass_and_an_unasked_100_does_not() {
    let origin = Origin::new(|mut peer| {
        peer.request()?;
        peer.send(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        )
    });
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    let hints = client.head().unwrap();
    assert!(hints.starts_with("HTTP/1.1 103") && hints.contains("/a.css"), "{hints}");
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn an_expectation_is_the_origins_to_answer() {
    let origin = Origin::new(|mut peer| {
        let head = peer.head()?;
        if head.starts_with("POST /no") {
            return peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
        }
        assert!(head.to_ascii_lowercase().contains("expect: 100-continue"));
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        peer.exactly(2)?;
        // Said before it is done: a POST on a connection that is closing unannounced is a 502, and rightly so.
        peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    });
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    client.send(b"POST /yes HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").unwrap();
    assert!(client.head().unwrap().starts_with("HTTP/1.1 100"));
    client.send(b"ok").unwrap();
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));

    let mut client = Peer::connect(address(&gateway));
    client.send(b"POST /no HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").unwrap();
    let answer = client.response().unwrap();
    assert_eq!((answer.status, answer.header("connection")), (403, Some("close")));
    assert!(client.is_closed_within(PATIENCE), "a body that is owed makes the connection useless");
}

#[test]
fn an_abort_cancels_the_origins_request_and_a_half_close_does_not() {
    let gone = Arc::new(AtomicUsize::new(0));
    let count = gone.clone();
    let origin = Origin::new(move |mut peer| {
        let (head, _) = peer.request()?;
        if head.starts_with("GET /half") {
            std::thread::sleep(SOON);
            return peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
        if peer.is_closed_within(PATIENCE) {
            count.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    client.send(b"GET /half HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    client.shut_write();
    assert_eq!(client.response().unwrap().text(), "ok");

    let mut client = Peer::connect(address(&gateway));
    client.send(b"GET /abort HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    eventually("the request is at the origin", || origin.received().contains("/abort"));
    reset_on_close(&client.stream);
    drop(client);
    eventually("the origin's connection is closed", || gone.load(Ordering::SeqCst) == 1);
}

#[test]
fn an_answer_that_breaks_off_does_not_look_whole() {
    let origin = Origin::new(|mut peer| {
        let (head, _) = peer.request()?;
        if head.starts_with("GET /chunked") {
            return peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        }
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello")
    });
    let gateway = gateway(proxy(origin.address));
    for target in ["/chunked", "/length"] {
        let mut client = Peer::connect(address(&gateway));
        assert!(client.get(target).is_err(), "{target}");
    }
    let mut old = Peer::connect(address(&gateway));
    old.send(b"GET /chunked HTTP/1.0\r\nHost: t\r\n\r\n").unwrap();
    assert!(old.rest().is_err(), "an HTTP/1.0 client can only be told by a reset");
}

#[test]
fn an_upgrade_is_a_tunnel_and_early_bytes_are_held_until_it_is_agreed() {
    let early = Arc::new(AtomicUsize::new(0));
    let count = early.clone();
    let origin = Origin::new(move |mut peer| {
        let head = peer.head()?;
        if head.starts_with("GET /refuse") {
            std::thread::sleep(SOON);
            peer.stream.set_nonblocking(true)?;
            let _ = peer.fill();
            count.store(peer.buf.len(), Ordering::SeqCst);
            peer.stream.set_nonblocking(false)?;
            return peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        }
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nwelcome")?;
        while peer.fill()? {
            let bytes = std::mem::take(&mut peer.buf);
            peer.send(&bytes)?;
        }
        peer.send(b"bye")
    });
    let mut config = proxy(origin.address);
    config["routes"][0]["websocket"] = json!({});
    let gateway = gateway(config);
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nearly");
    let mut client = Peer::connect(address(&gateway));
    client.send(ask("/").as_bytes()).unwrap();
    let answer = client.response().unwrap();
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("raw")));
    assert_eq!(client.exactly(12).unwrap(), b"welcomeearly");
    let block = vec![7; 1 << 20];
    let mut writer = client.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || writer.write_all(&vec![7; 1 << 20]).unwrap());
    assert_eq!(client.exactly(1 << 20).unwrap(), block);
    sending.join().unwrap();
    client.shut_write();
    assert_eq!(client.rest().unwrap(), b"bye", "a half-closed tunnel still carries the other way");

    let mut client = Peer::connect(address(&gateway));
    client.send(ask("/refuse").as_bytes()).unwrap();
    assert_eq!(client.response().unwrap().status, 200);
    assert_eq!(early.load(Ordering::SeqCst), 0, "nothing behind the request reached the origin");
}

#[test]
fn an_upgrade_is_not_passed_on_where_the_route_does_not_say_so() {
    let origin = Origin::echo();
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    client.send(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
    let answer = client.response().unwrap();
    assert_eq!(answer.status, 200);
    assert!(!answer.text().to_ascii_lowercase().contains("upgrade"), "{}", answer.text());
}

/// A large answer is passed on from the buffer into which its head was read.
#[test]
fn what_comes_with_a_head_is_passed_on_whatever_its_framing() {
    let body: Arc<[u8]> = (0..400_000_u32).map(|n| (n / 7) as u8).collect();
    let served = body.clone();
    let origin = Origin::new(move |mut peer| {
        loop {
            let head = peer.head()?;
            let body = &served[..];
            let mut answer = Vec::new();
            match head.split(' ').nth(1).unwrap_or_default() {
                "/length" => write!(answer, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?,
                "/interim" => {
                    let links = "Link: </a.css>; rel=preload; as=style\r\n".repeat(200);
                    write!(answer, "HTTP/1.1 103 Early Hints\r\n{links}\r\nHTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?;
                }
                "/chunks" => write!(answer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?,
                "/more" => write!(answer, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?,
                "/empty" => write!(answer, "HTTP/1.1 204 No Content\r\n\r\n")?,
                _ => write!(answer, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?,
            }
            if head.starts_with("GET /chunks") {
                for chunk in body.chunks(30_011) {
                    write!(answer, "{:x};an=extension\r\n", chunk.len())?;
                    answer.extend_from_slice(chunk);
                    answer.extend_from_slice(b"\r\n");
                }
                answer.extend_from_slice(b"0\r\n\r\n");
            } else {
                answer.extend_from_slice(body);
            }
            // In one write: the first read finds the head with much of the body.
            peer.send(&answer)?;
            if head.starts_with("GET /close") {
                return Ok(());
            }
        }
    });
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    for _ in 0..3 {
        for path in ["/length", "/interim", "/chunks"] {
            let answer = client.get(path).unwrap();
            assert!(answer.status == 200 && answer.body == body[..], "{path}: {} bytes", answer.body.len());
        }
    }
    assert_eq!(origin.connections(), 1, "used again after each");
    for (n, (path, length)) in [("/more", 100_000), ("/empty", 0), ("/close", body.len())].into_iter().enumerate() {
        let answer = client.get(path).unwrap();
        assert!(answer.body == body[..length], "{path}: {} bytes", answer.body.len());
        // What was not asked for is nobody's answer: its connection is not used again.
        assert_eq!(client.get("/length").unwrap().body.len(), body.len());
        assert_eq!(origin.connections(), n + 2, "{path}");
    }
}
