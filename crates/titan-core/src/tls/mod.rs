//! TLS on both legs: rustls with aws-lc-rs.
//!
//! [`Store`] lives as long as the gateway. It turns the configuration into what rustls needs and gives the same object back where the
//! configuration and the files behind it are unchanged, so that a reload keeps sessions, tickets and pooled connections.

mod client;
mod inspect;
mod pem;
mod server;
mod session;
mod sni;
mod store;
#[cfg(test)]
mod tests;
mod tickets;
mod verify;

pub use client::{UpstreamAlpn, server_name};
pub use inspect::{CertificateInfo, inspect};
pub use server::{ServerTls, explain};
pub use session::info;
pub use store::Store;
