//! Heads from bytes, strictly (RFC 9112): what another parser might read differently is refused.

use crate::error::ProxyError;
use crate::http::head::{RequestHead, ResponseHead};

/// Limits of a head.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes, start line included.
    pub bytes: usize,
    /// Field lines.
    pub fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 8 << 10, fields: 100 }
    }
}

/// Where scanning stopped: kept by the caller while a head is incomplete, so that a slow sender does not make Titan rescan. Starts as
/// `Progress::default()` for each head.
#[derive(Debug, Default, Clone, Copy)]
pub struct Progress {
    scanned: u32,
}

/// A request head from the front of `buf`. `Ok(None)`: incomplete, read more and call again with the same `progress`.
///
/// When complete, the head takes `buf`'s allocation and `buf` holds what came after it (a fresh `Vec`, not allocated when nothing did).
/// After an error the connection must be closed.
pub fn request(_buf: &mut Vec<u8>, _progress: &mut Progress, _limits: &Limits) -> Result<Option<RequestHead>, ProxyError> {
    unimplemented!()
}

/// A response head from the front of `buf`, as [`request`]. Violations are `BadUpstreamResponse`.
pub fn response(_buf: &mut Vec<u8>, _progress: &mut Progress, _limits: &Limits) -> Result<Option<ResponseHead>, ProxyError> {
    unimplemented!()
}

/// A whole request head in one go: for tests and for `explain`.
pub fn request_from(bytes: &[u8]) -> Result<RequestHead, ProxyError> {
    let mut buf = bytes.to_vec();
    let done = request(&mut buf, &mut Progress::default(), &Limits { bytes: 1 << 20, fields: 1000 })?;
    done.ok_or_else(|| ProxyError::client(crate::error::ErrorKind::BadRequest, "incomplete head"))
}

/// A whole response head in one go: for tests.
pub fn response_from(bytes: &[u8]) -> Result<ResponseHead, ProxyError> {
    let mut buf = bytes.to_vec();
    let done = response(&mut buf, &mut Progress::default(), &Limits { bytes: 1 << 20, fields: 1000 })?;
    done.ok_or_else(|| ProxyError::client(crate::error::ErrorKind::BadRequest, "incomplete head"))
}

/// What an HTTP/2 client with prior knowledge sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether a plain connection begins with HTTP/2's preface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preface {
    /// It does not: HTTP/1.
    No,
    /// Can't be told yet: read more.
    Partial,
    /// It does.
    Yes,
}

/// Looks for HTTP/2's preface at the front of a connection's first bytes.
pub fn preface(buf: &[u8]) -> Preface {
    let n = buf.len().min(PREFACE.len());
    if buf[..n] != PREFACE[..n] {
        Preface::No
    } else if n == PREFACE.len() {
        Preface::Yes
    } else {
        Preface::Partial
    }
}
