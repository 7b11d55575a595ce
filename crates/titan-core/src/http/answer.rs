//! An answer that Titan makes itself.

use bytes::Bytes;

use super::ops::HeaderOps;

/// Status, headers and a whole body.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Headers beside Content-Length and Date, which the encoder writes.
    pub headers: HeaderOps,
    /// Body; not sent for HEAD, 204 and 304.
    pub body: Bytes,
    /// Which stage made it: metric label and log field, such as `rate_limit` or `no_route`.
    pub stage: &'static str,
}
