//! What can go wrong with a request, typed where it arises.

use std::borrow::Cow;

/// Which side of the gateway caused an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client: its request is wrong, or it went away. Never counts against a backend.
    Client,
    /// The upstream.
    Upstream,
    /// Titan: a policy, a limit, a drain.
    Gateway,
}

/// Whether the request may be tried again on another connection (requirement 25).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetrySafety {
    /// No byte of the request was written, or the peer said that it processed nothing: any method may be retried.
    Unsent,
    /// Bytes were written and the outcome is unknown: idempotent methods only.
    Sent,
    /// An answer has begun, or the cause is not the backend: never.
    Never,
}

/// Kind of an error: decides status, error code, metric label (`stage`) and log field, in `proxy::rescue` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// 400, malformed request.
    BadRequest,
    /// 405 for CONNECT and the like.
    MethodNotAllowed,
    /// 408, head or body too slow.
    ClientTimeout,
    /// 413.
    BodyTooLarge,
    /// The body has a content coding that a step which must read it does not know.
    UnsupportedCoding,
    /// 414, the request line alone is over the limit.
    TargetTooLong,
    /// 431.
    HeadTooLarge,
    /// 417.
    ExpectationFailed,
    /// 421, Host does not belong to the TLS session.
    Misdirected,
    /// 501, unknown transfer coding.
    NotImplemented,
    /// 505.
    VersionNotSupported,
    /// 499, not sent: the client went away.
    ClientGone,
    /// 403, a rule of the route itself (policies answer on their own).
    Forbidden,
    /// 404.
    NoRoute,
    /// 503, no endpoint is usable.
    NoEndpoint,
    /// 503, every usable endpoint's circuit is open.
    CircuitOpen,
    /// 503, wait queue full or waited too long for a connection.
    PoolExhausted,
    /// 502, connect failed.
    ConnectFailed,
    /// 502, TLS to the upstream failed.
    UpstreamTls,
    /// 502, connection closed or reset before an answer.
    UpstreamReset,
    /// 502, malformed answer.
    BadUpstreamResponse,
    /// 504, connect, first byte or whole request took too long.
    UpstreamTimeout,
    /// 503 with `SERVER_SHUTTING_DOWN`.
    ShuttingDown,
    /// 503, a bound of the gateway was reached.
    Overloaded,
    /// 500, a bug or a hook.
    Internal,
}

/// An error of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyError {
    /// What happened.
    pub kind: ErrorKind,
    /// Who caused it.
    pub side: Side,
    /// May it be tried again?
    pub retry: RetrySafety,
    /// For the log and, where the side is the client's, the answer's `message`. Never holds a secret or a header value.
    pub detail: Cow<'static, str>,
}

impl ProxyError {
    /// A client error; never retried.
    pub fn client(kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, side: Side::Client, retry: RetrySafety::Never, detail: detail.into() }
    }

    /// An upstream error.
    pub fn upstream(kind: ErrorKind, retry: RetrySafety, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, side: Side::Upstream, retry, detail: detail.into() }
    }

    /// An error of the gateway's own; never retried.
    pub fn gateway(kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, side: Side::Gateway, retry: RetrySafety::Never, detail: detail.into() }
    }
}
