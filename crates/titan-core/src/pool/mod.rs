//! Upstream connections of one shard. Idle HTTP/1.1 ones are kept last in first out: the one used last is the warmest and the least likely to
//! have been closed. HTTP/2 ones are shared by their streams ([`Backend`]).

mod connect;
mod connection;
mod multiplex;

use std::rc::Rc;
use std::time::Duration;

use hashbrown::HashMap;

pub use connect::{Connect, connect};
pub use connection::{Connection, Socket};
pub use multiplex::{Backend, Lease};

use crate::rt::clock;
use crate::upstream::Endpoint;

/// The idle connections.
#[derive(Default)]
pub struct Pool {
    idle: HashMap<u64, Stack, foldhash::fast::RandomState>,
    multiplexed: HashMap<u64, (Rc<Backend>, Option<Duration>), foldhash::fast::RandomState>,
    /// Shards: each keeps its share of an endpoint's `max_idle`.
    shards: usize,
}

#[derive(Default)]
struct Stack {
    list: Vec<Idle>,
    limit: Option<Duration>,
}

struct Idle {
    connection: Connection,
    since: u64,
}

impl Pool {
    /// An empty pool of one of `shards`.
    pub fn new(shards: usize) -> Self {
        Self { idle: HashMap::default(), multiplexed: HashMap::default(), shards: shards.max(1) }
    }

    /// An idle connection that still looks alive. Those that the backend has closed meanwhile are dropped on the way: that it has is seen
    /// without a system call, because the reactor has already noticed.
    pub fn checkout(&mut self, endpoint: &Endpoint) -> Option<Connection> {
        let stack = self.idle.get_mut(&endpoint.id)?;
        let oldest = stack.oldest();
        while let Some(mut idle) = stack.list.pop() {
            if idle.since >= oldest && !idle.connection.is_stale() {
                idle.connection.reused = true;
                return Some(idle.connection);
            }
        }
        None
    }

    /// Drops the idle connections to an endpoint.
    pub fn forget(&mut self, endpoint: &Endpoint) {
        self.idle.remove(&endpoint.id);
    }

    /// The HTTP/2 connections to an endpoint.
    pub fn backend(&mut self, endpoint: &Endpoint, idle_timeout: Option<Duration>) -> Rc<Backend> {
        let (backend, limit) = self.multiplexed.entry(endpoint.id).or_default();
        *limit = idle_timeout;
        backend.clone()
    }

    /// Keeps a connection whose answer was read to its end, or gives it to a request that waits on any shard.
    pub fn checkin(&mut self, endpoint: &Endpoint, connection: Connection, max_idle: usize, idle_timeout: Option<Duration>) {
        let connection = if endpoint.permits.waiting() == 0 {
            connection
        } else {
            match endpoint.permits.hand_over(Box::new(connection)) {
                Ok(()) => return,
                Err(back) => *back,
            }
        };
        let limit = max_idle.div_ceil(self.shards);
        if limit == 0 {
            return;
        }
        let stack = self.idle.entry(endpoint.id).or_default();
        stack.limit = idle_timeout;
        if stack.list.len() >= limit {
            stack.list.remove(0);
        }
        stack.list.push(Idle { connection, since: clock::cached() });
    }

    /// Gives idle connections of an endpoint to requests that wait on other shards.
    pub fn spare(&mut self, endpoint: &Endpoint) {
        if let Some((backend, _)) = self.multiplexed.get(&endpoint.id) {
            // One that no stream uses is closed, and its place goes to who waits.
            backend.sweep(clock::now() + 1);
        }
        let Some(stack) = self.idle.get_mut(&endpoint.id) else { return };
        while endpoint.permits.waiting() != 0
            && let Some(mut idle) = stack.list.pop()
        {
            if idle.connection.is_stale() {
                continue;
            }
            idle.connection.reused = true;
            if endpoint.permits.hand_over(Box::new(idle.connection)).is_err() {
                return;
            }
        }
    }

    /// Drops what was idle too long or was closed by its backend. Called about once a second.
    pub fn sweep(&mut self) {
        clock::refresh();
        self.idle.retain(|_, stack| {
            let oldest = stack.oldest();
            stack.list.retain_mut(|idle| idle.since >= oldest && !idle.connection.is_stale());
            !stack.list.is_empty()
        });
        self.multiplexed.retain(|_, (backend, limit)| backend.sweep(oldest(*limit)) || Rc::strong_count(backend) > 1);
    }

    /// Idle connections of an endpoint.
    pub fn idle(&self, endpoint: u64) -> usize {
        let shared = self.multiplexed.get(&endpoint).map_or(0, |(backend, _)| backend.idle());
        self.idle.get(&endpoint).map_or(0, |stack| stack.list.len()) + shared
    }

    /// Idle connections by endpoint.
    pub fn all(&self) -> impl Iterator<Item = (u64, usize)> {
        let shared = self.multiplexed.iter().map(|(id, (backend, _))| (*id, backend.idle()));
        self.idle.iter().map(|(id, stack)| (*id, stack.list.len())).chain(shared)
    }

    /// Drops every idle connection.
    pub fn clear(&mut self) {
        self.idle.clear();
        self.multiplexed.clear();
    }
}

impl Stack {
    /// Connections idle since before this are too old.
    fn oldest(&self) -> u64 {
        oldest(self.limit)
    }
}

fn oldest(limit: Option<Duration>) -> u64 {
    limit.map_or(0, |limit| clock::cached().saturating_sub(limit.as_millis() as u64))
}
