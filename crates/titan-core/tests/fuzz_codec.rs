//! Differential fuzzing of the HTTP/1.1 codec against hyper. The rule: whatever Titan accepts, hyper reads the same way. Titan may refuse
//! more; where hyper refuses what Titan accepts, the class is listed here (`hyper_is_stricter`), and nothing else is allowed.
//!
//! Bounded by `TITAN_FUZZ_MS` for each target (default 1500). A failure prints the seed and the input.

#[path = "support/fuzz.rs"]
mod fuzz;

use std::sync::{Arc, Mutex};

use fuzz::{Rng, mutate};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use titan_core::http::h1::chunked::{Decoder, Event};
use titan_core::http::h1::framing::{self, BodyKind};
use titan_core::http::h1::parse::{self, Limits, Progress};
use titan_core::http::head::{Field, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One message as some parser read it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Message {
    start: Vec<String>,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    complete: bool,
}

impl Message {
    fn sort(mut self) -> Self {
        self.fields.sort_by(|a, b| a.0.cmp(&b.0));
        self
    }
}

fn titan_fields(bytes: &[u8], fields: &[Field]) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|f| (String::from_utf8_lossy(f.name.of(bytes)).to_lowercase(), f.value.of(bytes).to_vec())).collect()
}

fn hyper_fields(map: &hyper::HeaderMap) -> Vec<(String, Vec<u8>)> {
    map.iter().map(|(n, v)| (n.as_str().to_owned(), v.as_bytes().to_vec())).collect()
}

/// Reads a body off the front of `buf`; whether it is whole. `None`: refused.
fn titan_body(kind: BodyKind, buf: &mut Vec<u8>, mut decoder: Decoder, body: &mut Vec<u8>) -> Option<bool> {
    match kind {
        BodyKind::None | BodyKind::Tunnel => Some(true),
        BodyKind::Length(n) => {
            let n_now = usize::try_from(n).unwrap_or(usize::MAX).min(buf.len());
            body.extend(buf.drain(..n_now));
            Some(n_now as u64 == n)
        }
        BodyKind::UntilClose => {
            body.append(buf);
            Some(true)
        }
        BodyKind::Chunked => loop {
            let step = decoder.step(buf).ok()?;
            if let Event::Data(r) = &step.event {
                body.extend_from_slice(&buf[r.clone()]);
            }
            buf.drain(..step.consumed);
            match step.event {
                Event::End => return Some(true),
                Event::More => return Some(false),
                Event::Data(_) => {}
            }
        },
    }
}

/// Requests of a stream up to the first that is refused, incomplete or the last of its connection.
fn titan_requests(input: &[u8]) -> Vec<Message> {
    let mut buf = input.to_vec();
    let mut all = Vec::new();
    let mut progress = Progress::default();
    while let Ok(Some(head)) = parse::request(&mut buf, &mut progress, &Limits::default()) {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let mut m = Message {
            start: vec![
                text(head.method_bytes()),
                text(head.raw_path()),
                head.raw_query().map_or("-".into(), |q| format!("?{}", text(q))),
                format!("{:?}", head.version),
            ],
            fields: titan_fields(&head.bytes, &head.fields),
            ..Message::default()
        };
        let Some(complete) = titan_body(framing::request_body(&head), &mut buf, Decoder::request(), &mut m.body) else {
            break;
        };
        m.complete = complete;
        all.push(m.sort());
        // What follows a request that may end the connection, or change its protocol, is nobody's request.
        if !complete || !framing::request_keep_alive(&head) || head.facts.upgrade {
            break;
        }
    }
    all
}

async fn hyper_requests(input: &[u8]) -> Vec<Message> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let (mut ours, theirs) = tokio::io::duplex(1 << 20);
    ours.write_all(input).await.expect("fits the pipe");
    ours.shutdown().await.expect("a pipe");
    let seen = all.clone();
    let service = hyper::service::service_fn(move |req: hyper::Request<Incoming>| {
        let seen = seen.clone();
        async move {
            let (head, mut body) = req.into_parts();
            let version = if head.version == hyper::Version::HTTP_10 { "H10" } else { "H11" };
            let mut m = Message {
                start: vec![
                    head.method.to_string(),
                    head.uri.path().to_owned(),
                    head.uri.query().map_or("-".into(), |q| format!("?{q}")),
                    version.to_owned(),
                ],
                fields: hyper_fields(&head.headers),
                complete: true,
                ..Message::default()
            };
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(f) => m.body.extend_from_slice(f.data_ref().map_or(&[][..], |d| d)),
                    Err(_) => {
                        m.complete = false;
                        break;
                    }
                }
            }
            let complete = m.complete;
            seen.lock().expect("not poisoned").push(m.sort());
            if complete { Ok(hyper::Response::new(Empty::<Bytes>::new())) } else { Err("body") }
        }
    });
    let drain = tokio::spawn(async move { ours.read_to_end(&mut Vec::new()).await });
    let _ = hyper::server::conn::http1::Builder::new().half_close(true).serve_connection(TokioIo::new(theirs), service).await;
    drain.abort();
    std::mem::take(&mut *all.lock().expect("not poisoned"))
}

/// What Titan accepts and hyper refuses, without either reading anything differently.
fn hyper_is_stricter(m: &Message) -> bool {
    let target = format!("{}{}", m.start[1], m.start[2]);
    // `http::Uri` refuses some bytes in targets that RFC 3986 does too; Titan percent-encodes them in paths and passes them in queries.
    target.bytes().any(|b| !b.is_ascii_graphic() || b"\"<>\\^`{|}".contains(&b))
        // Lower-case or odd methods and hosts that `http` won't build into a Uri.
        || target.len() > 4000
}

fn compare_requests(titan: &[Message], hyper: &[Message], input: &[u8], seed: u64) {
    for (i, t) in titan.iter().enumerate() {
        let same = match hyper.get(i) {
            Some(h) if t.complete => h == t,
            // Neither has all of it: what one already handed over must be the beginning of what the other did.
            Some(h) => (&h.start, &h.fields) == (&t.start, &t.fields) && (h.body.starts_with(&t.body) || t.body.starts_with(&h.body)),
            None => !t.complete || hyper_is_stricter(t),
        };
        assert!(same, "seed {seed}, message {i}\ninput {:?}\ntitan {t:#?}\nhyper {:#?}", String::from_utf8_lossy(input), hyper.get(i));
        if hyper.get(i).is_none() {
            return;
        }
    }
}

const REQUESTS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2?x=1&y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /n HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\nGET /n HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PUT http://b.example:80/x?q HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nAccept: */*\r\nX_Y: \t z \r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    b"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /old2 HTTP/1.0\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello",
];

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b"\0",
    b"0\r\n\r\n",
    b"\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Host: b\r\n",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"+5",
    b"0x5",
    b"5, 5",
    b"chunked, chunked",
    b" chunked",
    b";ext=\"a\\\"b\"",
    b"GET /s HTTP/1.1\r\nHost: s\r\n\r\n",
    b"?",
    b"#",
    b"%2e",
    b"//",
    b"\x80",
    b"X-A: b\r\n c\r\n",
    b"ffffffffffffffff",
    b"00",
    b"HEAD",
    b"CONNECT a:1",
];

#[test]
fn requests_are_read_as_hyper_reads_them() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (mut rng, stop) = (Rng::new(0x5eed_0001), fuzz::deadline());
    let (mut accepted, mut runs) = (0usize, 0usize);
    for seed in REQUESTS {
        let (t, h) = (titan_requests(seed), runtime.block_on(hyper_requests(seed)));
        assert!(!t.is_empty(), "a seed is refused: {:?}", String::from_utf8_lossy(seed));
        compare_requests(&t, &h, seed, 0);
    }
    while std::time::Instant::now() < stop {
        let seed = rng.state();
        let input = mutate(&mut rng, REQUESTS, WORDS);
        let titan = titan_requests(&input);
        runs += 1;
        // hyper is asked only about what Titan accepts: that is the rule, and it is most of the time.
        if !titan.is_empty() {
            accepted += 1;
            compare_requests(&titan, &runtime.block_on(hyper_requests(&input)), &input, seed);
        }
    }
    assert!(accepted > runs / 50 && runs > 20, "{accepted} of {runs} inputs were accepted: the fuzzer looks at nothing");
}

fn titan_response(input: &[u8], method: Method) -> Option<Message> {
    let mut buf = input.to_vec();
    let mut progress = Progress::default();
    loop {
        let head = parse::response(&mut buf, &mut progress, &Limits::default()).ok()??;
        if head.status == 101 {
            return None;
        }
        if head.status < 200 {
            continue;
        }
        let mut m = Message {
            start: vec![head.status.to_string(), format!("{:?}", head.version)],
            fields: titan_fields(&head.bytes, &head.fields),
            ..Message::default()
        };
        m.complete = titan_body(framing::response_body(&head, method), &mut buf, Decoder::response(), &mut m.body)?;
        return Some(m.sort());
    }
}

async fn hyper_response(input: &[u8], method: Method) -> Option<Message> {
    let (mut ours, theirs) = tokio::io::duplex(1 << 20);
    let (mut send, conn) = hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(theirs)).await.ok()?;
    let conn = tokio::spawn(async move {
        let _ = conn.await;
    });
    let method = if method == Method::Head { "HEAD" } else { "GET" };
    let req = hyper::Request::builder().method(method).uri("/").header("host", "a").body(Empty::new()).expect("a request");
    let answer = async {
        let mut first = [0; 64];
        // The answer must come after the request, or hyper takes it for noise.
        let _ = ours.read(&mut first).await;
        let _ = ours.write_all(input).await;
        let _ = ours.shutdown().await;
    };
    let (res, ()) = tokio::join!(send.send_request(req), answer);
    let (head, mut body) = res.ok()?.into_parts();
    let version = if head.version == hyper::Version::HTTP_10 { "H10" } else { "H11" };
    let mut m = Message {
        start: vec![head.status.as_u16().to_string(), version.into()],
        fields: hyper_fields(&head.headers),
        complete: true,
        ..Message::default()
    };
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(f) => m.body.extend_from_slice(f.data_ref().map_or(&[][..], |d| d)),
            Err(_) => {
                m.complete = false;
                break;
            }
        }
    }
    conn.abort();
    Some(m.sort())
}

const RESPONSES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: x\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5;a\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
    b"HTTP/1.0 200 OK\r\n\r\nuntil close",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: \"x\"\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
];

#[test]
fn responses_are_read_as_hyper_reads_them() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (mut rng, stop) = (Rng::new(0x5eed_0002), fuzz::deadline());
    let mut accepted = 0;
    while std::time::Instant::now() < stop {
        let seed = rng.state();
        let input = mutate(&mut rng, RESPONSES, WORDS);
        let method = if rng.below(4) == 0 { Method::Head } else { Method::Get };
        let Some(t) = titan_response(&input, method) else { continue };
        accepted += 1;
        let h = runtime.block_on(hyper_response(&input, method));
        let same = match &h {
            Some(h) if t.complete => *h == t,
            Some(h) => (&h.start, &h.fields) == (&t.start, &t.fields) && !h.complete,
            None => !t.complete,
        };
        assert!(same, "seed {seed}, {method:?}\ninput {:?}\ntitan {t:#?}\nhyper {h:#?}", String::from_utf8_lossy(&input));
    }
    assert!(accepted > 20, "{accepted} inputs were accepted: the fuzzer looks at nothing");
}
