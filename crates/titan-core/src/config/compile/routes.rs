//! Routes and the table that finds them.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::upstreams::{Upstreams, hash_key};
use super::{Issue, Services, limit, raw};
use crate::balance::key::HashKey;
use crate::http::answer::Answer;
use crate::http::host;
use crate::http::ops::HeaderOps;
use crate::policy::Policies;
use crate::route::condition::{Condition, Methods, Place, Test};
use crate::route::pattern::Pattern;
use crate::route::rewrite::Rewrite;
use crate::route::router::Entry;
use crate::route::template::Template;
use crate::route::{Action, FrameLimits, Proxy, Redirect, Route, Router, Target, WebSocket};

pub(super) fn compile(
    config: &raw::Config,
    upstreams: &Upstreams,
    policies: &Policies,
    services: &Services,
    issues: &mut Vec<Issue>,
) -> (Vec<Arc<Route>>, Router) {
    let mut names: HashMap<&str, usize> = HashMap::with_capacity(config.routes.len());
    let mut routes = Vec::with_capacity(config.routes.len());
    let mut entries = Vec::with_capacity(config.routes.len());
    for (index, raw) in config.routes.iter().enumerate() {
        let mut place = At { place: format!("routes[{index}]"), issues };
        if let Some(first) = names.insert(&raw.name, index) {
            place.issue("name", format!("routes[{first}] has the name \"{}\" already", raw.name));
        }
        for (at, policy) in raw.policies.iter().enumerate().filter(|(_, policy)| **policy >= config.policies.len()) {
            place.issue(&format!("policies[{at}]"), format!("there is no policy number {policy}"));
        }
        let pattern = match Pattern::parse(&raw.matches.path) {
            Ok(pattern) => pattern,
            Err(message) => {
                place.issue("match.path", message);
                continue;
            }
        };
        let action = place.action(&raw.action, &pattern, upstreams);
        let hosts = place.hosts(&raw.matches.hosts);
        let mut conditions = Vec::new();
        place.conditions(Place::Header, "match.headers", &raw.matches.headers, &mut conditions);
        place.conditions(Place::Query, "match.query", &raw.matches.query, &mut conditions);
        place.conditions(Place::Cookie, "match.cookies", &raw.matches.cookies, &mut conditions);
        let methods = place.methods(&raw.matches.methods);
        let Some(action) = action else { continue };
        routes.push(Arc::new(Route {
            name: raw.name.as_str().into(),
            index,
            pattern: raw.matches.path.as_str().into(),
            hosts: raw.matches.hosts.clone(),
            methods: methods.clone(),
            conditions: conditions.clone(),
            param_names: pattern.names.clone().into(),
            priority: raw.priority,
            action,
            chain: policies.chain(&raw.policies),
            bodies: policies.bodies(&raw.policies),
            policies: policies.order(&raw.policies).into_iter().map(|(name, kind)| (name.into(), kind)).collect(),
            timeout: limit(raw.timeout_ms),
            max_body: raw.max_body,
            websocket: raw.websocket.as_ref().map(|w| WebSocket {
                idle_timeout: limit(w.idle_timeout_ms),
                max_connections: w.max_connections,
                origins: w.origins.clone(),
                subprotocols: w.subprotocols.clone(),
                frames: FrameLimits { max_frame: w.max_frame_size, max_message: w.max_message_size, max_rate: w.max_frames_per_second },
            }),
            metric: services.metrics.route(&raw.name),
        }));
        entries.push(Entry { route: index, hosts, pattern, methods, conditions, priority: raw.priority });
    }
    (routes, Router::new(entries))
}

/// A place in the configuration that collects its issues.
struct At<'a> {
    place: String,
    issues: &'a mut Vec<Issue>,
}

impl At<'_> {
    fn issue(&mut self, field: &str, message: impl Into<String>) {
        self.issues.push(Issue::new(format!("{}.{field}", self.place), message));
    }

    fn take<T>(&mut self, field: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.issue(field, message)).ok()
    }

    fn hosts(&mut self, raw: &[String]) -> Vec<String> {
        let mut hosts = Vec::new();
        for (at, text) in raw.iter().enumerate() {
            let (wild, name) = text.strip_prefix("*.").map_or(("", &**text), |rest| ("*.", rest));
            match host::normalise(name.as_bytes()) {
                Ok(host) if host.port.is_none() && !host.name.is_empty() && !host.name.contains(&b'*') => {
                    hosts.push(format!("{wild}{}", host.name()));
                }
                _ => self.issue(
                    &format!("match.hosts[{at}]"),
                    format!("\"{text}\" is neither a host such as api.example.com nor *.example.com (no port, one wildcard in front)"),
                ),
            }
        }
        hosts
    }

    fn methods(&mut self, raw: &[String]) -> Methods {
        for (at, name) in raw.iter().enumerate() {
            let field = format!("match.methods[{at}]");
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)) {
                self.issue(&field, format!("\"{name}\" is not a method"));
            } else if name == "CONNECT" {
                self.issue(&field, "CONNECT is always refused, so no route can take it");
            } else if name.bytes().any(|b| b.is_ascii_lowercase()) && Methods::is_known(&name.to_ascii_uppercase()) {
                self.issue(&field, format!("methods are case-sensitive: write \"{}\"", name.to_ascii_uppercase()));
            }
        }
        Methods::new(raw)
    }

    fn conditions(&mut self, place: Place, field: &str, raw: &[raw::ValueMatch], out: &mut Vec<Condition>) {
        for (at, value) in raw.iter().enumerate() {
            let field = format!("{field}[{at}]");
            if value.name.is_empty() {
                self.issue(&field, "a name is needed");
                continue;
            }
            let test = match (&value.exact, &value.prefix, &value.regex) {
                (None, None, None) => Some(Test::Present),
                (Some(exact), None, None) => Some(Test::Exact(exact.as_bytes().into())),
                (None, Some(prefix), None) => Some(Test::Prefix(prefix.as_bytes().into())),
                (None, None, Some(regex)) => self.take(&format!("{field}.regex"), Test::regex(regex)),
                _ => {
                    self.issue(&field, "only one of exact, prefix and regex");
                    None
                }
            };
            let name = if place == Place::Header { value.name.to_ascii_lowercase() } else { value.name.clone() };
            out.extend(test.map(|test| Condition { place, name, test, invert: value.invert }));
        }
    }

    fn action(&mut self, raw: &raw::Action, pattern: &Pattern, upstreams: &Upstreams) -> Option<Action> {
        match raw {
            raw::Action::Proxy { targets, split_by, rewrite } => {
                self.proxy(targets, split_by.as_ref(), rewrite.as_ref(), pattern, upstreams)
            }
            raw::Action::Redirect { status, location } => {
                if ![301, 302, 303, 307, 308].contains(status) {
                    self.issue("action.status", format!("{status} is no redirect; use 301, 302, 303, 307 or 308"));
                }
                if !location.starts_with('/') && !location.contains("://") {
                    self.issue("action.location", format!("\"{location}\" is neither a path nor a URL"));
                }
                let location = self.take("action.location", Template::parse(location, &pattern.names, true))?;
                Some(Action::Redirect(Redirect::new(*status, location)))
            }
            raw::Action::Fixed { status, headers, body } => {
                if !(200..=599).contains(status) {
                    self.issue("action.status", format!("{status} is not a final status (200–599)"));
                }
                let mut ops = HeaderOps::default();
                for (at, (name, value)) in headers.iter().enumerate() {
                    let valid = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
                    if name.is_empty() || !name.bytes().all(valid) || value.bytes().any(|b| (b < b' ' && b != b'\t') || b == 0x7f) {
                        self.issue(&format!("action.headers[{at}]"), format!("\"{name}\": not a valid header field"));
                    }
                    ops.add(name.to_ascii_lowercase(), value);
                }
                let body = Bytes::copy_from_slice(body.as_bytes());
                Some(Action::Fixed(Answer { status: *status, headers: ops, body, stage: "fixed" }))
            }
        }
    }

    fn proxy(
        &mut self,
        raw: &[raw::Target],
        split_by: Option<&raw::HashKey>,
        rewrite: Option<&raw::Rewrite>,
        pattern: &Pattern,
        upstreams: &Upstreams,
    ) -> Option<Action> {
        let mut targets = Vec::new();
        for (at, target) in raw.iter().enumerate() {
            let field = format!("action.targets[{at}]");
            let mut conditions = Vec::new();
            self.conditions(Place::Header, &format!("{field}.headers"), &target.headers, &mut conditions);
            self.conditions(Place::Cookie, &format!("{field}.cookies"), &target.cookies, &mut conditions);
            match upstreams.by_name.get(&target.upstream) {
                Some(Some(upstream)) => targets.push(Target { upstream: upstream.clone(), weight: target.weight, conditions }),
                Some(None) => {}
                None => self.issue(&format!("{field}.upstream"), format!("there is no upstream \"{}\"", target.upstream)),
            }
        }
        if raw.iter().all(|t| t.weight == 0) {
            self.issue("action.targets", "at least one target needs a weight above 0");
        }
        let split_by = split_by.map(hash_key);
        if split_by == Some(HashKey::Path) {
            self.issue("action.split_by", "targets are split by ip, header or cookie; for paths use routes");
        }
        let rewrite = rewrite.and_then(|rewrite| self.rewrite(rewrite, pattern));
        (targets.len() == raw.len() && !targets.is_empty()).then(|| Action::Proxy(Proxy::new(targets, split_by, rewrite)))
    }

    fn rewrite(&mut self, raw: &raw::Rewrite, pattern: &Pattern) -> Option<Rewrite> {
        let field = |name: &str| format!("action.rewrite.{name}");
        if raw.path.is_some() && raw.strip_prefix.is_some() {
            self.issue(&field("strip_prefix"), "either path or strip_prefix");
        }
        for (name, prefix) in [("strip_prefix", &raw.strip_prefix), ("add_prefix", &raw.add_prefix)] {
            if prefix.as_ref().is_some_and(|p| !p.starts_with('/')) {
                self.issue(&field(name), "a prefix begins with \"/\"");
            }
        }
        let path = raw.path.as_ref().and_then(|path| self.take(&field("path"), Rewrite::template(path, &pattern.names)));
        let rule = |(at, (pattern, replacement)): (usize, &(String, String))| {
            self.take(&field(&format!("regex[{at}]")), Rewrite::rule(pattern, replacement))
        };
        let regex = raw.regex.iter().enumerate().filter_map(rule).collect();
        let (strip_prefix, add_prefix) = (raw.strip_prefix.clone(), raw.add_prefix.clone());
        Some(Rewrite { path, strip_prefix, add_prefix, regex })
    }
}
