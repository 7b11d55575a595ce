//! Listeners.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Issue, Services, limit, raw, take};
use crate::listener::{Http2Settings, ListenerSpec, ListenerTimeouts};

pub(super) fn compile(config: &raw::Config, services: &Services, issues: &mut Vec<Issue>) -> Vec<Arc<ListenerSpec>> {
    let mut list = Vec::new();
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut addresses: HashMap<SocketAddr, usize> = HashMap::new();
    for (at, listener) in config.listeners.iter().enumerate() {
        let place = format!("listeners[{at}]");
        if let Some(first) = names.insert(&listener.name, at) {
            issues.push(Issue::new(format!("{place}.name"), format!("listeners[{first}] has the name \"{}\" already", listener.name)));
        }
        let Ok(ip) = listener.address.trim_matches(['[', ']']).parse::<IpAddr>() else {
            let message =
                format!("\"{}\" is no IP address; use 0.0.0.0 or :: for all interfaces, 127.0.0.1 for this machine", listener.address);
            issues.push(Issue::new(format!("{place}.address"), message));
            continue;
        };
        let address = SocketAddr::new(ip, listener.port);
        if let Some(first) = addresses.insert(address, at).filter(|_| listener.port != 0) {
            issues.push(Issue::new(format!("{place}.port"), format!("listeners[{first}] has {address} already")));
        }
        if listener.limits.max_head < 512 {
            issues.push(Issue::new(format!("{place}.limits.max_head"), "below 512 bytes no usual request fits"));
        }
        let tls = match &listener.tls {
            Some(tls) => match take("", services.tls.server(&format!("{place}.tls"), tls, listener.http2), issues) {
                Some(tls) => Some(tls),
                None => continue,
            },
            None => None,
        };
        let (h2, timeouts, limits) = (&listener.h2, &listener.timeouts, &listener.limits);
        list.push(Arc::new(ListenerSpec {
            name: listener.name.as_str().into(),
            address,
            backlog: listener.backlog,
            tls,
            http2: listener.http2,
            h2: Http2Settings {
                max_concurrent_streams: h2.max_concurrent_streams,
                initial_stream_window: h2.initial_stream_window,
                initial_connection_window: h2.initial_connection_window,
                max_header_list: h2.max_header_list,
                max_resets: h2.max_resets,
            },
            timeouts: ListenerTimeouts {
                tls_handshake: limit(timeouts.tls_handshake_ms),
                head: limit(timeouts.head_ms),
                read: limit(timeouts.read_ms),
                write: limit(timeouts.write_ms),
                idle: limit(timeouts.idle_ms),
            },
            max_connections: limits.max_connections,
            max_connections_per_ip: limits.max_connections_per_ip,
            max_requests_per_connection: limits.max_requests_per_connection,
            max_body: limits.max_body,
            max_head: limits.max_head,
            max_headers: limits.max_headers,
            metric: services.metrics.listener(&listener.name),
        }));
    }
    list
}
