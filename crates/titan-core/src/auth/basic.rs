//! Names and passwords against argon2 and bcrypt hashes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use aws_lc_rs::hmac;
use serde_json::json;

use super::generations::Generations;
use super::{Identity, IdentityKind, base64, blocking};
use crate::config::{Issue, raw};

/// Verified names and passwords remembered.
const CACHE: usize = 10_000;

/// The users of a policy.
pub struct Users {
    by_name: HashMap<Box<str>, User>,
    /// Verified for names that are unknown, so that how long an answer takes does not tell which are.
    decoy: Arc<str>,
    cache: Option<(Generations<Cached>, Duration)>,
    /// Of this process: what the cache holds is of no use outside.
    secret: hmac::Key,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").field("count", &self.by_name.len()).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct User {
    hash: Arc<str>,
    identity: Arc<Identity>,
}

#[derive(Clone)]
struct Cached {
    identity: Arc<Identity>,
    until: std::time::Instant,
}

/// A name and a password as a request carries them.
pub struct Credential {
    pair: Vec<u8>,
    colon: usize,
}

impl Credential {
    /// From the part of the header behind `Basic `.
    pub fn parse(token: &[u8]) -> Option<Self> {
        let pair = base64(token.trim_ascii())?;
        let colon = memchr::memchr(b':', &pair)?;
        Some(Self { pair, colon })
    }

    fn name(&self) -> Option<&str> {
        std::str::from_utf8(&self.pair[..self.colon]).ok()
    }
}

/// What is known at once.
pub enum Quick {
    /// Verified shortly before.
    Known(Arc<Identity>),
    /// Must be verified.
    Unknown(Check),
}

/// A verification to run.
pub struct Check {
    hash: Arc<str>,
    identity: Option<Arc<Identity>>,
    password: Vec<u8>,
    fingerprint: [u8; 32],
}

/// Outcome of [`Users::run`].
pub enum Outcome {
    /// Right.
    Right(Arc<Identity>, [u8; 32]),
    /// Wrong name or password.
    Wrong,
    /// Too many verifications wait already.
    Busy,
}

impl Users {
    /// Inline users and those of the htpasswd file.
    pub fn compile(place: &str, raw: &raw::Basic, issues: &mut Vec<Issue>) -> Self {
        let mut users: Vec<(String, raw::BasicUser)> =
            raw.users.iter().enumerate().map(|(i, u)| (format!("{place}.users[{i}]"), u.clone())).collect();
        if let Some(file) = &raw.file {
            match std::fs::read_to_string(file) {
                Err(error) => issues.push(Issue::new(format!("{place}.file"), format!("can't read {file}: {error}"))),
                Ok(text) => users.extend(text.lines().enumerate().filter_map(|(i, line)| {
                    let line = line.trim();
                    let place = format!("{place}.file ({file}:{})", i + 1);
                    let (name, hash) = (!line.is_empty() && !line.starts_with('#')).then(|| line.split_once(':').unwrap_or((line, "")))?;
                    let (name, hash) = (name.to_owned(), hash.to_owned());
                    Some((place, raw::BasicUser { name, hash, scopes: vec![], roles: vec![], tier: None }))
                })),
            }
        }
        let mut by_name = HashMap::new();
        for (place, user) in users {
            if let Err(message) = check_hash(&user.hash) {
                issues.push(Issue::new(format!("{place}.hash"), message));
            }
            if user.name.is_empty() || user.name.contains(':') {
                issues.push(Issue::new(format!("{place}.name"), "a user name is not empty and has no colon"));
            }
            let claims = json!({"sub": user.name, "scope": user.scopes.join(" "), "roles": user.roles, "tier": user.tier});
            let identity = Identity::new(IdentityKind::Basic, user.name.as_str(), claims);
            if by_name.insert(user.name.as_str().into(), User { hash: user.hash.as_str().into(), identity }).is_some() {
                issues.push(Issue::new(place, format!("the user \"{}\" is there twice", user.name)));
            }
        }
        if by_name.is_empty() && raw.file.is_none() {
            issues.push(Issue::new(format!("{place}.users"), "no user is configured: no request could ever pass"));
        }
        let decoy = by_name.values().next().map_or_else(|| "".into(), |u: &User| u.hash.clone());
        let mut secret = [0; 32];
        // Without randomness TLS would not have started either.
        let _ = aws_lc_rs::rand::fill(&mut secret);
        let cache = (raw.cache_ms > 0).then(|| (Generations::new(CACHE), Duration::from_millis(raw.cache_ms)));
        Self { by_name, decoy, cache, secret: hmac::Key::new(hmac::HMAC_SHA256, &secret) }
    }

    /// Looks whether a credential was verified shortly before.
    pub fn quick(&self, credential: &Credential) -> Quick {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(hmac::sign(&self.secret, &credential.pair).as_ref());
        if let Some((cache, _)) = &self.cache
            && let Some(known) = cache.get(&fingerprint)
            && std::time::Instant::now() < known.until
        {
            return Quick::Known(known.identity);
        }
        let user = credential.name().and_then(|name| self.by_name.get(name));
        Quick::Unknown(Check {
            hash: user.map_or(&self.decoy, |u| &u.hash).clone(),
            identity: user.map(|u| u.identity.clone()),
            password: credential.pair[credential.colon + 1..].to_vec(),
            fingerprint,
        })
    }

    /// Verifies, on the threads for it.
    pub async fn run(check: Check) -> Outcome {
        let job = move || {
            let right = verify(&check.hash, &check.password);
            match check.identity {
                Some(identity) if right => Outcome::Right(identity, check.fingerprint),
                _ => Outcome::Wrong,
            }
        };
        match blocking::run(job) {
            Some(answer) => answer.await.unwrap_or(Outcome::Busy),
            None => Outcome::Busy,
        }
    }

    /// Remembers what was right.
    pub fn remember(&self, fingerprint: &[u8; 32], identity: Arc<Identity>) {
        if let Some((cache, ttl)) = &self.cache {
            cache.insert(fingerprint, Cached { identity, until: std::time::Instant::now() + *ttl });
        }
    }
}

fn verify(hash: &str, password: &[u8]) -> bool {
    if hash.starts_with("$argon2") {
        return PasswordHash::new(hash).is_ok_and(|h| argon2::Argon2::default().verify_password(password, &h).is_ok());
    }
    bcrypt::verify(password, hash).unwrap_or(false)
}

fn check_hash(hash: &str) -> Result<(), String> {
    if hash.starts_with("$argon2") {
        return PasswordHash::new(hash).map(drop).map_err(|e| format!("not an argon2 hash: {e}"));
    }
    if ["$2a$", "$2b$", "$2y$", "$2x$"].iter().any(|p| hash.starts_with(p)) {
        return hash.parse::<bcrypt::HashParts>().map(drop).map_err(|e| format!("not a bcrypt hash: {e}"));
    }
    Err(match hash {
        "" => "the hash is missing",
        h if h.starts_with("$apr1$") => "MD5 hashes are broken; make a bcrypt one: htpasswd -B",
        h if h.starts_with("{SHA}") => "unsalted SHA-1 hashes are broken; make a bcrypt one: htpasswd -B",
        _ => "neither an argon2 ($argon2id$…) nor a bcrypt ($2b$…) hash; a plain password is not accepted",
    }
    .into())
}
