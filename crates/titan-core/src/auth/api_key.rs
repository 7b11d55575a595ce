//! API keys, known by their SHA-256.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

use super::generations::Generations;
use super::{Identity, IdentityKind, unhex};
use crate::config::{Issue, raw};
use crate::store::{Store, Unavailable};

/// Keys of Redis remembered, unknown ones included.
const CACHE: usize = 10_000;

/// SHA-256 of a key.
pub type KeyHash = [u8; 32];

/// A known key.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Whose it is.
    pub identity: Arc<Identity>,
    /// Unix second from which it is refused.
    pub expires_at: Option<u64>,
    /// Refused while true.
    pub disabled: bool,
}

impl Entry {
    /// From its configuration.
    pub fn new(raw: &raw::ApiKey) -> Self {
        let claims = json!({"sub": raw.id, "scope": raw.scopes.join(" "), "roles": raw.roles, "tier": raw.tier});
        Self { identity: Identity::new(IdentityKind::ApiKey, raw.id.as_str(), claims), expires_at: raw.expires_at, disabled: raw.disabled }
    }

    /// Whether it is good at `now`.
    pub fn is_good(&self, now: u64) -> bool {
        !self.disabled && self.expires_at.is_none_or(|at| now < at)
    }
}

/// Keys by hash. The hash is compared, never the key: how long a comparison takes tells nothing of a key.
#[derive(Debug, Default)]
pub struct ApiKeys {
    by_hash: HashMap<KeyHash, Entry>,
}

impl ApiKeys {
    /// Inline keys and those of the file.
    pub fn compile(place: &str, raw: &raw::ApiKeys, issues: &mut Vec<Issue>) -> Self {
        let mut keys = Self::default();
        for (i, key) in raw.keys.iter().enumerate() {
            keys.add(&format!("{place}.keys[{i}]"), key, issues);
        }
        if let Some(file) = &raw.file {
            let read = std::fs::read(file).map_err(|e| format!("can't read {file}: {e}"));
            let list = read.and_then(|text| {
                serde_json::from_slice::<Vec<raw::ApiKey>>(&text).map_err(|e| format!("{file} is not a JSON array of keys: {e}"))
            });
            match list {
                Ok(list) => list.iter().enumerate().for_each(|(i, key)| keys.add(&format!("{place}.file ({file}[{i}])"), key, issues)),
                Err(message) => issues.push(Issue::new(format!("{place}.file"), message)),
            }
        }
        if keys.by_hash.is_empty() && raw.file.is_none() && raw.redis.is_none() {
            issues.push(Issue::new(format!("{place}.keys"), "no API key is configured: no request could ever pass"));
        }
        keys
    }

    fn add(&mut self, place: &str, key: &raw::ApiKey, issues: &mut Vec<Issue>) {
        let hash = match (&key.key, &key.sha256) {
            (Some(text), None) if text.len() < 8 => Err("an API key has at least 8 characters (and should have 32 random ones)"),
            (Some(text), None) => Ok(hash(text.as_bytes())),
            (None, Some(hex)) => unhex(hex).and_then(|b| KeyHash::try_from(b).ok()).ok_or("sha256 must be 64 hexadecimal digits"),
            _ => Err("exactly one of key and sha256 must be given"),
        };
        match hash {
            Err(message) => issues.push(Issue::new(place, message)),
            Ok(_) if key.id.is_empty() => issues.push(Issue::new(format!("{place}.id"), "a key needs an id")),
            Ok(hash) => {
                if let Some(other) = self.by_hash.insert(hash, Entry::new(key)) {
                    issues.push(Issue::new(place, format!("\"{}\" and \"{}\" have the same key", other.identity.subject(), key.id)));
                }
            }
        }
    }

    /// The entry of a key.
    pub fn find(&self, hash: &KeyHash) -> Option<&Entry> {
        self.by_hash.get(hash)
    }
}

/// More keys, in Redis.
#[derive(Debug)]
pub struct Remote {
    store: Arc<Store>,
    prefix: String,
    timeout: Duration,
    ttl: Duration,
    /// Whether what is remembered is used on while Redis is away.
    stale: bool,
    cache: Generations<Remembered>,
}

#[derive(Debug, Clone)]
struct Remembered {
    entry: Option<Entry>,
    until: Instant,
}

/// What Redis said of a key.
pub struct Lookup {
    hash: KeyHash,
    answer: Result<Option<Entry>, Unavailable>,
}

impl Remote {
    /// Answers are used for `ttl`.
    pub fn new(store: Arc<Store>, raw: &raw::Redis, ttl: Duration) -> Self {
        let timeout = Duration::from_millis(raw.timeout_ms);
        let stale = raw.fail_mode == raw::StoreFailMode::Local;
        Self { store, prefix: raw.prefix.clone(), timeout, ttl, stale, cache: Generations::new(CACHE) }
    }

    /// What is known without asking: `None` = ask, `Some(None)` = there is no such key.
    pub fn remembered(&self, hash: &KeyHash) -> Option<Option<Entry>> {
        self.cache.get(hash).filter(|known| Instant::now() < known.until).map(|known| known.entry)
    }

    /// Asks.
    pub fn ask(&self, hash: KeyHash) -> impl Future<Output = Lookup> + 'static {
        let key = hash.iter().fold(format!("{}apikey:", self.prefix), |key, byte| key + &format!("{byte:02x}"));
        let (store, timeout) = (self.store.clone(), self.timeout);
        async move {
            let question =
                async |mut connection| redis::cmd("HGETALL").arg(&key).query_async::<HashMap<String, String>>(&mut connection).await;
            Lookup { hash, answer: store.ask(timeout, question).await.map(|fields| parse(&fields)) }
        }
    }

    /// Remembers an answer. `Err`: Redis could not be asked, and nothing usable is remembered.
    pub fn learn(&self, lookup: Lookup) -> Result<Option<Entry>, Unavailable> {
        match lookup.answer {
            Ok(entry) => {
                self.cache.insert(&lookup.hash, Remembered { entry: entry.clone(), until: Instant::now() + self.ttl });
                Ok(entry)
            }
            Err(Unavailable) if self.stale => self.cache.get(&lookup.hash).map(|known| known.entry).ok_or(Unavailable),
            Err(Unavailable) => Err(Unavailable),
        }
    }
}

fn parse(fields: &HashMap<String, String>) -> Option<Entry> {
    let words = |name: &str| fields.get(name).map_or(vec![], |text| text.split_ascii_whitespace().map(Into::into).collect());
    Some(Entry::new(&raw::ApiKey {
        id: fields.get("id").filter(|id| !id.is_empty())?.clone(),
        key: None,
        sha256: None,
        scopes: words("scopes"),
        roles: words("roles"),
        tier: fields.get("tier").cloned(),
        // What can't be read must not make a key last for ever.
        expires_at: fields.get("expires_at").map(|at| at.parse().unwrap_or(0)),
        disabled: fields.get("disabled").is_some_and(|d| !matches!(d.as_str(), "0" | "false" | "")),
    }))
}

/// SHA-256 of a presented key.
pub fn hash(key: &[u8]) -> KeyHash {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, key).as_ref());
    out
}
