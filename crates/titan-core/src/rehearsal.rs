//! A gateway under test (`titan test`, `@titan-gateway/titan/testing`): it binds no listener and reaches no backend. Requests arrive over private
//! socket pairs from whoever the test says, every connection to a backend goes to one place that plays all of them, and what was decided
//! about a request is kept. Everything in between is the code that serves: a rehearsal that took another way would prove nothing.

mod stream;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use serde::Serialize;
use tokio::io::AsyncWriteExt;

pub use self::stream::Stream;
use crate::gateway::Gateway;
use crate::http::client::{ClientInfo, TlsInfo};
use crate::rt::clock::{self, Held};
use crate::upstream::{Endpoint, Resolved, Upstream};

/// Where the names of backends lead: nobody resolves them, and this address (TEST-NET-1) belongs to nobody.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// A request is written beside the reading of its answer where it is larger than what a socket buffer surely takes.
const WRITTEN_AT_ONCE: usize = 16 << 10;
/// How long what was decided about an upgrade or a stream is waited for once its answer is there.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same where the answer may be to a head that was never understood, about which nothing is decided.
const LESS_PATIENCE: Duration = Duration::from_millis(500);

/// What stands in for the world around a gateway.
pub struct Rehearsal {
    /// Plays every backend. A connection begins with the line `TITAN-REHEARSAL token upstream host:port`.
    backends: SocketAddr,
    token: String,
    /// What limits go by.
    pub(crate) clock: Arc<Held>,
    /// One request at a time, so that what is seen is of that request.
    turn: Mutex<()>,
    seen: Mutex<Option<Observation>>,
    closed: Condvar,
}

/// What was decided about a request.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Observation {
    /// Name of the route; absent where none matched.
    pub route: Option<String>,
    /// The upstream that it was given to.
    pub upstream: Option<String>,
    /// Address of the client as policy saw it.
    pub client_ip: String,
    /// Id of the request.
    pub request_id: String,
    /// Status that was sent.
    pub status: u16,
    /// Stage of an answer of Titan's own.
    pub stage: Option<&'static str>,
    /// Tries at backends.
    pub tries: u32,
    /// Whether the chain of policies was run. It is not for built-in endpoints and for paths that are refused.
    pub policies_ran: bool,
    /// Place of the policy that answered in the order that an explanation has.
    pub answered_by: Option<usize>,
    /// Who the client is, where somebody was authenticated.
    pub subject: Option<String>,
}

/// A client of a rehearsal.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Name of the listener that it arrives at; `None` = the first.
    pub listener: Option<String>,
    /// Its address.
    pub peer: SocketAddr,
    /// Its TLS session; `None` = plain.
    pub tls: Option<TlsInfo>,
}

/// An answer as it stood on the wire, and what was decided.
#[derive(Debug)]
pub struct Rehearsed {
    /// Bytes of the answer (of an upgrade: those of its head). One over HTTP/2 is written as HTTP/1.1 would write it, its body in chunks.
    pub answer: Vec<u8>,
    /// Absent where the head could not be read.
    pub observation: Option<Observation>,
}

/// A client that a shard is to serve as if its listener had accepted it.
pub struct Arrived {
    /// Name of the listener; `None` = the first.
    pub listener: Option<String>,
    /// The connection.
    pub stream: TcpStream,
    /// Its client. `local` is put right by the shard.
    pub client: ClientInfo,
}

impl Rehearsal {
    /// A rehearsal whose backends are all played at `backends`, which knows its connections by `token`.
    pub fn new(backends: SocketAddr, token: String) -> Arc<Self> {
        Arc::new(Self { backends, token, clock: Arc::default(), turn: Mutex::default(), seen: Mutex::default(), closed: Condvar::new() })
    }

    /// A connection to whoever plays the backend.
    pub(crate) async fn connect(&self, upstream: &str, endpoint: &Endpoint) -> io::Result<tokio::net::TcpStream> {
        let mut stream = tokio::net::TcpStream::connect(self.backends).await?;
        let line = format!("TITAN-REHEARSAL {} {upstream} {}\n", self.token, endpoint.backend);
        stream.write_all(line.as_bytes()).await?;
        Ok(stream)
    }

    /// Waits until something was decided.
    fn wait(&self, patience: Duration) {
        let mut seen = self.seen.lock();
        if seen.is_none() {
            self.closed.wait_for(&mut seen, patience);
        }
    }

    /// Keeps what was decided.
    pub(crate) fn observe(&self, observation: Observation) {
        *self.seen.lock() = Some(observation);
        self.closed.notify_all();
    }
}

/// Gives the backends of an upstream addresses without asking anybody.
pub(crate) fn resolve(upstream: &Upstream) {
    let nowhere =
        |index, port| Resolved { backend: index, addr: SocketAddr::new(NOWHERE, port), alternate: None, target: None, weight: None };
    let backends = upstream.backends.iter().enumerate();
    let addresses: Vec<_> =
        backends.map(|(index, backend)| Resolved::known(index, backend).unwrap_or_else(|| nowhere(index, backend.port))).collect();
    upstream.resolve(&addresses, None);
}

impl Gateway {
    /// Moves the clocks ahead: that of this rehearsal's limits, which stands still otherwise, and the process's, which circuits and ejections
    /// go by.
    pub fn skip(&self, by: Duration) {
        if let Some(rehearsal) = self.rehearsal() {
            rehearsal.clock.advance(by);
            clock::skip(by);
        }
    }

    /// Sends the bytes of one request, which must say `connection: close`, and waits for the end of the answer. Blocks for `limit` at most.
    pub fn rehearse(&self, arrival: Arrival, request: Vec<u8>, limit: Duration) -> Result<Rehearsed, String> {
        self.on_stage(arrival, |rehearsal, near| {
            let failed = |error: io::Error| match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("no whole answer came within {limit:?}"),
                _ => format!("the connection failed: {error}"),
            };
            let answer = converse(near, request, limit).map_err(failed)?;
            if is_upgrade(&answer) {
                // The head of an upgrade is sent before the request is written down.
                rehearsal.wait(PATIENCE);
            }
            Ok(answer)
        })
    }

    /// Sends a request over HTTP/2 and waits for the end of the answer, or for the head of a tunnel that is open. Blocks for `limit` at most.
    pub fn rehearse_stream(&self, arrival: Arrival, head: &Stream, body: Bytes, limit: Duration) -> Result<Rehearsed, String> {
        self.on_stage(arrival, |rehearsal, near| {
            // A stream's last byte is sent before the request is written down.
            let noted = |status| rehearsal.wait(if matches!(status, 400 | 431) { LESS_PATIENCE } else { PATIENCE });
            stream::converse(near, head, body, limit, noted)
        })
    }

    /// Lets a client talk over a connection of its own, and gives what it heard and what was decided.
    fn on_stage(&self, arrival: Arrival, talk: impl FnOnce(&Rehearsal, TcpStream) -> Result<Vec<u8>, String>) -> Result<Rehearsed, String> {
        let rehearsal = self.rehearsal().ok_or("the gateway serves: it was not started for a rehearsal")?;
        let _turn = rehearsal.turn.lock();
        *rehearsal.seen.lock() = None;
        let (near, far) = pair().map_err(|error| format!("the connection failed: {error}"))?;
        let client = ClientInfo::new(arrival.peer, arrival.peer, arrival.tls.map(Arc::new));
        self.arrive(Arrived { listener: arrival.listener, stream: far, client });
        let answer = talk(rehearsal, near)?;
        Ok(Rehearsed { answer, observation: rehearsal.seen.lock().take() })
    }
}

/// Writes the request and reads until the other end closes, or until the head of an upgrade is there.
fn converse(mut stream: TcpStream, request: Vec<u8>, limit: Duration) -> io::Result<Vec<u8>> {
    let end = Instant::now() + limit;
    stream.set_write_timeout(Some(limit))?;
    if request.len() <= WRITTEN_AT_ONCE {
        // An answer may be there although the rest of the request was not wanted.
        let _ = stream.write_all(&request);
    } else {
        let mut writer = stream.try_clone()?;
        std::thread::Builder::new().name("titan-rehearse".into()).spawn(move || {
            let _ = writer.write_all(&request);
        })?;
    }
    let mut answer = Vec::new();
    let mut part = vec![0; 64 << 10];
    while !is_upgrade(&answer) {
        let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()).ok_or(io::ErrorKind::TimedOut)?;
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&part[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // An answer that was cut short on purpose: what came of it is what a client would have.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !answer.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

fn is_upgrade(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 101 ") && answer.windows(4).any(|end| end == b"\r\n\r\n")
}

/// Two ends of one connection that nobody else can reach.
#[cfg(unix)]
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    use std::os::fd::OwnedFd;

    // Reading and writing are the same for every stream socket; nothing below asks such a connection for its addresses.
    let (near, far) = std::os::unix::net::UnixStream::pair()?;
    Ok((TcpStream::from(OwnedFd::from(near)), TcpStream::from(OwnedFd::from(far))))
}

/// Two ends of one connection. The listener between them lives for this moment, and takes nobody but the near end.
#[cfg(not(unix))]
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let own = near.local_addr()?;
    loop {
        let (far, peer) = listener.accept()?;
        if peer == own {
            return Ok((near, far));
        }
    }
}
