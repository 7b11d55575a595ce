//! From a request to the key it is counted under.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

use crate::auth::Identity;
use crate::config::raw::LimitKey;
use crate::http::cookie;
use crate::policy::cx::RequestView;
use crate::policy::ip;

/// The parts of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    parts: Box<[LimitKey]>,
}

impl Key {
    pub(crate) fn new(parts: &[LimitKey]) -> Self {
        Self { parts: parts.into() }
    }

    /// Whether everything is counted as one.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether a part comes from an identity, so that the key is known only after authentication.
    pub(crate) fn needs_identity(&self) -> bool {
        self.parts.iter().any(|p| matches!(p, LimitKey::Claim(_) | LimitKey::ApiKey | LimitKey::Subject))
    }

    /// The key as a hash that no client can steer (its seed is drawn when the process starts).
    pub(crate) fn hash(&self, req: &RequestView<'_>, identity: Option<&Identity>) -> u64 {
        if self.parts.is_empty() {
            return 0;
        }
        static SEED: OnceLock<RandomState> = OnceLock::new();
        let mut hasher = SEED.get_or_init(RandomState::new).build_hasher();
        self.feed(req, identity, &mut |bytes| {
            hasher.write_usize(bytes.len());
            hasher.write(bytes);
        });
        hasher.finish()
    }

    /// Gives every part to `f`, one at a time; an absent value is given as nothing at all, a present one with its number before it.
    pub(crate) fn feed(&self, req: &RequestView<'_>, identity: Option<&Identity>, f: &mut dyn FnMut(&[u8])) {
        for (i, part) in self.parts.iter().enumerate() {
            f(&[i as u8]);
            match part {
                LimitKey::Ip => f(&ip::bucket(req.client.ip)),
                LimitKey::Route => f(req.route.as_bytes()),
                // Every value counts, in its order: which of them an upstream looks at is not known here.
                LimitKey::Header(name) => req.head.get_all_name(name.as_bytes()).for_each(&mut *f),
                LimitKey::Cookie(name) => cookie::values(req.head, name.as_bytes()).for_each(&mut *f),
                LimitKey::Claim(path) => {
                    if let Some(identity) = identity {
                        identity.with_claim(path, &mut *f);
                    }
                }
                LimitKey::ApiKey => identity.and_then(|i| i.api_key()).map(str::as_bytes).into_iter().for_each(&mut *f),
                LimitKey::Subject => identity.map(|i| i.subject().as_bytes()).into_iter().for_each(&mut *f),
            }
        }
    }
}
