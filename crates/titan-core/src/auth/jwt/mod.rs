//! JSON Web Tokens (RFC 7519, RFC 8725), verified with aws-lc's signatures.
//!
//! jsonwebtoken is the tests' second opinion and not the verifier: it has no ES512, and it parses the key anew for each token.

mod algorithm;
mod claims;
mod jwks;
mod key;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use algorithm::Algorithm;
pub use claims::Rules;
pub use jwks::{Provider, Source, Wait};
pub use key::Key;
use serde::Deserialize;
use serde_json::Value;

use super::generations::Generations;
use super::{Identity, IdentityKind, Revocations, base64};
use crate::store::SharedRevocations;

/// Longer tokens are refused unread.
const MAX_TOKEN: usize = 16 << 10;
/// Signatures tried for one token that names no key.
const MAX_TRIES: usize = 16;

/// Why a token was refused. The text goes into `error_description`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not three parts of base64url with JSON in them, or with a critical extension.
    Malformed,
    /// `alg` is not on the list.
    Algorithm,
    /// No key for its `kid` and `alg`.
    UnknownKey,
    /// No key's signature.
    Signature,
    /// `exp` has passed.
    Expired,
    /// `exp` is absent.
    NoExpiry,
    /// `nbf` or `iat` is in the future.
    NotYet,
    /// `iss` is another.
    Issuer,
    /// `aud` is another.
    Audience,
    /// `sub` is absent.
    NoSubject,
    /// Revoked.
    Revoked,
}

impl Refusal {
    /// One sentence without anything of the token in it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Malformed => "the token is malformed",
            Self::Algorithm => "the token's algorithm is not allowed",
            Self::UnknownKey => "the token was signed with an unknown key",
            Self::Signature => "the token's signature is wrong",
            Self::Expired => "the token has expired",
            Self::NoExpiry => "the token has no expiry",
            Self::NotYet => "the token is not valid yet",
            Self::Issuer => "the token's issuer is not accepted",
            Self::Audience => "the token is for another audience",
            Self::NoSubject => "the token has no subject",
            Self::Revoked => "the token was revoked",
        }
    }
}

/// What a verification came to.
pub enum Verdict {
    /// Good.
    Accepted(Arc<Identity>),
    /// Not good.
    Refused(Refusal),
    /// The keys are being fetched: verify again after the wait. Not given for a token that has waited.
    Wait(Wait),
    /// There were never any keys, and the provider can't be reached.
    NoKeys,
}

/// A verifier: keys, rules, and the tokens that it has verified.
pub struct Verifier {
    keys: Vec<Key>,
    provider: Option<Arc<Provider>>,
    algorithms: Vec<Algorithm>,
    rules: Rules,
    cache: Option<Generations<Cached>>,
    revocations: Option<Arc<Revocations>>,
    /// Held so that the list is kept the same as the other Titans'.
    _shared: Option<Arc<SharedRevocations>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Clone)]
struct Cached {
    identity: Arc<Identity>,
    jti: Option<Arc<str>>,
    /// Unix seconds at which the token stops being good.
    until: u64,
    /// The provider's key set that it was verified with: another set may lack the key.
    key_set: u64,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

impl Verifier {
    /// `algorithms` is the whole allow-list. `cache` = tokens remembered.
    pub fn new(
        keys: Vec<Key>,
        provider: Option<Arc<Provider>>,
        algorithms: Vec<Algorithm>,
        rules: Rules,
        cache: usize,
        revocations: Option<Arc<Revocations>>,
        shared: Option<Arc<SharedRevocations>>,
    ) -> Self {
        let cache = (cache > 0).then(|| Generations::new(cache));
        Self { keys, provider, algorithms, rules, cache, revocations, _shared: shared, hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    /// Verifies a token. `waited`: it has waited for keys already.
    pub fn verify(&self, token: &[u8], now: u64, waited: bool) -> Verdict {
        if token.len() > MAX_TOKEN {
            return Verdict::Refused(Refusal::Malformed);
        }
        let key_set = self.provider.as_ref().map_or(0, |p| p.generation());
        if let Some(cache) = &self.cache
            && let Some(known) = cache.get(token)
        {
            if now < known.until && known.key_set == key_set {
                self.hits.fetch_add(1, Ordering::Relaxed);
                return match self.revoked(known.jti.as_deref()) {
                    true => Verdict::Refused(Refusal::Revoked),
                    false => Verdict::Accepted(known.identity),
                };
            }
            cache.remove(token);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        match self.verify_anew(token, now, waited) {
            Ok(claims) => self.accept(token, claims, key_set),
            Err(verdict) => verdict,
        }
    }

    /// Tokens found in the cache and not.
    pub fn cache_counts(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// The provider of its keys.
    pub fn provider(&self) -> Option<&Arc<Provider>> {
        self.provider.as_ref()
    }

    fn accept(&self, token: &[u8], claims: Value, key_set: u64) -> Verdict {
        let jti: Option<Arc<str>> = claims.get("jti").and_then(Value::as_str).map(Into::into);
        let until = self.rules.until(&claims);
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned();
        let identity = Identity::new(IdentityKind::Jwt, subject, claims);
        if self.revoked(jti.as_deref()) {
            return Verdict::Refused(Refusal::Revoked);
        }
        if let Some(cache) = &self.cache {
            cache.insert(token, Cached { identity: identity.clone(), jti, until, key_set });
        }
        Verdict::Accepted(identity)
    }

    fn revoked(&self, jti: Option<&str>) -> bool {
        matches!((&self.revocations, jti), (Some(list), Some(jti)) if list.contains(jti))
    }

    fn verify_anew(&self, token: &[u8], now: u64, waited: bool) -> Result<Value, Verdict> {
        let malformed = || Verdict::Refused(Refusal::Malformed);
        let (signed, signature) = split_last(token).ok_or_else(malformed)?;
        let (header, payload) = split_last(signed).filter(|(header, _)| !header.contains(&b'.')).ok_or_else(malformed)?;
        let header: Header = decode(header).and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or_else(malformed)?;
        // Extensions that must be understood: none is.
        if header.crit.is_some() {
            return Err(malformed());
        }
        let algorithm = Algorithm::parse(&header.alg).filter(|a| self.algorithms.contains(a));
        let algorithm = algorithm.ok_or(Verdict::Refused(Refusal::Algorithm))?;
        let signature = decode(signature).ok_or_else(malformed)?;
        self.check_signature(algorithm, header.kid.as_deref(), signed, &signature, waited)?;
        let claims: Value = decode(payload).and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or_else(malformed)?;
        if !claims.is_object() {
            return Err(malformed());
        }
        let issuer = self.provider.as_ref().and_then(|p| p.issuer());
        self.rules.check(&claims, issuer, now).map_err(Verdict::Refused)?;
        Ok(claims)
    }

    fn check_signature(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        signed: &[u8],
        signature: &[u8],
        waited: bool,
    ) -> Result<(), Verdict> {
        let fetched = self.provider.as_ref().map(|p| p.keys());
        let fetched = fetched.as_deref();
        let all = self.keys.iter().chain(fetched.into_iter().flat_map(|set| set.keys.iter()));
        let fits = |key: &&Key| key.is_for(algorithm) && (kid.is_none() || key.id.is_none() || key.id.as_deref() == kid);
        let mut tried = false;
        for key in all.filter(fits).take(MAX_TRIES) {
            tried = true;
            if key.verify(algorithm, signed, signature) {
                return Ok(());
            }
        }
        let Some(provider) = &self.provider else {
            return Err(Verdict::Refused(if tried { Refusal::Signature } else { Refusal::UnknownKey }));
        };
        let never_fetched = provider.generation() == 0;
        if !waited
            && (never_fetched || !tried)
            && let Some(wait) = provider.ask()
        {
            return Err(Verdict::Wait(wait));
        }
        Err(match (tried, never_fetched) {
            (true, _) => Verdict::Refused(Refusal::Signature),
            (false, true) => Verdict::NoKeys,
            (false, false) => Verdict::Refused(Refusal::UnknownKey),
        })
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

fn split_last(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let dot = memchr::memrchr(b'.', bytes)?;
    Some((&bytes[..dot], &bytes[dot + 1..]))
}

/// Strict base64url without padding (RFC 7515 §2): one spelling of each token.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    use ::base64::Engine;
    ::base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()
}

/// Decodes a secret by its stated encoding.
pub fn decode_secret(secret: &crate::config::raw::Secret) -> Result<Vec<u8>, &'static str> {
    use crate::config::raw::Encoding;
    match secret.encoding {
        Encoding::Utf8 => Ok(secret.value.clone().into_bytes()),
        Encoding::Base64 => {
            base64(secret.value.trim().as_bytes()).ok_or("it is not base64; where its characters are the secret, say \"utf8\"")
        }
        Encoding::Hex => {
            super::unhex(secret.value.trim()).ok_or("it is not hexadecimal; where its characters are the secret, say \"utf8\"")
        }
    }
}
