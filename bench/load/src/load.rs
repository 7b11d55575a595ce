//! The measuring modes: closed loop and open loop.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use rustls::pki_types::ServerName;

use crate::args::Args;
use crate::client::{self, Client, Progress, State};
use crate::cpu;
use crate::histogram::Histogram;
use crate::timer::Timer;
use crate::websocket;

const ARRIVALS: Token = Token(usize::MAX);
/// Connections being set up at once, so that no accept queue overflows.
const OPENING: usize = 128;
/// A connection that failed is opened again after this pause.
const PAUSE: Duration = Duration::from_millis(5);

/// Counts of the measured window.
#[derive(Default)]
struct Counts {
    ok: u64,
    bytes: u64,
    statuses: BTreeMap<u16, u64>,
    failures: BTreeMap<&'static str, u64>,
}

/// Connections and what they send.
pub struct Generator {
    poll: Poll,
    target: SocketAddr,
    tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
    request: Vec<u8>,
    /// What an upgraded connection sends.
    message: Option<Vec<u8>>,
    clients: Vec<Option<Client>>,
    /// Slots without a connection, and when they may be opened.
    to_open: VecDeque<(Instant, usize)>,
    opening: usize,
    /// Open loop: free connections (the longest unused first) and arrivals that found none.
    idle: VecDeque<usize>,
    late: VecDeque<Instant>,
    pacing: Pacing,
    close: bool,
    timeout: Duration,
    scratch: Vec<u8>,
    latency: Histogram,
    counts: Counts,
    /// [`Pacing::Once`]: connections that had their answer.
    pub settled: usize,
    /// Connections that failed or were closed by the gateway.
    pub lost: u64,
}

/// When a free connection sends.
#[derive(Clone, Copy, PartialEq)]
pub enum Pacing {
    /// At once.
    Closed,
    /// When an arrival is due.
    Open,
    /// Once.
    Once,
}

impl Generator {
    pub fn new(args: &Args, pacing: Pacing) -> Result<Self, String> {
        let tls = match &args.tls {
            Some(name) => Some((client::tls_config()?, ServerName::try_from(name.clone()).map_err(|error| error.to_string())?)),
            None => None,
        };
        let now = Instant::now();
        Ok(Self {
            poll: Poll::new().map_err(|error| error.to_string())?,
            target: args.target.ok_or("--target is needed")?,
            tls,
            request: args.request(),
            message: args.websocket.map(websocket::message),
            clients: (0..args.connections).map(|_| None).collect(),
            to_open: (0..args.connections).map(|index| (now, index)).collect(),
            opening: 0,
            idle: VecDeque::new(),
            late: VecDeque::new(),
            pacing,
            close: args.close,
            timeout: args.timeout,
            scratch: vec![0; 256 << 10],
            latency: Histogram::new(),
            counts: Counts::default(),
            settled: 0,
            lost: 0,
        })
    }

    pub fn registry(&self) -> &mio::Registry {
        self.poll.registry()
    }

    /// One round: opens what may be opened, waits at most `wait`, serves what is ready.
    pub fn turn(&mut self, events: &mut Events, wait: Duration) -> Result<(), String> {
        let now = Instant::now();
        self.open(now);
        let wait = match self.to_open.front() {
            Some((at, _)) if self.opening < OPENING => wait.min(at.saturating_duration_since(now)),
            _ => wait,
        };
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.to_string()),
            _ => {}
        }
        for event in events.iter() {
            let Token(index) = event.token();
            if index >= self.clients.len() {
                continue;
            }
            if event.is_writable() {
                self.serve(index, true);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.serve(index, false);
            }
        }
        Ok(())
    }

    fn open(&mut self, now: Instant) {
        while self.opening < OPENING && self.to_open.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, index)) = self.to_open.pop_front() else { return };
            match Client::connect(self.target, self.tls.as_ref(), self.poll.registry(), Token(index)) {
                Ok(client) => {
                    self.clients[index] = Some(client);
                    self.opening += 1;
                }
                Err(_) => self.fail(index, "connect"),
            }
        }
    }

    fn serve(&mut self, index: usize, write: bool) {
        let Some(client) = self.clients[index].as_mut() else { return };
        let before = client.state;
        let progress = if write {
            client.writable(words(&self.request, &self.message, client))
        } else {
            client.readable(&mut self.scratch, &mut self.counts.bytes)
        };
        if before == State::Opening && progress != Progress::Nothing {
            self.opening -= 1;
        }
        match progress {
            Progress::Nothing => {}
            Progress::Opened if self.message.is_some() => self.send(index, Instant::now()),
            Progress::Opened => self.free(index, true),
            Progress::Answered { status, .. } if self.message.is_some() && !client.upgraded => {
                client.upgraded = status == 101;
                if client.upgraded { self.free(index, true) } else { self.fail(index, "not upgraded") }
            }
            Progress::Answered { status, keep } => {
                if let State::Busy { since } = before {
                    self.latency.record(since.elapsed().as_micros() as u64);
                }
                if (200..300).contains(&status) {
                    self.counts.ok += 1;
                } else {
                    *self.counts.statuses.entry(status).or_default() += 1;
                }
                if keep && !self.close {
                    self.free(index, false);
                } else {
                    self.clients[index] = None;
                    self.to_open.push_back((Instant::now(), index));
                }
            }
            Progress::Failed(reason) => self.fail(index, reason),
        }
    }

    /// A connection is free for a request; `fresh` = it has not had one yet.
    fn free(&mut self, index: usize, fresh: bool) {
        match self.pacing {
            Pacing::Closed => self.send(index, Instant::now()),
            Pacing::Once if fresh => self.send(index, Instant::now()),
            Pacing::Once => self.settled += 1,
            Pacing::Open => match self.late.pop_front() {
                Some(due) => self.send(index, due),
                None => self.idle.push_back(index),
            },
        }
    }

    fn send(&mut self, index: usize, due: Instant) {
        let Some(client) = self.clients[index].as_mut() else { return };
        if client.send(words(&self.request, &self.message, client), due).is_err() {
            self.fail(index, "write");
        }
    }

    /// An arrival of the open loop.
    fn arrive(&mut self, due: Instant) {
        while let Some(index) = self.idle.pop_front() {
            // A connection that was closed meanwhile stays in the list until it comes up.
            if self.clients[index].as_ref().is_some_and(|client| client.state == State::Idle) {
                return self.send(index, due);
            }
        }
        self.late.push_back(due);
    }

    /// A connection that the gateway closes while nothing was asked of it is no failed request.
    fn fail(&mut self, index: usize, reason: &'static str) {
        self.clients[index] = None;
        self.lost += 1;
        *self.counts.failures.entry(reason).or_default() += 1;
        self.to_open.push_back((Instant::now() + PAUSE, index));
    }

    fn expire(&mut self, now: Instant) {
        for index in 0..self.clients.len() {
            let Some(client) = &self.clients[index] else { continue };
            if let State::Busy { since } = client.state
                && now.saturating_duration_since(since) > self.timeout
            {
                self.fail(index, "timeout");
            }
        }
    }

    fn restart_counts(&mut self) {
        self.counts = Counts::default();
        self.latency = Histogram::new();
    }
}

/// What a connection sends next: the request, or a message once it is upgraded.
fn words<'a>(request: &'a [u8], message: &'a Option<Vec<u8>>, client: &Client) -> &'a [u8] {
    message.as_deref().filter(|_| client.upgraded).unwrap_or(request)
}

pub fn run(args: Args) -> Result<(), String> {
    let pacing = if args.rate.is_some() { Pacing::Open } else { Pacing::Closed };
    let mut generator = Generator::new(&args, pacing)?;
    let timer = Timer::new(generator.registry(), ARRIVALS).map_err(|error| error.to_string())?;
    let mut events = Events::with_capacity(1024);
    let mut arrivals = args.rate.map(Arrivals::new);

    let began = Instant::now();
    let measured_from = began + args.warmup;
    let ends = measured_from + args.seconds;
    let mut window: Option<(Instant, u64, u64)> = None;
    let mut next_expiry = began + Duration::from_millis(250);
    loop {
        let now = Instant::now();
        if window.is_none() && now >= measured_from {
            generator.restart_counts();
            window = Some((now, cpu::tree_nanos(&args.pids), cpu::own_nanos()));
        }
        if now >= ends {
            break;
        }
        if now >= next_expiry {
            generator.expire(now);
            next_expiry = now + Duration::from_millis(250);
        }
        if let Some(arrivals) = &mut arrivals {
            while arrivals.next <= now {
                generator.arrive(arrivals.next);
                arrivals.step();
            }
            timer.set(arrivals.next.saturating_duration_since(Instant::now()));
        }
        let boundary = if window.is_none() { measured_from } else { ends };
        let wait = boundary.min(next_expiry).saturating_duration_since(now).max(Duration::from_millis(1));
        generator.turn(&mut events, wait)?;
    }
    let Some((from, gateway_before, own_before)) = window else { return Err("no window".into()) };
    let gateway = cpu::tree_nanos(&args.pids).saturating_sub(gateway_before) as f64;
    let own = cpu::own_nanos().saturating_sub(own_before) as f64;
    report(&generator, from.elapsed().as_secs_f64(), gateway, own)
}

fn report(generator: &Generator, seconds: f64, gateway: f64, own: f64) -> Result<(), String> {
    let counts = &generator.counts;
    let answered = counts.ok + counts.statuses.values().sum::<u64>();
    let failed: u64 = counts.failures.iter().filter(|(reason, _)| **reason != "idle").map(|(_, count)| count).sum();
    let per = |nanos: f64| if answered == 0 { 0.0 } else { nanos / 1_000.0 / answered as f64 };
    let result = serde_json::json!({
        "seconds": seconds,
        "ok": counts.ok,
        "failed": failed,
        "statuses": counts.statuses,
        "failures": counts.failures,
        "late": generator.late.len(),
        "bytes": counts.bytes,
        "rps": answered as f64 / seconds,
        "latency_us": generator.latency.json(),
        "gateway_cpu_us": per(gateway),
        "gateway_cores": gateway / 1e9 / seconds,
        "load_cores": own / 1e9 / seconds,
    });
    writeln!(std::io::stdout(), "{result}").map_err(|error| error.to_string())
}

/// Poisson arrivals: what many independent clients make, and no rhythm that a gateway's timers could fall in step with.
struct Arrivals {
    next: Instant,
    mean: f64,
    state: u64,
}

impl Arrivals {
    fn new(rate: f64) -> Self {
        Self { next: Instant::now(), mean: 1.0 / rate, state: 0x9E37_79B9_7F4A_7C15 }
    }

    fn step(&mut self) {
        // xorshift64*: the same arrivals in every run.
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let uniform = (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64;
        self.next += Duration::from_secs_f64(-self.mean * (1.0 - uniform).ln());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_keep_their_rate() {
        let mut arrivals = Arrivals::new(1_000.0);
        let began = arrivals.next;
        (0..100_000).for_each(|_| arrivals.step());
        let seconds = (arrivals.next - began).as_secs_f64();
        assert!((seconds - 100.0).abs() < 2.0, "{seconds}");
    }
}
