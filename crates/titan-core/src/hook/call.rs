//! A call as bytes. All numbers are little-endian; every record begins at a multiple of four.
//!
//! ```text
//!  0 u32 length of the record, a multiple of 4
//!  4 u32 slot   8 u32 turn  12 u16 desk     who waits (handed back in the reply)
//! 14 u16 hook
//! 16 u8 point (255: a context is released)   17 u8 0   18 u16 status (0 = none yet)
//! 20 u32 context (0 = none)
//! 24 u32 index of the route (u32::MAX = none)
//! 28 u32 number of values
//! 32 u32 each: where the value ends, from the record's beginning; top bit = absent
//!    the values, end to end
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use super::Point;
use super::desk::Token;
use super::reads::Read;
use crate::auth::Identity;
use crate::http::head::ResponseHead;
use crate::policy::RequestView;

/// Bytes before the ends of the values.
const HEAD: usize = 32;
const ABSENT: u32 = 1 << 31;
const RELEASE: u8 = 255;

/// What a point has beside the request.
#[derive(Debug, Default, Clone, Copy)]
pub struct Extra<'a> {
    /// Status of the answer.
    pub status: u16,
    /// Head of the upstream's answer.
    pub response: Option<&'a ResponseHead>,
    /// Stage and message of an error.
    pub error: Option<(&'a str, &'a str)>,
    /// What became of the request.
    pub log: Option<LogFacts<'a>>,
    /// The request's body.
    pub request_body: Option<&'a [u8]>,
    /// The answer's body.
    pub response_body: Option<&'a [u8]>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy)]
pub struct LogFacts<'a> {
    /// First byte of the head to last byte of the answer.
    pub duration: Duration,
    /// Request sent to first byte of the answer.
    pub first_byte: Option<Duration>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// Name of the upstream.
    pub upstream: Option<&'a str>,
    /// Backend of the last try.
    pub backend: Option<SocketAddr>,
    /// Tries.
    pub tries: u32,
    /// Stage of an answer that Titan made.
    pub stage: Option<&'a str>,
}

/// What a record is about.
pub(super) struct Subject<'a> {
    pub(super) hook: u16,
    pub(super) point: Point,
    pub(super) context: u32,
    pub(super) reads: &'a [Read],
}

/// Appends a call. Without a token nobody waits for a reply.
pub(super) fn write(
    subject: &Subject<'_>,
    token: Option<Token>,
    req: &RequestView<'_>,
    identity: Option<&Identity>,
    extra: &Extra<'_>,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    head(token, subject.hook, subject.point as u8, extra.status, subject.context, req.route_index, subject.reads.len() as u32, out);
    out.resize(start + HEAD + 4 * subject.reads.len(), 0);
    for (index, read) in subject.reads.iter().enumerate() {
        let present = read.write(req, identity, extra, out);
        let end = (out.len() - start) as u32 | if present { 0 } else { ABSENT };
        let at = start + HEAD + 4 * index;
        out[at..at + 4].copy_from_slice(&end.to_le_bytes());
    }
    finish(start, out);
}

/// Appends the release of a context.
pub(super) fn release(context: u32, out: &mut Vec<u8>) {
    let start = out.len();
    head(None, 0, RELEASE, 0, context, u32::MAX, 0, out);
    finish(start, out);
}

#[expect(clippy::too_many_arguments, reason = "the fields of a record, in their order")]
fn head(token: Option<Token>, hook: u16, point: u8, status: u16, context: u32, route: u32, values: u32, out: &mut Vec<u8>) {
    let token = token.unwrap_or(Token { slot: u32::MAX, turn: 0, desk: u16::MAX });
    let mut head = [0; HEAD];
    head[4..8].copy_from_slice(&token.slot.to_le_bytes());
    head[8..12].copy_from_slice(&token.turn.to_le_bytes());
    head[12..14].copy_from_slice(&token.desk.to_le_bytes());
    head[14..16].copy_from_slice(&hook.to_le_bytes());
    head[16] = point;
    head[18..20].copy_from_slice(&status.to_le_bytes());
    head[20..24].copy_from_slice(&context.to_le_bytes());
    head[24..28].copy_from_slice(&route.to_le_bytes());
    head[28..32].copy_from_slice(&values.to_le_bytes());
    out.extend_from_slice(&head);
}

fn finish(start: usize, out: &mut Vec<u8>) {
    while !(out.len() - start).is_multiple_of(4) {
        out.push(0);
    }
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}
