//! HTTP/2 heads to and from the compact head: pure conversions, the frames are the `h2` crate's.
//!
//! A received head is laid out as the HTTP/1.1 head that says the same, so that every rule of [`super::h1::encode`] holds for it too, and a
//! sent one is what that encoder writes. What has no meaning in HTTP/2, or could gain one in HTTP/1.1, is refused (V10).

mod received;
mod sent;

pub use received::{Limits, request, response, trailer_lines};
pub use sent::{Block, Lines, trailers};
