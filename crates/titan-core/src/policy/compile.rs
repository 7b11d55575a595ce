//! From the native configuration to policies.

use std::sync::Arc;

use super::{Chain, Step};
use crate::config::{Issue, raw};

/// What policies need from the process. Lives as long as the gateway; the same value is given to every compilation.
#[derive(Debug, Clone, Default)]
pub struct Services {
    /// Auxiliary runtime for work off the shards (JWKS, Redis control). `None` for `check`, which starts nothing.
    pub auxiliary: Option<tokio::runtime::Handle>,
}

/// The compiled policies of one configuration, in its order.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    list: Vec<Step>,
}

impl Policies {
    /// The chain of the policies at `indices` (a route's, or the global ones), put in the order of stages.
    pub fn chain(&self, indices: &[usize]) -> Chain {
        let _ = indices;
        Chain { steps: Arc::from(self.list.clone()) }
    }
}

/// Compiles every policy. State (limiter tables, key sets, token caches) is taken over from `previous` where name and content are the same.
/// The policies are usable only where there is no issue.
pub fn compile(policies: &[raw::Policy], previous: Option<&Policies>, services: &Services) -> (Policies, Vec<Issue>) {
    let _ = (previous, services);
    let issues = policies.iter().map(|p| Issue::new(p.name.clone(), "policies are not compiled yet")).collect();
    (Policies::default(), issues)
}
