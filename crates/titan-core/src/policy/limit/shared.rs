//! Limits counted in Redis: one round trip a request and stage, by a script.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use redis::Script;

use super::RequestCx;
use super::algorithm::Algorithm;
use crate::config::raw::{Limit, LimitAlgorithm, LimitKey, Redis, StoreFailMode};
use crate::store::{Store, Unavailable};

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("limit.lua")));

/// Where and how a policy's limits are shared.
#[derive(Debug)]
pub(in crate::policy) struct Shared {
    store: Arc<Store>,
    prefix: String,
    timeout: Duration,
    pub(super) fail_mode: StoreFailMode,
}

/// What the script returned.
pub(in crate::policy) type Answered = Result<Vec<i64>, Unavailable>;

/// What the script says of a request.
pub(super) enum Verdict {
    /// Of each limit.
    Admitted(Vec<Level>),
    /// Of the first that refused.
    Refused { limit: usize, level: Level, retry_ms: u64 },
}

/// State of a limit after a request.
pub(super) struct Level {
    pub(super) remaining: u64,
    pub(super) reset_ms: u64,
}

impl Verdict {
    pub(super) fn parse(figures: &[i64]) -> Option<Self> {
        let level = |remaining: i64, reset: i64| Level { remaining: remaining.max(0) as u64, reset_ms: reset.max(0) as u64 };
        match *figures {
            [0, limit, remaining, reset, retry] if limit > 0 => {
                Some(Self::Refused { limit: limit as usize - 1, level: level(remaining, reset), retry_ms: retry.max(0) as u64 })
            }
            [1, ref levels @ ..] => Some(Self::Admitted(levels.chunks_exact(2).map(|pair| level(pair[0], pair[1])).collect())),
            _ => None,
        }
    }
}

/// A limit's name in Redis: group, key and figures, so that Titans with different figures do not spoil each other's counts.
pub(super) fn name(group: &str, limit: &Limit) -> String {
    let key: Vec<String> = limit.key.iter().map(part).collect();
    let key = key.join("+");
    match limit.algorithm {
        LimitAlgorithm::TokenBucket => format!("{group}:{key}:b:{}:{}:{}", limit.requests, limit.window_ms, limit.burst),
        LimitAlgorithm::SlidingWindow => format!("{group}:{key}:w:{}:{}", limit.requests, limit.window_ms),
    }
}

fn part(key: &LimitKey) -> String {
    match key {
        LimitKey::Ip => "ip".into(),
        LimitKey::Route => "route".into(),
        LimitKey::Header(name) => format!("header={name}"),
        LimitKey::Cookie(name) => format!("cookie={name}"),
        LimitKey::Claim(path) => format!("claim={path}"),
        LimitKey::ApiKey => "api_key".into(),
        LimitKey::Subject => "subject".into(),
    }
}

impl Shared {
    pub(in crate::policy) fn new(store: Arc<Store>, raw: &Redis) -> Self {
        Self { store, prefix: raw.prefix.clone(), timeout: Duration::from_millis(raw.timeout_ms), fail_mode: raw.fail_mode }
    }

    /// The question, which borrows nothing of the request.
    pub(super) fn question(&self, limits: &[super::Limit], cost: u64, cx: &RequestCx<'_>) -> impl Future<Output = Answered> + 'static {
        let mut keys = Vec::with_capacity(limits.len());
        let mut args = Vec::with_capacity(1 + 3 * limits.len());
        args.push(cost.to_string());
        for limit in limits {
            keys.push(format!("{}rl:{}:{}", self.prefix, limit.shared_name, digest(limit, cx)));
            let (kind, x, y) = match limit.algorithm {
                Algorithm::TokenBucket { interval, burst } => ("b", interval, burst),
                Algorithm::SlidingWindow { window, requests } => ("w", window, requests),
            };
            args.extend([kind.to_owned(), format!("{:.3}", x as f64 / 1000.0), y.to_string()]);
        }
        let (store, timeout) = (self.store.clone(), self.timeout);
        async move {
            let question = async |mut connection| {
                let mut call = SCRIPT.prepare_invoke();
                keys.iter().for_each(|key| _ = call.key(key));
                args.iter().for_each(|arg| _ = call.arg(arg));
                call.invoke_async::<Vec<i64>>(&mut connection).await
            };
            store.ask(timeout, question).await
        }
    }
}

/// The key's parts, which may be secrets (a cookie, a header), as 128 bits of SHA-256: the same in every process.
fn digest(limit: &super::Limit, cx: &RequestCx<'_>) -> String {
    let mut context = Context::new(&SHA256);
    limit.key.feed(&cx.req, cx.state.identity.as_deref(), &mut |bytes| {
        context.update(&(bytes.len() as u64).to_le_bytes());
        context.update(bytes);
    });
    context.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
