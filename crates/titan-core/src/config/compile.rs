//! Compiles a native configuration. Every problem is collected, so that one run shows them all.

use super::{Issue, raw};
use crate::snapshot::Snapshot;

/// Compiles `config`. What did not change since `previous` is taken over with its state: upstreams and endpoints by key.
pub fn compile(config: &raw::Config, previous: Option<&Snapshot>) -> Result<Snapshot, Vec<Issue>> {
    let _ = (config, previous);
    Err(vec![Issue::new("", "the compiler is not written yet")])
}
