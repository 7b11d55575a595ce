//! V2–V5 of the threat model: HTTP/2 frames that a well-behaved client never sends, written by hand.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::h2_world::*;
use crate::world::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// `GET http://t/path`, without the dynamic table.
fn request_block(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, path.len() as u8];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(&[0x01, 1, b't']);
    block
}

/// A connection after its preface and settings.
fn attacker(gateway: &titan_core::gateway::Gateway, settings: &[u8]) -> Peer {
    let mut peer = Peer::connect(address(gateway));
    peer.send(PREFACE).unwrap();
    peer.send(&frame(SETTINGS, 0, 0, settings)).unwrap();
    peer
}

/// Kinds of the frames received up to the end, or `wait`; and whether the end came.
fn frames(peer: &mut Peer, wait: Duration) -> (Vec<(u8, u32, Vec<u8>)>, bool) {
    let begin = Instant::now();
    let mut all = Vec::new();
    peer.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut chunk = [0; 16 << 10];
    let ended = loop {
        match peer.stream.read(&mut chunk) {
            Ok(0) => break true,
            Ok(n) => peer.buf.extend_from_slice(&chunk[..n]),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break true,
        }
        if begin.elapsed() > wait {
            break false;
        }
    };
    let mut rest = &peer.buf[..];
    while rest.len() >= 9 {
        let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        let stream = u32::from_be_bytes([rest[5], rest[6], rest[7], rest[8]]);
        if rest.len() < 9 + length {
            break;
        }
        all.push((rest[3], stream, rest[9..9 + length].to_vec()));
        rest = &rest[9 + length..];
    }
    peer.buf.clear();
    (all, ended)
}

fn fixed() -> Value {
    json!({ "routes": [
        { "name": "small", "match": { "path": "/*" }, "action": { "type": "fixed", "status": 200, "body": "ok" } },
        { "name": "large", "match": { "path": "/large" }, "action": { "type": "fixed", "status": 200, "body": "x".repeat(200_000) } },
    ] })
}

/// Sends until the other end has had enough; bytes sent.
fn flood(peer: &mut Peer, times: usize, piece: impl Fn(usize) -> Vec<u8>) -> usize {
    let mut sent = 0;
    for n in 0..times {
        let bytes = piece(n);
        if peer.send(&bytes).is_err() {
            break;
        }
        sent += bytes.len();
    }
    sent
}

fn still_serves(gateway: &titan_core::gateway::Gateway) {
    run(async {
        let client = connect(address(gateway)).await;
        assert_eq!(ask(&client, get("/"), b"", None).await.unwrap().text(), "ok");
    });
}

#[test]
fn v2_streams_that_the_peer_makes_titan_reset_are_counted() {
    let gateway = gateway(fixed());
    let mut peer = attacker(&gateway, &[]);
    flood(&mut peer, 5_000, |n| {
        let stream = 2 * n as u32 + 1;
        let mut both = frame(HEADERS, END_HEADERS | END_STREAM, stream, &request_block("/"));
        both.extend(frame(WINDOW_UPDATE, 0, stream, &0u32.to_be_bytes()));
        both
    });
    let (seen, ended) = frames(&mut peer, Duration::from_secs(5));
    let answered = seen.iter().filter(|f| f.0 == HEADERS).count();
    assert!(ended, "the connection is ended");
    assert!(seen.iter().any(|f| f.0 == GOAWAY) || seen.is_empty(), "with GOAWAY, unless the reset overtook it");
    assert!(answered < 1_000, "{answered} of 5000 were answered");
    still_serves(&gateway);
}

#[test]
fn v3_a_flood_of_continuations_is_cut_early() {
    let gateway = gateway(fixed());
    let mut peer = attacker(&gateway, &[]);
    peer.send(&frame(HEADERS, END_STREAM, 1, &request_block("/"))).unwrap();
    // Never indexed literals `x: a…a`.
    let mut block = Vec::new();
    while block.len() < 13_000 {
        block.extend_from_slice(&[0x10, 1, b'x', 100]);
        block.extend_from_slice(&[b'a'; 100]);
    }
    let sent = flood(&mut peer, 400, |_| {
        std::thread::sleep(Duration::from_millis(1));
        frame(CONTINUATION, 0, 1, &block)
    });
    let (_, ended) = frames(&mut peer, Duration::from_secs(5));
    assert!(ended && sent < 1 << 20, "{sent} bytes were taken");
    still_serves(&gateway);
}

#[test]
fn v4_a_header_list_that_grows_in_decoding_is_refused() {
    let gateway = gateway(fixed());
    let mut peer = attacker(&gateway, &[]);
    // One entry of 4000 bytes in the dynamic table, then a thousand references to it: 4 MB of fields out of 1 KB.
    let mut block = request_block("/");
    block.extend_from_slice(&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    block.extend_from_slice(&[b'a'; 4_000]);
    block.extend(std::iter::repeat_n(0xbe, 1_000));
    peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).unwrap();
    let (seen, ended) = frames(&mut peer, Duration::from_secs(3));
    let status_431 = seen.iter().any(|f| f.0 == HEADERS && f.2.windows(3).any(|w| w == b"431"));
    let refused = ended || seen.iter().any(|f| f.0 == GOAWAY || f.0 == RST_STREAM) || status_431 || seen.iter().any(|f| f.0 == HEADERS);
    assert!(refused, "{seen:?}");
    let served = seen.iter().any(|f| f.0 == HEADERS && f.2.first() == Some(&0x88));
    assert!(!served, "it was not answered with 200");
    still_serves(&gateway);
}

#[test]
fn v4_cookie_crumbs_count_like_fields() {
    let gateway = gateway(fixed());
    let mut peer = attacker(&gateway, &[]);
    let mut block = request_block("/");
    for _ in 0..3_000 {
        // `cookie: a`, static name 32.
        block.extend_from_slice(&[0x0f, 0x11, 1, b'a']);
    }
    let mut all = frame(HEADERS, END_STREAM, 1, &block[..block.len().min(12_000)]);
    all.extend(frame(CONTINUATION, END_HEADERS, 1, &block[block.len().min(12_000)..]));
    peer.send(&all).unwrap();
    let (seen, ended) = frames(&mut peer, Duration::from_secs(2));
    assert!(ended || !seen.iter().any(|f| f.0 == HEADERS && f.2.first() == Some(&0x88)), "not answered with 200: {seen:?}");
    still_serves(&gateway);
}

#[test]
fn v5_floods_of_pings_and_settings_do_not_keep_others_waiting() {
    let gateway = gateway(fixed());
    for piece in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])] {
        let mut peer = attacker(&gateway, &[]);
        // Nothing is read, so that the answers pile up until Titan stops reading or ends the connection.
        peer.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        flood(&mut peer, 2_000, |_| piece.repeat(100));
        still_serves(&gateway);
    }
}

#[test]
fn v5_a_client_that_opens_no_window_is_cut_by_the_write_timeout() {
    let mut config = fixed();
    config["listeners"] = json!([{ "name": "http", "address": "127.0.0.1", "port": 0, "timeouts": { "write_ms": 400 } }]);
    let gateway = gateway(config);
    // SETTINGS_INITIAL_WINDOW_SIZE = 0.
    let mut peer = attacker(&gateway, &[0, 4, 0, 0, 0, 0]);
    let begin = Instant::now();
    for n in 0..10u32 {
        peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &request_block("/large"))).unwrap();
    }
    let (seen, _) = frames(&mut peer, Duration::from_secs(3));
    let cut = seen.iter().filter(|f| f.0 == RST_STREAM).count();
    assert_eq!(cut, 10, "every stalled stream is reset: {:?}", seen.iter().map(|f| (f.0, f.1)).collect::<Vec<_>>());
    assert!(begin.elapsed() > Duration::from_millis(400));
    still_serves(&gateway);
}

#[test]
fn an_idle_connection_is_told_to_go_away_and_then_closed() {
    let mut config = fixed();
    config["listeners"] = json!([{ "name": "http", "address": "127.0.0.1", "port": 0, "timeouts": { "idle_ms": 300 } }]);
    let gateway = gateway(config);
    let mut peer = attacker(&gateway, &[]);
    peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &request_block("/"))).unwrap();
    let (seen, ended) = frames(&mut peer, Duration::from_secs(8));
    assert!(ended && seen.iter().any(|f| f.0 == HEADERS) && seen.iter().any(|f| f.0 == GOAWAY), "{seen:?}");
}

#[test]
fn a_preface_that_never_ends_is_cut_by_the_head_timeout() {
    let mut config = fixed();
    config["listeners"] = json!([{ "name": "http", "address": "127.0.0.1", "port": 0, "timeouts": { "head_ms": 300 } }]);
    let gateway = gateway(config);
    let mut peer = Peer::connect(address(&gateway));
    peer.send(&PREFACE[..20]).unwrap();
    assert!(peer.is_closed_within(Duration::from_secs(5)));
}
