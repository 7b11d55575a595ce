//! A compiled listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::metrics;
use crate::tls::ServerTls;

/// A compiled listener: plain values, no socket. Sockets are kept by [`ListenerSpec::name`] and [`ListenerSpec::address`], so that a
/// reload which changes only limits or certificates keeps them bound.
#[derive(Debug, Clone)]
pub struct ListenerSpec {
    /// Stable name: metrics label, key across reloads.
    pub name: Arc<str>,
    /// Address and port as configured (port 0 = chosen by the system).
    pub address: SocketAddr,
    /// Accept queue.
    pub backlog: u32,
    /// TLS; `None` = plain.
    pub tls: Option<Arc<ServerTls>>,
    /// HTTP/2: by ALPN on TLS, by prior knowledge on plain connections.
    pub http2: bool,
    /// HTTP/2 settings.
    pub h2: Http2Settings,
    /// Time limits.
    pub timeouts: ListenerTimeouts,
    /// Open connections, exact for the process.
    pub max_connections: u64,
    /// Open connections of one client address (IPv6: /64). 0 = no limit.
    pub max_connections_per_ip: u64,
    /// Requests served by one connection before it is closed. 0 = no limit.
    pub max_requests_per_connection: u64,
    /// Bytes of a request body, where a route says nothing else.
    pub max_body: u64,
    /// Bytes of a head, request line included.
    pub max_head: usize,
    /// Header fields of a head.
    pub max_headers: usize,
    /// Index of its series.
    pub metric: metrics::Id,
}

/// Time limits of client connections; `None` = none.
#[derive(Debug, Clone, Copy)]
pub struct ListenerTimeouts {
    /// TLS handshake.
    pub tls_handshake: Option<Duration>,
    /// First byte of a head to its last.
    pub head: Option<Duration>,
    /// Between two reads of a request body.
    pub read: Option<Duration>,
    /// Between two accepted writes of an answer.
    pub write: Option<Duration>,
    /// Idle keep-alive connection.
    pub idle: Option<Duration>,
}

/// HTTP/2 settings of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Http2Settings {
    /// SETTINGS_MAX_CONCURRENT_STREAMS.
    pub max_concurrent_streams: u32,
    /// Initial window of a stream, bytes.
    pub initial_stream_window: u32,
    /// Window of the connection, bytes.
    pub initial_connection_window: u32,
    /// SETTINGS_MAX_HEADER_LIST_SIZE, bytes.
    pub max_header_list: u32,
    /// Streams reset by the peer before GOAWAY ENHANCE_YOUR_CALM.
    pub max_resets: usize,
}
