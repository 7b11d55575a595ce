//! Out of file descriptors: accepting pauses without spinning, and goes on when there are some again.

#![cfg(target_os = "linux")]

#[path = "gateway/world.rs"]
mod world;

use std::time::Duration;

use serde_json::json;
use world::*;

/// Processor time of this process.
fn used() -> Duration {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `at` is valid to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut at) };
    Duration::new(at.tv_sec as u64, at.tv_nsec as u32)
}

fn limit_descriptors(most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most.max(4_096) };
    // SAFETY: `limit` is valid to read; lowering the own soft limit needs no right.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

#[test]
fn accepting_pauses_and_recovers() {
    let gateway = gateway(json!({ "routes": [{ "name": "f", "match": { "path": "/*" }, "action": { "type": "fixed", "status": 200 } }] }));
    let target = address(&gateway);
    limit_descriptors(128);
    // Clients live in this process too: each takes one descriptor here and one in the gateway, until there are none.
    let mut clients = Vec::new();
    while clients.len() < 200
        && let Ok(stream) = std::net::TcpStream::connect(target)
    {
        clients.push(Peer::new(stream));
    }
    assert!(clients.len() < 128, "the limit holds");
    std::thread::sleep(Duration::from_millis(300));
    let before = used();
    std::thread::sleep(Duration::from_secs(1));
    let spent = used() - before;
    assert!(spent < Duration::from_millis(300), "{spent:?} of a second was spent on nothing");
    clients.truncate(10);
    eventually("requests are served again", || {
        std::net::TcpStream::connect(target).is_ok_and(|stream| Peer::new(stream).get("/").is_ok_and(|answer| answer.status == 200))
    });
}
