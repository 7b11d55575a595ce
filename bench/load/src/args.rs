//! Command line: `--name value` pairs only.

use std::net::SocketAddr;
use std::time::Duration;

use crate::websocket;

/// Printed for an unknown mode.
pub const USAGE: &str = "usage: titan-load origin --listen ADDR
       titan-load grpc-origin --listen ADDR
       titan-load load --target ADDR [--path /109] [--connections 64] [--seconds 2] [--warmup 0.5] [--rate N] [--pid PID]...
                       [--tls NAME] [--host NAME] [--method GET] [--body BYTES] [--header 'Name: value']... [--timeout 10] [--close 1] [--websocket BYTES]
       titan-load idle --target ADDR [--path /109] [--connections 1000] [--tls NAME] [--websocket BYTES]
       titan-load around [--pid PID]... -- COMMAND...";

/// Everything any mode takes.
#[derive(Debug, Clone)]
pub struct Args {
    pub listen: Option<SocketAddr>,
    pub target: Option<SocketAddr>,
    pub path: String,
    pub host: String,
    pub method: String,
    pub headers: Vec<String>,
    /// Bytes of request body.
    pub body: usize,
    pub connections: usize,
    pub seconds: Duration,
    pub warmup: Duration,
    /// Requests a second; absent = closed loop.
    pub rate: Option<f64>,
    /// TLS with this server name; certificates are not verified.
    pub tls: Option<String>,
    /// A request that takes longer counts as failed.
    pub timeout: Duration,
    /// A new connection for every request.
    pub close: bool,
    /// Each connection is upgraded and then sends messages of so many bytes; an echo counts as an answer.
    pub websocket: Option<usize>,
    /// Roots of the process trees whose CPU time is measured over the window.
    pub pids: Vec<u32>,
}

impl Args {
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self {
            listen: None,
            target: None,
            path: "/109".into(),
            host: "bench.test".into(),
            method: "GET".into(),
            headers: Vec::new(),
            body: 0,
            connections: 64,
            seconds: Duration::from_secs(2),
            warmup: Duration::from_millis(500),
            rate: None,
            tls: None,
            timeout: Duration::from_secs(10),
            close: false,
            websocket: None,
            pids: Vec::new(),
        };
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
            let bad = |_| format!("{name}: bad value {value:?}");
            let seconds = || value.parse::<f64>().map(Duration::from_secs_f64).map_err(|_| format!("{name}: bad value {value:?}"));
            match name.as_str() {
                "--listen" => args.listen = Some(value.parse().map_err(|_| bad(()))?),
                "--target" => args.target = Some(value.parse().map_err(|_| bad(()))?),
                "--path" => args.path = value,
                "--host" => args.host = value,
                "--method" => args.method = value,
                "--header" => args.headers.push(value),
                "--body" => args.body = value.parse().map_err(|_| bad(()))?,
                "--connections" => args.connections = value.parse().map_err(|_| bad(()))?,
                "--seconds" => args.seconds = seconds()?,
                "--warmup" => args.warmup = seconds()?,
                "--rate" => args.rate = Some(value.parse().map_err(|_| bad(()))?),
                "--tls" => args.tls = Some(value),
                "--timeout" => args.timeout = seconds()?,
                "--close" => args.close = value != "0",
                "--websocket" => {
                    let length = value.parse().ok().filter(|length| *length <= websocket::LONGEST);
                    args.websocket = Some(length.ok_or_else(|| bad(()))?);
                }
                "--pid" => args.pids.push(value.parse().map_err(|_| bad(()))?),
                _ => return Err(format!("unknown option {name}\n{USAGE}")),
            }
        }
        Ok(args)
    }

    /// The request that every connection sends, whole.
    pub fn request(&self) -> Vec<u8> {
        let mut text =
            format!("{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: titan-load\r\nAccept: */*\r\n", self.method, self.path, self.host);
        if !self.headers.iter().any(|header| header.to_ascii_lowercase().starts_with("accept-encoding:")) {
            text.push_str("Accept-Encoding: gzip\r\n");
        }
        if self.websocket.is_some() {
            text.push_str(websocket::HANDSHAKE);
        }
        for header in &self.headers {
            text.push_str(header);
            text.push_str("\r\n");
        }
        if self.body > 0 {
            text.push_str(&format!("Content-Length: {}\r\n", self.body));
        }
        if self.close {
            text.push_str("Connection: close\r\n");
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.resize(bytes.len() + self.body, b'x');
        bytes
    }
}
