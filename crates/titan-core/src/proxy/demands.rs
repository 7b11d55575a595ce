//! What a request may ask of the gateway itself: `Expect`, `Max-Forwards`, and `OPTIONS *`.

use bytes::Bytes;

use super::exchange::Exchange;
use crate::error::{ErrorKind, ProxyError};
use crate::http::answer::Answer;
use crate::http::head::{HeaderId, Method, RequestHead, Version};
use crate::http::ops::HeaderOps;
use crate::http::token;

const MAX_FORWARDS: &[u8] = b"max-forwards";
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Refuses an expectation that nobody defines (RFC 9110 §10.1.1). Of an HTTP/1.0 client it means nothing.
pub(super) fn expectation(head: &RequestHead) -> Result<(), ProxyError> {
    let known = |member: &[u8]| member.eq_ignore_ascii_case(b"100-continue");
    if head.version == Version::H10 || head.get_all(HeaderId::Expect).flat_map(token::list).all(known) {
        return Ok(());
    }
    Err(ProxyError::client(ErrorKind::ExpectationFailed, "the only expectation that can be met is 100-continue"))
}

/// The answer to `OPTIONS *`, which asks about the server as a whole: it is there.
pub(super) fn ping() -> Answer {
    let mut headers = HeaderOps::default();
    headers.set("allow", METHODS);
    Answer { status: 204, headers, body: Bytes::new(), stage: "options" }
}

/// Counts one hop off the `Max-Forwards` of an OPTIONS or TRACE request (RFC 9110 §7.6.2); the answer where there is none left. A value that is no
/// number is passed on as it is.
pub(super) fn max_forwards(x: &mut Exchange<'_>) -> Result<Option<Answer>, ProxyError> {
    let number = |value: &[u8]| std::str::from_utf8(value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()))?.parse::<u64>().ok();
    let Some(hops) = x.head().get_name(MAX_FORWARDS).and_then(number) else { return Ok(None) };
    if let Some(left) = hops.checked_sub(1) {
        x.kit.request_ops.set(MAX_FORWARDS, itoa::Buffer::new().format(left));
        return Ok(None);
    }
    if x.head().method == Method::Options {
        return Ok(Some(ping()));
    }
    // It would show the request's credentials to whoever made a browser send it.
    x.allow = Some(METHODS.into());
    Err(ProxyError::client(ErrorKind::MethodNotAllowed, "TRACE is not answered here"))
}
