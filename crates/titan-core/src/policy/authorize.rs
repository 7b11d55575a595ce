//! Authorization: may it?

use super::RequestCx;
use super::authenticate::{challenge, unauthorized};
use crate::auth::Identity;
use crate::config::{Issue, raw};
use crate::http::answer::Answer;
use crate::metrics::{self, Id};

/// Scopes and roles that a request needs.
#[derive(Debug)]
pub(super) struct Authorize {
    raw: raw::Authorize,
    rejected: Id,
}

impl Authorize {
    pub(super) fn compile(name: &str, raw: &raw::Authorize, rejected: Id, issues: &mut Vec<Issue>) -> Self {
        for (field, list) in [("scopes", &raw.scopes), ("roles", &raw.roles)] {
            for (i, word) in list.iter().enumerate() {
                // RFC 6749 §3.3; it is also quoted in WWW-Authenticate.
                if word.is_empty() || !word.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)) {
                    issues.push(Issue::new(
                        format!("{name}.{field}[{i}]"),
                        format!("\"{word}\" can't be a scope or role: it is empty or has a space, quote or backslash"),
                    ));
                }
            }
        }
        if let Err(message) = check_realm(&raw.realm) {
            issues.push(Issue::new(format!("{name}.realm"), message));
        }
        Self { raw: raw.clone(), rejected }
    }

    pub(super) fn request(&self, cx: &RequestCx<'_>) -> Option<Answer> {
        let Some(identity) = &cx.state.identity else {
            metrics::with(|shard| shard.limited(self.rejected));
            let mut answer = unauthorized(cx);
            challenge(&mut answer, "Bearer", &self.raw.realm, None);
            return Some(answer);
        };
        let scopes = has(identity, &self.raw.scope_claim, &self.raw.scopes, self.raw.all_scopes);
        let roles = has(identity, &self.raw.roles_claim, &self.raw.roles, self.raw.all_roles);
        if scopes && roles {
            return None;
        }
        metrics::with(|shard| shard.limited(self.rejected));
        let mut answer = Answer::error(403, "forbidden", "Insufficient permissions", "authorize", cx.req.request_id, cx.req.head);
        if !scopes {
            let scope = self.raw.scopes.join(" ");
            let value = format!("Bearer realm=\"{}\", error=\"insufficient_scope\", scope=\"{scope}\"", self.raw.realm);
            answer.headers.set("www-authenticate", value);
        }
        Some(answer)
    }
}

fn has(identity: &Identity, claim: &str, wanted: &[String], all: bool) -> bool {
    let held = |word: &String| identity.words(claim).any(|w| w == word);
    wanted.is_empty() || if all { wanted.iter().all(held) } else { wanted.iter().any(held) }
}

/// Whether a realm can stand in a quoted string.
pub(super) fn check_realm(realm: &str) -> Result<(), String> {
    if realm.bytes().all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\')) {
        return Ok(());
    }
    Err("a realm is printable ASCII without quotes and backslashes".into())
}
