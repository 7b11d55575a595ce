//! Request cookies (RFC 6265), looked up without building a map.

use super::head::{HeaderId, RequestHead};

/// Every value of a cookie, over all Cookie lines, in order.
pub fn values<'h>(head: &'h RequestHead, name: &[u8]) -> impl Iterator<Item = &'h [u8]> {
    head.get_all(HeaderId::Cookie).flat_map(|line| line.split(|b| *b == b';')).filter_map(move |pair| {
        let at = memchr::memchr(b'=', pair)?;
        (pair[..at].trim_ascii() == name).then(|| pair[at + 1..].trim_ascii())
    })
}
