//! Hooks: functions of the user's that run in JavaScript, on requests that need them and with the fields that they read.
//!
//! A call is a record of bytes ([`call`]). A shard collects the records of one turn of its loop and hands them to a [`Channel`] at
//! once; the other end is woken once a batch, takes all of them ([`Channel::exchange`]), and hands its replies ([`reply`]) back the same
//! way. So a call costs two copies and its share of two wake-ups, whoever is on the other side. Nothing here knows of JavaScript: the
//! binding gives a channel its [`Kick`], the tests give it another one.
//!
//! Names in `reads`:
//!
//! | name | value |
//! |---|---|
//! | `path` `query` `host` `method` `scheme` `client_ip` `request_id` `route` | text |
//! | `params` | `name\nvalue\n` each |
//! | `header:NAME` `headers` | first value; `name\nvalue\n` each |
//! | `identity` `claim:PATH` | JSON `{kind, subject, claims}`; text (arrays and objects as JSON) |
//! | `response_header:NAME` `response_headers` | of the answer |
//! | `error` | `stage\nmessage` |
//! | `log` | JSON |
//! | `request_body` `response_body` | bytes |

mod call;
mod channel;
mod context;
mod desk;
mod reads;
mod reply;
mod spec;
#[cfg(test)]
mod tests;

pub use call::{Extra, LogFacts};
pub use channel::{Channel, Kick, Lease};
pub use context::Context;
pub use desk::{Call, flush};
pub use reply::{Edit, Reply, Rewrite};
pub use spec::{Called, Fault, Hook, Returned, failure};

/// When a hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Point {
    /// Before the upstream.
    Request = 0,
    /// An answer's head is there.
    Response = 1,
    /// Titan is about to answer with an error of its own.
    Error = 2,
    /// The last byte has gone; nothing is answered.
    Log = 3,
}

impl Point {
    fn bit(self) -> u8 {
        1 << self as u8
    }
}
