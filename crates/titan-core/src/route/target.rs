//! Where a route leads: weighted upstreams, rewritten paths, redirects.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::Params;
use super::condition::Condition;
use super::rewrite::Rewrite;
use super::template::Template;
use crate::balance::Weights;
use crate::balance::key::HashKey;
use crate::error::ProxyError;
use crate::http::head::RequestHead;
use crate::upstream::Upstream;

/// Forwards to one of its targets.
pub struct Proxy {
    targets: Vec<Target>,
    /// Indices of the targets with a weight, in the order of `weights`.
    weighted: Vec<usize>,
    weights: Weights,
    /// Binds what it hashes to one target; absent = in turn.
    split_by: Option<HashKey>,
    turn: AtomicUsize,
    pub(crate) rewrite: Option<Rewrite>,
}

/// A target.
pub struct Target {
    /// Where to.
    pub upstream: Arc<Upstream>,
    /// Share of the requests that no target's conditions claim.
    pub weight: u32,
    /// A target with conditions takes every request for which all of them hold, before weights are looked at.
    pub conditions: Vec<Condition>,
}

/// Path and query that are forwarded. Borrowed where nothing was rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardTarget<'a> {
    /// Normalised path.
    pub path: Cow<'a, [u8]>,
    /// Query without `?`.
    pub query: Option<Cow<'a, [u8]>>,
}

impl Proxy {
    /// At least one target, and a weight above 0 somewhere.
    pub fn new(targets: Vec<Target>, split_by: Option<HashKey>, rewrite: Option<Rewrite>) -> Self {
        let weighted: Vec<usize> = targets.iter().enumerate().filter(|(_, t)| t.weight > 0).map(|(at, _)| at).collect();
        let weights = Weights::new(weighted.iter().map(|at| targets[*at].weight));
        Self { targets, weighted, weights, split_by, turn: AtomicUsize::new(0), rewrite }
    }

    /// The targets.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The upstream of this request: the first target whose conditions hold, else by weight.
    pub fn choose(&self, head: &RequestHead, client: IpAddr) -> &Arc<Upstream> {
        if let [only] = &*self.targets {
            return &only.upstream;
        }
        if let Some(claimed) = self.claimed(head) {
            return &self.targets[claimed].upstream;
        }
        let at = match self.split_by.as_ref().and_then(|key| key.of(client, head, head.raw_path())) {
            // Owners of ranges in the order of the file: when the last target's share grows, it takes over keys and loses none.
            Some(hash) => self.weights.at(((u128::from(hash) * u128::from(self.weights.total())) >> 64) as u64),
            None => {
                let order = self.weights.order();
                usize::from(order[self.turn.fetch_add(1, Relaxed) % order.len()])
            }
        };
        &self.targets[self.weighted[at]].upstream
    }

    /// The first target whose conditions hold for this request.
    pub fn claimed(&self, head: &RequestHead) -> Option<usize> {
        self.targets.iter().position(|t| !t.conditions.is_empty() && t.conditions.iter().all(|c| c.holds(head)))
    }

    /// What is forwarded: the match path or the declared rewrite of it, normalised again.
    pub fn forward<'a>(&self, path: &'a [u8], params: &Params, query: Option<&'a [u8]>) -> Result<ForwardTarget<'a>, ProxyError> {
        match &self.rewrite {
            Some(rewrite) => rewrite.apply(path, params, query),
            None => Ok(ForwardTarget { path: Cow::Borrowed(path), query: query.map(Cow::Borrowed) }),
        }
    }
}

/// A redirect.
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    location: Template,
}

impl Redirect {
    /// Answers with `status` and the filled-in location.
    pub fn new(status: u16, location: Template) -> Self {
        Self { status, location }
    }

    /// The value of `Location`. Bytes that don't belong in a URI are percent-encoded.
    pub fn location(&self, path: &[u8], params: &Params, query: Option<&[u8]>) -> Vec<u8> {
        let raw = self.location.render(path, params, query);
        let mut out = Vec::with_capacity(raw.len());
        for byte in raw {
            match byte {
                0..=b' ' | 0x7f.. | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                    out.extend_from_slice(format!("%{byte:02X}").as_bytes());
                }
                _ => out.push(byte),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::condition::tests::head;
    use super::super::condition::{Place, Test};
    use super::*;
    use crate::upstream::tests::upstream_named;

    fn proxy(targets: &[(&str, u32)], split_by: Option<HashKey>) -> Proxy {
        let target = |(name, weight): &(&str, u32)| Target { upstream: upstream_named(name), weight: *weight, conditions: vec![] };
        Proxy::new(targets.iter().map(target).collect(), split_by, None)
    }

    fn shares(proxy: &Proxy, count: usize, of: &str) -> usize {
        let at = |i: usize| {
            let head = head("GET", "/", &[("X-User", &i.to_string())]);
            proxy.choose(&head, "10.0.0.1".parse().unwrap()).name.to_string()
        };
        (0..count).filter(|i| at(*i) == of).count()
    }

    #[test]
    fn splits_exactly_by_weight() {
        let proxy = proxy(&[("stable", 95), ("canary", 5), ("off", 0)], None);
        assert_eq!(shares(&proxy, 1_000, "canary"), 50);
        assert_eq!(shares(&proxy, 1_000, "off"), 0);
    }

    #[test]
    fn a_growing_canary_keeps_whom_it_has() {
        let who = |weight: u32| {
            let proxy = proxy(&[("stable", 100 - weight), ("canary", weight)], Some(HashKey::Header("x-user".into())));
            let canary = |i: &usize| {
                let head = head("GET", "/", &[("X-User", &i.to_string())]);
                &*proxy.choose(&head, "10.0.0.1".parse().unwrap()).name == "canary"
            };
            (0..2_000).filter(canary).collect::<Vec<_>>()
        };
        let (ten, thirty) = (who(10), who(30));
        assert!((150..250).contains(&ten.len()) && (520..680).contains(&thirty.len()), "{} {}", ten.len(), thirty.len());
        assert!(ten.iter().all(|i| thirty.contains(i)));
    }

    #[test]
    fn conditions_claim_before_weights() {
        let mut proxy = proxy(&[("stable", 1), ("canary", 0)], None);
        let test = Test::Exact((*b"always").into());
        proxy.targets[1].conditions.push(Condition { place: Place::Cookie, name: "canary".into(), test, invert: false });
        let choose = |headers: &[(&str, &str)]| proxy.choose(&head("GET", "/", headers), "10.0.0.1".parse().unwrap()).name.clone();
        assert_eq!(&*choose(&[("Cookie", "a=1; canary=always")]), "canary");
        assert_eq!(&*choose(&[("Cookie", "canary=never")]), "stable");
    }

    #[test]
    fn locations_hold_no_bare_control_bytes() {
        let redirect = Redirect::new(308, Template::parse("https://example.com/*", &["*".into()], true).unwrap());
        let path = b"/a b\r\n\xc3\xa9";
        let params = Params { spans: [crate::http::head::Span { start: 1, end: path.len() as u32 }].as_slice().into() };
        assert_eq!(redirect.location(path, &params, None), b"https://example.com/a%20b%0D%0A%C3%A9");
    }
}
