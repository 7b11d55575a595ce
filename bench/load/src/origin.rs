//! Origin: prepared answers by path. `/109` is an answer of 109 bytes in all, `/16k`, `/256k`, `/4m` are bodies of that size, `/size/N` of
//! any, `/json` one of 16 KiB that compresses like an API's answers; `?delay=MS` answers later. Request bodies with a Content-Length are
//! read and dropped. A connection that asks to be a WebSocket echoes messages.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::args::Args;
use crate::{websocket, wire};

const LISTENER: Token = Token(usize::MAX);

/// An answer's bytes and how long it is held back.
type Prepared = (Rc<[u8]>, Duration);

struct Peer {
    stream: TcpStream,
    /// Bytes read and not yet understood (a partial head).
    input: Vec<u8>,
    /// Messages are echoed.
    websocket: bool,
    /// Request body bytes still to be dropped, and the answer that follows them.
    skip: u64,
    pending: Option<Prepared>,
    /// Answer being written, and how far it is.
    output: Option<(Rc<[u8]>, usize)>,
    /// Tells a delayed answer whether its connection is still the one it was made for.
    generation: u64,
}

struct Origin {
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    answers: HashMap<Vec<u8>, Prepared>,
    delayed: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    waiting: HashMap<(usize, u64), Rc<[u8]>>,
    scratch: Vec<u8>,
    echoes: Vec<u8>,
    generation: u64,
}

pub fn run(args: Args) -> Result<(), String> {
    let address = args.listen.ok_or("--listen is needed")?;
    let say = |error: std::io::Error| error.to_string();
    let mut poll = Poll::new().map_err(say)?;
    let mut listener = TcpListener::bind(address).map_err(say)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).map_err(say)?;
    let mut events = Events::with_capacity(1024);
    let mut origin = Origin {
        peers: Vec::new(),
        free: Vec::new(),
        answers: HashMap::new(),
        delayed: BinaryHeap::new(),
        waiting: HashMap::new(),
        scratch: vec![0; 64 << 10],
        echoes: Vec::new(),
        generation: 0,
    };
    let port = listener.local_addr().map_err(say)?.port();
    writeln!(std::io::stdout(), "{}", serde_json::json!({ "port": port })).map_err(say)?;
    loop {
        let timeout = origin.delayed.peek().map(|Reverse((at, ..))| at.saturating_duration_since(Instant::now()));
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other.map_err(say)?,
        }
        for event in &events {
            match event.token() {
                LISTENER => origin.accept(&listener, &poll),
                Token(index) => origin.ready(index, event.is_writable()),
            }
        }
        origin.due();
    }
}

impl Origin {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) {
        while let Ok((mut stream, _)) = listener.accept() {
            let index = self.free.pop().unwrap_or_else(|| {
                self.peers.push(None);
                self.peers.len() - 1
            });
            // Without TCP_NODELAY a large answer's tail would wait for the gateway's ACK.
            let registered = stream
                .set_nodelay(true)
                .and_then(|()| poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE));
            if registered.is_err() {
                self.free.push(index);
                continue;
            }
            self.generation += 1;
            self.peers[index] = Some(Peer {
                stream,
                input: Vec::new(),
                websocket: false,
                skip: 0,
                pending: None,
                output: None,
                generation: self.generation,
            });
        }
    }

    /// Edge-triggered: goes on until the socket would block, or a read is short (then nothing is left in it).
    fn ready(&mut self, index: usize, writable: bool) {
        let Some(peer) = self.peers.get_mut(index).and_then(Option::as_mut) else { return };
        if writable && peer.output.is_some() && !flush(peer) {
            return self.drop_peer(index);
        }
        loop {
            let Some(peer) = self.peers[index].as_mut() else { return };
            match peer.stream.read(&mut self.scratch) {
                Ok(0) => return self.drop_peer(index),
                Ok(count) => {
                    if !self.received(index, count) {
                        return self.drop_peer(index);
                    }
                    if count < self.scratch.len() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.drop_peer(index),
            }
        }
    }

    /// Takes `count` bytes of the scratch buffer; false = the connection is of no more use.
    fn received(&mut self, index: usize, count: usize) -> bool {
        let Some(peer) = self.peers[index].as_mut() else { return false };
        let mut data = &self.scratch[..count];
        if peer.websocket {
            return echo(peer, data, &mut self.echoes);
        }
        if peer.pending.is_none() {
            // The usual case: one whole head in one read, understood without a copy.
            let joined;
            let bytes: &[u8] = if peer.input.is_empty() {
                data
            } else {
                peer.input.extend_from_slice(data);
                joined = std::mem::take(&mut peer.input);
                &joined
            };
            let Some(end) = wire::head_end(bytes, 0) else {
                peer.input = bytes.to_vec();
                return peer.input.len() < 64 << 10;
            };
            let head = &bytes[..end];
            if wire::header(head, "upgrade").is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket")) {
                peer.websocket = true;
                return bytes.len() == end && peer.stream.write(websocket::ACCEPT).is_ok_and(|count| count == websocket::ACCEPT.len());
            }
            let target = head.split(|&byte| byte == b' ').nth(1).unwrap_or(b"/");
            if !self.answers.contains_key(target) {
                self.answers.insert(target.to_vec(), prepare(target));
            }
            peer.skip = wire::header(head, "content-length").and_then(wire::number).unwrap_or(0);
            peer.pending = Some(self.answers[target].clone());
            // Never more than the rest of this read: a joined buffer ends with it.
            data = &data[data.len() - (bytes.len() - end).min(data.len())..];
        }
        if data.len() as u64 > peer.skip {
            return false; // A gateway that pipelines is not expected here.
        }
        peer.skip -= data.len() as u64;
        if peer.skip > 0 {
            return true;
        }
        let Some((answer, delay)) = peer.pending.take() else { return true };
        if delay.is_zero() {
            peer.output = Some((answer, 0));
            return flush(peer);
        }
        self.delayed.push(Reverse((Instant::now() + delay, index, peer.generation)));
        self.waiting.insert((index, peer.generation), answer);
        true
    }

    fn due(&mut self) {
        let now = Instant::now();
        while let Some(&Reverse((at, index, generation))) = self.delayed.peek() {
            if at > now {
                return;
            }
            self.delayed.pop();
            let answer = self.waiting.remove(&(index, generation));
            let peer = self.peers[index].as_mut().filter(|peer| peer.generation == generation);
            if let (Some(answer), Some(peer)) = (answer, peer) {
                peer.output = Some((answer, 0));
                if !flush(peer) {
                    self.drop_peer(index);
                }
            }
        }
    }

    fn drop_peer(&mut self, index: usize) {
        if self.peers[index].take().is_some() {
            self.free.push(index);
        }
    }
}

/// Answers the messages in `data`; false = the connection is of no more use. One that has no room for an echo of a message is not expected:
/// the generator waits for each.
fn echo(peer: &mut Peer, data: &[u8], echoes: &mut Vec<u8>) -> bool {
    echoes.clear();
    let joined = if peer.input.is_empty() {
        None
    } else {
        peer.input.extend_from_slice(data);
        Some(std::mem::take(&mut peer.input))
    };
    let bytes = joined.as_deref().unwrap_or(data);
    let Ok(whole) = websocket::echo(bytes, echoes) else { return false };
    peer.input.extend_from_slice(&bytes[whole..]);
    echoes.is_empty() || peer.stream.write(echoes).is_ok_and(|count| count == echoes.len())
}

/// Writes what is pending; false = the connection is gone.
fn flush(peer: &mut Peer) -> bool {
    while let Some((answer, at)) = &mut peer.output {
        match peer.stream.write(&answer[*at..]) {
            Ok(count) => {
                *at += count;
                if *at == answer.len() {
                    peer.output = None;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(_) => return false,
        }
    }
    true
}

/// Length of `/json`.
const JSON: usize = 16 << 10;

/// Records as a list endpoint answers them: the same names again and again, values that differ. The same bytes in every run.
fn records() -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let names = ["ada", "grace", "linus", "margaret", "dennis", "barbara", "ken", "radia"];
    let mut text = String::from("[");
    loop {
        let n = next();
        let (first, last) = (names[(n >> 8) as usize % 8], names[(n >> 16) as usize % 8]);
        let record = format!(
            "{{\"id\":\"{:016x}\",\"name\":\"{first} {last}\",\"email\":\"{first}.{last}{}@example.com\",\"active\":{},\
             \"balance\":{}.{:02},\"created_at\":\"20{:02}-{:02}-{:02}T{:02}:{:02}:{:02}Z\",\"roles\":[\"reader\",\"{}\"]}}",
            next(),
            n % 1000,
            n & 1 == 0,
            next() % 100_000,
            n % 100,
            10 + n % 16,
            1 + (n >> 3) % 12,
            1 + (n >> 5) % 28,
            (n >> 7) % 24,
            (n >> 9) % 60,
            (n >> 11) % 60,
            if n & 2 == 0 { "writer" } else { "admin" }
        );
        if text.len() + record.len() + 2 > JSON {
            break;
        }
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&record);
    }
    text.push(']');
    let mut bytes = text.into_bytes();
    bytes.resize(JSON, b' ');
    bytes
}

fn prepare(target: &[u8]) -> Prepared {
    let text = String::from_utf8_lossy(target);
    let (path, query) = text.split_once('?').unwrap_or((&text, ""));
    let delay = query.strip_prefix("delay=").and_then(|value| value.parse().ok()).unwrap_or(0);
    if path.ends_with("/json") {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {JSON}\r\n\r\n").into_bytes();
        answer.extend(records());
        return (answer.into(), Duration::from_millis(delay));
    }
    let length = match path.rsplit('/').next().unwrap_or("") {
        "109" => 44,
        "16k" => 16 << 10,
        "256k" => 256 << 10,
        "4m" => 4 << 20,
        other => other.parse().unwrap_or(44),
    };
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + length, b'x');
    (answer.into(), Duration::from_millis(delay))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_answer_is_109_bytes_in_all() {
        assert_eq!(prepare(b"/109").0.len(), 109);
        assert!(prepare(b"/api/4m").0.len() > 4 << 20);
        assert_eq!(prepare(b"/size/10?delay=20").1, Duration::from_millis(20));
    }

    #[test]
    fn the_json_answer_is_json_of_its_announced_length() {
        let body = records();
        assert_eq!(body.len(), JSON);
        let parsed: Vec<serde_json::Value> = serde_json::from_slice(&body).unwrap();
        assert!(parsed.len() > 50, "{}", parsed.len());
    }
}
