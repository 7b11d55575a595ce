//! `max_connections` of an endpoint: exact for the process, with one bounded queue of waiters.
//!
//! A permit lives with a connection, idle or not. When none is left a request waits for one of two things, whichever comes first: a
//! permit (a connection was closed), or a connection (one became idle on any shard and is handed over with its permit).

use std::any::Any;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// Connections of one endpoint.
#[derive(Debug)]
pub struct Permits {
    max: AtomicU32,
    max_waiters: AtomicU32,
    /// Permits out. Changed only under `queue`; read without it for metrics.
    open: AtomicU32,
    /// Waiters queued. Changed only under `queue`; read without it by every check-in.
    waiting: AtomicU32,
    queue: Mutex<VecDeque<Arc<Slot>>>,
}

/// One open connection. Dropped with it: the next waiter gets its place.
#[derive(Debug)]
pub struct Permit(Arc<Permits>);

/// What a waiter gets.
pub enum Grant {
    /// A place: connect.
    Permit(Permit),
    /// An idle connection of another request, with its permit inside. The pool knows its type.
    Connection(Box<dyn Any + Send>),
}

/// The queue of waiters is at its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull;

#[derive(Default)]
struct Slot {
    inner: Mutex<SlotState>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slot")
    }
}

#[derive(Default)]
struct SlotState {
    grant: Option<Grant>,
    waker: Option<Waker>,
}

/// Waits in the queue. Dropping it leaves the queue; a grant that had already come goes to the next waiter.
pub struct Wait {
    permits: Arc<Permits>,
    slot: Arc<Slot>,
    done: bool,
}

impl Permits {
    /// `max` connections, at most `max_waiters` requests waiting for one.
    pub fn new(max: u32, max_waiters: usize) -> Arc<Self> {
        Arc::new(Self {
            max: AtomicU32::new(max),
            max_waiters: AtomicU32::new(max_waiters.min(u32::MAX as usize) as u32),
            open: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            queue: Mutex::new(VecDeque::new()),
        })
    }

    /// New bounds after a reload. Open connections above a lower bound go as they close.
    pub fn resize(self: &Arc<Self>, max: u32, max_waiters: usize) {
        self.max.store(max, Ordering::Relaxed);
        self.max_waiters.store(max_waiters.min(u32::MAX as usize) as u32, Ordering::Relaxed);
        self.serve_waiters();
    }

    /// Open connections.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Requests waiting for a connection.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Acquire)
    }

    /// The bound.
    pub fn max(&self) -> u32 {
        self.max.load(Ordering::Relaxed)
    }

    /// A place for a new connection, when one is free and nobody waits for it.
    pub fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let queue = self.queue.lock();
        if queue.is_empty() { self.take(&queue) } else { None }
    }

    /// Joins the queue.
    pub fn wait(self: &Arc<Self>) -> Result<Wait, QueueFull> {
        let slot = Arc::new(Slot::default());
        let mut queue = self.queue.lock();
        let free = if queue.is_empty() { self.take(&queue) } else { None };
        if let Some(permit) = free {
            slot.inner.lock().grant = Some(Grant::Permit(permit));
        } else if queue.len() < self.max_waiters.load(Ordering::Relaxed) as usize {
            queue.push_back(slot.clone());
            self.waiting.store(queue.len() as u32, Ordering::Release);
        } else {
            return Err(QueueFull);
        }
        drop(queue);
        Ok(Wait { permits: self.clone(), slot, done: false })
    }

    /// Gives an idle connection (its permit inside) to the first waiter; hands it back when nobody waits.
    pub fn hand_over<C: Any + Send>(&self, connection: Box<C>) -> Result<(), Box<C>> {
        let mut queue = self.queue.lock();
        let Some(slot) = queue.pop_front() else { return Err(connection) };
        self.waiting.store(queue.len() as u32, Ordering::Release);
        drop(queue);
        slot.fill(Grant::Connection(connection));
        Ok(())
    }

    /// Counts one more connection. The guard shows that the lock is held.
    fn take(self: &Arc<Self>, _queue: &VecDeque<Arc<Slot>>) -> Option<Permit> {
        let open = self.open.load(Ordering::Relaxed);
        if open >= self.max.load(Ordering::Relaxed) {
            return None;
        }
        self.open.store(open + 1, Ordering::Relaxed);
        Some(Permit(self.clone()))
    }

    /// Gives free places to waiters.
    fn serve_waiters(self: &Arc<Self>) {
        loop {
            let mut queue = self.queue.lock();
            if queue.is_empty() {
                return;
            }
            let Some(permit) = self.take(&queue) else { return };
            let slot = queue.pop_front();
            self.waiting.store(queue.len() as u32, Ordering::Release);
            drop(queue);
            if let Some(slot) = slot {
                slot.fill(Grant::Permit(permit));
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let queue = self.0.queue.lock();
        self.0.open.store(self.0.open.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        let nobody = queue.is_empty();
        drop(queue);
        if !nobody {
            self.0.serve_waiters();
        }
    }
}

impl Slot {
    fn fill(&self, grant: Grant) {
        let mut state = self.inner.lock();
        state.grant = Some(grant);
        if let Some(waker) = state.waker.take() {
            drop(state);
            waker.wake();
        }
    }
}

impl Future for Wait {
    type Output = Grant;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Grant> {
        let mut state = self.slot.inner.lock();
        if let Some(grant) = state.grant.take() {
            drop(state);
            self.done = true;
            return Poll::Ready(grant);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut queue = self.permits.queue.lock();
        queue.retain(|slot| !Arc::ptr_eq(slot, &self.slot));
        self.permits.waiting.store(queue.len() as u32, Ordering::Release);
        drop(queue);
        // A grant that came meanwhile: a permit frees its place by being dropped, a connection goes on to the next waiter or closes.
        let grant = self.slot.inner.lock().grant.take();
        if let Some(Grant::Connection(connection)) = grant {
            let mut queue = self.permits.queue.lock();
            let next = queue.pop_front();
            self.permits.waiting.store(queue.len() as u32, Ordering::Release);
            drop(queue);
            if let Some(slot) = next {
                slot.fill(Grant::Connection(connection));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(wait: &mut Wait) -> Poll<Grant> {
        Pin::new(wait).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn never_more_than_max_and_waiters_are_served_in_order() {
        let permits = Permits::new(1, 2);
        let first = permits.try_acquire().unwrap();
        assert!(permits.try_acquire().is_none());
        let mut a = permits.wait().unwrap();
        let mut b = permits.wait().unwrap();
        assert_eq!(permits.wait().err(), Some(QueueFull));
        assert!(poll(&mut a).is_pending() && poll(&mut b).is_pending());
        drop(first);
        assert_eq!(permits.open(), 1);
        assert!(poll(&mut b).is_pending());
        let Poll::Ready(Grant::Permit(second)) = poll(&mut a) else { panic!("first waiter gets the place") };
        // Nobody steps past a waiter.
        assert!(permits.try_acquire().is_none());
        drop(second);
        assert!(matches!(poll(&mut b), Poll::Ready(Grant::Permit(_))));
    }

    #[test]
    fn a_waiter_that_leaves_passes_its_grant_on() {
        let permits = Permits::new(1, 8);
        let first = permits.try_acquire().unwrap();
        let a = permits.wait().unwrap();
        let mut b = permits.wait().unwrap();
        drop(first);
        drop(a);
        assert!(matches!(poll(&mut b), Poll::Ready(Grant::Permit(_))));
        assert_eq!(permits.waiting(), 0);

        let held = permits.try_acquire();
        let c = permits.wait().unwrap();
        let mut d = permits.wait().unwrap();
        permits.hand_over(Box::new(7_u8)).unwrap();
        drop(c);
        let Poll::Ready(Grant::Connection(connection)) = poll(&mut d) else { panic!("connection goes on") };
        assert_eq!(*connection.downcast::<u8>().unwrap(), 7);
        assert_eq!(permits.hand_over(Box::new(8_u8)).unwrap_err(), Box::new(8));
        drop(held);
    }

    #[test]
    fn a_higher_bound_serves_those_who_wait() {
        let permits = Permits::new(0, 8);
        let mut a = permits.wait().unwrap();
        assert!(poll(&mut a).is_pending());
        permits.resize(1, 8);
        assert!(matches!(poll(&mut a), Poll::Ready(Grant::Permit(_))));
    }
}
