//! Listeners.

use serde::Deserialize;

/// One bound address.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Stable name (metrics label, key across reloads).
    pub name: String,
    /// IP address, `0.0.0.0` / `::` for all.
    pub address: String,
    /// TCP port; 0 = chosen by the system, reported by [`crate::gateway::Gateway::addresses`].
    pub port: u16,
    /// Accept queue.
    #[serde(default = "backlog")]
    pub backlog: u32,
    /// TLS; absent = plain.
    #[serde(default)]
    pub tls: Option<ListenerTls>,
    /// HTTP/2: by ALPN on TLS, by prior knowledge on plain listeners.
    #[serde(default = "yes")]
    pub http2: bool,
    /// HTTP/2 settings.
    #[serde(default)]
    pub h2: Http2,
    /// Time limits.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Size and count limits.
    #[serde(default)]
    pub limits: Limits,
}

/// Time limits of client connections. 0 = none.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// TLS handshake: the connection is closed.
    pub tls_handshake_ms: u64,
    /// First byte of a head to its last: 408 and close.
    pub head_ms: u64,
    /// Between two reads of a request body: 408 and close.
    pub read_ms: u64,
    /// Between two accepted writes of an answer: the connection is reset.
    pub write_ms: u64,
    /// Idle keep-alive connection: closed.
    pub idle_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { tls_handshake_ms: 10_000, head_ms: 10_000, read_ms: 60_000, write_ms: 60_000, idle_ms: 300_000 }
    }
}

/// Limits of client connections.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections, exact for the process; one more gets a 503 naming the limit and is closed.
    pub max_connections: u64,
    /// Open connections of one client address (IPv6: /64). 0 = no limit.
    pub max_connections_per_ip: u64,
    /// Requests served by one connection before it is closed. 0 = no limit.
    pub max_requests_per_connection: u64,
    /// Bytes of a request body (route limits may be lower): 413.
    pub max_body: u64,
    /// Bytes of a head, request line included: 431.
    pub max_head: usize,
    /// Header fields of a head: 431.
    pub max_headers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_ip: 0,
            max_requests_per_connection: 0,
            max_body: 1 << 20,
            max_head: 8 << 10,
            max_headers: 100,
        }
    }
}

/// HTTP/2 settings of a listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http2 {
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

impl Default for Http2 {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 100,
            initial_stream_window: 64 << 10,
            initial_connection_window: 1 << 20,
            max_header_list: 16 << 10,
            max_resets: 200,
        }
    }
}

/// TLS of a listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// The first is the default for a client whose SNI matches none.
    pub certificates: Vec<Certificate>,
    /// `1.2` or `1.3`.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// Protocols offered by ALPN, in order of preference.
    #[serde(default = "alpn")]
    pub alpn: Vec<String>,
    /// Client certificates.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// PEM bundle that client certificates must chain to.
    #[serde(default)]
    pub client_ca_path: Option<String>,
}

/// A certificate chain and its key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// PEM chain, leaf first.
    pub cert_path: String,
    /// PEM key (PKCS#8, PKCS#1 or SEC1).
    pub key_path: String,
    /// Names it is served for; empty = the names in the certificate (SANs, or the CN where there is none).
    #[serde(default)]
    pub names: Vec<String>,
}

/// Lowest TLS version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3
    #[serde(rename = "1.3")]
    V13,
}

/// Client certificate policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// Not asked for.
    #[default]
    None,
    /// Asked for, verified when given.
    Optional,
    /// No certificate, no handshake.
    Required,
}

fn backlog() -> u32 {
    4096
}
fn yes() -> bool {
    true
}
fn alpn() -> Vec<String> {
    vec!["h2".into(), "http/1.1".into()]
}
