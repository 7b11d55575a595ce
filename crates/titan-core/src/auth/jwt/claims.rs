//! Registered claims (RFC 7519 §4.1).

use serde_json::Value;

use super::Refusal;

/// What a token's claims must be.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Allowed `iss`; empty = the provider's where there is one, else not checked.
    pub issuers: Vec<String>,
    /// Allowed `aud`; empty = not checked.
    pub audiences: Vec<String>,
    /// Tolerance of times, seconds.
    pub skew: u64,
    /// `exp` must be there.
    pub require_exp: bool,
    /// `sub` must be there.
    pub require_sub: bool,
}

impl Rules {
    /// Checks claims whose signature is good.
    pub(super) fn check(&self, claims: &Value, provider_issuer: Option<&str>, now: u64) -> Result<(), Refusal> {
        match time(claims, "exp")? {
            Some(exp) if now as f64 >= exp + self.skew as f64 => return Err(Refusal::Expired),
            None if self.require_exp => return Err(Refusal::NoExpiry),
            _ => {}
        }
        for name in ["nbf", "iat"] {
            if time(claims, name)?.is_some_and(|t| t > now as f64 + self.skew as f64) {
                return Err(Refusal::NotYet);
            }
        }
        let issuer = claims.get("iss").and_then(Value::as_str);
        let issuer_ok = match (&self.issuers[..], provider_issuer) {
            ([], None) => true,
            ([], Some(provider)) => issuer == Some(provider),
            (allowed, _) => issuer.is_some_and(|i| allowed.iter().any(|a| a == i)),
        };
        if !issuer_ok {
            return Err(Refusal::Issuer);
        }
        let audience = |a: &Value| a.as_str().is_some_and(|a| self.audiences.iter().any(|allowed| allowed == a));
        let audience_ok = self.audiences.is_empty()
            || match claims.get("aud") {
                Some(Value::Array(list)) => list.iter().any(audience),
                Some(one) => audience(one),
                None => false,
            };
        if !audience_ok {
            return Err(Refusal::Audience);
        }
        if self.require_sub && claims.get("sub").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(Refusal::NoSubject);
        }
        Ok(())
    }

    /// The Unix second from which the token is refused.
    pub(super) fn until(&self, claims: &Value) -> u64 {
        match time(claims, "exp") {
            Ok(Some(exp)) => (exp + self.skew as f64).ceil() as u64,
            _ => u64::MAX,
        }
    }
}

/// A NumericDate. A string, however it reads, is none (V17).
fn time(claims: &Value, name: &str) -> Result<Option<f64>, Refusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().filter(|t| t.is_finite() && *t >= 0.0).map(Some).ok_or(Refusal::Malformed),
    }
}
