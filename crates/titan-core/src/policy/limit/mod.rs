//! Rate limits.
//!
//! A policy's limits are checked at two stages: those keyed by address, route, header or cookie before authentication, those keyed by an
//! identity (and the tiers) after it. Where one limit of a stage refuses, what the earlier ones took is given back.

mod algorithm;
mod headers;
pub(super) mod key;
mod shared;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use algorithm::Algorithm;
pub(super) use headers::Readings;
use headers::{Names, Reading};
use key::Key;
pub(super) use shared::{Answered, Shared};
use table::Table;

use super::{Flow, Outcome, RequestCx, ResponseCx, wait};
use crate::config::{Issue, raw};
use crate::http::answer::Answer;
use crate::http::ops::HeaderOps;
use crate::metrics::{self, Id};
use crate::rt::clock::Held;

/// A rate-limit policy.
#[derive(Debug)]
pub(super) struct RateLimit {
    cost: u64,
    classic_headers: bool,
    draft_headers: bool,
    names: Names,
    /// Before authentication.
    early: Vec<Limit>,
    /// After it, for requests without a tier of their own.
    late: Vec<Limit>,
    tiers: Option<Tiers>,
    /// Counted in Redis and not here.
    shared: Option<Shared>,
    rejected: Id,
    /// The time of a rehearsal; `None` = it passes.
    held: Option<Arc<Held>>,
}

#[derive(Debug)]
struct Tiers {
    claim: Option<Box<str>>,
    limits: BTreeMap<Box<str>, Vec<Limit>>,
}

#[derive(Debug)]
struct Limit {
    index: u16,
    algorithm: Algorithm,
    key: Key,
    table: Arc<Table>,
    /// In Redis.
    shared_name: Box<str>,
}

/// Failed attempts by address: taken before an attempt, given back where it was right.
#[derive(Debug, Clone)]
pub(super) struct Attempts {
    algorithm: Algorithm,
    key: Key,
    table: Arc<Table>,
}

impl Attempts {
    /// `previous` is used on where the figures are the same.
    pub(super) fn new(attempts: u64, window_ms: u64, previous: Option<&Attempts>) -> Self {
        let algorithm = raw::LimitAlgorithm::TokenBucket;
        let limit = raw::Limit { requests: attempts, window_ms, burst: attempts, algorithm, key: vec![], max_keys: 100_000 };
        let algorithm = Algorithm::new(&limit);
        let table = previous.filter(|p| p.algorithm == algorithm).map(|p| p.table.clone());
        let table = table.unwrap_or_else(|| Arc::new(Table::new(limit.max_keys)));
        Self { algorithm, key: Key::new(&[raw::LimitKey::Ip]), table }
    }

    /// `Err` is the seconds to wait.
    pub(super) fn take(&self, cx: &RequestCx<'_>) -> Result<(), u64> {
        let verdict = self.table.with(self.key.hash(&cx.req, None), |counts| self.algorithm.take(counts, now(), 1));
        if verdict.admitted { Ok(()) } else { Err(seconds(verdict.retry).max(1)) }
    }

    pub(super) fn give_back(&self, cx: &RequestCx<'_>) {
        self.table.with(self.key.hash(&cx.req, None), |counts| self.algorithm.refund(counts, now(), 1));
    }
}

/// Which of a policy's limits are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Early,
    Late,
}

/// Tables by group and limit: those of the configuration before are used on.
#[derive(Debug, Default, Clone)]
pub(super) struct Tables {
    by_group: HashMap<Box<str>, Vec<(raw::Limit, Arc<Table>)>>,
}

impl Tables {
    /// The table of a limit: one that this or the previous configuration has, else a new one.
    fn get(&mut self, group: &str, limit: &raw::Limit, previous: Option<&Tables>) -> Arc<Table> {
        let of = |tables: &Tables| {
            let known = tables.by_group.get(group)?;
            known.iter().find(|(l, _)| l == limit).map(|(_, table)| table.clone())
        };
        if let Some(table) = of(self) {
            return table;
        }
        let table = previous.and_then(of).unwrap_or_else(|| Arc::new(Table::new(limit.max_keys)));
        self.by_group.entry(group.into()).or_default().push((limit.clone(), table.clone()));
        table
    }
}

impl RateLimit {
    /// Counts by a clock that stands still.
    pub(super) fn held(self, held: Option<Arc<Held>>) -> Self {
        Self { held, ..self }
    }

    pub(super) fn compile(
        name: &str,
        raw: &raw::RateLimit,
        tables: &mut Tables,
        previous: Option<&Tables>,
        shared: Option<Shared>,
        rejected: Id,
        issues: &mut Vec<Issue>,
    ) -> Self {
        let mut policy = Self {
            cost: raw.cost,
            classic_headers: raw.headers,
            draft_headers: raw.draft_headers,
            names: Names::default(),
            early: Vec::new(),
            late: Vec::new(),
            tiers: None,
            shared,
            rejected,
            held: None,
        };
        if raw.limits.is_empty() && raw.tiers.as_ref().is_none_or(|t| t.limits.is_empty()) {
            issues.push(Issue::new(format!("{name}.limits"), "a rate limit needs at least one limit"));
        }
        if raw.cost == 0 {
            issues.push(Issue::new(format!("{name}.cost"), "a request must cost at least 1"));
        }
        let group = raw.group.as_deref().unwrap_or(name);
        for limit in policy.compile_list(&format!("{name}.limits"), name, group, raw, &raw.limits, tables, previous, issues) {
            if limit.key.needs_identity() { policy.late.push(limit) } else { policy.early.push(limit) }
        }
        if let Some(tiers) = &raw.tiers {
            let limits = tiers.limits.iter().map(|(tier, list)| {
                let place = format!("{name}.tiers.limits.{tier}");
                let label = format!("{name}.{tier}");
                let group = format!("{group}.{tier}");
                (tier.as_str().into(), policy.compile_list(&place, &label, &group, raw, list, tables, previous, issues))
            });
            let limits = limits.collect();
            policy.tiers = Some(Tiers { claim: tiers.claim.as_deref().map(Into::into), limits });
        }
        policy
    }

    #[allow(clippy::too_many_arguments, reason = "one caller's loop body")]
    fn compile_list(
        &mut self,
        place: &str,
        label: &str,
        group: &str,
        policy: &raw::RateLimit,
        list: &[raw::Limit],
        tables: &mut Tables,
        previous: Option<&Tables>,
        issues: &mut Vec<Issue>,
    ) -> Vec<Limit> {
        let mut out = Vec::with_capacity(list.len());
        for (i, limit) in list.iter().enumerate() {
            // Written twice, a limit would take twice from the one table.
            if list[..i].contains(limit) {
                continue;
            }
            check(&format!("{place}[{i}]"), limit, policy.cost, issues);
            let algorithm = Algorithm::new(limit);
            let index = self.names.quoted.len() as u16;
            self.names.push(label, algorithm.quota(), limit.window_ms);
            let shared_name = shared::name(group, limit).into();
            let table = tables.get(group, limit, previous);
            out.push(Limit { index, algorithm, key: Key::new(&limit.key), table, shared_name });
        }
        out
    }

    pub(super) fn has(&self, stage: Stage) -> bool {
        match stage {
            Stage::Early => !self.early.is_empty(),
            Stage::Late => !self.late.is_empty() || self.tiers.is_some(),
        }
    }

    fn limits(&self, stage: Stage, cx: &RequestCx<'_>) -> &[Limit] {
        if stage == Stage::Early {
            return &self.early;
        }
        let identity = cx.state.identity.as_deref();
        let tier = self.tiers.as_ref().and_then(|tiers| {
            let tier = match &tiers.claim {
                Some(path) => identity?.claim(path)?.as_str()?,
                None => identity?.tier()?,
            };
            tiers.limits.get(tier)
        });
        tier.unwrap_or(&self.late)
    }

    pub(super) fn request(&self, stage: Stage, cx: &mut RequestCx<'_>) -> Flow {
        let Some(shared) = &self.shared else {
            return self.local(stage, cx).map_or(Flow::Continue, Flow::Answer);
        };
        let limits = self.limits(stage, cx);
        if limits.is_empty() {
            return Flow::Continue;
        }
        let question = shared.question(limits, self.cost, cx);
        wait(async { Outcome::Limited(question.await) })
    }

    /// Goes on with what Redis answered.
    pub(super) fn answered(&self, stage: Stage, cx: &mut RequestCx<'_>, answered: Answered) -> Option<Answer> {
        let verdict = answered.ok().and_then(|figures| shared::Verdict::parse(&figures));
        match (verdict, self.shared.as_ref().map(|s| s.fail_mode)) {
            (Some(verdict), _) => self.told(stage, cx, verdict),
            (None, Some(raw::StoreFailMode::Open)) => None,
            (None, Some(raw::StoreFailMode::Local) | None) => self.local(stage, cx),
            (None, Some(raw::StoreFailMode::Closed)) => {
                metrics::with(|shard| shard.limited(self.rejected));
                let message = "The request limit can't be checked; try again shortly";
                let mut answer = Answer::error(503, "rate_limit_unavailable", message, "rate_limit", cx.req.request_id, cx.req.head);
                answer.headers.set("retry-after", "1");
                Some(answer)
            }
        }
    }

    fn told(&self, stage: Stage, cx: &mut RequestCx<'_>, verdict: shared::Verdict) -> Option<Answer> {
        let limits = self.limits(stage, cx);
        let reading = |at: usize, level: &shared::Level| {
            let limit = limits.get(at)?;
            Some(Reading {
                limit: limit.index,
                quota: limit.algorithm.quota(),
                remaining: level.remaining,
                reset: level.reset_ms.div_ceil(1000),
            })
        };
        match verdict {
            shared::Verdict::Admitted(levels) => {
                let readings = levels.iter().enumerate().filter_map(|(at, level)| reading(at, level));
                cx.state.readings.extend(readings);
                None
            }
            shared::Verdict::Refused { limit, level, retry_ms } => {
                cx.state.readings.clear();
                cx.state.readings.extend(reading(limit, &level));
                Some(self.refuse(retry_ms.div_ceil(1000).max(1), cx))
            }
        }
    }

    fn local(&self, stage: Stage, cx: &mut RequestCx<'_>) -> Option<Answer> {
        let now = self.held.as_ref().map_or_else(now, |held| held.now());
        let limits = self.limits(stage, cx);
        for (i, limit) in limits.iter().enumerate() {
            let key = limit.key.hash(&cx.req, cx.state.identity.as_deref());
            let verdict = limit.table.with(key, |counts| limit.algorithm.take(counts, now, self.cost));
            cx.state.readings.push(Reading {
                limit: limit.index,
                quota: limit.algorithm.quota(),
                remaining: verdict.remaining,
                reset: seconds(verdict.reset),
            });
            if !verdict.admitted {
                for limit in &limits[..i] {
                    let key = limit.key.hash(&cx.req, cx.state.identity.as_deref());
                    limit.table.with(key, |counts| limit.algorithm.refund(counts, now, self.cost));
                }
                // The others have readings of a request that was not counted; only the one that refused is told.
                let readings = &mut cx.state.readings;
                readings.drain(..readings.len() - 1);
                return Some(self.refuse(seconds(verdict.retry).max(1), cx));
            }
        }
        None
    }

    fn refuse(&self, retry_after: u64, cx: &RequestCx<'_>) -> Answer {
        metrics::with(|shard| shard.limited(self.rejected));
        let message = format!("Rate limit exceeded; try again in {retry_after} s");
        let mut answer = Answer::error(429, "rate_limit_exceeded", &message, "rate_limit", cx.req.request_id, cx.req.head);
        answer.headers.set("retry-after", itoa::Buffer::new().format(retry_after));
        answer
    }

    pub(super) fn response(&self, cx: &ResponseCx<'_>, ops: &mut HeaderOps) {
        if self.classic_headers {
            headers::classic(&cx.state.readings, ops);
        }
        if self.draft_headers {
            headers::draft(&cx.state.readings, &self.names, ops);
        }
    }
}

fn check(place: &str, limit: &raw::Limit, cost: u64, issues: &mut Vec<Issue>) {
    let mut wrong = |field: &str, message: String| issues.push(Issue::new(format!("{place}.{field}"), message));
    if limit.requests == 0 {
        wrong("requests", "a limit admits at least 1 request in its window; to admit none, use a fixed answer or an ip_filter".into());
    }
    if limit.window_ms == 0 || limit.window_ms > 366 * 24 * 3_600_000 {
        wrong("window_ms", "a window is between 1 ms and 366 days".into());
    }
    // Below 100 ns a request, whole nanoseconds would be wrong by more than 1 %.
    if limit.requests / 10_000 > limit.window_ms {
        wrong(
            "requests",
            format!("{} requests in {} ms are more than the limiter counts exactly (10,000 in 1 ms)", limit.requests, limit.window_ms),
        );
    }
    if limit.algorithm == raw::LimitAlgorithm::TokenBucket {
        if limit.burst == 0 {
            wrong("burst", "a token bucket needs a burst of at least 1".into());
        } else if cost > limit.burst {
            wrong("burst", format!("a request costs {cost}, more than the burst of {}: none would ever be admitted", limit.burst));
        }
    } else if cost > limit.requests {
        wrong("requests", format!("a request costs {cost}, more than the limit of {}: none would ever be admitted", limit.requests));
    }
    if limit.max_keys == 0 {
        wrong("max_keys", "at least 1 key must be remembered".into());
    }
}

/// Nanoseconds since the limiter was first used, plus an hour: a time near zero is no special case anywhere.
fn now() -> u64 {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGIN.elapsed().as_nanos() as u64 + 3_600_000_000_000
}

fn seconds(nanoseconds: u64) -> u64 {
    nanoseconds.div_ceil(1_000_000_000)
}

#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod tests;
