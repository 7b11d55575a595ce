//! Chunked transfer coding (RFC 9112 §7.1): an incremental decoder that yields ranges of its input, and an encoder.

use std::ops::Range;

use crate::error::ProxyError;

/// What a step found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Body bytes: a range of the input, never empty.
    Data(Range<usize>),
    /// The input is used up: more is needed.
    More,
    /// The body has ended, trailers included. Bytes after `consumed` belong to the next message.
    End,
}

/// Result of [`Decoder::step`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that are done with, data included.
    pub consumed: usize,
    /// What was found.
    pub event: Event,
}

/// Incremental decoder.
#[derive(Debug)]
pub struct Decoder {}

impl Decoder {
    /// For a request body: violations are the client's.
    pub fn request() -> Self {
        unimplemented!()
    }

    /// For a response body: violations are the upstream's.
    pub fn response() -> Self {
        unimplemented!()
    }

    /// Takes the next step in `input`, which begins where the last step's `consumed` ended.
    pub fn step(&mut self, _input: &[u8]) -> Result<Step, ProxyError> {
        unimplemented!()
    }

    /// Whether the end has been seen.
    pub fn ended(&self) -> bool {
        unimplemented!()
    }

    /// Trailer lines as received (`name: value\r\n`…); empty where there were none.
    pub fn trailers(&self) -> &[u8] {
        unimplemented!()
    }
}

/// Writes what goes before `len` bytes of data; `\r\n` goes after them ([`CHUNK_END`]).
pub fn chunk_head(_len: usize, _out: &mut Vec<u8>) {
    unimplemented!()
}

/// Goes after a chunk's data.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Writes the last chunk and those trailers that may be passed on (see [`passable_trailers`]).
pub fn last_chunk(_trailers: &[u8], _out: &mut Vec<u8>) {
    unimplemented!()
}

/// Of the trailer lines received, those announced in `Trailer` and allowed: never framing, routing, authentication or `Connection` fields.
pub fn passable_trailers<'a>(_received: &[u8], _announced: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    unimplemented!()
}
