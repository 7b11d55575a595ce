//! Upstreams.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Issue, Services, limit, raw, take};
use crate::balance::Balance;
use crate::balance::key::{self, HashKey};
use crate::balance::sticky::Sticky;
use crate::snapshot::Snapshot;
use crate::tls;
use crate::upstream::settings::{
    Backend, BreakerSettings, HealthSettings, HostRule, OutlierSettings, PoolLimits, Probe, Protocol, Retry, Settings, Timeouts,
};
use crate::upstream::{Resolved, Upstream};

/// Compiled upstreams.
pub(super) struct Upstreams {
    pub list: Vec<Arc<Upstream>>,
    /// Those of the configuration that were refused are absent: a route that names one is not to blame.
    pub by_name: HashMap<String, Option<Arc<Upstream>>>,
}

pub(super) fn compile(config: &raw::Config, previous: Option<&Snapshot>, services: &Services, issues: &mut Vec<Issue>) -> Upstreams {
    let mut all = Upstreams { list: Vec::new(), by_name: HashMap::new() };
    let before: HashMap<&str, &Arc<Upstream>> =
        previous.iter().flat_map(|p| &p.upstreams).map(|upstream| (&*upstream.name, upstream)).collect();
    for (at, raw) in config.upstreams.iter().enumerate() {
        let place = format!("upstreams[{at}]");
        if all.by_name.contains_key(&raw.name) {
            issues.push(Issue::new(format!("{place}.name"), format!("there is an upstream \"{}\" already", raw.name)));
            continue;
        }
        let found = issues.len();
        let upstream = one(&place, raw, before.get(&*raw.name).copied(), services, issues).filter(|_| issues.len() == found);
        all.list.extend(upstream.clone());
        all.by_name.insert(raw.name.clone(), upstream);
    }
    all
}

fn one(
    place: &str,
    raw: &raw::Upstream,
    before: Option<&Arc<Upstream>>,
    services: &Services,
    issues: &mut Vec<Issue>,
) -> Option<Arc<Upstream>> {
    let mut issue = |field: &str, message: String| issues.push(Issue::new(format!("{place}.{field}"), message));
    if raw.backends.is_empty() {
        issue("backends", "at least one backend is needed".into());
    }
    for (at, backend) in raw.backends.iter().enumerate() {
        if let Err(message) = host(&backend.host) {
            issue(&format!("backends[{at}].host"), message);
        }
        if backend.port == 0 && !backend.host.starts_with('_') {
            issue(&format!("backends[{at}].port"), "port 0 is only for SRV names, which carry their own".into());
        }
        if backend.max_connections == 0 {
            issue(&format!("backends[{at}].max_connections"), "0 connections serve nothing; weight 0 takes a backend out".into());
        }
    }
    let encrypted = raw.tls.is_some();
    match raw.protocol {
        raw::UpstreamProtocol::H2 if !encrypted => issue("protocol", "HTTP/2 by ALPN needs tls; without it use \"h2c\"".into()),
        raw::UpstreamProtocol::H2c if encrypted => issue("protocol", "\"h2c\" is HTTP/2 without TLS; with tls use \"h2\"".into()),
        _ => {}
    }
    if let Some(outlier) = &raw.outlier {
        let shares =
            [("error_rate", outlier.error_rate), ("max_ejected", outlier.max_ejected), ("panic_threshold", outlier.panic_threshold)];
        for (name, share) in shares.iter().filter(|(_, share)| !(0.0..=1.0).contains(share)) {
            issue(&format!("outlier.{name}"), format!("{share} is not between 0 and 1"));
        }
    }
    if !(0.0..=10_000.0).contains(&raw.retry.budget_percent) {
        issue("retry.budget_percent", format!("{} is not a percentage", raw.retry.budget_percent));
    }
    if let Some(check) = &raw.health_check {
        if check.interval_ms == 0 || check.timeout_ms == 0 {
            issue("health_check", "interval and timeout must be above 0".into());
        }
        if check.kind == raw::HealthCheckKind::Http && !check.path.starts_with('/') {
            issue("health_check.path", format!("a path begins with \"/\": write \"/{}\"", check.path));
        }
        if check.kind == raw::HealthCheckKind::Grpc && check.path.len() > 120 {
            issue("health_check.path", "the name of a gRPC service has at most 120 bytes".into());
        }
        if check.path.bytes().chain(check.host.iter().flat_map(|h| h.bytes())).any(|b| b <= b' ' || b == 0x7f) {
            issue("health_check", "path and host must not hold spaces or control characters".into());
        }
    }
    let balance = balance(&raw.balance).map_err(|message| issue("balance", message)).ok();
    let tls = match &raw.tls {
        Some(tls) => Some(take("", services.tls.client(&format!("{place}.tls"), tls, raw.protocol.into()), issues)?),
        None => None,
    };
    if let (Some(tls_raw), None) = (&raw.tls, raw.backends.iter().find(|b| b.host.starts_with('_'))) {
        for (at, backend) in raw.backends.iter().enumerate() {
            if let Err(message) = tls::server_name(tls_raw.sni.as_deref(), &backend.host) {
                issues.push(Issue::new(format!("{place}.backends[{at}].host"), message));
            }
        }
    }

    // The TLS store gives the same object back where nothing changed, so its address stands for configuration, certificates and keys.
    let tls_identity = tls.as_ref().map_or(0, |tls| Arc::as_ptr(tls) as usize as u64);
    let key = format!("{raw:?} {tls_identity}");
    if let Some(same) = before.filter(|b| b.key == key) {
        return Some(same.clone());
    }
    let transport = key::hash(format!("{:?} {tls_identity} {:?}", raw.protocol, raw.tls).as_bytes());
    let backends: Vec<Backend> = raw
        .backends
        .iter()
        .map(|b| Backend {
            host: b.host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase(),
            port: b.port,
            weight: b.weight,
            max_connections: b.max_connections,
        })
        .collect();
    let settings = settings(raw, balance?, tls);
    let metric = services.metrics.upstream(&raw.name);
    let upstream = Upstream::new(&raw.name, key, settings, transport, backends, metric, before.map(|b| &**b));
    upstream.resolve(&known(&upstream.backends, before.map(|b| &**b)), before.map(|b| &**b));
    Some(Arc::new(upstream))
}

/// Addresses known without asking DNS: literal ones, and those that the upstream before had for the same host.
fn known(backends: &[Backend], before: Option<&Upstream>) -> Vec<Resolved> {
    let mut list = Vec::new();
    for (at, backend) in backends.iter().enumerate() {
        if let Some(known) = Resolved::known(at, backend) {
            list.push(known);
        } else if let Some(before) = before {
            list.extend(before.addresses_of(&backend.host, backend.port).into_iter().map(|r| Resolved { backend: at, ..r }));
        }
    }
    list
}

/// A host is an IP address, a DNS name, or an SRV name (`_http._tcp.example.com`).
fn host(host: &str) -> Result<(), String> {
    let bare = host.trim_matches(['[', ']']);
    if bare.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    if host.contains("://") {
        return Err(format!("\"{host}\" is a URL; a backend has a host and a port, and tls belongs to its upstream"));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    if let Some((_, port)) = name.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
        return Err(format!("\"{host}\" holds a port; write \"port\": {port}"));
    }
    let label =
        |label: &str| !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(format!("\"{host}\" is neither an IP address nor a host name"));
    }
    Ok(())
}

fn balance(raw: &raw::Balance) -> Result<Balance, String> {
    Ok(match raw {
        raw::Balance::RoundRobin | raw::Balance::WeightedRoundRobin => Balance::RoundRobin,
        raw::Balance::LeastConnections => Balance::LeastConnections,
        raw::Balance::Random => Balance::Random,
        raw::Balance::PowerOfTwo => Balance::PowerOfTwo,
        raw::Balance::Ewma => Balance::Ewma,
        raw::Balance::IpHash => Balance::Hash { key: HashKey::Ip, bound: None },
        raw::Balance::ConsistentHash { key, bound } => {
            if let Some(bound) = bound.filter(|b| b.is_nan() || *b < 1.0) {
                return Err(format!("a bound of {bound} can't be held: it is a multiple of the mean load, such as 1.25"));
            }
            Balance::Hash { key: hash_key(key), bound: *bound }
        }
        raw::Balance::Sticky { cookie, secret, ttl_seconds } => {
            if secret.len() < 16 {
                return Err("the secret of a sticky cookie needs at least 16 characters".into());
            }
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if cookie.is_empty() || !cookie.bytes().all(token) {
                return Err(format!("\"{cookie}\" is not a cookie name"));
            }
            Balance::Sticky(Box::new(Sticky::new(cookie, secret.as_bytes(), *ttl_seconds)))
        }
    })
}

pub(super) fn hash_key(raw: &raw::HashKey) -> HashKey {
    match raw {
        raw::HashKey::Ip => HashKey::Ip,
        raw::HashKey::Path => HashKey::Path,
        raw::HashKey::Header(name) => HashKey::Header(name.to_ascii_lowercase()),
        raw::HashKey::Cookie(name) => HashKey::Cookie(name.clone()),
    }
}

fn settings(raw: &raw::Upstream, balance: Balance, tls: Option<Arc<rustls::ClientConfig>>) -> Settings {
    let ms = Duration::from_millis;
    let health = raw.health_check.as_ref().map(|check| HealthSettings {
        probe: match check.kind {
            raw::HealthCheckKind::Http => Probe::Http {
                path: check.path.clone(),
                host: check.host.clone(),
                statuses: check.statuses.clone(),
                body_contains: check.body_contains.clone(),
            },
            raw::HealthCheckKind::Tcp => Probe::Tcp,
            // A service's name has no slash: what begins with one is the default of the other kind.
            raw::HealthCheckKind::Grpc if check.path.starts_with('/') => Probe::Grpc { service: String::new() },
            raw::HealthCheckKind::Grpc => Probe::Grpc { service: check.path.clone() },
        },
        interval: ms(check.interval_ms),
        timeout: ms(check.timeout_ms),
        port: check.port,
        healthy_threshold: check.healthy_threshold.max(1),
        unhealthy_threshold: check.unhealthy_threshold.max(1),
    });
    Settings {
        balance,
        protocol: match raw.protocol {
            raw::UpstreamProtocol::Http1 => Protocol::Http1,
            raw::UpstreamProtocol::H2 => Protocol::H2,
            raw::UpstreamProtocol::H2c => Protocol::H2c,
            raw::UpstreamProtocol::Auto => Protocol::Auto,
        },
        sni: raw.tls.as_ref().and_then(|t| t.sni.clone()),
        tls,
        host: match &raw.host {
            raw::HostHeader::Preserve => HostRule::Preserve,
            raw::HostHeader::Backend => HostRule::Backend,
            raw::HostHeader::Fixed(value) => HostRule::Fixed(value.as_str().into()),
        },
        retry: Retry {
            max: raw.retry.max,
            within: limit(raw.retry.within_ms),
            try_timeout: limit(raw.retry.try_timeout_ms),
            statuses: raw.retry.statuses.clone(),
            non_idempotent: raw.retry.non_idempotent,
            max_body: raw.retry.max_body,
            backoff: ms(raw.retry.backoff_ms),
        },
        budget_percent: raw.retry.budget_percent,
        pool: PoolLimits {
            max_idle: raw.pool.max_idle,
            idle_timeout: limit(raw.pool.idle_timeout_ms),
            max_waiters: raw.pool.max_waiters,
            wait_timeout: limit(raw.pool.wait_timeout_ms),
        },
        timeouts: Timeouts {
            connect: limit(raw.timeouts.connect_ms),
            first_byte: limit(raw.timeouts.first_byte_ms),
            read: limit(raw.timeouts.read_ms),
            write: limit(raw.timeouts.write_ms),
        },
        outlier: raw.outlier.as_ref().map(|o| OutlierSettings {
            consecutive_failures: o.consecutive_failures,
            error_rate: o.error_rate,
            min_requests: o.min_requests,
            interval: ms(o.interval_ms),
            ejection: ms(o.ejection_ms),
            max_ejected: o.max_ejected,
            panic_threshold: o.panic_threshold,
        }),
        breaker: raw.circuit_breaker.as_ref().map(|b| BreakerSettings {
            failure_threshold: b.failure_threshold,
            success_threshold: b.success_threshold,
            timeout: ms(b.timeout_ms),
            window: ms(b.window_ms),
        }),
        slow_start: ms(raw.slow_start_ms),
        health,
    }
}
