//! Key sets that a provider publishes.
//!
//! One task a provider, on the auxiliary runtime: it fetches at the start, at each refresh, and when a token names an unknown key, the latter at
//! most once a cooldown whatever arrives. What was fetched is kept until something better is there: an outage or a broken answer takes no key
//! away (figure 16). Nothing in a token names what is fetched (V18).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use serde::Deserialize;
use tokio::sync::{Notify, watch};

use super::algorithm::Algorithm;
use super::key::{Jwk, Key};
use crate::auth::Events;
use crate::auth::fetch::{Client, Target};
use crate::config::raw;

/// Most keys taken from a set.
const MAX_KEYS: usize = 100;
/// Most bytes of a document.
const MAX_BODY: usize = 1 << 20;
/// First pause after a failure while there are no keys at all; doubles up to the cooldown.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// Keys of one moment.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    pub(super) keys: Vec<Key>,
}

/// A provider of keys.
pub struct Provider {
    shared: Arc<Shared>,
    task: Option<tokio::task::AbortHandle>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

struct Shared {
    keys: RwLock<Arc<KeySet>>,
    /// Counts the different sets that there were; 0 = none yet.
    generation: AtomicU64,
    issuer: Option<String>,
    demand: Mutex<Demand>,
    wanted: Notify,
    attempts: watch::Sender<u64>,
    failures: AtomicU64,
    healthy: std::sync::atomic::AtomicBool,
    cooldown: Duration,
}

/// Whether somebody may ask for a fetch.
struct Demand {
    /// A fetch is on its way.
    running: bool,
    not_before: Option<Instant>,
}

/// A fetch on its way.
pub struct Wait(watch::Receiver<u64>);

impl Wait {
    /// Resolves when the fetch has succeeded or failed. Bounded: the fetch has a timeout.
    pub async fn done(mut self) {
        // An error is the provider going away with its configuration, which is an end too.
        let _ = self.0.changed().await;
    }
}

impl Provider {
    /// Starts fetching on `runtime`. Without one (`check`) nothing is ever fetched.
    pub fn start(source: Source, runtime: Option<&tokio::runtime::Handle>, events: Option<Events>) -> Arc<Self> {
        let shared = Arc::new(Shared {
            keys: RwLock::default(),
            generation: AtomicU64::new(0),
            issuer: source.issuer.clone(),
            demand: Mutex::new(Demand { running: true, not_before: None }),
            wanted: Notify::new(),
            attempts: watch::Sender::new(0),
            failures: AtomicU64::new(0),
            healthy: true.into(),
            cooldown: source.cooldown,
        });
        let task = runtime.map(|runtime| runtime.spawn(run(shared.clone(), source, events)).abort_handle());
        Arc::new(Self { shared, task })
    }

    pub(super) fn keys(&self) -> Arc<KeySet> {
        self.shared.keys.read().clone()
    }

    /// Counts the different sets that there were; 0 = none yet.
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// The issuer that discovery confirmed by configuration.
    pub fn issuer(&self) -> Option<&str> {
        self.shared.issuer.as_deref()
    }

    /// Fetches tried and failed.
    pub fn counts(&self) -> (u64, u64) {
        (*self.shared.attempts.borrow(), self.shared.failures.load(Ordering::Relaxed))
    }

    /// Whether the last fetch was good.
    pub fn healthy(&self) -> bool {
        self.shared.healthy.load(Ordering::Relaxed)
    }

    /// Asks for a fetch because of an unknown key. `None`: there was one within the cooldown.
    pub(super) fn ask(&self) -> Option<Wait> {
        self.task.as_ref()?;
        let mut demand = self.shared.demand.lock();
        let wait = Wait(self.shared.attempts.subscribe());
        if !demand.running {
            if demand.not_before.is_some_and(|t| Instant::now() < t) {
                return None;
            }
            demand.running = true;
            self.shared.wanted.notify_one();
        }
        Some(wait)
    }
}

/// Where the keys come from, checked.
pub struct Source {
    first: Client,
    issuer: Option<String>,
    tls: Arc<rustls::ClientConfig>,
    allowed_hosts: Vec<String>,
    algorithms: Vec<Algorithm>,
    refresh: Duration,
    timeout: Duration,
    cooldown: Duration,
    retry_max: u32,
    breaker: Duration,
}

impl Source {
    /// Checks the configuration; `Err` has field and message.
    pub fn new(raw: &raw::Jwks, algorithms: &[Algorithm], tls: Arc<rustls::ClientConfig>) -> Result<Self, (&'static str, String)> {
        let (field, url) = match (&raw.url, &raw.issuer) {
            (Some(url), None) => ("url", url.clone()),
            (None, Some(issuer)) => ("issuer", format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))),
            _ => return Err(("url", "exactly one of url and issuer says where the keys are".into())),
        };
        let target = Target::parse(&url).map_err(|message| (field, message))?;
        let allowed_hosts = match &raw.allowed_hosts[..] {
            [] => vec![target.host.clone()],
            list => list.iter().map(|h| h.to_ascii_lowercase()).collect(),
        };
        // A host that was named may be plain: inside a cluster it often is.
        let plain_ok = target.is_loopback() || !raw.allowed_hosts.is_empty();
        if !target.tls && !plain_ok {
            return Err((
                field,
                "keys fetched without TLS can be replaced on their way; where that is acceptable, name the host in allowed_hosts".into(),
            ));
        }
        if !host_allowed(&allowed_hosts, &target.host) {
            return Err(("allowed_hosts", format!("{} is not among them", target.host)));
        }
        if raw.timeout_ms == 0 || raw.refresh_ms < 1_000 {
            return Err(("refresh_ms", "at least 1000 ms between two refreshes, and a timeout above 0".into()));
        }
        let timeout = Duration::from_millis(raw.timeout_ms);
        Ok(Self {
            first: Client::new(target, Some(tls.clone()), 1, timeout, MAX_BODY),
            issuer: raw.issuer.clone(),
            tls,
            allowed_hosts,
            algorithms: algorithms.to_vec(),
            refresh: Duration::from_millis(raw.refresh_ms),
            timeout,
            cooldown: Duration::from_millis(raw.cooldown_ms),
            retry_max: raw.retry_max,
            breaker: Duration::from_millis(raw.breaker_ms),
        })
    }

    /// Time to the next fetch after this many failures in a row, and whether an unknown key may ask for one before.
    fn pause(&self, failures: u32, have_keys: bool) -> (Duration, bool) {
        let cooldown = self.cooldown.max(FIRST_RETRY);
        match failures {
            0 => (self.refresh, true),
            // Nobody gets in before there are keys, so trying goes on.
            _ if !have_keys => (FIRST_RETRY.saturating_mul(1 << failures.min(16)).min(cooldown), true),
            _ if failures > self.retry_max => (self.breaker.max(cooldown), false),
            _ => (cooldown.min(self.refresh), true),
        }
    }

    /// The set's bytes.
    async fn fetch(&self) -> Result<bytes::Bytes, String> {
        let document = get(&self.first).await?;
        let Some(issuer) = &self.issuer else { return Ok(document) };
        let discovered: Discovery =
            serde_json::from_slice(&document).map_err(|e| format!("the discovery document is not what it should be: {e}"))?;
        if discovered.issuer != *issuer {
            return Err(format!("the discovery document is of the issuer \"{}\", not of \"{issuer}\"", discovered.issuer));
        }
        let target = Target::parse(&discovered.jwks_uri)?;
        if !host_allowed(&self.allowed_hosts, &target.host) {
            return Err(format!("jwks_uri is on {}, which allowed_hosts does not name", target.host));
        }
        if !target.tls && self.first.target().tls {
            return Err("jwks_uri is not https, though the issuer is".into());
        }
        get(&Client::new(target, Some(self.tls.clone()), 1, self.timeout, MAX_BODY)).await
    }

    fn parse(&self, document: &[u8]) -> Result<KeySet, String> {
        let set: Jwks = serde_json::from_slice(document).map_err(|e| format!("the key set is not what it should be: {e}"))?;
        let jwks = set.keys.into_iter().take(MAX_KEYS).filter_map(|jwk| serde_json::from_value::<Jwk>(jwk).ok());
        let keys: Vec<Key> = jwks.filter_map(|jwk| Key::jwk(&jwk, &self.algorithms)).collect();
        if keys.is_empty() {
            return Err("the key set holds no key for the allowed algorithms".into());
        }
        Ok(KeySet { keys })
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Jwks {
    /// One malformed key must not take the others along.
    keys: Vec<serde_json::Value>,
}

async fn get(client: &Client) -> Result<bytes::Bytes, String> {
    let mut headers = http::HeaderMap::new();
    headers.insert("accept", http::HeaderValue::from_static("application/json"));
    let reply = client.get(headers).await?;
    match reply.status {
        200 => Ok(reply.body),
        status => Err(format!("{} answered {status} (redirects are not followed)", client.target().authority)),
    }
}

async fn run(shared: Arc<Shared>, source: Source, events: Option<Events>) {
    let mut document = bytes::Bytes::new();
    let mut failures = 0_u32;
    loop {
        let outcome = source.fetch().await.and_then(|new| Ok((source.parse(&new)?, new)));
        let failed = outcome.as_ref().err().cloned();
        if let Ok((set, new)) = outcome
            && new != document
        {
            document = new;
            *shared.keys.write() = Arc::new(set);
            shared.generation.fetch_add(1, Ordering::Release);
        }
        report(&shared, &source, failed.as_deref(), events.as_ref());
        failures = if failed.is_none() { 0 } else { failures.saturating_add(1) };
        let (pause, may_ask) = source.pause(failures, !document.is_empty());
        {
            let mut demand = shared.demand.lock();
            demand.running = false;
            demand.not_before = Some(Instant::now() + if may_ask { shared.cooldown } else { pause });
            shared.attempts.send_modify(|n| *n += 1);
        }
        let _ = tokio::time::timeout(pause, shared.wanted.notified()).await;
        shared.demand.lock().running = true;
    }
}

fn report(shared: &Shared, source: &Source, failed: Option<&str>, events: Option<&Events>) {
    let was_healthy = shared.healthy.swap(failed.is_none(), Ordering::Relaxed);
    let host = &source.first.target().authority;
    let event = match failed {
        Some(reason) => {
            shared.failures.fetch_add(1, Ordering::Relaxed);
            was_healthy.then(|| ("warn", "jwks_failed", format!("Keys could not be fetched, those known are used on: {reason}")))
        }
        None => (!was_healthy).then(|| ("info", "jwks_recovered", format!("Keys are fetched from {host} again"))),
    };
    if let (Some((level, name, message)), Some(events)) = (event, events) {
        events(level, name, message);
    }
}

/// Whether an allow-list names a host: as it is, or as `*.` and what it ends in.
fn host_allowed(list: &[String], host: &str) -> bool {
    list.iter().any(|allowed| match allowed.strip_prefix('*') {
        Some(suffix) => suffix.starts_with('.') && host.len() > suffix.len() && host.ends_with(suffix),
        None => allowed == host,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(json: &str) -> Source {
        let raw: raw::Jwks = serde_json::from_str(json).unwrap();
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        Source::new(&raw, &[], Arc::new(tls)).unwrap()
    }

    #[test]
    fn a_failing_provider_is_left_alone_once_keys_are_known() {
        let source =
            source(r#"{"url":"https://idp.example/keys","cooldown_ms":10000,"refresh_ms":3600000,"retry_max":2,"breaker_ms":300000}"#);
        let seconds = |failures, have_keys| (source.pause(failures, have_keys).0.as_secs(), source.pause(failures, have_keys).1);
        assert_eq!(seconds(0, true), (3600, true));
        assert_eq!(seconds(1, true), (10, true));
        assert_eq!(seconds(2, true), (10, true));
        assert_eq!(seconds(3, true), (300, false), "an unknown key does not break the rest");
        assert_eq!(seconds(0, true), (3600, true));
        assert!(seconds(1, false).0 < 10);
        assert_eq!(seconds(50, false), (10, true), "without keys nobody gets in: trying goes on");
    }
}
