//! From the native configuration to policies.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::authorize::Authorize;
use super::concurrency::Concurrency;
use super::cors::Cors;
use super::headers::Headers;
use super::ip::IpFilter;
use super::limit::{RateLimit, Shared, Stage, Tables};
use super::step::Step;
use super::{Chain, Services};
use crate::body::BodyPlan;
use crate::config::raw::PolicyKind;
use crate::config::{Issue, raw};
use crate::hook::Hook;
use crate::metrics::TokenGauge;
use crate::store::Store;

/// The compiled policies of one configuration, in its order.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    list: Vec<Compiled>,
    by_name: HashMap<Box<str>, usize>,
    tables: Tables,
    /// Redis servers that they use.
    stores: Vec<Arc<Store>>,
}

#[derive(Debug, Clone)]
struct Compiled {
    raw: Arc<raw::Policy>,
    steps: Steps,
    /// What it does to bodies: no step of the chain, the proxy streams through it.
    bodies: BodyPlan,
}

/// A policy is one step, or two where it acts at two stages.
type Steps = SmallVec<[Step; 2]>;

impl Policies {
    /// The chain of the policies at `indices` (a route's, or the global ones), put in the order of stages. Of several policies of one type the
    /// first is taken; hooks and header rules are taken all, in the order of `indices`.
    pub fn chain(&self, indices: &[usize]) -> Chain {
        let mut steps: Vec<Step> = self.taken(indices).into_iter().flat_map(|p| p.steps.iter().cloned()).collect();
        steps.sort_by_key(Step::order);
        Chain { steps: steps.into() }
    }

    /// What the policies at `indices` do to bodies.
    pub fn bodies(&self, indices: &[usize]) -> BodyPlan {
        self.taken(indices).into_iter().fold(BodyPlan::default(), |plan, p| plan.and(&p.bodies))
    }

    /// Names and types of the policies at `indices` in the order they run (`titan explain`).
    pub fn order(&self, indices: &[usize]) -> Vec<(&str, &'static str)> {
        let taken = self.taken(indices);
        let bodies = taken.iter().filter_map(|p| Some((u8::MAX, &*p.raw.name, p.bodies.kind()?)));
        let heads = taken.iter().flat_map(|p| p.steps.iter().map(|s| (s.order(), &*p.raw.name, s.kind())));
        let mut steps: Vec<_> = heads.chain(bodies).collect();
        steps.sort_by_key(|s| s.0);
        steps.into_iter().map(|(_, name, kind)| (name, kind)).collect()
    }

    /// State of every policy that verifies tokens.
    pub fn tokens(&self) -> Vec<TokenGauge> {
        let steps = self.list.iter().flat_map(|policy| policy.steps.iter().map(|step| (&*policy.raw.name, step)));
        let verifiers = steps.filter_map(|(name, step)| if let Step::Authenticate(p) = step { Some((name, p)) } else { None });
        verifiers.flat_map(|(name, policy)| policy.tokens(name)).collect()
    }

    /// What the policies depend on and can't reach now: `redis`, `jwks`. Each policy does what it was told for that case.
    pub fn lost(&self) -> Vec<&'static str> {
        let redis = self.stores.iter().any(|store| !store.is_up());
        let jwks = self.tokens().iter().any(|policy| policy.keys.as_ref().is_some_and(|keys| !keys.healthy));
        [(redis, "redis"), (jwks, "jwks")].into_iter().filter_map(|(lost, name)| lost.then_some(name)).collect()
    }

    fn taken(&self, indices: &[usize]) -> SmallVec<[&Compiled; 8]> {
        let mut taken = SmallVec::<[&Compiled; 8]>::new();
        for policy in indices.iter().filter_map(|&i| self.list.get(i)) {
            let kind = std::mem::discriminant(&policy.raw.kind);
            let repeats = matches!(policy.raw.kind, PolicyKind::Headers(_) | PolicyKind::Hook(_));
            if repeats || taken.iter().all(|p| std::mem::discriminant(&p.raw.kind) != kind) {
                taken.push(policy);
            }
        }
        taken
    }

    fn named(&self, name: &str) -> Option<&Compiled> {
        self.by_name.get(name).map(|&i| &self.list[i])
    }
}

/// Compiles every policy. State (limiter tables, key sets, token caches) is taken over from `previous` where name and content are the same.
/// The policies are usable only where there is no issue; each issue comes with the index of its policy, and its path begins with that one's name.
pub fn compile(policies: &[raw::Policy], previous: Option<&Policies>, services: &Services) -> (Policies, Vec<(usize, Issue)>) {
    let mut compiler = Compiler { previous, services, tables: Tables::default(), stores: Vec::new(), issues: Vec::new() };
    let mut out = Policies::default();
    let mut issues = Vec::new();
    for (index, policy) in policies.iter().enumerate() {
        let before = previous.and_then(|p| p.named(&policy.name));
        let compiled = compiler.policy(policy, before);
        issues.extend(compiler.issues.drain(..).map(|issue| (index, issue)));
        out.by_name.entry(policy.name.as_str().into()).or_insert(out.list.len());
        out.list.push(compiled);
    }
    out.tables = compiler.tables;
    out.stores = compiler.stores;
    (out, issues)
}

/// One compilation under way.
pub(super) struct Compiler<'a> {
    previous: Option<&'a Policies>,
    pub(super) services: &'a Services,
    tables: Tables,
    pub(super) stores: Vec<Arc<Store>>,
    pub(super) issues: Vec<Issue>,
}

impl Compiler<'_> {
    fn policy(&mut self, policy: &raw::Policy, before: Option<&Compiled>) -> Compiled {
        let name = policy.name.as_str();
        let shared = match &policy.kind {
            PolicyKind::RateLimit(raw::RateLimit { redis: Some(redis), .. }) => {
                self.store(&format!("{name}.redis"), redis).map(|store| Shared::new(store, redis))
            }
            _ => None,
        };
        let issues = &mut self.issues;
        let rejected = self.services.metrics.policy(name);
        let steps: Steps = match &policy.kind {
            PolicyKind::IpFilter(raw) => smallvec![Step::IpFilter(Arc::new(IpFilter::compile(name, raw, rejected, issues)))],
            PolicyKind::RateLimit(raw) => {
                let previous = self.previous.map(|p| &p.tables);
                let limit = RateLimit::compile(name, raw, &mut self.tables, previous, shared, rejected, issues);
                let limit = Arc::new(limit.held(self.services.held.clone()));
                let early = limit.has(Stage::Early).then(|| Step::EarlyLimit(limit.clone()));
                let late = limit.has(Stage::Late).then(|| Step::LateLimit(limit.clone()));
                early.into_iter().chain(late).collect()
            }
            PolicyKind::Concurrency(raw) => {
                let before = before.and_then(|c| c.steps.iter().find_map(|s| if let Step::Concurrency(p) = s { Some(&**p) } else { None }));
                smallvec![Step::Concurrency(Arc::new(Concurrency::compile(name, raw, before, rejected, issues)))]
            }
            PolicyKind::Cors(raw) => smallvec![Step::Cors(Arc::new(Cors::compile(name, raw, rejected, issues)))],
            PolicyKind::Hook(raw) => smallvec![Step::Hook(Arc::new(Hook::compile(name, raw, issues)))],
            PolicyKind::Headers(raw) => smallvec![Step::Headers(Arc::new(Headers::compile(name, raw, issues)))],
            PolicyKind::Auth(raw) => {
                let before =
                    before.and_then(|c| c.steps.iter().find_map(|s| if let Step::Authenticate(p) = s { Some(&**p) } else { None }));
                smallvec![Step::Authenticate(Arc::new(self.authenticate(name, raw, before, rejected)))]
            }
            PolicyKind::ForwardAuth(raw) => {
                self.forward_auth(name, raw, rejected).map(|p| Step::ForwardAuth(Arc::new(p))).into_iter().collect()
            }
            // These act on bodies, not on heads: see `bodies`.
            PolicyKind::Compression(_) | PolicyKind::JsonBody(_) => Steps::new(),
            PolicyKind::Authorize(raw) => smallvec![Step::Authorize(Arc::new(Authorize::compile(name, raw, rejected, issues)))],
        };
        let bodies = BodyPlan::compile(policy, &mut self.issues);
        Compiled { raw: Arc::new(policy.clone()), steps, bodies }
    }
}
