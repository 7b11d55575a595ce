//! What a shard's thread runs on beside tokio: a cheap clock, cheap timers, memory that is used again.

pub mod clock;
pub mod recycle;
pub mod timers;
