//! The other end is a thread here; the binding makes it Node's.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::http::ops::HeaderOp;
use crate::policy::testing::{Exchange, chain, head, policies, value};

/// A call as the other end sees it.
struct Seen {
    token: [u8; 10],
    hook: u16,
    point: u8,
    context: u32,
    values: Vec<Option<String>>,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn parse(record: &[u8]) -> Seen {
    let count = u32_at(record, 28) as usize;
    let mut start = 32 + 4 * count;
    let mut values = Vec::new();
    for index in 0..count {
        let end = u32_at(record, 32 + 4 * index);
        let stop = (end & !(1 << 31)) as usize;
        values.push((end >> 31 == 0).then(|| String::from_utf8_lossy(&record[start..stop]).into_owned()));
        start = stop;
    }
    Seen {
        token: record[4..14].try_into().unwrap(),
        hook: u16::from_le_bytes([record[14], record[15]]),
        point: record[16],
        context: u32_at(record, 20),
        values,
    }
}

/// A reply in the making.
#[derive(Default)]
struct Said {
    outcome: u8,
    status: u16,
    context: u32,
    edits: Vec<(u8, &'static str, &'static str)>,
    body: &'static str,
}

impl Said {
    fn record(&self, token: [u8; 10]) -> Vec<u8> {
        let mut out = vec![0; 28];
        out[4..14].copy_from_slice(&token);
        out[14..16].copy_from_slice(&(self.edits.len() as u16).to_le_bytes());
        out[16] = self.outcome;
        out[18..20].copy_from_slice(&self.status.to_le_bytes());
        out[20..24].copy_from_slice(&self.context.to_le_bytes());
        out[24..28].copy_from_slice(&(self.body.len() as u32).to_le_bytes());
        let pad = |out: &mut Vec<u8>| out.resize(out.len().next_multiple_of(4), 0);
        for (kind, name, value) in &self.edits {
            out.extend_from_slice(&[*kind, 0]);
            out.extend_from_slice(&(name.len() as u16).to_le_bytes());
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value.as_bytes());
            pad(&mut out);
        }
        out.extend_from_slice(self.body.as_bytes());
        pad(&mut out);
        let length = out.len() as u32;
        out[..4].copy_from_slice(&length.to_le_bytes());
        out
    }
}

/// The other end.
struct Thread {
    channel: Arc<Channel>,
    wakes: Arc<AtomicUsize>,
    batches: Arc<Mutex<Vec<usize>>>,
    released: Arc<Mutex<Vec<u32>>>,
    retired: Receiver<()>,
}

/// `say` gives the reply of a call; `None` = none ever.
fn thread(say: impl Fn(&Seen) -> Option<Said> + Send + 'static) -> Thread {
    let (kick, kicked): (Sender<()>, Receiver<()>) = channel();
    let wakes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&wakes);
    let kick = Mutex::new(kick);
    let open = Channel::open(Box::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        kick.lock().unwrap().send(()).is_ok()
    }));
    let (retire, retired) = channel();
    let (batches, released) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let (seen_batches, seen_released, other) = (Arc::clone(&batches), Arc::clone(&released), Arc::clone(&open));
    std::thread::spawn(move || {
        let mut calls = vec![0; 16];
        while kicked.recv().is_ok() {
            let mut replies = Vec::new();
            loop {
                let got = other.exchange(&replies, &mut calls);
                replies.clear();
                match got {
                    0 => break,
                    i64::MIN => {
                        let _ = retire.send(());
                        return;
                    }
                    needed if needed < 0 => calls.resize(-needed as usize + 4_096, 0),
                    got => {
                        let (mut at, mut batch) = (0, 0);
                        while at < got as usize {
                            let length = u32_at(&calls, at) as usize;
                            let seen = parse(&calls[at..at + length]);
                            at += length;
                            batch += 1;
                            if seen.point == 255 {
                                seen_released.lock().unwrap().push(seen.context);
                            } else if let Some(said) = say(&seen) {
                                replies.extend_from_slice(&said.record(seen.token));
                            }
                        }
                        seen_batches.lock().unwrap().push(batch);
                    }
                }
            }
        }
    });
    Thread { channel: open, wakes, batches, released, retired }
}

fn hook(thread: &Thread, more: serde_json::Value) -> serde_json::Value {
    let mut config = json!({ "hook": 7, "channels": [thread.channel.id()], "points": ["request"] });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!([{ "name": "h", "type": "hook", "config": config }])
}

/// A runtime of a shard's kind.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

#[test]
fn what_is_declared_crosses_and_edits_come_back() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    let thread = thread(move |call| {
        keep.lock().unwrap().push((call.hook, call.point, call.values.clone()));
        Some(Said {
            edits: vec![
                (1, "x-tenant", "acme"),
                (3, "cookie", ""),
                (4, "x-from-hook", "1"),
                (7, "", "/v2/./a"),
                (8, "", "q=1"),
                (9, "", "blue"),
            ],
            ..Said::default()
        })
    });
    let chain =
        chain(hook(&thread, json!({ "reads": ["method", "header:x-a", "header:none", "params", "query", "client_ip", "headers"] })));
    block_on(async {
        let mut exchange = Exchange::new("10.0.0.1", head("GET", "/a?b=c", &[("X-A", "1"), ("Cookie", "s=1")]));
        let (answer, response) = exchange.run_async(&chain).await;
        assert!(answer.is_none());
        assert_eq!(value(&response, "x-from-hook"), Some("1"));
        assert_eq!(value(&exchange.request_headers(), "x-tenant"), Some("acme"));
        let rewrite = exchange.state.rewrite().unwrap();
        assert_eq!(rewrite.path.as_deref(), Some(&b"/v2/a"[..]), "normalised again");
        assert_eq!((rewrite.query.as_deref(), rewrite.upstream.as_deref()), (Some(&b"q=1"[..]), Some("blue")));
    });
    let text = |text: &str| Some(text.to_owned());
    let headers = "host\ngateway.example\nX-A\n1\nCookie\ns=1\n";
    let values = vec![text("GET"), text("1"), None, text("id\n42\r\n\n"), text("b=c"), text("10.0.0.1"), text(headers)];
    assert_eq!(*seen.lock().unwrap(), [(7, 0, values)]);
}

#[test]
fn a_body_is_replaced_by_who_reads_one_and_within_its_limit() {
    for (body, limit, status) in [("new", 3, None), ("", 3, None), ("long", 3, Some(500)), ("new", 0, Some(500)), ("", 0, Some(500))] {
        let thread = thread(move |_| Some(Said { edits: vec![(1, "content-encoding", "br"), (11, "", body)], ..Said::default() }));
        let chain = chain(hook(&thread, json!({ "request_body": limit })));
        block_on(async {
            let mut exchange = Exchange::new("10.0.0.1", head("POST", "/a", &[]));
            let (answer, _) = exchange.run_async(&chain).await;
            assert_eq!(answer.map(|answer| answer.status), status, "{body:?} of at most {limit}");
            let replaced = exchange.state.take_replaced_body();
            assert_eq!(replaced.as_deref(), status.is_none().then_some(body.as_bytes()));
            assert!(exchange.state.take_replaced_body().is_none(), "taken once");
            let edits: Vec<_> = exchange.request_ops.iter().collect();
            let removed = edits.iter().position(|edit| *edit == HeaderOp::Remove(b"content-encoding"));
            let set = edits.iter().position(|edit| *edit == HeaderOp::Set(b"content-encoding", b"br"));
            assert_eq!((removed.is_some(), set.is_some()), (status.is_none(), status.is_none()));
            assert!(removed <= set, "the hook's own edits come after");
        });
    }
}

#[test]
fn an_answer_ends_the_chain() {
    let thread =
        thread(|_| Some(Said { outcome: 1, status: 403, edits: vec![(4, "content-type", "text/plain")], body: "no", ..Said::default() }));
    let chain = chain(hook(&thread, json!({})));
    block_on(async {
        let (answer, headers) = Exchange::get("10.0.0.1").run_async(&chain).await;
        let answer = answer.unwrap();
        assert_eq!((answer.status, &*answer.body, answer.stage), (403, &b"no"[..], "hook"));
        assert_eq!(value(&headers, "content-type"), Some("text/plain"));
    });
}

#[test]
fn failures_close_or_open_as_declared() {
    for (said, status) in [
        (Some(Said { outcome: 2, ..Said::default() }), 500),
        (Some(Said { edits: vec![(1, "content-length", "1")], ..Said::default() }), 500),
        (Some(Said { edits: vec![(1, "x-a", "b\r\nc: d")], ..Said::default() }), 500),
        (Some(Said { edits: vec![(1, "x-kept", "1"), (7, "", "not/absolute")], ..Said::default() }), 500),
        (Some(Said { outcome: 1, status: 101, ..Said::default() }), 500),
        (None, 504),
    ] {
        let said = Mutex::new(said.map(Arc::new));
        let thread = thread(move |call| {
            let said = said.lock().unwrap().clone()?;
            let _ = call;
            Some(Said { outcome: said.outcome, status: said.status, edits: said.edits.clone(), ..Said::default() })
        });
        let closed = chain(hook(&thread, json!({ "deadline_ms": 40 })));
        let open = chain(hook(&thread, json!({ "deadline_ms": 40, "fail": "open" })));
        block_on(async {
            let answer = Exchange::get("10.0.0.1").run_async(&closed).await.0.unwrap();
            assert_eq!((answer.status, answer.stage), (status, "hook"));
            let mut exchange = Exchange::get("10.0.0.1");
            assert!(exchange.run_async(&open).await.0.is_none());
            assert!(exchange.request_headers().is_empty(), "a reply that failed leaves nothing behind");
        });
    }
}

#[test]
fn calls_of_one_turn_leave_together_and_a_bound_holds() {
    let thread = thread(|_| Some(Said::default()));
    let chain = chain(hook(&thread, json!({ "reads": ["path"], "concurrency": 40 })));
    block_on(async {
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let chain = chain.clone();
                tokio::task::spawn_local(async move { Exchange::get("10.0.0.1").run_async(&chain).await.0.map(|a| a.status) })
            })
            .collect();
        let mut refused = 0;
        for task in tasks {
            match task.await.unwrap() {
                None => {}
                Some(status) => {
                    assert_eq!(status, 503);
                    refused += 1;
                }
            }
        }
        assert_eq!(refused, 10);
        // Places are given back.
        assert!(Exchange::get("10.0.0.1").run_async(&chain).await.0.is_none());
    });
    assert!(thread.wakes.load(Ordering::Relaxed) <= 5, "{:?} wakes", thread.wakes);
    assert!(thread.batches.lock().unwrap().iter().any(|&batch| batch > 1));
}

#[test]
fn a_late_reply_reaches_nobody_else() {
    let (first, calls) = (AtomicU32::new(0), Arc::new(Mutex::new(Vec::new())));
    let kept = Arc::clone(&calls);
    let thread = thread(move |call| {
        kept.lock().unwrap().push(call.token);
        (first.fetch_add(1, Ordering::Relaxed) > 0).then(Said::default)
    });
    // Long enough for the second call on a busy machine, too.
    let chain = chain(hook(&thread, json!({ "deadline_ms": 1_500 })));
    block_on(async {
        assert_eq!(Exchange::get("10.0.0.1").run_async(&chain).await.0.unwrap().status, 504);
        // The answer of the first call comes while another request has its slot.
        let forbid = Said { outcome: 1, status: 403, ..Said::default() }.record(calls.lock().unwrap()[0]);
        let request = async {
            let mut exchange = Exchange::get("10.0.0.1");
            exchange.run_async(&chain).await.0
        };
        let late = async {
            thread.channel.exchange(&forbid, &mut []);
        };
        let (answer, ()) = tokio::join!(request, late);
        assert!(answer.is_none());
    });
}

#[test]
fn a_thread_that_is_gone_or_stuck_costs_its_hooks_only() {
    let thread = thread(|_| Some(Said::default()));
    let chain = chain(hook(&thread, json!({ "deadline_ms": 5_000 })));
    thread.channel.close();
    block_on(async {
        let begin = Instant::now();
        assert_eq!(Exchange::get("10.0.0.1").run_async(&chain).await.0.unwrap().status, 503);
        assert!(begin.elapsed() < Duration::from_secs(2));
    });
    let stuck = Channel::open(Box::new(|| true));
    let chain = policies(
        json!([{ "name": "h", "type": "hook", "config": { "hook": 0, "channels": [stuck.id()], "points": ["request"], "deadline_ms": 30 } }]),
        None,
    );
    let chain = chain.chain(&[0]);
    block_on(async {
        assert_eq!(Exchange::get("10.0.0.1").run_async(&chain).await.0.unwrap().status, 504);
    });
    assert!(stuck.stalled() >= 20);
}

#[test]
fn attached_objects_are_released_and_an_unused_channel_is_told_so() {
    let thread = thread(|_| Some(Said { context: 9, ..Said::default() }));
    let chain = chain(hook(&thread, json!({})));
    block_on(async {
        let mut exchange = Exchange::get("10.0.0.1");
        assert!(exchange.run_async(&chain).await.0.is_none());
        exchange.state.clear();
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
    assert_eq!(*thread.released.lock().unwrap(), [9]);
    drop(chain);
    assert!(thread.retired.recv_timeout(Duration::from_secs(5)).is_ok());
}

#[test]
fn filters_keep_other_requests_here() {
    let thread = thread(|_| Some(Said { outcome: 1, status: 418, ..Said::default() }));
    let filters = json!({ "methods": ["POST"], "paths": ["/a/*"], "headers": ["x-flag"] });
    let chain = chain(hook(&thread, filters));
    block_on(async {
        for (method, flag, called) in [("POST", "x-flag", true), ("GET", "x-flag", false), ("POST", "x-other", false)] {
            let mut exchange = Exchange::new("10.0.0.1", head(method, "/a", &[(flag, "1")]));
            assert_eq!(exchange.run_async(&chain).await.0.is_some(), called, "{method} {flag}");
        }
    });
    assert!(
        Hook::compile("h", &serde_json::from_value(json!({ "hook": 0, "points": ["log"], "reads": ["pth"] })).unwrap(), &mut Vec::new())
            .has(Point::Log)
    );
}
