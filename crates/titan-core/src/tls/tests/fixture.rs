//! Certificates, files and handshakes for the tests of this module.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection, SignatureScheme};

use crate::config::Issue;
use crate::config::raw::{Certificate, ClientAuth, ListenerTls, TlsVersion};

/// A directory that goes with the test.
pub struct Files(PathBuf);

impl Files {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("titan-tls-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Paths of certificate and key.
    pub fn pair(&self, name: &str, (cert, key): &(String, KeyPair)) -> (String, String) {
        (self.write(&format!("{name}.pem"), cert), self.write(&format!("{name}.key"), &key.serialize_pem()))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub struct Authority {
    cert: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = params(&[]);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        Self { cert, issuer: Issuer::new(params, key) }
    }

    pub fn pem(&self) -> String {
        self.cert.pem()
    }

    pub fn issue(&self, names: &[&str]) -> (String, KeyPair) {
        self.sign(params(names))
    }

    pub fn sign(&self, params: CertificateParams) -> (String, KeyPair) {
        self.sign_with(params, KeyPair::generate().unwrap())
    }

    pub fn sign_with(&self, params: CertificateParams, key: KeyPair) -> (String, KeyPair) {
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key)
    }
}

/// Parameters without a subject.
pub fn params(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

pub fn certificate(cert: &str, key: &str) -> Certificate {
    Certificate { cert_path: cert.into(), key_path: key.into(), names: Vec::new() }
}

pub fn listener(certificates: Vec<Certificate>) -> ListenerTls {
    ListenerTls {
        certificates,
        min_version: TlsVersion::V12,
        alpn: vec!["h2".into(), "http/1.1".into()],
        client_auth: ClientAuth::None,
        client_ca_path: None,
    }
}

pub fn auth(mut raw: ListenerTls, policy: ClientAuth, ca: &str) -> ListenerTls {
    raw.client_auth = policy;
    raw.client_ca_path = Some(ca.into());
    raw
}

pub fn messages<T>(result: Result<T, Vec<Issue>>) -> Vec<String> {
    result.err().expect("this must be refused").iter().map(ToString::to_string).collect()
}

/// A client that trusts anything, without resumption.
pub fn trusting(versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(super::super::verify::AcceptAny(provider)))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config
}

/// A client that looks at no certificate and takes these signatures only.
pub fn blind(schemes: &[SignatureScheme]) -> ClientConfig {
    let mut config = trusting(&[&rustls::version::TLS13]);
    config.dangerous().set_certificate_verifier(Arc::new(Blind(schemes.to_vec())));
    config
}

#[derive(Debug)]
struct Blind(Vec<SignatureScheme>);

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

/// A whole handshake in memory, with the tickets that come after it; the server's error first.
pub fn handshake(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<(ServerConnection, ClientConnection), rustls::Error> {
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            server.read_tls(&mut wire).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            client.process_new_packets()?;
        }
        if !client.is_handshaking() && !server.is_handshaking() && !client.wants_write() && !server.wants_write() {
            return Ok((server, client));
        }
    }
    panic!("the handshake does not end");
}
