//! A body of any size passes in the memory of two buffers.

#![cfg(target_os = "linux")]

#[path = "gateway/world.rs"]
mod world;

use std::io::{Read, Write};

use serde_json::json;
use world::*;

const SIZE: u64 = 512 << 20;

/// Highest resident size since the last reset, KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn large_bodies_pass_both_ways_in_two_mebibytes() {
    // Client and origin live here too and use one small buffer each.
    let origin = Origin::new(|mut peer| {
        let head = peer.head()?;
        let mut buf = vec![0; 64 << 10];
        if head.starts_with("PUT") {
            let mut left = SIZE - peer.buf.len() as u64;
            while left != 0 {
                left -= peer.stream.read(&mut buf)? as u64;
            }
            return peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\nConnection: close\r\n\r\n").as_bytes())?;
        (0..SIZE / buf.len() as u64).try_for_each(|_| peer.stream.write_all(&buf))
    });
    let mut config = proxy(origin.address);
    config["routes"][0]["max_body"] = json!(SIZE);
    let gateway = gateway(config);
    let mut buf = vec![0; 64 << 10];
    let mut client = Peer::connect(address(&gateway));
    // What is allocated once is there before anything is measured.
    client.get("/_health").unwrap();
    if std::fs::write("/proc/self/clear_refs", "5").is_err() {
        let _ = writeln!(std::fs::File::create("/dev/stderr").unwrap(), "SKIPPED memory: the peak cannot be reset here");
        return;
    }
    let before = peak();

    client.send(format!("PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes()).unwrap();
    (0..SIZE / buf.len() as u64).for_each(|_| client.stream.write_all(&buf).unwrap());
    assert_eq!(client.response().unwrap().status, 200);

    let mut client = Peer::connect(address(&gateway));
    client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    client.head().unwrap();
    let mut left = SIZE - client.buf.len() as u64;
    while left != 0 {
        left -= client.stream.read(&mut buf).unwrap() as u64;
    }
    let grown = peak() - before;
    assert!(grown <= 2 << 10, "{grown} KiB more than before");
}
