//! What is worth a look in a configuration that compiles: certificates that are not valid now, backends whose names have no address.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Issue, raw};
use crate::snapshot::Snapshot;
use crate::upstream::dns::Resolver;
use crate::upstream::settings::DnsSettings;

/// For all names together: a look at a configuration must not take for ever where nothing answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// Warnings about `config`, which `snapshot` was compiled from. Looks names up, and so takes its time; blocks the thread.
pub fn inspect(config: &raw::Config, snapshot: &Snapshot) -> Vec<Issue> {
    let mut issues: Vec<Issue> =
        snapshot.listeners.iter().filter_map(|spec| spec.tls.as_ref()).flat_map(|tls| tls.warnings()).cloned().collect();
    // Many backends may share a name; the first is told.
    let mut names: HashMap<(&str, u16), String> = HashMap::new();
    for (at, upstream) in config.upstreams.iter().enumerate() {
        for (index, backend) in upstream.backends.iter().enumerate() {
            let place = || format!("upstreams[{at}].backends[{index}].host");
            names.entry((&backend.host, backend.port)).or_insert_with(place);
        }
    }
    names.retain(|(host, _), _| host.parse::<std::net::IpAddr>().is_err());
    if !names.is_empty() {
        issues.extend(look_up(&names, &snapshot.dns));
    }
    issues
}

fn look_up(names: &HashMap<(&str, u16), String>, dns: &DnsSettings) -> Vec<Issue> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![Issue::new("dns", format!("no names can be looked up: {error}"))],
    };
    runtime.block_on(async {
        let resolver = match Resolver::new(dns) {
            Ok(resolver) => Arc::new(resolver),
            Err(error) => return vec![Issue::new("dns", error)],
        };
        let mut looks = JoinSet::new();
        for ((host, port), place) in names {
            let (resolver, host, port, place) = (resolver.clone(), (*host).to_owned(), *port, place.clone());
            looks.spawn(async move {
                let found = match tokio::time::timeout(PATIENCE, resolver.find(&host, port, &[])).await {
                    Ok(found) => found.map(|_| ()),
                    Err(_) => Err(format!("looking {host} up took longer than {PATIENCE:?}")),
                };
                found.err().map(|why| Issue::new(place, format!("{why}; until it has an address, the backend takes no traffic")))
            });
        }
        let mut issues: Vec<Issue> = looks.join_all().await.into_iter().flatten().collect();
        issues.sort_by(|a, b| a.path.cmp(&b.path));
        issues
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::compile::{Services, compile};

    #[test]
    fn tells_each_name_that_has_no_address_once() {
        let config: raw::Config = serde_json::from_value(serde_json::json!({
            "workers": 1, "version": "0",
            "listeners": [{ "name": "http", "address": "127.0.0.1", "port": 0 }],
            "upstreams": [
                { "name": "a", "backends": [{ "host": "127.0.0.1", "port": 1 }, { "host": "localhost", "port": 1 }] },
                { "name": "b", "backends": [{ "host": "nobody.invalid", "port": 1 }, { "host": "nobody.invalid", "port": 1 }] }],
            // Nobody listens there: refused at once, or silent for a short while.
            "dns": { "servers": ["127.0.0.1:9"], "timeout_ms": 200 } }))
        .unwrap();
        let snapshot = compile(&config, None, &Services::detached()).unwrap();
        let found: Vec<String> = inspect(&config, &snapshot).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("upstreams[1].backends[0].host: ") && found[0].contains("nobody.invalid"), "{found:?}");
    }
}
