//! Out of file descriptors: accepting pauses without spinning, and goes on when there are some again.

#![cfg(target_os = "linux")]

#[path = "gateway/world.rs"]
mod world;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use titan_core::gateway::{Event, Host};
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
    let told: Arc<Mutex<Vec<Event>>> = Arc::default();
    let sink = told.clone();
    let host = Host { events: Some(Arc::new(move |event| sink.lock().unwrap().push(event))), ..Host::default() };
    let config = json!({ "routes": [{ "name": "f", "match": { "path": "/*" }, "action": { "type": "fixed", "status": 200 } }] });
    let gateway = start(config, host).unwrap();
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
    let scrape: Value = serde_json::from_str(&gateway.metrics_json()).unwrap();
    assert!(scrape["gauges"]["accept_pauses"].as_u64().unwrap() > 3, "{scrape}");
    // Told of once in ten seconds, not ten times a second.
    let lines = told.lock().unwrap().iter().filter(|event| event.name == "accept_paused").count();
    assert!((1..=3).contains(&lines), "{lines}");
    clients.truncate(10);
    eventually("requests are served again", || {
        std::net::TcpStream::connect(target).is_ok_and(|stream| Peer::new(stream).get("/").is_ok_and(|answer| answer.status == 200))
    });
}
