//! The access log: one line a request, formatted into a buffer of the shard, written by a thread of its own.
//!
//! Fields, by the names used in the configuration:
//!
//! | name | value |
//! |---|---|
//! | `time` | end of the request, RFC 3339 with milliseconds, UTC |
//! | `request_id` `correlation_id` `trace_id` | as sent to the upstream |
//! | `client_ip` `peer` | client address (through trusted proxies), address and port of the connection |
//! | `protocol` `scheme` `tls_version` `sni` `listener` | of the connection |
//! | `method` `host` `path` `query` `target` | as sent; secrets in the query are redacted; `target` = path and query |
//! | `route` `upstream` `backend` | names; address of the backend that answered |
//! | `status` `bytes_in` `bytes_out` | status sent; bytes of the bodies |
//! | `duration_ms` | first byte of the head to last byte of the answer |
//! | `upstream_connect_ms` `upstream_first_byte_ms` | absent where no new connection was made, or no answer came |
//! | `tries` `error` `error_detail` | tries at upstreams; stage of an answer that Titan made itself, and what exactly went wrong there |
//! | `user_agent` `referer` | request headers; secrets in the referer's query are redacted |
//! | `user` | identity that authentication established |
//! | `header.NAME` | any other request header that carries no credentials |
//!
//! A field that a request does not have is left out (JSON) or `-` (text). Values are escaped: a line is always one line. The way to
//! the writer is bounded; when it is full, lines are dropped and counted, and no request waits.

mod escape;
mod line;
mod plan;
mod redact;
mod sink;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::http::head::RequestHead;

pub use plan::AccessLog;
pub use sink::{Counts, counts, flush, flusher};

/// What is known of a request at its end.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// End of the request.
    pub time: SystemTime,
    /// Its head; `None` where it was never complete.
    pub head: Option<&'a RequestHead>,
    /// Request id; empty = none.
    pub request_id: &'a [u8],
    /// Correlation id; empty = none.
    pub correlation_id: &'a [u8],
    /// Trace id, 32 hexadecimal digits; empty = none.
    pub trace_id: &'a [u8],
    /// Client address, through trusted proxies.
    pub client_ip: IpAddr,
    /// Address of the connection.
    pub peer: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// `TLSv1.2`, `TLSv1.3`.
    pub tls_version: Option<&'a str>,
    /// Name in the handshake.
    pub sni: Option<&'a str>,
    /// Name of the listener.
    pub listener: &'a str,
    /// Match path: what `exclude_paths` looks at. Empty where the path was refused.
    pub match_path: &'a [u8],
    /// Name of the route; empty = none.
    pub route: &'a str,
    /// Name of the upstream; empty = none.
    pub upstream: &'a str,
    /// Backend of the last try.
    pub backend: Option<SocketAddr>,
    /// Status sent, 499 where the client went away before.
    pub status: u16,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// First byte of the head to last byte of the answer.
    pub duration: Duration,
    /// Time of a new connection (TCP and TLS).
    pub upstream_connect: Option<Duration>,
    /// Request sent to first byte of the answer.
    pub upstream_first_byte: Option<Duration>,
    /// Tries at upstreams.
    pub tries: u32,
    /// Stage of an answer that Titan made, and of an error after the head.
    pub stage: Option<&'static str>,
    /// What went wrong, in words.
    pub detail: Option<&'a str>,
    /// Identity that authentication established.
    pub user: Option<&'a str>,
    /// Query parameters that carried a credential, whatever their names are.
    pub hidden: &'a [Arc<str>],
}
