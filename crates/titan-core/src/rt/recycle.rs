//! Memory that a shard uses again: the futures of exchanges and the buffers of heads and bodies.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

/// Blocks kept of one layout.
const BLOCKS: usize = 256;
/// Buffers kept.
const BUFFERS: usize = 256;
/// A buffer that grew above this is given back to the allocator.
const LARGEST: usize = 32 << 10;
/// Capacity of a fresh buffer.
const SMALLEST: usize = 1 << 10;
/// Length of a read buffer: 128 KiB and what an answer's head may take, so that a body of a round size comes in whole reads.
pub const SCRATCH: usize = (128 << 10) + (2 << 10);
/// Read buffers kept.
const SCRATCHES: usize = 8;

thread_local! {
    static FREE: RefCell<Blocks> = const { RefCell::new(Blocks(Vec::new())) };
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static LARGE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Free blocks by layout: a handful of layouts, one for each kind of exchange.
struct Blocks(Vec<(Layout, Vec<NonNull<u8>>)>);

impl Drop for Blocks {
    fn drop(&mut self) {
        for (layout, blocks) in self.0.drain(..) {
            for block in blocks {
                // SAFETY: every block of this list was allocated with this layout and is owned by the list alone.
                unsafe { dealloc(block.as_ptr(), layout) };
            }
        }
    }
}

/// A future in memory that its thread uses again: what `Box::pin` would be, without the allocator. An idle connection then holds none of
/// an exchange's state, and a busy one costs no allocation.
pub struct Recycled<F> {
    at: NonNull<F>,
}

impl<F> Recycled<F> {
    /// Makes a value in a block. It takes a closure and not the value: a future is as large as its largest state, what it begins with is a
    /// few words, and only when it is made where it stays are no more than those written.
    #[inline(always)]
    pub fn new(make: impl FnOnce() -> F) -> Self {
        let at = Self::block();
        // SAFETY: the block has F's layout, and nobody else holds it.
        unsafe { at.write(make()) };
        Self { at }
    }

    fn block() -> NonNull<F> {
        let layout = Layout::new::<F>();
        assert!(layout.size() != 0, "a future of an exchange has state");
        let found = FREE
            .try_with(|free| free.borrow_mut().0.iter_mut().find(|(of, _)| *of == layout).and_then(|(_, blocks)| blocks.pop()))
            .ok()
            .flatten();
        let block = found.unwrap_or_else(|| {
            // SAFETY: the layout is not of size zero (checked above).
            NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
        });
        block.cast()
    }
}

impl<F: Future> Future for Recycled<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: the value never moves from its block until it is dropped there, which is what pinning asks for.
        unsafe { Pin::new_unchecked(self.get_mut().at.as_mut()) }.poll(cx)
    }
}

impl<F> Drop for Recycled<F> {
    fn drop(&mut self) {
        let layout = Layout::new::<F>();
        let block = self.at.cast::<u8>();
        // SAFETY: the block holds a live F, dropped exactly once, here.
        unsafe { self.at.drop_in_place() };
        let kept = FREE.try_with(|free| {
            let free = &mut free.borrow_mut().0;
            let index = free.iter().position(|(of, _)| *of == layout).unwrap_or_else(|| {
                free.push((layout, Vec::new()));
                free.len() - 1
            });
            let blocks = &mut free[index].1;
            let room = blocks.len() < BLOCKS;
            if room {
                blocks.push(block);
            }
            room
        });
        if kept != Ok(true) {
            // SAFETY: allocated with this layout and not kept, so owned by nobody else.
            unsafe { dealloc(block.as_ptr(), layout) };
        }
    }
}

/// An empty buffer with some capacity.
pub fn buffer() -> Vec<u8> {
    SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten().unwrap_or_else(|| Vec::with_capacity(SMALLEST))
}

/// Gives a buffer back; `buf` holds none afterwards.
pub fn give(buf: &mut Vec<u8>) {
    let mut buf = std::mem::take(buf);
    if !(SMALLEST..=LARGEST).contains(&buf.capacity()) {
        return;
    }
    buf.clear();
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < BUFFERS {
            spare.push(buf);
        }
    });
}

/// A read buffer: [`SCRATCH`] bytes of anything.
pub fn scratch() -> Vec<u8> {
    LARGE.try_with(|large| large.borrow_mut().pop()).ok().flatten().unwrap_or_else(|| vec![0; SCRATCH])
}

/// Gives a read buffer back.
pub fn give_scratch(buf: Vec<u8>) {
    debug_assert_eq!(buf.len(), SCRATCH);
    let _ = LARGE.try_with(|large| {
        let mut large = large.borrow_mut();
        if large.len() < SCRATCHES {
            large.push(buf);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn a_block_is_used_again_and_its_value_dropped_once() {
        let witness = Rc::new(());
        let make = |w: Rc<()>| Recycled::new(|| async move { Rc::strong_count(&w) });
        let first = make(witness.clone());
        let place = first.at.as_ptr() as usize;
        assert_eq!(Rc::strong_count(&witness), 2);
        drop(first);
        assert_eq!(Rc::strong_count(&witness), 1);
        let mut second = make(witness.clone());
        assert_eq!(second.at.as_ptr() as usize, place);
        let done = Pin::new(&mut second).poll(&mut Context::from_waker(std::task::Waker::noop()));
        assert_eq!(done, Poll::Ready(2));
    }

    #[test]
    fn buffers_come_back_empty_and_large_ones_go() {
        let mut a = buffer();
        a.extend_from_slice(b"secret");
        let place = a.as_ptr();
        give(&mut a);
        assert_eq!(a.capacity(), 0);
        let b = buffer();
        assert!(b.is_empty() && b.as_ptr() == place);
        let mut large = Vec::with_capacity(LARGEST + 1);
        give(&mut large);
        assert!(buffer().capacity() <= LARGEST);
    }
}
