//! Choice of a certificate by SNI: exact name, then wildcard, then the default (the first of the configuration).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use smallvec::SmallVec;

/// Certificates of one name, in preference order: a client that cannot use the first (ECDSA) may get the second (RSA).
type Keys = SmallVec<[Arc<CertifiedKey>; 2]>;

/// Certificates by name.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    exact: HashMap<Box<str>, Keys>,
    /// By the part after `*.`; a wildcard stands for one label.
    wildcard: HashMap<Box<str>, Keys>,
    default: Keys,
}

impl Resolver {
    /// Adds a certificate under its names. The first one added is the default, with others that have the very same names.
    pub(super) fn add(&mut self, key: Arc<CertifiedKey>, names: &[String], default: bool) {
        for name in names {
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            let (map, name) = match name.strip_prefix("*.") {
                Some(rest) => (&mut self.wildcard, rest),
                None => (&mut self.exact, name.as_str()),
            };
            insert(map.entry(name.into()).or_default(), &key);
        }
        if default {
            insert(&mut self.default, &key);
        }
    }

    fn keys(&self, name: Option<&str>) -> &Keys {
        let Some(name) = name else { return &self.default };
        if let Some(keys) = self.exact.get(name) {
            return keys;
        }
        name.split_once('.').and_then(|(_, rest)| self.wildcard.get(rest)).unwrap_or(&self.default)
    }
}

/// Cheaper signatures first: ECDSA and Ed25519 before RSA.
fn insert(keys: &mut Keys, key: &Arc<CertifiedKey>) {
    let rank = |key: &CertifiedKey| u8::from(key.key.algorithm() == rustls::SignatureAlgorithm::RSA);
    let at = keys.iter().position(|other| rank(other) > rank(key)).unwrap_or(keys.len());
    keys.insert(at, Arc::clone(key));
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives the name in lower case.
        let keys = self.keys(hello.server_name());
        keys.iter().find(|key| key.key.choose_scheme(hello.signature_schemes()).is_some()).or(keys.first()).cloned()
    }
}
