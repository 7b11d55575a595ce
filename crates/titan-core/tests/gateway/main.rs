//! A gateway over real sockets: raw clients, raw origins.

mod backends;
mod basics;
mod bodies;
mod buffers;
mod demands;
#[path = "../support/dns.rs"]
mod dns;
mod grpc;
mod h2_world;
mod health_tls;
mod http2;
mod http2_attacks;
mod http2_pressure;
mod http2_upstream;
mod legs;
mod lifecycle;
mod limits;
mod policies;
mod rehearsal;
mod reload_streams;
mod retries;
mod secure;
mod streaming;
mod websocket;
mod world;
