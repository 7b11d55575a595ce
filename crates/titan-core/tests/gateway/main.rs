//! A gateway over real sockets: raw clients, raw origins.

mod basics;
mod world;
