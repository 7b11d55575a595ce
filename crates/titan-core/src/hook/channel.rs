//! The way to one JavaScript thread and back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use super::desk;
use crate::rt::clock;

/// Wakes the other end, which then calls [`Channel::exchange`] until it gives 0. Must not block. `false` = there is no other end any more.
pub type Kick = Box<dyn Fn() -> bool + Send + Sync>;

/// Records waiting beyond this many bytes mean that the other end is stuck: calls that need no answer are dropped.
const BACKLOG: usize = 8 << 20;

/// A queue of calls to one thread.
pub struct Channel {
    id: u32,
    kick: Kick,
    queue: Mutex<Queue>,
    closed: AtomicBool,
    /// Compiled hooks that use it.
    leases: AtomicUsize,
    retired: AtomicBool,
    /// [`clock::now`] when the other end was woken or took calls, and has not come back since; 0 = nothing is expected of it.
    since: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// What of `bytes` was taken.
    taken: usize,
    /// The other end was woken and will come.
    armed: bool,
}

static CHANNELS: LazyLock<Mutex<HashMap<u32, Weak<Channel>>>> = LazyLock::new(Mutex::default);
static NEXT: AtomicU32 = AtomicU32::new(1);

/// What [`Channel::exchange`] gives when nobody will call any more.
const RETIRED: i64 = i64::MIN;

impl Channel {
    /// A new channel, found by its id until it is dropped.
    pub fn open(kick: Kick) -> Arc<Self> {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let channel = Arc::new(Self {
            id,
            kick,
            queue: Mutex::default(),
            closed: AtomicBool::new(false),
            leases: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
            since: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let mut channels = CHANNELS.lock();
        channels.retain(|_, weak| weak.strong_count() > 0);
        channels.insert(id, Arc::downgrade(&channel));
        channel
    }

    /// The channel with this id.
    pub fn find(id: u32) -> Option<Arc<Self>> {
        CHANNELS.lock().get(&id).and_then(Weak::upgrade)
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The other end is gone: from now on calls fail at once. Those under way run into their deadline.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        let mut queue = self.queue.lock();
        queue.bytes = Vec::new();
        queue.taken = 0;
    }

    /// Whether calls make sense.
    pub fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Relaxed)
    }

    /// How long the other end has been called, or has been busy with what it took, and has not come; milliseconds.
    pub fn stalled(&self) -> u64 {
        match self.since.load(Ordering::Relaxed) {
            0 => 0,
            since => clock::now().saturating_sub(since),
        }
    }

    /// Calls without an answer that were dropped because the other end was stuck.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// A place for a record that needs no answer: `false` (and counted) where too much is waiting.
    pub(super) fn has_room(&self) -> bool {
        let room = self.is_open() && self.queue.lock().bytes.len() < BACKLOG;
        if !room {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        room
    }

    /// Appends whole records and wakes the other end. Leaves `records` empty, with a buffer.
    pub(super) fn push(&self, records: &mut Vec<u8>) {
        let wake = {
            let mut queue = self.queue.lock();
            if queue.bytes.is_empty() {
                std::mem::swap(&mut queue.bytes, records);
            } else {
                queue.bytes.extend_from_slice(records);
            }
            records.clear();
            !std::mem::replace(&mut queue.armed, true)
        };
        if wake {
            self.wake();
        }
    }

    fn wake(&self) {
        // Called and not come yet: the first call counts.
        let _ = self.since.compare_exchange(0, clock::now().max(1), Ordering::Relaxed, Ordering::Relaxed);
        if !(self.kick)() {
            self.close();
        }
    }

    /// The other end's turn: delivers `replies` (whole records) and copies the records that wait into `calls`.
    ///
    /// Gives the bytes copied; 0 when nothing waits (the next record wakes the other end again); `-n` when the next record needs a buffer of
    /// `n` bytes; `i64::MIN` when nothing waits and no configuration uses the channel any more.
    pub fn exchange(self: &Arc<Self>, replies: &[u8], calls: &mut [u8]) -> i64 {
        // It is here; whether it comes back from the calls that it gets now is another question.
        self.since.store(clock::now().max(1), Ordering::Relaxed);
        if !replies.is_empty() {
            desk::deliver(self, &Bytes::copy_from_slice(replies));
        }
        let mut queue = self.queue.lock();
        let waiting = &queue.bytes[queue.taken..];
        if waiting.is_empty() {
            queue.armed = false;
            self.since.store(0, Ordering::Relaxed);
            return if self.retired.load(Ordering::Relaxed) { RETIRED } else { 0 };
        }
        let mut end = 0;
        while end < waiting.len() {
            let length = record_length(&waiting[end..]);
            if end + length > calls.len() {
                break;
            }
            end += length;
        }
        if end == 0 {
            return -(record_length(waiting) as i64);
        }
        calls[..end].copy_from_slice(&waiting[..end]);
        queue.taken += end;
        if queue.taken == queue.bytes.len() {
            queue.bytes.clear();
            queue.taken = 0;
        }
        end as i64
    }
}

/// First four bytes of every record: its length.
pub(super) fn record_length(record: &[u8]) -> usize {
    u32::from_le_bytes(record[..4].try_into().expect("four bytes")) as usize
}

/// A compiled hook's use of a channel. When the last one goes, the other end learns that it is not needed any more.
pub struct Lease(Arc<Channel>);

impl Lease {
    /// Uses a channel.
    pub fn of(channel: Arc<Channel>) -> Self {
        channel.leases.fetch_add(1, Ordering::Relaxed);
        Self(channel)
    }

    /// The channel.
    pub fn channel(&self) -> &Arc<Channel> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.0.leases.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.retired.store(true, Ordering::Relaxed);
            self.0.wake();
        }
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("id", &self.id).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
