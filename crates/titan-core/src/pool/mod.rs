//! Idle connections of one shard, last in first out: the one used last is the warmest and the least likely to have been closed.

mod connect;
mod connection;

use std::time::Duration;

use hashbrown::HashMap;

pub use connect::{Connect, connect};
pub use connection::{Connection, Socket};

use crate::rt::clock;
use crate::upstream::Endpoint;

/// The idle connections.
#[derive(Default)]
pub struct Pool {
    idle: HashMap<u64, Stack, foldhash::fast::RandomState>,
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
        Self { idle: HashMap::default(), shards: shards.max(1) }
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
        stack.list.push(Idle { connection, since: clock::now() });
    }

    /// Gives idle connections of an endpoint to requests that wait on other shards.
    pub fn spare(&mut self, endpoint: &Endpoint) {
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
        self.idle.retain(|_, stack| {
            let oldest = stack.oldest();
            stack.list.retain_mut(|idle| idle.since >= oldest && !idle.connection.is_stale());
            !stack.list.is_empty()
        });
    }

    /// Idle connections of an endpoint.
    pub fn idle(&self, endpoint: u64) -> usize {
        self.idle.get(&endpoint).map_or(0, |stack| stack.list.len())
    }

    /// Idle connections by endpoint.
    pub fn all(&self) -> impl Iterator<Item = (u64, usize)> {
        self.idle.iter().map(|(id, stack)| (*id, stack.list.len()))
    }

    /// Drops every idle connection.
    pub fn clear(&mut self) {
        self.idle.clear();
    }
}

impl Stack {
    /// Connections idle since before this are too old.
    fn oldest(&self) -> u64 {
        self.limit.map_or(0, |limit| clock::now().saturating_sub(limit.as_millis() as u64))
    }
}
