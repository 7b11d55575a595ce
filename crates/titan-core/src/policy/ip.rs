//! Client addresses: their canonical form, sets of networks, and the allow and deny lists.

use std::net::IpAddr;

use ipnet::IpNet;

use super::RequestCx;
use crate::config::{Issue, raw};
use crate::http::answer::Answer;
use crate::metrics::{self, Id};

/// An IPv4-mapped IPv6 address as the IPv4 address that it is, so that the same client is not two.
pub fn canonical(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

/// What a client is for limits: an IPv4 address, or the /64 of an IPv6 one (a host has 2⁶⁴ addresses at will).
pub fn bucket(ip: IpAddr) -> [u8; 9] {
    let mut out = [0; 9];
    match canonical(ip) {
        IpAddr::V4(v4) => {
            out[0] = 4;
            out[1..5].copy_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            out[0] = 6;
            out[1..].copy_from_slice(&v6.octets()[..8]);
        }
    }
    out
}

/// A set of networks as sorted, disjoint ranges: a lookup is one binary search, whatever the size of the list.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct IpSet {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl IpSet {
    /// The union of `nets`.
    pub fn new(nets: impl IntoIterator<Item = IpNet>) -> Self {
        let mut set = IpSet::default();
        for net in nets {
            match net {
                IpNet::V4(n) => set.v4.push((n.network().to_bits(), n.broadcast().to_bits())),
                IpNet::V6(n) => match n.network().to_ipv4_mapped() {
                    Some(first) if n.prefix_len() >= 96 => {
                        let host_bits = 128 - u32::from(n.prefix_len());
                        set.v4.push((first.to_bits(), first.to_bits() | ((1u64 << host_bits) - 1) as u32));
                    }
                    _ => set.v6.push((n.network().to_bits(), n.broadcast().to_bits())),
                },
            }
        }
        merge(&mut set.v4, |end, start| end.checked_add(1).is_none_or(|next| next >= start));
        merge(&mut set.v6, |end, start| end.checked_add(1).is_none_or(|next| next >= start));
        set
    }

    /// Parses CIDRs and single addresses; `Err` has the index and text of each wrong one.
    pub fn parse<S: AsRef<str>>(list: &[S]) -> Result<Self, Vec<(usize, String)>> {
        let mut wrong = Vec::new();
        let mut nets = Vec::with_capacity(list.len());
        for (i, text) in list.iter().enumerate() {
            match parse_net(text.as_ref()) {
                Some(net) => nets.push(net),
                None => wrong.push((i, text.as_ref().to_owned())),
            }
        }
        if wrong.is_empty() { Ok(Self::new(nets)) } else { Err(wrong) }
    }

    /// Whether `ip` is in the set.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match canonical(ip) {
            IpAddr::V4(ip) => within(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => within(&self.v6, ip.to_bits()),
        }
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

fn parse_net(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn merge<T: Copy + Ord>(ranges: &mut Vec<(T, T)>, touches: impl Fn(T, T) -> bool) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let joined = touches(kept.1, next.0);
        if joined {
            kept.1 = kept.1.max(next.1);
        }
        joined
    });
}

fn within<T: Copy + Ord>(ranges: &[(T, T)], ip: T) -> bool {
    let after = ranges.partition_point(|r| r.0 <= ip);
    after > 0 && ip <= ranges[after - 1].1
}

/// Allow and deny lists.
#[derive(Debug)]
pub(super) struct IpFilter {
    allow: Option<IpSet>,
    deny: IpSet,
    pub(super) rejected: Id,
}

impl IpFilter {
    pub(super) fn compile(name: &str, raw: &raw::IpFilter, rejected: Id, issues: &mut Vec<Issue>) -> Self {
        let allow = list(name, "allow", &raw.allow, raw.allow_file.as_deref(), issues);
        let deny = list(name, "deny", &raw.deny, raw.deny_file.as_deref(), issues);
        let restricted = !raw.allow.is_empty() || raw.allow_file.is_some();
        Self { allow: restricted.then_some(allow), deny, rejected }
    }

    pub(super) fn request(&self, cx: &RequestCx<'_>) -> Option<Answer> {
        let ip = cx.req.client.ip;
        if !self.deny.contains(ip) && self.allow.as_ref().is_none_or(|set| set.contains(ip)) {
            return None;
        }
        metrics::with(|shard| shard.limited(self.rejected));
        Some(Answer::error(403, "forbidden", "Your address is not allowed here", "ip_filter", cx.req.request_id, cx.req.head))
    }
}

fn list(name: &str, field: &str, inline: &[String], file: Option<&str>, issues: &mut Vec<Issue>) -> IpSet {
    let mut lines: Vec<(String, String)> =
        inline.iter().enumerate().map(|(i, text)| (format!("{name}.{field}[{i}]"), text.clone())).collect();
    if let Some(file) = file {
        match std::fs::read_to_string(file) {
            Ok(text) => lines.extend(text.lines().enumerate().filter_map(|(i, line)| {
                let entry = line.split('#').next().unwrap_or_default().trim();
                (!entry.is_empty()).then(|| (format!("{name}.{field}_file ({file}:{})", i + 1), entry.to_owned()))
            })),
            Err(error) => issues.push(Issue::new(format!("{name}.{field}_file"), format!("can't read {file}: {error}"))),
        }
    }
    let nets: Vec<IpNet> = lines
        .iter()
        .filter_map(|(place, text)| {
            let net = parse_net(text);
            if net.is_none() {
                issues.push(Issue::new(place, format!("\"{text}\" is neither an IP address nor a CIDR such as 10.0.0.0/8")));
            }
            net
        })
        .collect();
    IpSet::new(nets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn sets_hold_what_their_networks_hold() {
        let set =
            IpSet::parse(&["10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/32", "192.168.0.1", "2001:db8::/32", "::ffff:172.16.0.0/108"]).unwrap();
        for (text, inside) in [
            ("10.255.255.255", true),
            ("10.0.0.0", true),
            ("11.0.0.0", true),
            ("11.0.0.1", false),
            ("9.255.255.255", false),
            ("192.168.0.1", true),
            ("::ffff:192.168.0.1", true),
            ("192.168.0.2", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("172.31.255.255", true),
            ("172.32.0.0", false),
            ("::1", false),
        ] {
            assert_eq!(set.contains(ip(text)), inside, "{text}");
        }
        let all = IpSet::parse(&["0.0.0.0/0", "1.2.3.4", "::/0"]).unwrap();
        assert_eq!(all.v4.len(), 1);
        assert!(all.contains(ip("255.255.255.255")) && all.contains(ip("ffff::")));
        assert_eq!(IpSet::parse(&["10.0.0.1", "10.0.0/8"]).unwrap_err(), [(1, "10.0.0/8".to_owned())]);
    }

    #[test]
    fn buckets_v22() {
        assert_eq!(bucket(ip("2001:db8::1")), bucket(ip("2001:db8::ffff:ffff:ffff:ffff")));
        assert_ne!(bucket(ip("2001:db8::1")), bucket(ip("2001:db8:0:1::1")));
        assert_eq!(bucket(ip("::ffff:1.2.3.4")), bucket(ip("1.2.3.4")));
        assert_ne!(bucket(ip("::ffff:1.2.3.4")), bucket(ip("::ffff:1.2.3.5")));
        assert_ne!(bucket(ip("1.2.3.4")), bucket(ip("102:304::")));
    }
}
