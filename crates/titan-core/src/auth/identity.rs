//! Who a request was made by, as authentication found it.

use std::sync::Arc;

use serde_json::Value;

/// How an identity was established.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityKind {
    /// JSON Web Token.
    Jwt,
    /// API key.
    ApiKey,
    /// Name and password.
    Basic,
    /// Client certificate.
    Mtls,
    /// External service.
    ForwardAuth,
}

impl IdentityKind {
    /// Name for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::ApiKey => "api_key",
            Self::Basic => "basic",
            Self::Mtls => "mtls",
            Self::ForwardAuth => "forward_auth",
        }
    }
}

/// An authenticated identity. Shared by every request of the same credential while it is remembered.
#[derive(Debug)]
pub struct Identity {
    kind: IdentityKind,
    subject: Box<str>,
    claims: Value,
}

impl Identity {
    /// An identity with its claims (an object; other kinds than JWT put `sub`, `scope`, `roles` and `tier` there).
    pub fn new(kind: IdentityKind, subject: impl Into<Box<str>>, claims: Value) -> Arc<Self> {
        Arc::new(Self { kind, subject: subject.into(), claims })
    }

    /// How it was established.
    pub fn kind(&self) -> IdentityKind {
        self.kind
    }

    /// `sub`, API key id, user name or certificate name; empty where a token has none.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Id of the API key.
    pub fn api_key(&self) -> Option<&str> {
        (self.kind == IdentityKind::ApiKey).then_some(&*self.subject)
    }

    /// Plan of an API key or basic user.
    pub fn tier(&self) -> Option<&str> {
        self.claims.get("tier")?.as_str()
    }

    /// Every claim.
    pub fn claims(&self) -> &Value {
        &self.claims
    }

    /// A claim by path: the whole name first (names may hold dots), then level by level.
    pub fn claim(&self, path: &str) -> Option<&Value> {
        lookup(&self.claims, path)
    }

    /// Gives a claim's text to `f`; arrays and objects as JSON. Nothing where there is none.
    pub(crate) fn with_claim(&self, path: &str, f: &mut dyn FnMut(&[u8])) {
        match self.claim(path) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => f(text.as_bytes()),
            Some(other) => f(other.to_string().as_bytes()),
        }
    }

    /// The words of a claim: of a string its parts between white space, of an array its strings.
    pub fn words(&self, path: &str) -> impl Iterator<Item = &str> {
        let claim = self.claim(path);
        let text = claim.and_then(Value::as_str).into_iter().flat_map(str::split_ascii_whitespace);
        let list = claim.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        text.chain(list)
    }
}

fn lookup<'a>(claims: &'a Value, path: &str) -> Option<&'a Value> {
    if let Some(found) = claims.get(path) {
        return Some(found);
    }
    path.match_indices('.').find_map(|(dot, _)| lookup(claims.get(&path[..dot])?, &path[dot + 1..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_found_by_path() {
        let identity = Identity::new(
            IdentityKind::Jwt,
            "u",
            json!({"realm_access": {"roles": ["a", "b"]}, "https://x.example/t": "acme", "scope": "r w", "a.b": {"c": 1}, "a": {"b.c": 2}}),
        );
        assert_eq!(identity.words("realm_access.roles").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(identity.words("scope").collect::<Vec<_>>(), ["r", "w"]);
        assert_eq!(identity.claim("https://x.example/t").unwrap(), "acme");
        assert_eq!(identity.claim("a.b.c").unwrap(), 2);
        assert!(identity.claim("realm_access.none").is_none() && identity.words("nothing").next().is_none());
    }
}
