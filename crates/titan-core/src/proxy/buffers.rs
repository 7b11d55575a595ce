//! Bodies that are held (for another try, a hook, a change of the whole, an encoder), and how many bytes of them the process holds. Each is
//! bounded by itself; this bounds their sum. A request that holds nothing never comes here.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::error::{ErrorKind, ProxyError};

/// Told when the limit is reached, and when there is room again. First argument: whether it is reached; second: the limit.
pub type Tell = Box<dyn Fn(bool, u64) + Send + Sync>;

/// Room is told of again once this share of the limit is free, so that a process at its limit does not tell of each request.
const FREE_AGAIN: u64 = 4;
/// Least capacity of a buffer.
const SMALLEST: usize = 4 << 10;

/// The bytes of every body that is held, exact for the process.
#[derive(Default)]
pub struct Buffers {
    /// 0 = none.
    limit: AtomicU64,
    held: AtomicU64,
    refused: AtomicU64,
    forgone: AtomicU64,
    full: AtomicBool,
    tell: Option<Tell>,
}

impl Buffers {
    /// No limit yet.
    pub fn new(tell: Option<Tell>) -> Self {
        Self { tell, ..Self::default() }
    }

    /// The limit from now on; 0 = none.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Relaxed);
    }

    /// The limit; 0 = none.
    pub fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    /// Bytes held now.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Requests refused because what they needed could not be held.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Times that something was not held that is done without (another try, compression).
    pub fn forgone(&self) -> u64 {
        self.forgone.load(Relaxed)
    }

    /// Room for what one request holds.
    pub fn room(&self) -> Room<'_> {
        Room { buffers: self, bytes: 0 }
    }

    fn take(&self, bytes: u64) -> bool {
        let held = self.held.fetch_add(bytes, Relaxed) + bytes;
        let limit = self.limit();
        if limit == 0 || held <= limit {
            return true;
        }
        self.held.fetch_sub(bytes, Relaxed);
        if !self.full.swap(true, Relaxed)
            && let Some(tell) = &self.tell
        {
            tell(true, limit);
        }
        false
    }

    fn give(&self, bytes: u64) {
        let held = self.held.fetch_sub(bytes, Relaxed) - bytes;
        let limit = self.limit();
        if self.full.load(Relaxed)
            && held <= limit - limit / FREE_AGAIN
            && self.full.swap(false, Relaxed)
            && let Some(tell) = &self.tell
        {
            tell(false, limit);
        }
    }
}

/// What one request holds. Given back when dropped.
pub struct Room<'b> {
    buffers: &'b Buffers,
    bytes: u64,
}

impl Room<'_> {
    /// Room for `bytes` more; false where the process holds too much already.
    pub fn take(&mut self, bytes: u64) -> bool {
        let taken = self.buffers.take(bytes);
        if taken {
            self.bytes += bytes;
        }
        taken
    }

    /// Capacity for `more` bytes in `buffer`, all of whose capacity is of this room. It at least doubles, so that a large body asks a few times.
    pub fn grow(&mut self, buffer: &mut Vec<u8>, more: usize) -> bool {
        let needed = buffer.len() + more;
        if needed <= buffer.capacity() {
            return true;
        }
        let capacity = needed.next_power_of_two().max(SMALLEST);
        let taken = self.take((capacity - buffer.capacity()) as u64);
        if taken {
            buffer.reserve_exact(capacity - buffer.len());
            // The allocator may give more than it was asked for.
            self.settle(capacity, buffer.capacity());
        }
        taken
    }

    /// A buffer of this room has another capacity now, whatever the limit says.
    pub fn settle(&mut self, before: usize, after: usize) {
        if after > before {
            self.buffers.held.fetch_add((after - before) as u64, Relaxed);
            self.bytes += (after - before) as u64;
        } else {
            self.give((before - after) as u64);
        }
    }

    /// Frees a buffer of this room.
    pub fn free(&mut self, buffer: &mut Vec<u8>) {
        if buffer.capacity() > 0 {
            self.give(std::mem::take(buffer).capacity() as u64);
        }
    }

    /// Something was not held that can be done without.
    pub fn forgo(&self) {
        self.buffers.forgone.fetch_add(1, Relaxed);
    }

    /// The answer to a request that cannot be served without holding what there is no room for.
    pub fn refuse(&self) -> ProxyError {
        self.buffers.refused.fetch_add(1, Relaxed);
        let limit = self.buffers.limit();
        ProxyError::gateway(ErrorKind::Overloaded, format!("the bodies held by this process have reached its limit of {limit} bytes"))
    }

    fn give(&mut self, bytes: u64) {
        self.bytes -= bytes;
        self.buffers.give(bytes);
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.buffers.give(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn the_sum_is_bounded_and_given_back() {
        let buffers = Buffers::default();
        buffers.set_limit(100 << 10);
        let (mut a, mut b) = (buffers.room(), buffers.room());
        let (mut body, mut other) = (Vec::new(), Vec::new());
        assert!(a.grow(&mut body, 60 << 10) && body.capacity() >= 64 << 10);
        assert_eq!(buffers.held(), body.capacity() as u64);
        assert!(!b.grow(&mut other, 40 << 10) && other.capacity() == 0, "it would round up to 64 KiB");
        assert!(b.grow(&mut other, 30 << 10));
        assert_eq!(buffers.held(), (body.capacity() + other.capacity()) as u64);
        assert!(a.grow(&mut body, 64), "there is capacity left");
        a.free(&mut body);
        assert!(body.capacity() == 0 && buffers.held() == other.capacity() as u64);
        assert!(a.take(1000));
        drop((a, b));
        assert_eq!(buffers.held(), 0);
    }

    #[test]
    fn growing_asks_a_few_times_only() {
        let buffers = Buffers::default();
        let (mut room, mut body, mut changes) = (buffers.room(), Vec::new(), 0);
        for _ in 0..1000 {
            let before = buffers.held();
            assert!(room.grow(&mut body, 1000), "without a limit");
            body.extend_from_slice(&[0; 1000]);
            changes += usize::from(buffers.held() != before);
        }
        assert!(changes < 12, "{changes}");
    }

    #[test]
    fn being_full_is_told_once_and_so_is_its_end() {
        let told: Arc<Mutex<Vec<bool>>> = Arc::default();
        let sink = told.clone();
        let buffers = Buffers::new(Some(Box::new(move |full, _| sink.lock().unwrap().push(full))));
        buffers.set_limit(100);
        let (mut a, mut b) = (buffers.room(), buffers.room());
        assert!(a.take(60) && b.take(40) && !a.take(1) && !b.take(1));
        assert_eq!(*told.lock().unwrap(), [true]);
        drop(b);
        assert_eq!(*told.lock().unwrap(), [true, false]);
        assert!(!a.take(100) && a.take(1));
        drop(a);
        assert_eq!(*told.lock().unwrap(), [true, false, true, false]);
    }
}
