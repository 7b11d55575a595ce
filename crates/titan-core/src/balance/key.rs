//! What a consistent choice is made from.

use std::net::IpAddr;

use super::random::mix;
use crate::http::cookie;
use crate::http::head::RequestHead;

/// Input of a consistent hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// Client address (IPv6 by /64, v4-mapped as v4).
    Ip,
    /// Match path.
    Path,
    /// A header's first value, by lower-case name.
    Header(String),
    /// A cookie's value.
    Cookie(String),
}

impl HashKey {
    /// The key's hash; `None` where the request has no such value.
    pub fn of(&self, client: IpAddr, head: &RequestHead, path: &[u8]) -> Option<u64> {
        match self {
            HashKey::Ip => Some(hash_ip(client)),
            HashKey::Path => Some(hash(path)),
            HashKey::Header(name) => head.get_name(name.as_bytes()).map(hash),
            HashKey::Cookie(name) => cookie::values(head, name.as_bytes()).next().map(hash),
        }
    }
}

/// A hash that is the same in every process and release (FNV-1a, finished by a mixer): several gateways must agree on it.
pub fn hash(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// The hash of a client: one IPv6 network is one client, and a v4-mapped address is its IPv4 one.
pub fn hash_ip(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => hash(&v4.octets()),
        IpAddr::V6(v6) => hash(&v6.octets()[..8]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::condition::tests::head;

    #[test]
    fn one_network_is_one_client() {
        let hash = |text: &str| hash_ip(text.parse().unwrap());
        assert_eq!(hash("2001:db8::1"), hash("2001:db8::ffff:2"));
        assert_ne!(hash("2001:db8::1"), hash("2001:db8:0:1::1"));
        assert_eq!(hash("::ffff:10.0.0.1"), hash("10.0.0.1"));
        assert_ne!(hash("10.0.0.1"), hash("10.0.0.2"));
    }

    #[test]
    fn headers_and_cookies() {
        let head = head("GET", "/", &[("X-User", "7"), ("Cookie", "a=1; s=x")]);
        let ip = "10.0.0.1".parse().unwrap();
        assert_eq!(HashKey::Header("x-user".into()).of(ip, &head, b"/"), Some(hash(b"7")));
        assert_eq!(HashKey::Cookie("s".into()).of(ip, &head, b"/"), Some(hash(b"x")));
        assert_eq!(HashKey::Cookie("t".into()).of(ip, &head, b"/"), None);
    }
}
