//! From the native configuration to authentication and forward-auth.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::authenticate::{Authenticate, Method};
use super::authorize::check_realm;
use super::compile::Compiler;
use super::credential::Places;
use super::forward_auth::{self, ForwardAuth};
use super::headers::check_name;
use super::limit::Attempts;
use super::services::{KnownList, KnownProvider};
use crate::auth::basic::Users;
use crate::auth::fetch::{Client, Target};
use crate::auth::jwt::{Algorithm, Key, Provider, Rules, Source, Verifier, decode_secret};
use crate::auth::{Mtls, api_key};
use crate::config::Issue;
use crate::config::raw::{self, AuthMethod};
use crate::metrics::Id;
use crate::store::{SharedRevocations, Store};
use crate::tls::UpstreamAlpn;

impl Compiler<'_> {
    pub(super) fn authenticate(&mut self, name: &str, raw: &raw::Auth, before: Option<&Authenticate>, rejected: Id) -> Authenticate {
        if raw.methods.is_empty() && !raw.anonymous {
            self.issue(format!("{name}.methods"), "at least one method, or \"anonymous\"");
        }
        if let Err(message) = check_realm(&raw.realm) {
            self.issue(format!("{name}.realm"), message);
        }
        let mut claim_headers = Vec::with_capacity(raw.claim_headers.len());
        for (i, pair) in raw.claim_headers.iter().enumerate() {
            if let Err(message) = check_name(&pair.header) {
                self.issue(format!("{name}.claim_headers[{i}].header"), message);
            }
            claim_headers.push((pair.claim.as_str().into(), pair.header.as_str().into()));
        }
        let methods = raw.methods.iter().enumerate();
        let methods = methods
            .map(|(i, method)| self.method(&format!("{name}.methods[{i}]"), method, before.and_then(|b| b.methods.get(i))))
            .collect();
        Authenticate { methods, anonymous: raw.anonymous, realm: raw.realm.as_str().into(), claim_headers, rejected }
    }

    pub(super) fn forward_auth(&mut self, name: &str, raw: &raw::ForwardAuth, rejected: Id) -> Option<ForwardAuth> {
        let lists = [
            ("request_headers", &raw.request_headers),
            ("upstream_headers", &raw.upstream_headers),
            ("client_headers", &raw.client_headers),
            ("refusal_headers", &raw.refusal_headers),
        ];
        for (field, list) in lists {
            for (i, header) in list.iter().enumerate() {
                let any = field == "request_headers" && header == "*";
                if let Err(message) = check_name(header)
                    && !any
                {
                    self.issue(format!("{name}.{field}[{i}]"), message);
                }
            }
        }
        if raw.timeout_ms == 0 {
            self.issue(format!("{name}.timeout_ms"), "a question needs a time limit");
        }
        let target = Target::parse(&raw.url).map_err(|message| self.issue(format!("{name}.url"), message)).ok()?;
        let tls = self.client_tls(name, raw.ca_path.as_ref())?;
        let timeout = Duration::from_millis(raw.timeout_ms);
        let client = Arc::new(Client::new(target, Some(tls), raw.max_connections, timeout, forward_auth::MAX_BODY));
        let runtime = self.services.auxiliary.clone();
        Some(ForwardAuth { client, runtime, raw: raw.clone(), failures: AtomicU64::new(0), rejected })
    }

    fn method(&mut self, place: &str, method: &AuthMethod, before: Option<&Method>) -> Method {
        match method {
            AuthMethod::Jwt(raw) => {
                let places =
                    Places::new(&raw.header, raw.strip).scheme(&raw.scheme).cookie(raw.cookie.as_deref()).query(raw.query.as_deref());
                self.header(place, &raw.header);
                Method::Jwt { places, verifier: Arc::new(self.verifier(place, raw)) }
            }
            AuthMethod::ApiKey(raw) => {
                self.header(place, &raw.header);
                let places = Places::new(&raw.header, raw.strip).query(raw.query.as_deref());
                // In Authorization a bare value would be any other scheme's credential.
                let places = match raw.header.as_str() {
                    "authorization" => places.scheme("ApiKey").scheme("Bearer"),
                    _ => places.optional_scheme("Bearer").optional_scheme("ApiKey"),
                };
                let keys = api_key::ApiKeys::compile(place, raw, &mut self.issues);
                Method::ApiKey { places, keys, remote: self.remote_keys(place, raw) }
            }
            AuthMethod::Basic(raw) => {
                let attempts = (raw.attempts > 0).then(|| {
                    let before = before.and_then(|m| if let Method::Basic { attempts, .. } = m { attempts.as_ref() } else { None });
                    Attempts::new(raw.attempts, raw.attempts_window_ms.max(1), before)
                });
                let users = Box::new(Users::compile(place, raw, &mut self.issues));
                Method::Basic { places: Places::new("authorization", raw.strip).scheme("Basic"), users, attempts }
            }
            AuthMethod::Mtls(raw) => Method::Mtls(Mtls::new(raw)),
        }
    }

    fn verifier(&mut self, place: &str, raw: &raw::Jwt) -> Verifier {
        let keys: Vec<Key> = raw.keys.iter().enumerate().filter_map(|(i, key)| self.key(&format!("{place}.keys[{i}]"), key)).collect();
        if raw.keys.is_empty() && raw.jwks.is_none() {
            self.issue(format!("{place}.keys"), "a key or a JWKS is needed: no token could ever be verified");
        }
        let mut algorithms: Vec<Algorithm> = Vec::new();
        for (i, name) in raw.algorithms.iter().enumerate() {
            match Algorithm::parse(name) {
                Some(algorithm) => algorithms.push(algorithm),
                None => self.issue(format!("{place}.algorithms[{i}]"), unknown_algorithm(name)),
            }
        }
        if raw.algorithms.is_empty() {
            let wanted = |a: &Algorithm| keys.iter().any(|k| k.is_for(*a)) || (raw.jwks.is_some() && a.is_asymmetric());
            algorithms = Algorithm::ALL.into_iter().filter(wanted).collect();
        } else {
            for (i, key) in raw.keys.iter().enumerate() {
                if Algorithm::parse(&key.algorithm).is_some_and(|a| !algorithms.contains(&a)) {
                    self.issue(format!("{place}.keys[{i}].algorithm"), format!("{} is not among the allowed algorithms", key.algorithm));
                }
            }
        }
        let provider = raw.jwks.as_ref().and_then(|jwks| self.provider(&format!("{place}.jwks"), jwks, &algorithms));
        let rules = Rules {
            issuers: raw.issuers.clone(),
            audiences: raw.audiences.clone(),
            skew: raw.clock_skew_ms / 1000,
            require_exp: raw.require_exp,
            require_sub: raw.require_sub,
        };
        let revocations = raw.revocation.then(|| self.services.revocations.clone());
        let shared = raw.revocation_redis.as_ref().filter(|_| raw.revocation);
        let shared = shared.and_then(|redis| self.shared_revocations(&format!("{place}.revocation_redis"), redis));
        Verifier::new(keys, provider, algorithms, rules, raw.cache_capacity, revocations, shared)
    }

    fn remote_keys(&mut self, place: &str, raw: &raw::ApiKeys) -> Option<api_key::Remote> {
        let redis = raw.redis.as_ref()?;
        if redis.fail_mode == raw::StoreFailMode::Open {
            let message =
                "\"open\" would take any key while Redis is away; \"closed\" refuses with 503, \"local\" uses the keys that are remembered";
            self.issue(format!("{place}.redis.fail_mode"), message);
        }
        let store = self.store(&format!("{place}.redis"), redis)?;
        Some(api_key::Remote::new(store, redis, Duration::from_millis(raw.redis_cache_ms)))
    }

    fn shared_revocations(&mut self, place: &str, redis: &raw::Redis) -> Option<Arc<SharedRevocations>> {
        let store = self.store(place, redis)?;
        let mut lists = self.services.in_use.revocations.lock();
        lists.retain(|known| known.list.strong_count() > 0);
        if let Some(list) = lists.iter().find(|known| known.redis == *redis).and_then(|known| known.list.upgrade()) {
            return Some(list);
        }
        let revoked = self.services.revocations.clone();
        let list = SharedRevocations::start(store, &redis.prefix, revoked, self.services.auxiliary.as_ref());
        lists.push(KnownList { redis: redis.clone(), list: Arc::downgrade(&list) });
        Some(list)
    }

    /// The connection to a Redis, checked.
    pub(super) fn store(&mut self, place: &str, redis: &raw::Redis) -> Option<Arc<Store>> {
        if redis.timeout_ms == 0 {
            self.issue(format!("{place}.timeout_ms"), "a question needs a time limit");
        }
        let ca = match redis.ca_path.as_deref().map(std::fs::read).transpose() {
            Ok(ca) => ca,
            Err(error) => {
                self.issue(
                    format!("{place}.ca_path"),
                    format!("ca_path {:?} can't be read: {error}", redis.ca_path.as_deref().unwrap_or_default()),
                );
                return None;
            }
        };
        let at = if ca.is_some() { "ca_path" } else { "url" };
        let store = self.services.stores.get(&redis.url, ca, self.services.auxiliary.as_ref(), self.services.events.as_ref());
        let store = store.map_err(|message| self.issue(format!("{place}.{at}"), message)).ok()?;
        if !self.stores.iter().any(|known| Arc::ptr_eq(known, &store)) {
            self.stores.push(store.clone());
        }
        Some(store)
    }

    fn key(&mut self, place: &str, raw: &raw::JwtKey) -> Option<Key> {
        let Some(algorithm) = Algorithm::parse(&raw.algorithm) else {
            self.issue(format!("{place}.algorithm"), unknown_algorithm(&raw.algorithm));
            return None;
        };
        let id = raw.key_id.as_deref();
        let (field, key) = match (&raw.public_key_path, &raw.public_key, &raw.secret) {
            (Some(path), None, None) => {
                let read = std::fs::read(path).map_err(|e| format!("can't read {path}: {e}"));
                ("public_key_path", read.and_then(|pem| Key::pem(id, algorithm, &pem).map_err(|e| format!("{path}: {e}"))))
            }
            (None, Some(pem), None) => ("public_key", Key::pem(id, algorithm, pem.as_bytes())),
            (None, None, Some(secret)) => {
                let bytes = decode_secret(secret).map_err(ToOwned::to_owned);
                ("secret", bytes.and_then(|bytes| Key::secret(id, algorithm, &bytes)))
            }
            _ => ("public_key", Err("exactly one of public_key_path, public_key and secret must be given".into())),
        };
        key.map_err(|message| self.issue(format!("{place}.{field}"), message)).ok()
    }

    fn provider(&mut self, place: &str, raw: &raw::Jwks, algorithms: &[Algorithm]) -> Option<Arc<Provider>> {
        let asymmetric: Vec<Algorithm> = algorithms.iter().copied().filter(|a| a.is_asymmetric()).collect();
        let tls = self.client_tls(place, raw.ca_path.as_ref())?;
        let source = Source::new(raw, &asymmetric, tls);
        let source = source.map_err(|(field, message)| self.issue(format!("{place}.{field}"), message)).ok()?;
        let mut providers = self.services.in_use.providers.lock();
        providers.retain(|known| known.provider.strong_count() > 0);
        let known = providers.iter().find(|known| known.source == *raw && known.algorithms == asymmetric);
        if let Some(provider) = known.and_then(|known| known.provider.upgrade()) {
            return Some(provider);
        }
        let provider = Provider::start(source, self.services.auxiliary.as_ref(), self.services.events.clone());
        providers.push(KnownProvider { source: raw.clone(), algorithms: asymmetric, provider: Arc::downgrade(&provider) });
        Some(provider)
    }

    fn client_tls(&mut self, place: &str, ca_path: Option<&String>) -> Option<Arc<rustls::ClientConfig>> {
        let raw = raw::UpstreamTls { verify: true, ca_path: ca_path.cloned(), sni: None, cert_path: None, key_path: None };
        self.services.tls.client(place, &raw, UpstreamAlpn::Http1).map_err(|issues| self.issues.extend(issues)).ok()
    }

    fn header(&mut self, place: &str, header: &str) {
        if let Err(message) = check_name(header) {
            self.issue(format!("{place}.header"), message);
        }
    }

    fn issue(&mut self, path: String, message: impl Into<String>) {
        self.issues.push(Issue::new(path, message));
    }
}

fn unknown_algorithm(name: &str) -> String {
    let known = Algorithm::ALL.map(Algorithm::name).join(", ");
    match name.to_ascii_lowercase().as_str() {
        "none" => "\"none\" is no signature: it is never accepted".into(),
        _ => format!("unknown algorithm \"{name}\"; there are {known}"),
    }
}
