//! One thread, one current-thread runtime: its listeners, pools, timers and counters.

pub mod clock;
pub mod recycle;
pub mod timers;
