//! Identity from a client certificate.

use std::sync::Arc;

use serde_json::json;

use super::{Identity, IdentityKind};
use crate::config::raw;
use crate::http::client::ClientCertificate;

/// Which certificates are accepted, and what their holders may do.
#[derive(Debug)]
pub struct Mtls {
    allowed: Vec<String>,
    scopes: Vec<String>,
    roles: Vec<String>,
}

impl Mtls {
    /// From the configuration.
    pub fn new(raw: &raw::Mtls) -> Self {
        Self { allowed: raw.allowed.clone(), scopes: raw.scopes.clone(), roles: raw.roles.clone() }
    }

    /// The identity of a verified certificate; `None` where it is not accepted.
    pub fn identify(&self, certificate: &ClientCertificate) -> Option<Arc<Identity>> {
        if !self.allowed.is_empty() && !self.allowed.iter().any(|a| matches(a, certificate)) {
            return None;
        }
        let subject = certificate.common_name.as_ref().or(certificate.sans.first()).unwrap_or(&certificate.subject);
        let claims = json!({
            "sub": subject,
            "scope": self.scopes.join(" "),
            "roles": self.roles,
            "subject": certificate.subject,
            "sans": certificate.sans,
            "fingerprint": certificate.fingerprint,
        });
        Some(Identity::new(IdentityKind::Mtls, subject.as_str(), claims))
    }
}

fn matches(allowed: &str, certificate: &ClientCertificate) -> bool {
    if let Some(fingerprint) = allowed.strip_prefix("sha256:") {
        return fingerprint.bytes().filter(|b| *b != b':').map(|b| b.to_ascii_lowercase()).eq(certificate.fingerprint.bytes());
    }
    let mut names = certificate.common_name.iter().chain(&certificate.sans);
    match allowed.strip_prefix('*') {
        // One label, as in certificates themselves.
        Some(suffix) => {
            certificate.sans.iter().any(|san| san.strip_suffix(suffix).is_some_and(|label| !label.is_empty() && !label.contains('.')))
        }
        None => names.any(|name| name == allowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirement_6_who_is_accepted() {
        let certificate = ClientCertificate {
            subject: "CN=svc-a,O=Acme".into(),
            common_name: Some("svc-a".into()),
            sans: vec!["a.clients.example.com".into()],
            fingerprint: "ab01".into(),
        };
        let with = |allowed: &[&str]| {
            let raw = raw::Mtls { allowed: allowed.iter().map(|a| (*a).into()).collect(), scopes: vec!["r".into()], roles: vec![] };
            Mtls::new(&raw).identify(&certificate)
        };
        for yes in [&[][..], &["svc-a"], &["a.clients.example.com"], &["*.clients.example.com"], &["sha256:AB:01"], &["x", "svc-a"]] {
            assert_eq!(with(yes).unwrap().subject(), "svc-a", "{yes:?}");
        }
        for no in ["svc", "*.example.com", "*.com", "sha256:ab", "b.clients.example.com", "*"] {
            assert!(with(&[no]).is_none(), "{no}");
        }
    }
}
