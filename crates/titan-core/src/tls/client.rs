//! TLS towards upstreams.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::pem;
use super::store::{Digest, digest_of};
use super::verify::AcceptAny;
use crate::config::{Issue, raw};

/// Protocols offered to an upstream by ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamAlpn {
    /// `http/1.1` only.
    Http1,
    /// `h2` only.
    H2,
    /// `h2`, then `http/1.1`.
    Auto,
}

impl UpstreamAlpn {
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::H2 => vec![b"h2".to_vec()],
            Self::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        }
    }
}

impl From<raw::UpstreamProtocol> for UpstreamAlpn {
    fn from(protocol: raw::UpstreamProtocol) -> Self {
        match protocol {
            raw::UpstreamProtocol::Http1 => Self::Http1,
            raw::UpstreamProtocol::H2 | raw::UpstreamProtocol::H2c => Self::H2,
            raw::UpstreamProtocol::Auto => Self::Auto,
        }
    }
}

/// Sessions remembered for resumption, for each upstream.
const SESSIONS: usize = 1024;

/// Configuration and the files it names, read once so that digest and result agree.
pub(super) struct Source<'a> {
    place: &'a str,
    raw: &'a raw::UpstreamTls,
    alpn: UpstreamAlpn,
    ca: Option<Vec<u8>>,
    cert: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
}

impl<'a> Source<'a> {
    pub(super) fn read(place: &'a str, raw: &'a raw::UpstreamTls, alpn: UpstreamAlpn) -> Result<Self, Vec<Issue>> {
        let mut issues = Vec::new();
        let mut read = |field: &str, path: &Option<String>, what| {
            path.as_ref().and_then(|path| match pem::read(path, what) {
                Ok(bytes) => Some(bytes),
                Err(message) => {
                    issues.push(Issue::new(format!("{place}.{field}"), message));
                    None
                }
            })
        };
        let ca = read("ca_path", &raw.ca_path, "CA");
        let cert = read("cert_path", &raw.cert_path, "certificate");
        let key = read("key_path", &raw.key_path, "key");
        match (&raw.cert_path, &raw.key_path) {
            (Some(_), None) => issues.push(Issue::new(format!("{place}.key_path"), "a client certificate needs its key")),
            (None, Some(_)) => issues.push(Issue::new(format!("{place}.cert_path"), "a client key needs its certificate")),
            _ => {}
        }
        if let Some(sni) = &raw.sni
            && ServerName::try_from(sni.as_str()).is_err()
        {
            issues.push(Issue::new(format!("{place}.sni"), format!("{sni:?} is neither a DNS name nor an address")));
        }
        if issues.is_empty() { Ok(Self { place, raw, alpn, ca, cert, key }) } else { Err(issues) }
    }

    pub(super) fn digest(&self) -> Digest {
        digest_of([
            format!("{:?}{:?}{:?}", self.raw.verify, self.alpn, self.raw.sni).as_bytes(),
            if self.ca.is_some() { b"ca" } else { b"system" },
            self.ca.as_deref().unwrap_or_default(),
            self.cert.as_deref().unwrap_or_default(),
            self.key.as_deref().unwrap_or_default(),
        ])
    }

    pub(super) fn build(&self, system_roots: impl FnOnce() -> Arc<RootCertStore>) -> Result<ClientConfig, Vec<Issue>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has both versions");
        let builder = if !self.raw.verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
        } else if let Some(text) = &self.ca {
            builder.with_root_certificates(self.custom_roots(text).map_err(|issue| vec![issue])?)
        } else {
            let roots = system_roots();
            if roots.is_empty() {
                return Err(vec![Issue::new(self.place, "no CA certificate is available to verify this upstream; set `ca_path`")]);
            }
            builder.with_root_certificates(roots)
        };
        let mut config = match self.identity().map_err(|issue| vec![issue])? {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| {
                let message = match error {
                    rustls::Error::InconsistentKeys(_) => "the client key does not belong to the client certificate".into(),
                    other => format!("the client certificate cannot be used: {other}"),
                };
                vec![Issue::new(format!("{}.key_path", self.place), message)]
            })?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.protocols();
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(config)
    }

    fn custom_roots(&self, text: &[u8]) -> Result<RootCertStore, Issue> {
        let path = self.raw.ca_path.as_deref().unwrap_or_default();
        roots(path, text).map_err(|message| Issue::new(format!("{}.ca_path", self.place), message))
    }

    fn identity(&self) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, Issue> {
        let (Some(cert), Some(key)) = (&self.cert, &self.key) else { return Ok(None) };
        let cert_path = self.raw.cert_path.as_deref().unwrap_or_default();
        let key_path = self.raw.key_path.as_deref().unwrap_or_default();
        let chain = pem::certificates(cert_path, cert).map_err(|message| Issue::new(format!("{}.cert_path", self.place), message))?;
        let key = pem::key(key_path, key).map_err(|message| Issue::new(format!("{}.key_path", self.place), message))?;
        Ok(Some((chain, key)))
    }
}

/// The roots of a PEM bundle.
pub(super) fn roots(path: &str, text: &[u8]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for der in pem::certificates(path, text)? {
        store.add(der).map_err(|error| format!("{path} holds a certificate that cannot be a CA: {error}"))?;
    }
    Ok(store)
}

/// The system's roots, else Mozilla's as bundled with `webpki-roots`.
pub(super) fn load_system_roots() -> RootCertStore {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    store
}

/// Name that is sent and verified: `sni` of the configuration, else the backend's host (a name or an address).
pub fn server_name(sni: Option<&str>, host: &str) -> Result<ServerName<'static>, String> {
    let name = sni.unwrap_or(host);
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    ServerName::try_from(bare.to_owned()).map_err(|_| format!("{name:?} is neither a DNS name nor an address"))
}
