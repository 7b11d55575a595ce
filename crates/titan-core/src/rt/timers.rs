//! One timer for each connection, cheap to move: most deadlines (idle, first byte, head) are pushed back long before they come.
//!
//! Arming stores a number. Only a deadline that is earlier than what the connection is already queued for goes into the heap; a queue entry
//! that comes up and finds its deadline pushed back is queued again. So a busy keep-alive connection touches the heap about once in its
//! shortest time limit, and nothing is ever cancelled.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use super::clock::{self, NEVER};

/// Deadlines are noticed at most this much late.
const GRAIN: Duration = Duration::from_millis(4);

/// The timers of a shard.
#[derive(Default)]
pub struct Timers {
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    slots: Slab<Slot>,
    /// (moment, slot, generation), earliest first.
    queue: BinaryHeap<Reverse<(u64, u32, u32)>>,
    generation: u32,
    driver: Option<Waker>,
    /// What the driver sleeps until.
    sleeping_until: u64,
}

struct Slot {
    generation: u32,
    deadline: u64,
    /// Moment of the earliest queue entry that is still good.
    queued: u64,
    waker: Option<Waker>,
}

/// A connection's timer. Also how a drain wakes it.
pub struct Timer {
    timers: Rc<Timers>,
    slot: u32,
}

impl Timers {
    /// A timer for one connection.
    pub fn timer(self: &Rc<Self>) -> Timer {
        let mut inner = self.inner.borrow_mut();
        inner.generation = inner.generation.wrapping_add(1);
        let generation = inner.generation;
        let slot = inner.slots.insert(Slot { generation, deadline: NEVER, queued: NEVER, waker: None }) as u32;
        Timer { timers: self.clone(), slot }
    }

    /// Wakes every connection that waits, so that it looks at the shard's state again.
    pub fn wake_all(&self) {
        let wakers: Vec<Waker> = self.inner.borrow().slots.iter().filter_map(|(_, slot)| slot.waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Wakes connections at their deadlines. Runs as a task of the shard to its end.
    pub async fn drive(self: Rc<Self>) {
        loop {
            let next = poll_fn(|cx| {
                let mut inner = self.inner.borrow_mut();
                inner.driver = Some(cx.waker().clone());
                inner.sleeping_until = NEVER;
                inner.queue.peek().map_or(Poll::Pending, |Reverse((at, ..))| Poll::Ready(*at))
            })
            .await;
            self.sleep_until(next).await;
            self.fire(clock::refresh());
        }
    }

    /// Sleeps until `next`, or until something earlier is queued.
    async fn sleep_until(&self, next: u64) {
        let sleep = tokio::time::sleep(clock::until(next).max(GRAIN));
        let mut sleep = std::pin::pin!(sleep);
        self.inner.borrow_mut().sleeping_until = next;
        poll_fn(|cx| {
            let mut inner = self.inner.borrow_mut();
            if inner.queue.peek().is_some_and(|Reverse((at, ..))| *at < inner.sleeping_until) {
                return Poll::Ready(());
            }
            inner.driver = Some(cx.waker().clone());
            drop(inner);
            sleep.as_mut().poll(cx)
        })
        .await;
    }

    fn fire(&self, now: u64) {
        let mut inner = self.inner.borrow_mut();
        while let Some(&Reverse((at, index, generation))) = inner.queue.peek()
            && at <= now
        {
            inner.queue.pop();
            let Some(slot) = inner.slots.get_mut(index as usize) else { continue };
            if slot.generation != generation || slot.queued != at {
                continue;
            }
            if slot.deadline <= now {
                slot.queued = NEVER;
                if let Some(waker) = &slot.waker {
                    waker.wake_by_ref();
                }
            } else {
                slot.queued = slot.deadline;
                if slot.deadline != NEVER {
                    let entry = Reverse((slot.deadline, index, generation));
                    inner.queue.push(entry);
                }
            }
        }
    }

    fn arm(&self, index: u32, deadline: u64, cx: &Context<'_>) {
        let mut inner = self.inner.borrow_mut();
        let slot = &mut inner.slots[index as usize];
        slot.deadline = deadline;
        match &slot.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => slot.waker = Some(cx.waker().clone()),
        }
        if deadline < slot.queued {
            slot.queued = deadline;
            let entry = Reverse((deadline, index, slot.generation));
            inner.queue.push(entry);
            if deadline < inner.sleeping_until
                && let Some(driver) = inner.driver.take()
            {
                drop(inner);
                driver.wake();
            }
        }
    }
}

impl Timer {
    /// Ready when `deadline` has come; otherwise the task is woken then (or earlier). The last deadline counts: there is one a connection.
    /// With [`NEVER`] the task can still be woken by a drain. Compared with the thread's [`clock::cached`] time.
    pub fn poll(&self, cx: &Context<'_>, deadline: u64) -> Poll<()> {
        if deadline <= clock::cached() {
            return Poll::Ready(());
        }
        self.timers.arm(self.slot, deadline, cx);
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.timers.inner.borrow_mut().slots.remove(self.slot as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<F: Future>(test: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_time().build_local(Default::default()).unwrap().block_on(test)
    }

    #[test]
    fn a_deadline_comes_once_and_an_earlier_one_goes_first() {
        run(async {
            let timers = Rc::new(Timers::default());
            tokio::task::spawn_local(timers.clone().drive());
            let (slow, fast) = (timers.timer(), timers.timer());
            let begin = std::time::Instant::now();
            let far = clock::after(Some(Duration::from_secs(60)));
            let near = clock::after(Some(Duration::from_millis(40)));
            poll_fn(|cx| {
                assert!(slow.poll(cx, far).is_pending());
                fast.poll(cx, near)
            })
            .await;
            assert!(begin.elapsed() >= Duration::from_millis(30) && begin.elapsed() < Duration::from_secs(10));
        });
    }

    #[test]
    fn pushing_back_touches_the_queue_only_when_it_comes_up() {
        run(async {
            let timers = Rc::new(Timers::default());
            let timer = timers.timer();
            poll_fn(|cx| {
                for n in 0..1_000 {
                    assert!(timer.poll(cx, clock::refresh() + 50_000 + n).is_pending());
                }
                Poll::Ready(())
            })
            .await;
            assert_eq!(timers.inner.borrow().queue.len(), 1);
            timers.fire(clock::now() + 50_000);
            assert_eq!(timers.inner.borrow().queue.len(), 1, "queued again for the later deadline");
            drop(timer);
            timers.fire(clock::now() + 200_000);
            assert!(timers.inner.borrow().queue.is_empty());
        });
    }
}
