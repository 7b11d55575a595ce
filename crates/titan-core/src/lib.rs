//! The data plane of Titan, with no Node.js in it.
//!
//! A request's way: [`listener`] accepts and terminates TLS → [`proxy`] holds one [`snapshot::Snapshot`], normalises the path
//! ([`http::path`]) and matches a [`route`] → the [`policy`] chain runs in its fixed order → an endpoint is chosen ([`upstream`],
//! [`balance`]) → a connection is checked out of the [`pool`] → head and body go out, the answer comes back, and the metrics and the
//! access log ([`metrics`]) close when its body has ended. Errors are typed where they arise ([`error::ProxyError`]) and become answers in
//! one place ([`proxy`]'s `rescue`).
//!
//! [`gateway::Gateway`] starts the shards, publishes snapshots to them and drains them. Imports go one way:
//! `shard → listener → proxy → {route, policy, auth, balance, upstream, pool} → {http, metrics, error, rt}`; run-time modules never import
//! [`config`].

pub mod auth;
pub mod balance;
pub mod body;
pub mod config;
pub mod error;
pub mod explain;
pub mod gateway;
pub mod hook;
pub mod http;
pub mod listener;
pub mod metrics;
pub mod policy;
pub mod pool;
pub mod proxy;
pub mod rehearsal;
pub mod route;
pub mod rt;
pub mod shard;
pub mod snapshot;
pub mod store;
pub mod tls;
pub mod upstream;
