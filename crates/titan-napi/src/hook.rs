//! One JavaScript thread's end of the hooks' channel.

use std::sync::Arc;

use napi::bindgen_prelude::{BufferSlice, Function, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Result, Status};
use napi_derive::napi;
use titan_core::hook::Channel;

/// Wakes the thread; weak. One call is under way at most, since the channel wakes only a thread that has come before.
type Wake = ThreadsafeFunction<(), Unknown<'static>, (), Status, false, true, 16>;

/// `exchange` gives this when no configuration uses the channel any more.
const RETIRED: i64 = -1;

/// A channel that hooks of a configuration name by its id. Made on the thread that will run them.
#[napi]
pub struct HookChannel {
    channel: Arc<Channel>,
}

#[napi]
impl HookChannel {
    /// `on_calls` is called when calls wait; it must `exchange` until that gives 0.
    #[napi(constructor)]
    pub fn new(#[napi(ts_arg_type = "() => void")] on_calls: Function<'_, (), Unknown<'static>>) -> Result<Self> {
        let wake: Wake = on_calls.build_threadsafe_function().weak::<true>().max_queue_size::<16>().build()?;
        let kick = move || wake.call((), ThreadsafeFunctionCallMode::NonBlocking) != Status::Closing;
        Ok(Self { channel: Channel::open(Box::new(kick)) })
    }

    /// Its id.
    #[napi(getter)]
    pub fn id(&self) -> u32 {
        self.channel.id()
    }

    /// Hands over the first `length` bytes of `replies` and fills `calls`. Gives the bytes filled; 0 = nothing waits; -1 = nothing waits, and
    /// no configuration uses the channel any more; below = a buffer of that many bytes is needed.
    #[napi(catch_unwind)]
    pub fn exchange(&self, replies: BufferSlice<'_>, length: u32, mut calls: BufferSlice<'_>) -> i64 {
        match self.channel.exchange(replies.get(..length as usize).unwrap_or_default(), &mut calls) {
            i64::MIN => RETIRED,
            other => other,
        }
    }

    /// How long the thread has been called and has not come, milliseconds.
    #[napi(catch_unwind)]
    pub fn stalled(&self) -> f64 {
        self.channel.stalled() as f64
    }

    /// Calls without an answer (`onLog`) that were dropped because the thread was stuck.
    #[napi(catch_unwind)]
    pub fn dropped(&self) -> f64 {
        self.channel.dropped() as f64
    }

    /// From now on calls fail at once.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.channel.close();
    }
}

impl Drop for HookChannel {
    /// The thread has ended.
    fn drop(&mut self) {
        self.channel.close();
    }
}

/// How long the thread behind a channel has been called and has not come, milliseconds; `-1` where it has ended. For other threads.
#[napi(catch_unwind)]
pub fn hook_stall(channel: u32) -> f64 {
    Channel::find(channel).filter(|channel| channel.is_open()).map_or(-1.0, |channel| channel.stalled() as f64)
}
