//! What happens to a body on its way. A route with none of it passes bytes untouched.
//!
//! The proxy asks [`compress::Compression::decide`] once the answer's head is known and streams the body through a [`compress::Encoder`];
//! [`json::JsonRules`] need the whole document, so that body is buffered within their limit.

pub mod compress;
pub mod json;
