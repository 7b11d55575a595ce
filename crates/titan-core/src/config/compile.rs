//! Compiles a native configuration. Every problem is collected, so that one run shows them all.
//!
//! Reads files (certificates, keys) and builds tables: call it off the shards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::{Issue, raw};
use crate::http::forward::Forwarding;
use crate::metrics::Registry;
use crate::metrics::access_log::AccessLog;
use crate::policy;
use crate::snapshot::{Builtin, Census, Critical, Health, Snapshot};
use crate::tls::Store;
use crate::upstream::settings::DnsSettings;

mod listeners;
mod routes;
mod upstreams;

/// What compiling needs from the process. Lives as long as the gateway.
#[derive(Clone)]
pub struct Services {
    /// What policies need.
    pub policy: policy::Services,
    /// Certificates and TLS configurations.
    pub tls: Arc<Store>,
    /// Series of metrics.
    pub metrics: Arc<Registry>,
    /// Snapshots in memory.
    pub census: Census,
}

impl Services {
    /// Services of a process that serves nothing (`titan check`, `titan explain`).
    pub fn detached() -> Self {
        let policy = policy::Services::default();
        Self { tls: policy.tls.clone(), metrics: policy.metrics.clone(), policy, census: Census::default() }
    }
}

/// Compiles `config`. What did not change since `previous` is taken over with its state: upstreams and endpoints, policies, listeners' TLS.
///
/// Names of backends are not resolved here: an upstream keeps the addresses that `previous` knew, and
/// [`crate::upstream::supervisor::Supervisor`] finds the others.
pub fn compile(config: &raw::Config, previous: Option<&Snapshot>, services: &Services) -> Result<Snapshot, Vec<Issue>> {
    let mut issues = Vec::new();
    if config.listeners.is_empty() {
        issues.push(Issue::new("listeners", "at least one listener is needed"));
    }
    let listeners = listeners::compile(config, services, &mut issues);
    let upstreams = upstreams::compile(config, previous, services, &mut issues);
    let (policies, more) = policy::compile(&config.policies, previous.map(|p| &p.policies), &services.policy);
    issues.extend(more.into_iter().map(|(at, issue)| of_policy(at, &config.policies[at].name, issue)));
    let (routes, router) = routes::compile(config, &upstreams, &policies, services, &mut issues);
    let forwarding = forwarding(config, &mut issues);
    let builtin = builtin(config, &mut issues);
    let dns = dns(&config.dns, &mut issues);
    let access_log = config.access_log.as_ref().and_then(|log| take("", AccessLog::compile("access_log", log), &mut issues));
    for (at, index) in config.global.iter().enumerate().filter(|(_, index)| **index >= config.policies.len()) {
        issues.push(Issue::new(format!("global[{at}]"), format!("there is no policy number {index}")));
    }
    if !issues.is_empty() {
        return Err(issues);
    }
    Ok(Snapshot {
        generation: previous.map_or(1, |p| p.generation + 1),
        version: config.version.as_str().into(),
        listeners,
        router,
        routes,
        upstreams: upstreams.list,
        fallback: policies.chain(&config.global),
        fallback_policies: policies.order(&config.global).into_iter().map(|(name, kind)| (name.into(), kind)).collect(),
        policies,
        forwarding,
        access_log,
        builtin,
        dns,
        shutdown_delay: Duration::from_millis(config.shutdown_delay_ms),
        shutdown_timeout: Duration::from_millis(config.shutdown_timeout_ms),
        max_buffered: config.max_buffered,
        alive: services.census.enter(),
    })
}

fn forwarding(config: &raw::Config, issues: &mut Vec<Issue>) -> Forwarding {
    let raw = &config.forwarding;
    Forwarding {
        trusted: cidrs("trusted_proxies", &config.trusted_proxies, issues),
        x_forwarded: raw.x_forwarded,
        forwarded: raw.forwarded,
        via: raw.via.as_deref().map(Into::into),
        request_id: raw.request_id.as_deref().map(Into::into),
        id_pattern: raw.id_pattern.as_deref().and_then(|pattern| {
            // Whole, whatever the pattern's alternatives are.
            let whole = regex::bytes::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(1 << 20).build();
            whole.map_err(|error| issues.push(Issue::new("forwarding.id_pattern", error.to_string()))).ok()
        }),
        correlation_id: raw.correlation_id.as_deref().map(Into::into),
        server_timing: raw.server_timing,
        trace_context: raw.trace_context,
    }
}

fn builtin(config: &raw::Config, issues: &mut Vec<Issue>) -> Builtin {
    let kind = |kind: &raw::HealthKind| match kind {
        raw::HealthKind::Health => Health::Health,
        raw::HealthKind::Live => Health::Live,
        raw::HealthKind::Ready => Health::Ready,
    };
    Builtin {
        internal: cidrs("builtin.internal_cidrs", &config.builtin.internal_cidrs, issues),
        health_paths: config.builtin.health_paths.iter().map(|(path, k)| (path.as_bytes().into(), kind(k))).collect(),
        critical: critical(config, issues),
    }
}

fn critical(config: &raw::Config, issues: &mut Vec<Issue>) -> Critical {
    let mut critical = Critical::default();
    for (at, name) in config.builtin.critical.iter().enumerate() {
        match (name.as_str(), name.strip_prefix("upstream:")) {
            ("redis" | "jwks", _) => critical.services.push(name.as_str().into()),
            ("upstreams", _) => critical.every_upstream = true,
            (_, Some(upstream)) if config.upstreams.iter().any(|known| known.name == upstream) => critical.upstreams.push(upstream.into()),
            (_, Some(upstream)) => issues.push(Issue::new(format!("builtin.critical[{at}]"), format!("there is no upstream {upstream:?}"))),
            _ => issues.push(Issue::new(format!("builtin.critical[{at}]"), "must be `redis`, `jwks`, `upstreams` or `upstream:NAME`")),
        }
    }
    critical
}

fn dns(raw: &raw::Dns, issues: &mut Vec<Issue>) -> DnsSettings {
    let mut servers = Vec::new();
    for (at, text) in raw.servers.iter().enumerate() {
        let address = text.parse::<SocketAddr>().ok().or_else(|| Some(SocketAddr::new(text.trim_matches(['[', ']']).parse().ok()?, 53)));
        match address {
            Some(address) => servers.push(address),
            None => issues.push(Issue::new(format!("dns.servers[{at}]"), format!("\"{text}\" is no address such as 10.0.0.2:53"))),
        }
    }
    if raw.min_ttl_ms > raw.max_ttl_ms {
        issues.push(Issue::new("dns.min_ttl_ms", "must not be above max_ttl_ms"));
    }
    let ms = Duration::from_millis;
    DnsSettings { servers, min_ttl: ms(raw.min_ttl_ms), max_ttl: ms(raw.max_ttl_ms.max(1)), timeout: ms(raw.timeout_ms.max(1)) }
}

/// Networks; a bare address is a network of one.
fn cidrs(place: &str, list: &[String], issues: &mut Vec<Issue>) -> Vec<IpNet> {
    let parse = |(at, text): (usize, &String)| {
        let net = text.parse::<IpNet>().ok().or_else(|| text.parse().ok().map(|ip: std::net::IpAddr| IpNet::from(ip.to_canonical())));
        if net.is_none() {
            issues.push(Issue::new(format!("{place}[{at}]"), format!("\"{text}\" is neither an address nor a network such as 10.0.0.0/8")));
        }
        net.map(|n| n.trunc())
    };
    list.iter().enumerate().filter_map(parse).collect()
}

/// An issue whose path begins with a policy's name, with the place of that policy instead. Which line of another file is meant is the message's
/// business.
fn of_policy(at: usize, name: &str, issue: Issue) -> Issue {
    let field = issue.path.strip_prefix(name).unwrap_or_default();
    match field.split_once(" (").and_then(|(field, rest)| Some((field, rest.rsplit_once(')')?.0))) {
        Some((field, line)) => Issue::new(format!("policies[{at}]{field}"), format!("{line}: {}", issue.message)),
        None => Issue { path: format!("policies[{at}]{field}"), ..issue },
    }
}

/// The value, or `None` with its issues collected. `place` is put before theirs.
fn take<T>(place: &str, result: Result<T, Vec<Issue>>, issues: &mut Vec<Issue>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(more) => {
            issues.extend(more.into_iter().map(|i| Issue { path: format!("{place}{}", i.path), ..i }));
            None
        }
    }
}

/// 0 = no limit.
fn limit(ms: u64) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms))
}

#[cfg(test)]
mod tests;
