//! From the native configuration to a [`crate::snapshot::Snapshot`].

pub mod compile;
pub mod inspect;
pub mod raw;

use std::fmt;

/// One problem of a configuration. All are collected before a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Place in the native configuration, such as `upstreams[0].backends[1].host`.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Issue {
    /// A problem at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}
