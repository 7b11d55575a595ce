//! The Node.js binding of `titan-core`, and the only user of napi.
//!
//! Rules of this crate: work that can block runs on a thread of its own and settles a promise; nothing here waits on the JavaScript
//! thread. Outcomes are values ([`outcome::Outcome`]), turned into coded errors by `src/native.ts`. No panic crosses: promises catch it,
//! synchronous functions carry `catch_unwind`. Functions handed in by JavaScript are weak, so that they never keep a process alive; the
//! one promise of [`gateway::NativeGateway::closed`] does, for as long as the gateway runs.

// napi leaves its registration out under `cfg(test)`, which `clippy --all-targets` checks, and everything looks unused.
#![cfg_attr(test, allow(dead_code))]

mod certificate;
mod config;
mod gateway;
mod hook;
mod metrics;
mod outcome;
mod promise;
mod rehearsal;
mod system;

/// A gateway allocates on many threads and frees on others (buffers, snapshots): mimalloc keeps that cheap and returns memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
