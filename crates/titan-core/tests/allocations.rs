//! A warm keep-alive connection costs no allocation: counted by the allocator itself.

#[path = "gateway/world.rs"]
mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use world::*;

thread_local! {
    /// Set on threads of the test itself: client and origin.
    static MINE: Cell<bool> = const { Cell::new(false) };
}

static COUNT: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(at, layout, size) }
    }
}

fn note() {
    if !MINE.try_with(Cell::get).unwrap_or(true) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_warm_connection_allocates_nothing() {
    MINE.set(true);
    let origin = Origin::new(|mut peer| {
        MINE.set(true);
        loop {
            peer.request()?;
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello")?;
        }
    });
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    let mut ask = |times: usize| {
        let before = COUNT.load(Ordering::Relaxed);
        for _ in 0..times {
            client.send(b"GET /a/b?c=d HTTP/1.1\r\nHost: t\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n").unwrap();
            assert_eq!(client.response().unwrap().status, 200);
        }
        COUNT.load(Ordering::Relaxed) - before
    };
    ask(100);
    let count = ask(1_000);
    // Not one a request; a few belong to what happens once a second (the sweep, the date).
    assert!(count < 20, "{count} allocations in 1000 requests");
}
