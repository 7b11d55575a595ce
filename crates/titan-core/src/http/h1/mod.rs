//! HTTP/1.1 (RFC 9112): pure functions over bytes, no input or output.

pub mod chunked;
pub mod encode;
pub mod framing;
mod names;
pub mod parse;

pub use names::header_id;
