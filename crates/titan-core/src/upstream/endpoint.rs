//! One address of a backend and everything that is known about it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use rustls::pki_types::ServerName;

use super::permits::Permits;

/// What became of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An answer below 500.
    Success,
    /// An answer of 500 or above.
    ServerError,
    /// No connection: refused, unreachable, timed out, TLS failed.
    ConnectFailed,
    /// Closed, reset or malformed before an answer.
    Reset,
    /// No answer in time.
    Timeout,
}

/// One address of a backend.
pub struct Endpoint {
    /// Unique in the process: key of idle connections in the pool.
    pub id: u64,
    /// Where to connect.
    pub addr: SocketAddr,
    /// Another address of the same backend, tried where `addr` refuses (only `localhost`, which is two addresses and one server).
    pub alternate: Option<SocketAddr>,
    /// The backend as configured: `host:port`. Metrics label.
    pub backend: Arc<str>,
    /// The backend's host, with the port where it is not the scheme's: a Host header.
    pub authority: Arc<str>,
    /// Name sent by SNI and verified; `None` without TLS.
    pub server_name: Option<ServerName<'static>>,
    /// Open connections, exact for the process.
    pub permits: Arc<Permits>,
    /// Requests in flight, exact for the process.
    pub in_flight: AtomicU32,
}
