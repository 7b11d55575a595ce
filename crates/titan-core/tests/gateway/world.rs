//! A gateway, a raw origin that records every byte, and a raw client.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use titan_core::config::raw;
use titan_core::gateway::{Gateway, Host};

/// Longer than anything in these tests takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway with one listener `http` on a port of the system's choice and one shard, unless `config` says otherwise.
pub fn gateway(config: Value) -> Gateway {
    start(config, Host::default()).unwrap_or_else(|issues| panic!("{issues:?}"))
}

pub fn start(config: Value, host: Host) -> Result<Gateway, Vec<titan_core::config::Issue>> {
    Gateway::start(complete(config), host)
}

/// The native form of `config`, with a listener and one worker where it names none.
pub fn complete(mut config: Value) -> raw::Config {
    let fields = config.as_object_mut().expect("an object");
    fields.entry("listeners").or_insert_with(|| json!([{ "name": "http", "address": "127.0.0.1", "port": 0 }]));
    fields.entry("workers").or_insert(json!(1));
    serde_json::from_value(config).unwrap_or_else(|e| panic!("{e}"))
}

/// One upstream `origin` and a route for everything.
pub fn proxy(origin: SocketAddr) -> Value {
    json!({ "upstreams": [upstream(origin)], "routes": [route("/*", "origin")] })
}

pub fn upstream(origin: SocketAddr) -> Value {
    json!({ "name": "origin", "backends": [{ "host": origin.ip().to_string(), "port": origin.port() }] })
}

pub fn route(path: &str, upstream: &str) -> Value {
    json!({ "name": path, "match": { "path": path }, "action": { "type": "proxy", "targets": [{ "upstream": upstream }] } })
}

pub fn address(gateway: &Gateway) -> SocketAddr {
    gateway.addresses()[0].1
}

/// An origin: `serve` runs in a thread of its own for each connection.
pub struct Origin {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    /// Every byte received, over all connections.
    pub received: Arc<Mutex<Vec<u8>>>,
}

impl Origin {
    pub fn new(serve: impl Fn(Peer) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let received = Arc::new(Mutex::new(Vec::new()));
        let (serve, count, bytes) = (Arc::new(serve), connections.clone(), received.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let (serve, bytes) = (serve.clone(), bytes.clone());
                std::thread::spawn(move || {
                    let mut peer = Peer::new(stream);
                    (peer.number, peer.record) = (number, Some(bytes));
                    let _ = serve(peer);
                });
            }
        });
        Self { address, connections, received }
    }

    /// Answers every request with `answer`, keep-alive.
    pub fn fixed(answer: &'static [u8]) -> Self {
        Self::new(move |mut peer| {
            loop {
                peer.request()?;
                peer.send(answer)?;
            }
        })
    }

    /// Answers every request with its own head and body as the body.
    pub fn echo() -> Self {
        Self::new(|mut peer| {
            loop {
                let (head, body) = peer.request()?;
                let all = [head.as_bytes(), &body].concat();
                peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", all.len()).as_bytes())?;
                peer.send(&all)?;
            }
        })
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn received(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap()).into_owned()
    }
}

/// One end of a TCP connection, read by what HTTP/1.1 messages need.
pub struct Peer {
    pub stream: TcpStream,
    pub number: usize,
    pub buf: Vec<u8>,
    record: Option<Arc<Mutex<Vec<u8>>>>,
}

/// A response as received.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {}", self.text()))
    }
}

impl Peer {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, number: 0, buf: Vec::new(), record: None }
    }

    pub fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads once more into the buffer; `false` at the end.
    pub fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 64 << 10];
        let n = self.stream.read(&mut chunk)?;
        self.buf.extend_from_slice(&chunk[..n]);
        if let Some(record) = &self.record {
            record.lock().unwrap().extend_from_slice(&chunk[..n]);
        }
        Ok(n != 0)
    }

    /// Takes the bytes up to and with `end`.
    pub fn until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buf.windows(end.len()).position(|w| w == end) {
                return Ok(self.buf.drain(..at + end.len()).collect());
            }
            if !self.fill()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Takes `n` bytes.
    pub fn exactly(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.buf.len() < n {
            if !self.fill()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buf.drain(..n).collect())
    }

    /// Everything up to the end of the stream.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? {}
        Ok(std::mem::take(&mut self.buf))
    }

    pub fn head(&mut self) -> io::Result<String> {
        self.until(b"\r\n\r\n").map(|head| String::from_utf8_lossy(&head).into_owned())
    }

    /// A request with its body, de-chunked.
    pub fn request(&mut self) -> io::Result<(String, Vec<u8>)> {
        let head = self.head()?;
        let body = self.body(&head, false)?;
        Ok((head, body))
    }

    /// A response with its body; 1xx heads are skipped.
    pub fn response(&mut self) -> io::Result<Response> {
        self.response_to("GET")
    }

    pub fn response_to(&mut self, method: &str) -> io::Result<Response> {
        loop {
            let head = self.head()?;
            let status: u16 = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or(ErrorKind::InvalidData)?;
            if status < 200 && status != 101 {
                continue;
            }
            let none = method == "HEAD" || status == 204 || status == 304 || status == 101;
            let body = if none { Vec::new() } else { self.body(&head, true)? };
            return Ok(Response { status, head, body });
        }
    }

    /// Sends a GET and reads its answer.
    pub fn get(&mut self, target: &str) -> io::Result<Response> {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: titan.test\r\n\r\n").as_bytes())?;
        self.response()
    }

    fn body(&mut self, head: &str, to_close: bool) -> io::Result<Vec<u8>> {
        let lower = head.to_ascii_lowercase();
        if lower.contains("transfer-encoding: chunked") {
            return self.chunked().map(|(body, _)| body);
        }
        match lower.lines().find_map(|line| line.strip_prefix("content-length:")) {
            Some(length) => self.exactly(length.trim().parse().map_err(|_| ErrorKind::InvalidData)?),
            None if to_close => self.rest(),
            None => Ok(Vec::new()),
        }
    }

    /// A chunked body and its trailer lines.
    pub fn chunked(&mut self) -> io::Result<(Vec<u8>, String)> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n")?;
            let size = std::str::from_utf8(&line).unwrap().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| ErrorKind::InvalidData)?;
            if size == 0 {
                let mut trailers = String::new();
                loop {
                    let line = self.until(b"\r\n")?;
                    if line == b"\r\n" {
                        return Ok((body, trailers));
                    }
                    trailers.push_str(std::str::from_utf8(&line).unwrap());
                }
            }
            body.extend(self.exactly(size)?);
            self.exactly(2)?;
        }
    }

    pub fn shut_write(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Whether the other end has closed (or reset) within `wait`.
    pub fn is_closed_within(&mut self, wait: Duration) -> bool {
        self.stream.set_read_timeout(Some(wait)).unwrap();
        let begin = Instant::now();
        let closed = loop {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => break true,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break false,
                Err(_) => break true,
            }
            if begin.elapsed() > wait {
                break false;
            }
        };
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        closed
    }
}

/// Waits until `holds`, or fails.
pub fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Resets the connection when it is closed.
pub fn reset_on_close(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}
