//! Names to addresses: hosts file, A and AAAA, SRV.
//!
//! A family or name whose query fails keeps its last good answer; so does a name that suddenly has no address at all. Addresses without a
//! route (IPv6 in a container that has none) are left out where others are left.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};

use super::settings::DnsSettings;

/// Time after which the hosts file is read again.
const HOSTS_TTL: Duration = Duration::from_secs(5);

/// Resolves the names of backends.
pub struct Resolver {
    inner: TokioResolver,
    settings: DnsSettings,
}

/// One address of a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Address and port.
    pub addr: SocketAddr,
    /// See [`super::Endpoint::alternate`].
    pub alternate: Option<SocketAddr>,
    /// Host that an SRV record names.
    pub target: Option<Arc<str>>,
    /// Weight of an SRV record.
    pub weight: Option<u32>,
}

/// What one query said.
enum Family {
    Found(Vec<IpAddr>, Duration),
    Empty,
    Failed(String),
}

impl Resolver {
    /// A resolver.
    pub fn new(settings: &DnsSettings) -> Result<Self, String> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = if settings.servers.is_empty() {
            TokioResolver::builder_tokio().map_err(|e| format!("the system's resolver configuration can't be read: {e}"))?
        } else {
            let server = |address: &SocketAddr| {
                let port = |mut connection: ConnectionConfig| {
                    connection.port = address.port();
                    connection
                };
                NameServerConfig::new(address.ip(), true, vec![port(ConnectionConfig::udp()), port(ConnectionConfig::tcp())])
            };
            let servers = settings.servers.iter().map(server).collect();
            TokioResolver::builder_with_config(ResolverConfig::from_name_servers(servers), provider)
        };
        let options = builder.options_mut();
        options.timeout = settings.timeout;
        options.attempts = 2;
        // Who asks keeps the answer for its time; the hosts file is read here, so that its changes are seen.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.positive_min_ttl = Some(settings.min_ttl);
        options.positive_max_ttl = Some(settings.max_ttl);
        let inner = builder.build().map_err(|e| e.to_string())?;
        Ok(Self { inner, settings: settings.clone() })
    }

    /// Addresses of a host, and for how long they are good. `last` is what was known before.
    pub async fn find(&self, host: &str, port: u16, last: &[Found]) -> Result<(Vec<Found>, Duration), String> {
        if let Some(found) = localhost(host, port) {
            return Ok((vec![found], self.settings.max_ttl));
        }
        let (mut found, ttl) =
            if host.starts_with('_') { self.services(host, port, last).await? } else { self.host(host, port, None, last).await? };
        let reachable: Vec<Found> = found.iter().filter(|f| has_route(f.addr)).cloned().collect();
        if !reachable.is_empty() {
            found = reachable;
        }
        // Servers rotate their answers; the order must not look like a change.
        found.sort();
        found.dedup();
        Ok((found, ttl.clamp(self.settings.min_ttl.min(self.settings.max_ttl), self.settings.max_ttl)))
    }

    async fn host(&self, host: &str, port: u16, target: Option<Arc<str>>, last: &[Found]) -> Result<(Vec<Found>, Duration), String> {
        let found = |ip: IpAddr| Found { addr: SocketAddr::new(ip, port), alternate: None, target: target.clone(), weight: None };
        if let Ok(ip) = host.parse() {
            return Ok((vec![found(ip)], self.settings.max_ttl));
        }
        if let Some(known) = in_hosts_file(host) {
            return Ok((known.into_iter().map(found).collect(), HOSTS_TTL));
        }
        let (v4, v6) = tokio::join!(self.family(host, RecordType::A), self.family(host, RecordType::AAAA));
        let (mut list, mut ttl, mut errors) = (Vec::new(), self.settings.max_ttl, Vec::new());
        let mut fresh = false;
        for (family, is_v4) in [(v4, true), (v6, false)] {
            match family {
                Family::Found(addresses, good) => {
                    fresh = true;
                    ttl = ttl.min(good);
                    list.extend(addresses.into_iter().map(found));
                }
                Family::Empty => {}
                Family::Failed(error) => {
                    errors.push(error);
                    ttl = ttl.min(Duration::from_secs(5));
                    list.extend(last.iter().filter(|f| f.addr.is_ipv4() == is_v4 && f.target == target).cloned());
                }
            }
        }
        match errors.into_iter().next() {
            // One family may fail for ever (servers that do not know AAAA): that is no news while the other answers.
            _ if fresh => Ok((list, ttl)),
            Some(error) => Err(error),
            None => Err(format!("{host} has no address")),
        }
    }

    /// Targets of an SRV name: those of the lowest priority, by their weights.
    async fn services(&self, name: &str, port: u16, last: &[Found]) -> Result<(Vec<Found>, Duration), String> {
        let lookup = self.inner.lookup(fully_qualified(name), RecordType::SRV).await.map_err(|e| describe(name, &e))?;
        let mut ttl = good_for(&lookup);
        let records: Vec<_> =
            lookup.answers().iter().filter_map(|r| if let RData::SRV(srv) = &r.data { Some(srv) } else { None }).collect();
        let lowest = records.iter().map(|r| r.priority).min().ok_or_else(|| format!("{name} has no SRV record"))?;
        let (mut list, mut error) = (Vec::new(), None);
        for record in records.iter().filter(|r| r.priority == lowest && !r.target.is_root()) {
            let target: Arc<str> = record.target.to_ascii().trim_end_matches('.').to_ascii_lowercase().into();
            let port = if port == 0 { record.port } else { port };
            match self.host(&target, port, Some(target.clone()), last).await {
                Ok((found, good)) => {
                    ttl = ttl.min(good);
                    let weight = Some(u32::from(record.weight).max(1));
                    list.extend(found.into_iter().map(|f| Found { weight, ..f }));
                }
                Err(why) => error = Some(why),
            }
        }
        if list.is_empty() { Err(error.unwrap_or_else(|| format!("{name} offers no service"))) } else { Ok((list, ttl)) }
    }

    async fn family(&self, host: &str, kind: RecordType) -> Family {
        match self.inner.lookup(fully_qualified(host), kind).await {
            Ok(lookup) => {
                let addresses: Vec<IpAddr> = lookup.answers().iter().filter_map(|r| r.data.ip_addr()).collect();
                if addresses.is_empty() { Family::Empty } else { Family::Found(addresses, good_for(&lookup)) }
            }
            Err(error) if error.is_no_records_found() => Family::Empty,
            Err(error) => Family::Failed(describe(host, &error)),
        }
    }
}

/// A name with several labels is taken as it is, so that no search domain can answer for it; a short one is searched for.
fn fully_qualified(host: &str) -> String {
    if host.contains('.') && !host.ends_with('.') { format!("{host}.") } else { host.to_string() }
}

fn good_for(lookup: &Lookup) -> Duration {
    lookup.valid_until().saturating_duration_since(Instant::now())
}

fn describe(host: &str, error: &NetError) -> String {
    if error.is_nx_domain() { format!("{host} does not exist") } else { format!("looking {host} up failed: {error}") }
}

/// `localhost` is one server at two addresses, and never asked for in DNS (RFC 6761).
pub fn localhost(host: &str, port: u16) -> Option<Found> {
    let host = host.strip_suffix('.').unwrap_or(host);
    (host == "localhost" || host.ends_with(".localhost")).then(|| Found {
        addr: (Ipv4Addr::LOCALHOST, port).into(),
        alternate: Some((Ipv6Addr::LOCALHOST, port).into()),
        target: None,
        weight: None,
    })
}

fn in_hosts_file(host: &str) -> Option<Vec<IpAddr>> {
    let hosts = Hosts::from_system().ok()?;
    let name: Name = format!("{}.", host.trim_end_matches('.')).parse().ok()?;
    let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    let found: Vec<IpAddr> = [RecordType::A, RecordType::AAAA]
        .into_iter()
        .filter_map(of)
        .flat_map(|l| l.answers().to_vec())
        .filter_map(|r| r.data.ip_addr())
        .collect();
    (!found.is_empty()).then_some(found)
}

/// Whether the kernel knows a way: connecting a UDP socket asks that and sends nothing.
fn has_route(addr: SocketAddr) -> bool {
    let any: SocketAddr = if addr.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    std::net::UdpSocket::bind(any).and_then(|socket| socket.connect((addr.ip(), 9))).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_one_server() {
        let found = localhost("localhost", 80).unwrap();
        assert_eq!((found.addr.to_string(), found.alternate.unwrap().to_string()), ("127.0.0.1:80".into(), "[::1]:80".into()));
        assert!(localhost("api.localhost", 80).is_some() && localhost("localhost.example.com", 80).is_none());
    }

    #[test]
    fn only_short_names_are_searched_for() {
        assert_eq!(["api", "api.svc", "api.svc."].map(fully_qualified), ["api", "api.svc.", "api.svc."]);
    }

    #[test]
    fn loopback_has_a_route() {
        assert!(has_route("127.0.0.1:80".parse().unwrap()));
    }
}
