//! What a shard counts.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::cells::{Counter, Histogram};
use super::table::{Id, Table};
use crate::http::head::Method;

/// A request that has ended: its body was sent, or it failed.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// Its route, [`Id::NONE`] where none matched.
    pub route: Id,
    /// Method.
    pub method: Method,
    /// Status sent, 499 where the client went away before.
    pub status: u16,
    /// First byte of its head to last byte of the answer.
    pub duration: Duration,
    /// Bytes of its body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// The stage of an answer that Titan made, and of an error after the head.
    pub stage: Option<&'static str>,
}

/// How one try at an upstream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Try {
    /// An answer came, of any status.
    Answered,
    /// No connection.
    ConnectFailed,
    /// The connection failed before an answer.
    Reset,
    /// Too slow.
    TimedOut,
}

/// Why a connection was not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `max_connections` of the listener.
    Limit,
    /// `max_connections_per_ip`.
    PerAddress,
    /// Draining, or overload.
    Shutdown,
}

/// Why a client's connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// In order.
    Clean,
    /// A time limit.
    Timeout,
    /// Reset, malformed.
    Error,
}

/// How a hook's call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookOutcome {
    /// The request goes on.
    WentOn,
    /// The hook answered.
    Answered,
    /// It was told and not asked (`onLog`).
    Told,
    /// It threw, or its reply was invalid.
    Failed,
    /// Its deadline came.
    Late,
    /// Too many calls were under way.
    Busy,
    /// No thread has it.
    Gone,
}

/// Series of one shard. Only its thread writes.
#[derive(Default)]
pub struct Shard {
    pub(super) routes: Table<RouteSeries>,
    pub(super) upstreams: Table<UpstreamSeries>,
    pub(super) policies: Table<PolicySeries>,
    pub(super) listeners: Table<ListenerSeries>,
    pub(super) hooks: Table<HookSeries>,
    pub(super) hooked: Counter,
    pub(super) stages: Stages,
}

impl Shard {
    /// A request has ended.
    pub fn done(&self, done: &Done) {
        let series = self.routes.get(done.route);
        series.statuses.count(done.method, done.status);
        series.latency.observe(done.duration);
        series.bytes_in.add(done.bytes_in);
        series.bytes_out.add(done.bytes_out);
        if let Some(stage) = done.stage {
            self.stages.count(stage);
        }
    }

    /// A tunnel (WebSocket, other upgrade) has begun.
    pub fn tunnel_opened(&self, route: Id) {
        self.routes.get(route).tunnels_opened.inc();
    }

    /// A tunnel has ended.
    pub fn tunnel_closed(&self, route: Id, bytes_in: u64, bytes_out: u64) {
        let series = self.routes.get(route);
        series.tunnels_closed.inc();
        series.tunnel_in.add(bytes_in);
        series.tunnel_out.add(bytes_out);
    }

    /// A try at an upstream has ended; `latency` = request sent to first byte of the answer, or to giving it up.
    pub fn tried(&self, upstream: Id, outcome: Try, latency: Duration) {
        let series = self.upstreams.get(upstream);
        match outcome {
            Try::Answered => series.answered.inc(),
            Try::ConnectFailed => series.connect_failed.inc(),
            Try::Reset => series.reset.inc(),
            Try::TimedOut => series.timed_out.inc(),
        }
        // A connection that failed is no fast answer.
        if matches!(outcome, Try::Answered | Try::TimedOut) {
            series.latency.observe(latency);
        }
    }

    /// A new connection to an upstream; `handshake` covers TCP and TLS.
    pub fn connected(&self, upstream: Id, handshake: Duration) {
        let series = self.upstreams.get(upstream);
        series.connects.inc();
        series.connect_us.add(u64::try_from(handshake.as_micros()).unwrap_or(u64::MAX));
    }

    /// A request is tried once more.
    pub fn retried(&self, upstream: Id) {
        self.upstreams.get(upstream).retries.inc();
    }

    /// A retry was wanted, and the budget said no.
    pub fn retry_denied(&self, upstream: Id) {
        self.upstreams.get(upstream).retries_denied.inc();
    }

    /// A rate limit (or another limiting policy) turned a request away.
    pub fn limited(&self, policy: Id) {
        self.policies.get(policy).rejected.inc();
    }

    /// A request has ended that some hook was called for.
    pub fn hooked(&self) {
        self.hooked.inc();
    }

    /// A hook's call has ended.
    pub fn hook(&self, hook: Id, outcome: HookOutcome, took: Duration) {
        let series = self.hooks.get(hook);
        series.outcomes[outcome as usize].inc();
        if matches!(outcome, HookOutcome::WentOn | HookOutcome::Answered | HookOutcome::Failed | HookOutcome::Late) {
            series.latency.observe(took);
        }
    }

    /// A connection was accepted.
    pub fn accepted(&self, listener: Id) {
        self.listeners.get(listener).accepted.inc();
    }

    /// A connection that was accepted has ended.
    pub fn closed(&self, listener: Id, why: Close) {
        let series = self.listeners.get(listener);
        match why {
            Close::Clean => series.closed_clean.inc(),
            Close::Timeout => series.closed_timeout.inc(),
            Close::Error => series.closed_error.inc(),
        }
    }

    /// A connection was turned away (it does not count as accepted).
    pub fn refused(&self, listener: Id, why: Refusal) {
        let series = self.listeners.get(listener);
        match why {
            Refusal::Limit => series.refused_limit.inc(),
            Refusal::PerAddress => series.refused_address.inc(),
            Refusal::Shutdown => series.refused_shutdown.inc(),
        }
    }

    /// A TLS handshake has succeeded.
    pub fn handshake(&self, listener: Id, resumed: bool) {
        let series = self.listeners.get(listener);
        if resumed { series.tls_resumed.inc() } else { series.tls_full.inc() }
    }

    /// A TLS handshake has failed.
    pub fn handshake_failed(&self, listener: Id) {
        self.listeners.get(listener).tls_failed.inc();
    }
}

/// Series of a route.
#[derive(Default)]
pub(super) struct RouteSeries {
    pub(super) statuses: Statuses,
    pub(super) latency: Histogram,
    pub(super) bytes_in: Counter,
    pub(super) bytes_out: Counter,
    pub(super) tunnels_opened: Counter,
    pub(super) tunnels_closed: Counter,
    pub(super) tunnel_in: Counter,
    pub(super) tunnel_out: Counter,
}

/// Series of an upstream.
#[derive(Default)]
pub(super) struct UpstreamSeries {
    pub(super) answered: Counter,
    pub(super) connect_failed: Counter,
    pub(super) reset: Counter,
    pub(super) timed_out: Counter,
    pub(super) latency: Histogram,
    pub(super) connects: Counter,
    pub(super) connect_us: Counter,
    pub(super) retries: Counter,
    pub(super) retries_denied: Counter,
}

/// Series of a policy.
#[derive(Default)]
pub(super) struct PolicySeries {
    pub(super) rejected: Counter,
}

/// Series of a hook.
#[derive(Default)]
pub(super) struct HookSeries {
    /// By [`HookOutcome`].
    pub(super) outcomes: [Counter; 7],
    pub(super) latency: Histogram,
}

/// Series of a listener.
#[derive(Default)]
pub(super) struct ListenerSeries {
    pub(super) accepted: Counter,
    pub(super) closed_clean: Counter,
    pub(super) closed_timeout: Counter,
    pub(super) closed_error: Counter,
    pub(super) refused_limit: Counter,
    pub(super) refused_address: Counter,
    pub(super) refused_shutdown: Counter,
    pub(super) tls_full: Counter,
    pub(super) tls_resumed: Counter,
    pub(super) tls_failed: Counter,
}

/// Requests by method and status: a short list, most used first in practice, that grows in blocks.
#[derive(Default)]
pub(super) struct Statuses {
    slots: [(AtomicU32, Counter); 8],
    next: OnceLock<Box<Statuses>>,
}

/// Blocks of a list. What is beyond them is counted as status 0: an upstream cannot make memory grow by inventing statuses.
const BLOCKS: usize = 16;

impl Statuses {
    fn count(&self, method: Method, status: u16) {
        let key = (method as u32 + 1) << 16 | u32::from(status);
        if !self.try_count(key, BLOCKS) {
            // The last slot of the first block is as good as any: its key is overwritten by nobody.
            self.overflow();
        }
    }

    fn try_count(&self, key: u32, blocks: usize) -> bool {
        for (slot, count) in &self.slots {
            let found = slot.load(Ordering::Relaxed);
            if found == key {
                count.inc();
                return true;
            }
            if found == 0 {
                // One writer: nobody else claims the slot. The count is there before the key shows it.
                count.inc();
                slot.store(key, Ordering::Release);
                return true;
            }
        }
        blocks > 1 && self.next.get_or_init(Box::default).try_count(key, blocks - 1)
    }

    fn overflow(&self) {
        let mut block = self;
        while let Some(next) = block.next.get() {
            block = next;
        }
        block.slots[7].1.inc();
        block.slots[7].0.store((Method::Other as u32 + 1) << 16, Ordering::Release);
    }

    /// Calls `each` with method index, status and count.
    pub(super) fn for_each(&self, each: &mut impl FnMut(u32, u16, u64)) {
        for (slot, count) in &self.slots {
            let key = slot.load(Ordering::Acquire);
            if key != 0 {
                each((key >> 16) - 1, key as u16, count.get());
            }
        }
        if let Some(next) = self.next.get() {
            next.for_each(each);
        }
    }
}

/// Answers that Titan made itself, by stage.
#[derive(Default)]
pub(super) struct Stages {
    slots: [(OnceLock<&'static str>, Counter); 16],
    next: OnceLock<Box<Stages>>,
}

impl Stages {
    fn count(&self, stage: &'static str) {
        for (slot, count) in &self.slots {
            let found = slot.get_or_init(|| stage);
            // Mostly the same constant: the pointers agree, and no byte is compared.
            if std::ptr::eq(*found, stage) || *found == stage {
                return count.inc();
            }
        }
        self.next.get_or_init(Box::default).count(stage);
    }

    /// Calls `each` with stage and count.
    pub(super) fn for_each(&self, each: &mut impl FnMut(&'static str, u64)) {
        for (slot, count) in &self.slots {
            if let Some(stage) = slot.get() {
                each(stage, count.get());
            }
        }
        if let Some(next) = self.next.get() {
            next.for_each(each);
        }
    }
}
