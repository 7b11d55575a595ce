//! HTTP: heads, bodies, codecs and the rules shared by every version.

pub mod answer;
pub mod client;
pub mod h1;
pub mod head;
pub mod ops;
pub mod path;
