//! Authentication: who is it?

use std::sync::Arc;

use super::credential::{self, Found, Places};
use super::limit::Attempts;
use super::template::safe;
use super::{Flow, Outcome, RequestCx, wait};
use crate::auth::basic::{self, Credential, Quick, Users};
use crate::auth::jwt::{self, Verdict, Verifier};
use crate::auth::{Identity, Mtls, api_key, unix_now};
use crate::http::answer::Answer;
use crate::metrics::{self, Id, KeySetGauge, TokenGauge};

/// An authentication policy.
#[derive(Debug)]
pub(super) struct Authenticate {
    pub(super) methods: Vec<Method>,
    pub(super) anonymous: bool,
    pub(super) realm: Box<str>,
    /// Claim → header.
    pub(super) claim_headers: Vec<(Box<str>, Box<str>)>,
    pub(super) rejected: Id,
}

/// One way to authenticate.
#[derive(Debug)]
pub(super) enum Method {
    Jwt { places: Places, verifier: Arc<Verifier> },
    ApiKey { places: Places, keys: api_key::ApiKeys, remote: Option<api_key::Remote> },
    Basic { places: Places, users: Box<Users>, attempts: Option<Attempts> },
    Mtls(Mtls),
}

/// What a method makes of a request.
enum Decision {
    /// No credential of this kind.
    Absent,
    Accepted(Arc<Identity>),
    /// With what `error_description` says.
    Refused(&'static str),
    /// Can't be told now.
    Unavailable(&'static str),
    /// Too many attempts; seconds to wait.
    TooMany(u64),
    Wait(Flow),
}

impl Authenticate {
    /// `waited`: what the first run waited for is there.
    pub(super) fn request(&self, cx: &mut RequestCx<'_>, waited: bool) -> Flow {
        if !waited {
            for (_, header) in &self.claim_headers {
                credential::strip(cx.req.head, header, cx.request_ops);
            }
            self.methods.iter().for_each(|m| m.hide(cx));
        }
        for method in &self.methods {
            let decision = method.decide(cx, waited);
            if let Decision::Absent = decision {
                continue;
            }
            return match decision {
                Decision::Wait(flow) => flow,
                other => self.conclude(cx, other).map_or(Flow::Continue, Flow::Answer),
            };
        }
        if self.anonymous { Flow::Continue } else { Flow::Answer(self.refuse(cx, None)) }
    }

    /// Goes on after a password was verified.
    pub(super) fn password(&self, cx: &mut RequestCx<'_>, outcome: basic::Outcome) -> Option<Answer> {
        let decision = match outcome {
            basic::Outcome::Wrong => Decision::Refused("wrong name or password"),
            basic::Outcome::Busy => Decision::Unavailable("Too many passwords are being checked; try again shortly"),
            basic::Outcome::Right(identity, fingerprint) => {
                for method in &self.methods {
                    if let Method::Basic { users, attempts, .. } = method {
                        users.remember(&fingerprint, identity.clone());
                        if let Some(attempts) = attempts {
                            attempts.give_back(cx);
                        }
                    }
                }
                Decision::Accepted(identity)
            }
        };
        self.conclude(cx, decision)
    }

    /// Goes on after Redis was asked for a key.
    pub(super) fn api_key(&self, cx: &mut RequestCx<'_>, lookup: api_key::Lookup) -> Option<Answer> {
        let remote = self.methods.iter().find_map(|m| if let Method::ApiKey { remote, .. } = m { remote.as_ref() } else { None });
        let decision = match remote.map(|remote| remote.learn(lookup)) {
            Some(Ok(entry)) => entry_decides(entry.as_ref()),
            Some(Err(_)) | None => Decision::Unavailable("API keys can't be checked; try again shortly"),
        };
        self.conclude(cx, decision)
    }

    fn conclude(&self, cx: &mut RequestCx<'_>, decision: Decision) -> Option<Answer> {
        match decision {
            Decision::Accepted(identity) => {
                for (claim, header) in &self.claim_headers {
                    let write = |out: &mut Vec<u8>| write_claim(&identity, claim, out);
                    cx.request_ops.add_if(&**header, write, true);
                }
                cx.state.identity = Some(identity);
                None
            }
            Decision::Refused(reason) => Some(self.refuse(cx, Some(reason))),
            Decision::Unavailable(message) => {
                self.count();
                let mut answer = Answer::error(503, "authentication_unavailable", message, "auth", cx.req.request_id, cx.req.head);
                answer.headers.set("retry-after", "1");
                Some(answer)
            }
            Decision::TooMany(seconds) => {
                self.count();
                let message = format!("Too many failed attempts; try again in {seconds} s");
                let mut answer = Answer::error(429, "too_many_attempts", &message, "auth", cx.req.request_id, cx.req.head);
                answer.headers.set("retry-after", itoa::Buffer::new().format(seconds));
                Some(answer)
            }
            Decision::Absent | Decision::Wait(_) => None,
        }
    }

    /// State of its verifiers.
    pub(super) fn tokens(&self, name: &str) -> impl Iterator<Item = TokenGauge> {
        self.methods.iter().filter_map(|m| if let Method::Jwt { verifier, .. } = m { Some(verifier) } else { None }).map(|verifier| {
            let (cache_hits, cache_misses) = verifier.cache_counts();
            let keys = verifier.provider().map(|provider| {
                let (fetches, failures) = provider.counts();
                KeySetGauge { healthy: provider.healthy(), fetches, failures }
            });
            TokenGauge { policy: name.into(), cache_hits, cache_misses, keys }
        })
    }

    fn refuse(&self, cx: &RequestCx<'_>, reason: Option<&str>) -> Answer {
        self.count();
        let mut answer = unauthorized(cx);
        for method in &self.methods {
            if let Some(scheme) = method.scheme() {
                challenge(&mut answer, scheme, &self.realm, reason);
            }
        }
        answer
    }

    fn count(&self) {
        metrics::with(|shard| shard.limited(self.rejected));
    }
}

impl Method {
    fn hide(&self, cx: &mut RequestCx<'_>) {
        match self {
            Method::Jwt { places, .. } | Method::ApiKey { places, .. } | Method::Basic { places, .. } => places.hide(cx),
            Method::Mtls(_) => {}
        }
    }

    /// Of `WWW-Authenticate`. A missing certificate is no matter of HTTP.
    fn scheme(&self) -> Option<&'static str> {
        match self {
            Method::Jwt { .. } => Some("Bearer"),
            Method::ApiKey { .. } => Some("ApiKey"),
            Method::Basic { .. } => Some("Basic"),
            Method::Mtls(_) => None,
        }
    }

    fn decide(&self, cx: &RequestCx<'_>, waited: bool) -> Decision {
        match self {
            Method::Jwt { places, verifier } => with(places, cx, |token| match verifier.verify(token, unix_now(), waited) {
                Verdict::Accepted(identity) => Decision::Accepted(identity),
                Verdict::Refused(refusal) => Decision::Refused(refusal.text()),
                Verdict::NoKeys => Decision::Unavailable("The keys to check tokens with are not there yet; try again shortly"),
                Verdict::Wait(keys) => Decision::Wait(wait(again(keys))),
            }),
            Method::ApiKey { places, keys, remote } => with(places, cx, |key| {
                let hash = api_key::hash(key);
                match (keys.find(&hash), remote) {
                    (Some(entry), _) => entry_decides(Some(entry)),
                    (None, None) => entry_decides(None),
                    (None, Some(remote)) => match remote.remembered(&hash) {
                        Some(entry) => entry_decides(entry.as_ref()),
                        None => {
                            let question = remote.ask(hash);
                            Decision::Wait(wait(async { Outcome::ApiKey(question.await) }))
                        }
                    },
                }
            }),
            Method::Basic { places, users, attempts } => with(places, cx, |token| {
                let Some(credential) = Credential::parse(token) else { return Decision::Refused("the credential is malformed") };
                match users.quick(&credential) {
                    Quick::Known(identity) => Decision::Accepted(identity),
                    Quick::Unknown(check) => match attempts.as_ref().map_or(Ok(()), |a| a.take(cx)) {
                        Err(seconds) => Decision::TooMany(seconds),
                        Ok(()) => Decision::Wait(wait(async { Outcome::Password(Users::run(check).await) })),
                    },
                }
            }),
            Method::Mtls(mtls) => match cx.req.client.tls.as_deref().and_then(|tls| tls.certificate.as_ref()) {
                None => Decision::Absent,
                Some(certificate) => {
                    mtls.identify(certificate).map_or(Decision::Refused("the client certificate is not accepted"), Decision::Accepted)
                }
            },
        }
    }
}

fn entry_decides(entry: Option<&api_key::Entry>) -> Decision {
    match entry {
        Some(entry) if entry.is_good(unix_now()) => Decision::Accepted(entry.identity.clone()),
        _ => Decision::Refused("the API key is not valid"),
    }
}

fn with(places: &Places, cx: &RequestCx<'_>, decide: impl FnOnce(&[u8]) -> Decision) -> Decision {
    match places.find(&cx.req) {
        Found::Nothing => Decision::Absent,
        Found::Ambiguous => Decision::Refused("the credential is malformed"),
        Found::One(text) => decide(&text),
    }
}

async fn again(keys: jwt::Wait) -> Outcome {
    keys.done().await;
    Outcome::Again
}

/// The one body of a 401.
pub(super) fn unauthorized(cx: &RequestCx<'_>) -> Answer {
    Answer::error(401, "unauthorized", "Authentication required", "auth", cx.req.request_id, cx.req.head)
}

/// Adds a challenge (RFC 9110 §11.6.1; RFC 6750 §3 for what a bearer token lacks).
pub(super) fn challenge(answer: &mut Answer, scheme: &str, realm: &str, reason: Option<&str>) {
    answer.headers.add_with("www-authenticate", |out| {
        out.extend_from_slice(scheme.as_bytes());
        out.extend_from_slice(b" realm=\"");
        out.extend_from_slice(realm.as_bytes());
        out.push(b'"');
        if scheme == "Basic" {
            out.extend_from_slice(b", charset=\"UTF-8\"");
        } else if let (Some(reason), "Bearer") = (reason, scheme) {
            out.extend_from_slice(b", error=\"invalid_token\", error_description=\"");
            out.extend_from_slice(reason.as_bytes());
            out.push(b'"');
        }
    });
}

fn write_claim(identity: &Identity, claim: &str, out: &mut Vec<u8>) {
    match identity.claim(claim) {
        Some(serde_json::Value::Array(items)) => {
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                match item.as_str() {
                    Some(text) => safe(out, text.as_bytes()),
                    None => safe(out, item.to_string().as_bytes()),
                }
            }
        }
        _ => identity.with_claim(claim, &mut |text| safe(out, text)),
    }
}

#[cfg(test)]
mod provider_tests;
#[cfg(test)]
mod tests;
