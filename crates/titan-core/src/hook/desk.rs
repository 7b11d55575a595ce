//! A shard's side: calls that wait for their replies.
//!
//! One local task a shard does the rest: it runs after the tasks that were ready before it, so the calls of one turn of the loop leave
//! together; it is woken once for a batch of replies and wakes their requests with local wakes.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use slab::Slab;

use super::channel::{Channel, record_length};
use super::spec::{Fault, Permit};
use crate::rt::clock;

/// How exact deadlines are.
const TICK: Duration = Duration::from_millis(10);

/// Who waits for a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) slot: u32,
    /// Tells apart those who had the same slot one after another.
    pub(super) turn: u32,
    pub(super) desk: u16,
}

/// What other threads see of a desk.
#[derive(Default)]
struct Inbox {
    replies: Mutex<Vec<Delivery>>,
    waker: Mutex<Option<Waker>>,
}

/// A reply on its way to its desk.
struct Delivery {
    token: Token,
    reply: Bytes,
    channel: Arc<Channel>,
}

static INBOXES: LazyLock<Mutex<Slab<Arc<Inbox>>>> = LazyLock::new(Mutex::default);

/// The calls of one thread.
struct Desk {
    index: u16,
    inbox: Arc<Inbox>,
    waiting: RefCell<Slab<Waiting>>,
    turn: Cell<u32>,
    outgoing: RefCell<Vec<Outgoing>>,
    /// The task runs.
    served: Cell<bool>,
}

struct Outgoing {
    channel: Arc<Channel>,
    records: Vec<u8>,
}

struct Waiting {
    turn: u32,
    deadline: u64,
    channel: Arc<Channel>,
    state: State,
}

enum State {
    Open(Option<Waker>),
    Replied(Bytes),
    Failed(Fault),
}

thread_local! {
    static DESK: Rc<Desk> = Desk::new();
}

impl Desk {
    fn new() -> Rc<Self> {
        let inbox = Arc::new(Inbox::default());
        let index = INBOXES.lock().insert(Arc::clone(&inbox));
        Rc::new(Self {
            index: u16::try_from(index).expect("fewer than 65,536 threads"),
            inbox,
            waiting: RefCell::default(),
            turn: Cell::new(0),
            outgoing: RefCell::default(),
            served: Cell::new(false),
        })
    }

    /// Writes a record for `channel`, to leave with the others of this turn.
    fn write(self: &Rc<Self>, channel: &Arc<Channel>, write: impl FnOnce(&mut Vec<u8>)) {
        {
            let mut outgoing = self.outgoing.borrow_mut();
            let at = match outgoing.iter().position(|o| Arc::ptr_eq(&o.channel, channel)) {
                Some(at) => at,
                None => {
                    outgoing.push(Outgoing { channel: Arc::clone(channel), records: Vec::new() });
                    outgoing.len() - 1
                }
            };
            write(&mut outgoing[at].records);
        }
        self.serve();
    }

    /// Sees to it that the task runs soon.
    fn serve(self: &Rc<Self>) {
        if self.served.replace(true) {
            if let Some(waker) = &*self.inbox.waker.lock() {
                waker.wake_by_ref();
            }
        } else {
            tokio::task::spawn_local(Serve { desk: Rc::clone(self), tick: None });
        }
    }

    fn flush(&self) {
        self.outgoing.borrow_mut().retain_mut(|outgoing| {
            if !outgoing.records.is_empty() {
                outgoing.channel.push(&mut outgoing.records);
            }
            // A channel of an earlier configuration goes when its last calls have.
            outgoing.channel.is_open() && Arc::strong_count(&outgoing.channel) > 1
        });
    }

    fn settle(&self, token: Token, state: State, from: Option<&Arc<Channel>>) {
        let mut waiting = self.waiting.borrow_mut();
        let waiter = waiting.get_mut(token.slot as usize).filter(|w| w.turn == token.turn);
        match waiter.map(|waiter| &mut waiter.state) {
            Some(open @ State::Open(_)) => {
                let State::Open(waker) = std::mem::replace(open, state) else { return };
                drop(waiting);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            // A reply that comes after its deadline, or whose request went away, finds nobody: what it attached goes.
            _ => {
                drop(waiting);
                if let (State::Replied(reply), Some(channel)) = (state, from) {
                    super::reply::discard(&reply, channel);
                }
            }
        }
    }

    fn expire(&self) {
        let now = clock::now();
        let over: Vec<(Token, Fault)> = {
            let waiting = self.waiting.borrow();
            let open = waiting.iter().filter(|(_, w)| matches!(w.state, State::Open(_)));
            open.filter_map(|(slot, w)| {
                let fault = match w.channel.is_open() {
                    false => Fault::Gone,
                    true if w.deadline <= now => Fault::Late,
                    true => return None,
                };
                Some((Token { slot: slot as u32, turn: w.turn, desk: self.index }, fault))
            })
            .collect()
        };
        for (token, fault) in over {
            self.settle(token, State::Failed(fault), None);
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        INBOXES.lock().try_remove(self.index as usize);
    }
}

/// The task of a desk.
struct Serve {
    desk: Rc<Desk>,
    tick: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Future for Serve {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let desk = Rc::clone(&self.desk);
        {
            let mut waker = desk.inbox.waker.lock();
            if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        desk.flush();
        let replies = std::mem::take(&mut *desk.inbox.replies.lock());
        for Delivery { token, reply, channel } in replies {
            desk.settle(token, State::Replied(reply), Some(&channel));
        }
        if desk.waiting.borrow().is_empty() {
            self.tick = None;
            return Poll::Pending;
        }
        loop {
            let tick = self.tick.get_or_insert_with(|| Box::pin(tokio::time::sleep(TICK)));
            if tick.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.tick = None;
            desk.expire();
        }
    }
}

impl Drop for Serve {
    /// The runtime ends: another one on this thread begins its own task.
    fn drop(&mut self) {
        self.desk.served.set(false);
        *self.desk.inbox.waker.lock() = None;
    }
}

/// A call under way. Dropped before its reply, it is forgotten.
pub struct Call {
    desk: Rc<Desk>,
    token: Token,
    _permit: Permit,
}

impl Call {
    /// Sends the record that `write` makes for the token it is given.
    pub(super) fn send(channel: &Arc<Channel>, deadline: Duration, permit: Permit, write: impl FnOnce(Token, &mut Vec<u8>)) -> Self {
        DESK.with(|desk| {
            let turn = desk.turn.get();
            desk.turn.set(turn.wrapping_add(1));
            let deadline = clock::after(Some(deadline));
            let waiter = Waiting { turn, deadline, channel: Arc::clone(channel), state: State::Open(None) };
            let slot = desk.waiting.borrow_mut().insert(waiter);
            let token = Token { slot: slot as u32, turn, desk: desk.index };
            desk.write(channel, |out| write(token, out));
            Self { desk: Rc::clone(desk), token, _permit: permit }
        })
    }
}

impl Future for Call {
    type Output = Result<Bytes, Fault>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut waiting = self.desk.waiting.borrow_mut();
        let Some(waiter) = waiting.get_mut(self.token.slot as usize) else { return Poll::Ready(Err(Fault::Gone)) };
        match &mut waiter.state {
            State::Open(waker) => {
                match waker {
                    Some(known) => known.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            State::Replied(reply) => Poll::Ready(Ok(std::mem::take(reply))),
            State::Failed(fault) => Poll::Ready(Err(*fault)),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let removed = self.desk.waiting.borrow_mut().try_remove(self.token.slot as usize);
        // A reply that was taken is empty.
        if let Some(Waiting { state: State::Replied(reply), channel, .. }) = removed
            && !reply.is_empty()
        {
            super::reply::discard(&reply, &channel);
        }
    }
}

/// Sends what this thread has for hooks now, instead of with all else of this turn.
pub fn flush() {
    DESK.with(|desk| desk.flush());
}

/// Sends a record that nobody waits for.
pub(super) fn post(channel: &Arc<Channel>, write: impl FnOnce(&mut Vec<u8>)) {
    // At the end of a thread, or off the shards, records go by themselves.
    let mut write = Some(write);
    let written = tokio::runtime::Handle::try_current().is_ok()
        && DESK.try_with(|desk| desk.served.get().then(|| desk.write(channel, write.take().expect("once")))).ok().flatten().is_some();
    if !written && let Some(write) = write {
        let mut records = Vec::new();
        write(&mut records);
        channel.push(&mut records);
    }
}

/// Sorts replies (whole records, end to end) by desk and wakes each desk once.
pub(super) fn deliver(channel: &Arc<Channel>, replies: &Bytes) {
    let inboxes = INBOXES.lock();
    let mut woken: Vec<u16> = Vec::new();
    let mut at = 0;
    while at + super::reply::HEAD <= replies.len() {
        let length = record_length(&replies[at..]).clamp(super::reply::HEAD, replies.len() - at);
        let record = replies.slice(at..at + length);
        at += length;
        let token = super::reply::token(&record);
        let Some(inbox) = inboxes.get(token.desk as usize) else { continue };
        inbox.replies.lock().push(Delivery { token, reply: record, channel: Arc::clone(channel) });
        if !woken.contains(&token.desk) {
            woken.push(token.desk);
        }
    }
    for desk in woken {
        if let Some(waker) = inboxes.get(desk as usize).and_then(|inbox| inbox.waker.lock().clone()) {
            waker.wake();
        }
    }
}
