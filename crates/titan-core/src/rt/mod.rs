//! What a shard's thread runs on beside tokio: a cheap clock, cheap timers, memory that is used again; and what lets
//! a shard go first.

pub mod clock;
pub mod priority;
pub mod recycle;
pub mod timers;
