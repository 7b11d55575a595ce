//! HTTP/1.1 (RFC 9112): pure functions over bytes, no input or output.
