//! TLS of listeners.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ServerConfig};

use super::inspect::{self, CertificateInfo};
use super::sni::Resolver;
use super::store::{Digest, digest_of};
use super::tickets::Tickets;
use super::verify::{ClientCertificates, Version1};
use super::{client, pem};
use crate::config::{Issue, raw};

/// Sessions of TLS 1.2 clients that know no tickets.
const SESSIONS: usize = 4096;

/// TLS of one listener, shared by every shard.
#[derive(Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    client_auth: raw::ClientAuth,
    certificates: Vec<CertificateInfo>,
    warnings: Vec<Issue>,
}

impl ServerTls {
    /// What an acceptor needs.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// The leaf of each certificate, in order of the configuration.
    pub fn certificates(&self) -> &[CertificateInfo] {
        &self.certificates
    }

    /// What is not an error: a certificate that has expired or is not valid yet.
    pub fn warnings(&self) -> &[Issue] {
        &self.warnings
    }

    /// Whether a request for `authority` may be served on a connection whose handshake named `sni`; otherwise the answer is 421.
    ///
    /// Where client certificates are asked for, one name's session must not carry requests for another (CVE-2025-23419). Elsewhere any
    /// host may come over any session.
    pub fn serves(&self, sni: Option<&str>, authority: &[u8]) -> bool {
        if self.client_auth == raw::ClientAuth::None {
            return true;
        }
        let Some(sni) = sni else { return true };
        host_of(authority).eq_ignore_ascii_case(sni.strip_suffix('.').unwrap_or(sni).as_bytes())
    }
}

/// The host of an authority, without port and root dot.
fn host_of(authority: &[u8]) -> &[u8] {
    let host = match authority.iter().rposition(|&byte| byte == b':') {
        // The colons of an IPv6 literal are inside its brackets.
        Some(at) if !authority[at..].contains(&b']') => &authority[..at],
        _ => authority,
    };
    host.strip_suffix(b".").unwrap_or(host)
}

/// A failed handshake in words: for the log and the reason label.
pub fn explain(error: &std::io::Error) -> Cow<'static, str> {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return Cow::Owned(error.to_string());
    };
    match tls {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) if other.0.is::<Version1>() => Cow::Owned(Version1.to_string()),
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the peer's certificate does not chain to a CA that is trusted here".into()
        }
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the peer's certificate has expired".into()
        }
        rustls::Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
            Cow::Owned(format!("{tls} (a name in the CN alone does not count: it must be a subject alternative name)"))
        }
        rustls::Error::NoCertificatesPresented => "the client sent no certificate, and this listener requires one".into(),
        rustls::Error::PeerIncompatible(_) => Cow::Owned(format!("no common TLS version or parameters: {tls}")),
        rustls::Error::InvalidMessage(_) => Cow::Owned(format!("this is not TLS: {tls}")),
        other => Cow::Owned(other.to_string()),
    }
}

/// Configuration and the files it names, read once so that digest and result agree.
pub(super) struct Source<'a> {
    place: &'a str,
    raw: &'a raw::ListenerTls,
    alpn: Vec<Vec<u8>>,
    /// Chain and key of each certificate.
    files: Vec<(Vec<u8>, Vec<u8>)>,
    ca: Option<Vec<u8>>,
}

impl<'a> Source<'a> {
    pub(super) fn read(place: &'a str, raw: &'a raw::ListenerTls, http2: bool) -> Result<Self, Vec<Issue>> {
        let mut issues = Vec::new();
        let mut files = Vec::with_capacity(raw.certificates.len());
        if raw.certificates.is_empty() {
            issues.push(Issue::new(format!("{place}.certificates"), "at least one certificate is needed"));
        }
        for (index, certificate) in raw.certificates.iter().enumerate() {
            let mut read = |field: &str, path: &str, what| {
                pem::read(path, what).unwrap_or_else(|message| {
                    issues.push(Issue::new(format!("{place}.certificates[{index}].{field}"), message));
                    Vec::new()
                })
            };
            let chain = read("cert_path", &certificate.cert_path, "certificate");
            let key = read("key_path", &certificate.key_path, "key");
            files.push((chain, key));
        }
        let ca = match (&raw.client_ca_path, raw.client_auth) {
            (_, raw::ClientAuth::None) => None,
            (Some(path), _) => match pem::read(path, "client CA") {
                Ok(bytes) => Some(bytes),
                Err(message) => {
                    issues.push(Issue::new(format!("{place}.client_ca_path"), message));
                    None
                }
            },
            (None, _) => {
                issues.push(Issue::new(format!("{place}.client_ca_path"), "client certificates need the CA that they chain to"));
                None
            }
        };
        let alpn = raw.alpn.iter().filter(|name| http2 || *name != "h2").map(|name| name.clone().into_bytes()).collect();
        if issues.is_empty() { Ok(Self { place, raw, alpn, files, ca }) } else { Err(issues) }
    }

    pub(super) fn digest(&self) -> Digest {
        let names: Vec<_> = self.raw.certificates.iter().map(|c| (&c.cert_path, &c.key_path, &c.names)).collect();
        let settings = format!("{:?}{:?}{:?}{names:?}", self.raw.min_version, self.raw.client_auth, self.alpn);
        let files = self.files.iter().flat_map(|(chain, key)| [chain.as_slice(), key]);
        digest_of([settings.as_bytes(), self.ca.as_deref().unwrap_or_default()].into_iter().chain(files))
    }

    pub(super) fn build(&self, tickets: &Tickets) -> Result<ServerTls, Vec<Issue>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions: &[&rustls::SupportedProtocolVersion] = match self.raw.min_version {
            raw::TlsVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            raw::TlsVersion::V13 => &[&rustls::version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("the provider has both versions");
        let builder = match &self.ca {
            None => builder.with_no_client_auth(),
            Some(text) => {
                let path = self.raw.client_ca_path.as_deref().unwrap_or_default();
                let issue = |message| vec![Issue::new(format!("{}.client_ca_path", self.place), message)];
                let roots = client::roots(path, text).map_err(issue)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
                let verifier = match self.raw.client_auth {
                    raw::ClientAuth::Required => verifier,
                    raw::ClientAuth::Optional | raw::ClientAuth::None => verifier.allow_unauthenticated(),
                };
                let verifier = verifier.build().map_err(|error| issue(error.to_string()))?;
                builder.with_client_cert_verifier(Arc::new(ClientCertificates(verifier)))
            }
        };

        let mut issues = Vec::new();
        let mut warnings = Vec::new();
        let mut certificates = Vec::new();
        let mut resolver = Resolver::default();
        let mut default_names = None;
        for (index, (certificate, (chain, key))) in self.raw.certificates.iter().zip(&self.files).enumerate() {
            let place = format!("{}.certificates[{index}]", self.place);
            match load(certificate, chain, key, &provider) {
                Ok((certified, info)) => {
                    warnings.extend(validity(&info).map(|message| Issue::new(format!("{place}.cert_path"), message)));
                    let names = if certificate.names.is_empty() { &info.names } else { &certificate.names };
                    // A second certificate for the names of the default is its other key type.
                    let default = default_names.get_or_insert_with(|| names.clone()) == names;
                    resolver.add(Arc::new(certified), names, default);
                    certificates.push(info);
                }
                Err((field, message)) => issues.push(Issue::new(format!("{place}.{field}"), message)),
            }
        }
        if !issues.is_empty() {
            return Err(issues);
        }

        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = self.alpn.clone();
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        let scope = digest_of([format!("{:?}", self.raw.client_auth).as_bytes(), self.ca.as_deref().unwrap_or_default()]);
        config.ticketer = tickets.of(scope).map_err(|error| vec![Issue::new(self.place, format!("no ticket keys: {error}"))])?;
        Ok(ServerTls { config: Arc::new(config), client_auth: self.raw.client_auth, certificates, warnings })
    }
}

/// Chain and key of one certificate, or the field that is at fault and why.
fn load(
    raw: &raw::Certificate,
    chain: &[u8],
    key: &[u8],
    provider: &rustls::crypto::CryptoProvider,
) -> Result<(CertifiedKey, CertificateInfo), (&'static str, String)> {
    let chain = pem::certificates(&raw.cert_path, chain).map_err(|message| ("cert_path", message))?;
    let info = CertificateInfo::of(&raw.cert_path, &chain[0]).map_err(|message| ("cert_path", message))?;
    let key = pem::key(&raw.key_path, key).map_err(|message| ("key_path", message))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| ("key_path", format!("the key in {} is of a kind that is not supported: {error}", raw.key_path)))?;
    // Not rustls' own check: it refuses X.509 v1, which old tools write for a CN alone and clients accept.
    let public = key.public_key();
    if public.is_some_and(|public| !inspect::has_key(&chain[0], &public)) {
        return Err(("key_path", format!("the key in {} does not belong to the certificate in {}", raw.key_path, raw.cert_path)));
    }
    Ok((CertifiedKey::new(chain, key), info))
}

/// A warning where a certificate is not valid now.
fn validity(info: &CertificateInfo) -> Option<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let date = |seconds: i64| httpdate::fmt_http_date(UNIX_EPOCH + std::time::Duration::from_secs(seconds.max(0) as u64));
    if info.not_after < now {
        Some(format!("the certificate in {} expired on {}; clients will refuse it", info.path, date(info.not_after)))
    } else if info.not_before > now {
        Some(format!("the certificate in {} is not valid before {}", info.path, date(info.not_before)))
    } else {
        None
    }
}
