//! A gateway over real sockets: raw clients, raw origins.

mod basics;
mod lifecycle;
mod limits;
mod retries;
mod secure;
mod streaming;
mod world;
