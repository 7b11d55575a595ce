//! HTTP: heads, bodies, codecs and the rules shared by every version.

pub mod answer;
pub mod client;
pub mod cookie;
pub mod date;
pub mod forward;
pub mod h1;
pub mod h2;
pub mod head;
pub mod host;
pub mod ops;
pub mod out;
pub mod path;
mod scan;
pub mod token;
