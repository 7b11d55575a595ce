//! A cookie that binds a client to an endpoint.
//!
//! Its value is the HMAC-SHA-256 (128 bits of it) of the upstream's and the endpoint's names under the configured secret: it can't be
//! forged, says nothing about addresses, is the same in every gateway with the same secret, and needs no state.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Settings of the cookie.
#[derive(Debug, Clone)]
pub struct Sticky {
    /// Cookie name.
    pub cookie: String,
    /// Seconds; 0 = until the browser closes.
    pub max_age: u64,
    key: hmac::Key,
}

impl Sticky {
    /// A cookie signed with `secret`.
    pub fn new(cookie: &str, secret: &[u8], max_age: u64) -> Self {
        Self { cookie: cookie.into(), max_age, key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// The value that stands for an endpoint.
    pub fn token(&self, upstream: &str, endpoint: &str) -> String {
        let tag = hmac::sign(&self.key, format!("{upstream}\0{endpoint}").as_bytes());
        URL_SAFE_NO_PAD.encode(&tag.as_ref()[..16])
    }

    /// `Set-Cookie` that binds to the endpoint of `token`.
    pub fn set_cookie(&self, token: &str, secure: bool) -> String {
        let mut text = format!("{}={token}; Path=/; HttpOnly; SameSite=Lax", self.cookie);
        if self.max_age > 0 {
            text.push_str(&format!("; Max-Age={}", self.max_age));
        }
        if secure {
            text.push_str("; Secure");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_depend_on_secret_upstream_and_endpoint() {
        let (a, b) = (Sticky::new("srv", b"one", 0), Sticky::new("srv", b"two", 60));
        let token = a.token("api", "127.0.0.1:80");
        assert_eq!(token, a.token("api", "127.0.0.1:80"));
        assert_eq!(token.len(), 22);
        assert!(![b.token("api", "127.0.0.1:80"), a.token("web", "127.0.0.1:80"), a.token("api", "127.0.0.1:81")].contains(&token));
        assert_eq!(a.set_cookie("T", false), "srv=T; Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(b.set_cookie("T", true), "srv=T; Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure");
    }
}
