//! A reply as bytes. All numbers are little-endian; every record, and every edit in it, begins at a multiple of four.
//!
//! ```text
//!  0 u32 length of the record, a multiple of 4
//!  4 u32 slot   8 u32 turn  12 u16 desk     from the call
//! 14 u16 number of edits
//! 16 u8 outcome (0 go on, 1 answer, 2 failed)   17 u8 1 = the context is new   18 u16 status of the answer
//! 20 u32 context (0 = none)
//! 24 u32 length of the body (of the message, where failed)
//! 28 edits: u8 kind, u8 0, u16 length of the name, u32 length of the value, name, value
//!    the body
//! ```

use std::sync::Arc;

use bytes::Bytes;

use super::channel::Channel;
use super::context::Context;
use super::desk::Token;
use super::spec::Fault;
use crate::http::ops::HeaderOps;
use crate::http::{path, token};

/// Bytes before the edits.
pub(super) const HEAD: usize = 28;

/// What a hook wants changed of where a request goes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// Path, normalised.
    pub path: Option<Vec<u8>>,
    /// Query; an empty one takes it off.
    pub query: Option<Vec<u8>>,
    /// Name of the upstream.
    pub upstream: Option<String>,
    /// `host:port` of the backend.
    pub backend: Option<String>,
}

/// Kinds of edits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Edit {
    RequestSet = 1,
    RequestAdd = 2,
    RequestRemove = 3,
    ResponseSet = 4,
    ResponseAdd = 5,
    ResponseRemove = 6,
    Path = 7,
    Query = 8,
    Upstream = 9,
    Backend = 10,
    Body = 11,
}

/// A reply that was understood.
#[derive(Debug, Default)]
pub struct Reply {
    /// Status and body of an answer to give instead.
    pub answer: Option<(u16, Bytes)>,
    /// Number of the attached object; 0 = none.
    pub context: u32,
    /// Changes of where the request goes.
    pub rewrite: Rewrite,
    /// What is forwarded in place of the request's body.
    pub body: Option<Bytes>,
}

pub(super) fn token(record: &[u8]) -> Token {
    Token { slot: u32_at(record, 4), turn: u32_at(record, 8), desk: u16_at(record, 12) }
}

fn u32_at(record: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(record[at..at + 4].try_into().expect("four bytes"))
}

fn u16_at(record: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([record[at], record[at + 1]])
}

/// Lets go of what a reply attached that nobody will use.
pub(super) fn discard(record: &[u8], channel: &Arc<Channel>) {
    if record.len() >= HEAD && record[17] == 1 {
        drop(Context { channel: Arc::clone(channel), id: u32_at(record, 20) });
    }
}

/// Fields that frame a message or concern one connection; hooks must not touch them.
fn reserved(name: &[u8]) -> bool {
    matches!(
        name,
        b"connection"
            | b"content-length"
            | b"host"
            | b"keep-alive"
            | b"proxy-connection"
            | b"te"
            | b"trailer"
            | b"transfer-encoding"
            | b"upgrade"
    )
}

/// Reads a reply; header edits go to where they belong. A reply that breaks a rule has failed as a whole, which the other end prevents by
/// checking the same rules where the user's stack is at hand.
pub(super) fn read(record: &Bytes, request_ops: &mut HeaderOps, response_ops: &mut HeaderOps) -> Result<Reply, Fault> {
    let body_length = u32_at(record, 24) as usize;
    let outcome = record[16];
    if outcome > 1 {
        return Err(Fault::Threw);
    }
    let mut reply = Reply { context: u32_at(record, 20), ..Reply::default() };
    let mut at = HEAD;
    for _ in 0..u16_at(record, 14) {
        let head = record.get(at..at + 8).ok_or(Fault::Invalid)?;
        let (kind, name_length, value_length) = (head[0], u16_at(head, 2) as usize, u32_at(head, 4) as usize);
        let name = record.get(at + 8..at + 8 + name_length).ok_or(Fault::Invalid)?;
        let value = record.get(at + 8 + name_length..at + 8 + name_length + value_length).ok_or(Fault::Invalid)?;
        at += (8 + name_length + value_length).next_multiple_of(4);
        if (1..=6).contains(&kind) {
            let lower = !name.iter().any(u8::is_ascii_uppercase);
            if !lower || !token::is_token(name) || reserved(name) || !token::is_value(value) {
                return Err(Fault::Invalid);
            }
        }
        match kind {
            1 => request_ops.set(name, value),
            2 => request_ops.add(name, value),
            3 => request_ops.remove(name),
            4 => response_ops.set(name, value),
            5 => response_ops.add(name, value),
            6 => response_ops.remove(name),
            7 => {
                if value.first() != Some(&b'/') {
                    return Err(Fault::Invalid);
                }
                reply.rewrite.path = Some(path::normalise(value).map_err(|_| Fault::Invalid)?.0.into_owned());
            }
            8 => {
                if !token::all(value, token::TARGET) || value.contains(&b'#') {
                    return Err(Fault::Invalid);
                }
                reply.rewrite.query = Some(value.to_vec());
            }
            9 => reply.rewrite.upstream = Some(text(value)?),
            10 => reply.rewrite.backend = Some(text(value)?),
            11 => reply.body = Some(record.slice_ref(value)),
            _ => return Err(Fault::Invalid),
        }
    }
    if outcome == 1 {
        let status = u16_at(record, 18);
        let body = record.get(at..at + body_length).ok_or(Fault::Invalid)?;
        if !(200..=599).contains(&status) {
            return Err(Fault::Invalid);
        }
        reply.answer = Some((status, record.slice_ref(body)));
    }
    Ok(reply)
}

fn text(value: &[u8]) -> Result<String, Fault> {
    String::from_utf8(value.to_vec()).map_err(|_| Fault::Invalid)
}
