use std::sync::Arc;

use rcgen::{DnType, KeyPair};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, SignatureScheme};

use super::fixture::*;
use crate::config::raw::{ClientAuth, TlsVersion};
use crate::tls::{Store, explain, info};

/// Names of the certificate that a client gets.
fn served(server: &Arc<rustls::ServerConfig>, client: &Arc<ClientConfig>, name: &str) -> Vec<String> {
    let (_, client) = handshake(server, client, name).unwrap();
    crate::tls::CertificateInfo::of("", &client.peer_certificates().unwrap()[0]).unwrap().names
}

#[test]
fn the_certificate_is_chosen_by_exact_name_then_wildcard_then_default() {
    let files = Files::new();
    let ca = Authority::new("ca");
    let mut only_cn = params(&[]);
    only_cn.distinguished_name.push(DnType::CommonName, "cn.test");
    let list = [ca.issue(&["default.test"]), ca.issue(&["*.wild.test"]), ca.issue(&["exact.wild.test"]), ca.sign(only_cn)];
    let certificates = list.iter().enumerate().map(|(index, pair)| {
        let (cert, key) = files.pair(&index.to_string(), pair);
        certificate(&cert, &key)
    });
    let tls = Store::new().server("tls", &listener(certificates.collect()), true).unwrap();
    let client = Arc::new(trusting(&[&TLS13, &TLS12]));
    for (sni, wanted) in [
        ("exact.wild.test", "exact.wild.test"),
        ("EXACT.wild.test", "exact.wild.test"),
        ("other.wild.test", "*.wild.test"),
        ("a.b.wild.test", "default.test"),
        ("wild.test", "default.test"),
        ("cn.test", "cn.test"),
        ("unknown.test", "default.test"),
        // An address is never sent as SNI.
        ("127.0.0.1", "default.test"),
    ] {
        assert_eq!(served(tls.config(), &client, sni), [wanted], "{sni}");
    }
}

#[test]
fn configured_names_replace_those_of_the_certificate() {
    let files = Files::new();
    let ca = Authority::new("ca");
    let (cert, key) = files.pair("a", &ca.issue(&["a.test"]));
    let (other, other_key) = files.pair("b", &ca.issue(&["b.test"]));
    let mut named = certificate(&other, &other_key);
    named.names = vec!["alias.test".into()];
    let tls = Store::new().server("tls", &listener(vec![certificate(&cert, &key), named]), true).unwrap();
    let client = Arc::new(trusting(&[&TLS13]));
    assert_eq!(served(tls.config(), &client, "alias.test"), ["b.test"]);
    assert_eq!(served(tls.config(), &client, "b.test"), ["a.test"]);
}

#[test]
fn ecdsa_goes_first_and_rsa_serves_clients_without_it() {
    let files = Files::new();
    let ca = Authority::new("ca");
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let (rsa_cert, rsa_key) = files.pair("rsa", &ca.sign_with(params(&["a.test"]), rsa));
    let (cert, key) = files.pair("ec", &ca.issue(&["a.test"]));
    let tls = Store::new().server("tls", &listener(vec![certificate(&rsa_cert, &rsa_key), certificate(&cert, &key)]), true).unwrap();
    let leaf = |client: &Arc<ClientConfig>| handshake(tls.config(), client, "a.test").unwrap().1.peer_certificates().unwrap()[0].to_vec();
    let der = |path: &str| CertificateDer::from_pem_file(path).unwrap().to_vec();
    assert_eq!(leaf(&Arc::new(trusting(&[&TLS13]))), der(&cert));

    let old = blind(&[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256]);
    assert_eq!(leaf(&Arc::new(old)), der(&rsa_cert));
}

#[test]
fn the_version_floor_and_alpn_hold() {
    let files = Files::new();
    let (cert, key) = files.pair("a", &Authority::new("ca").issue(&["a.test"]));
    let mut raw = listener(vec![certificate(&cert, &key)]);
    let store = Store::new();
    let old = Arc::new(trusting(&[&TLS12]));
    let tls = store.server("tls", &raw, true).unwrap();
    let (server, _) = handshake(tls.config(), &old, "a.test").unwrap();
    assert_eq!(info(&server).version, "TLSv1.2");
    raw.min_version = TlsVersion::V13;
    let tls = store.server("tls", &raw, true).unwrap();
    let refused = handshake(tls.config(), &old, "a.test").unwrap_err();
    assert!(explain(&std::io::Error::other(refused)).contains("no common TLS version"));

    let mut modern = trusting(&[&TLS13]);
    modern.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let modern = Arc::new(modern);
    let session = info(&handshake(tls.config(), &modern, "a.test").unwrap().0);
    assert_eq!((session.alpn.as_deref(), session.version, session.sni.as_deref()), (Some(&b"h2"[..]), "TLSv1.3", Some("a.test")));
    let tls = store.server("tls", &raw, false).unwrap();
    let session = info(&handshake(tls.config(), &modern, "a.test").unwrap().0);
    assert_eq!(session.alpn.as_deref(), Some(&b"http/1.1"[..]));
}

/// A client with a certificate, and with resumption where `resume`.
fn presenting((cert, key): &(String, KeyPair), version: &'static rustls::SupportedProtocolVersion) -> ClientConfig {
    let chain = CertificateDer::pem_slice_iter(cert.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let mut config = trusting(&[version]);
    config.client_auth_cert_resolver = Arc::new(Always(Arc::new(CertifiedKey::new(chain, key))));
    config
}

/// Presents a certificate without looking at it (rustls' own way refuses X.509 v1).
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn client_certificates_are_asked_for_verified_and_described() {
    let files = Files::new();
    let ca = Authority::new("clients");
    let (cert, key) = files.pair("a", &ca.issue(&["a.test"]));
    let bundle = files.write("ca.pem", &ca.pem());
    let store = Store::new();
    let build = |policy| store.server("tls", &auth(listener(vec![certificate(&cert, &key)]), policy, &bundle), true).unwrap();
    let (required, optional) = (build(ClientAuth::Required), build(ClientAuth::Optional));

    let mut subject = params(&["worker.test"]);
    subject.distinguished_name.push(DnType::OrganizationName, "Acme");
    subject.distinguished_name.push(DnType::CommonName, "worker 1");
    subject.subject_alt_names.push(rcgen::SanType::URI("spiffe://acme/worker".try_into().unwrap()));
    for version in [&TLS12, &TLS13] {
        let nobody = Arc::new(trusting(&[version]));
        let refused = handshake(required.config(), &nobody, "a.test").unwrap_err();
        assert!(explain(&std::io::Error::other(refused)).contains("sent no certificate"));
        let session = info(&handshake(optional.config(), &nobody, "a.test").unwrap().0);
        assert!(session.certificate.is_none());

        let known = Arc::new(presenting(&ca.sign(subject.clone()), version));
        for tls in [&required, &optional] {
            let found = info(&handshake(tls.config(), &known, "a.test").unwrap().0).certificate.unwrap();
            assert_eq!(found.subject, "CN=worker 1,O=Acme");
            assert_eq!(found.common_name.as_deref(), Some("worker 1"));
            assert_eq!(found.sans, ["worker.test", "spiffe://acme/worker"]);
            assert_eq!(found.fingerprint.len(), 64);
        }

        let stranger = Arc::new(presenting(&Authority::new("others").issue(&["x.test"]), version));
        for tls in [&required, &optional] {
            let refused = handshake(tls.config(), &stranger, "a.test").unwrap_err();
            let words = explain(&std::io::Error::other(refused));
            assert!(words.contains("does not chain to a CA"), "{words}");
        }
    }
}

#[test]
fn a_version_1_client_certificate_gets_a_clear_error_and_a_version_1_server_certificate_works() {
    let files = Files::new();
    let ca = Authority::new("clients");
    let (cert, key) = files.pair("a", &ca.issue(&["a.test"]));
    let bundle = files.write("ca.pem", &ca.pem());
    let store = Store::new();
    let tls = store.server("tls", &auth(listener(vec![certificate(&cert, &key)]), ClientAuth::Required, &bundle), true).unwrap();

    let mut subject = params(&["ignored.test"]);
    subject.distinguished_name.push(DnType::CommonName, "old.test");
    let (pem, pair) = ca.sign(subject);
    let old = as_version_1(&pem);
    let refused = handshake(tls.config(), &Arc::new(presenting(&(old.clone(), clone(&pair)), &TLS13)), "a.test").unwrap_err();
    let words = explain(&std::io::Error::other(refused));
    assert!(words.contains("X.509 version 1") && words.contains("reissue"), "{words}");

    let (cert, key) = files.pair("old", &(old, pair));
    let tls = store.server("tls", &listener(vec![certificate(&cert, &key)]), true).unwrap();
    assert_eq!(tls.certificates()[0].version, 1);
    // rustls as a client knows no version 1; OpenSSL does, so this one looks at nothing.
    let client = Arc::new(blind(&[SignatureScheme::ECDSA_NISTP256_SHA256]));
    let (_, client) = handshake(tls.config(), &client, "old.test").unwrap();
    assert_eq!(client.peer_certificates().unwrap().len(), 1);
}

fn clone(pair: &KeyPair) -> KeyPair {
    KeyPair::from_pem(&pair.serialize_pem()).unwrap()
}

/// The certificate without version and extensions (its signature no longer holds, which nobody gets as far as to see).
fn as_version_1(pem: &str) -> String {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
    let (_, rest) = element(&der);
    let (tbs, tail) = split(rest);
    let mut fields = element(tbs).1;
    let mut kept = Vec::new();
    while !fields.is_empty() {
        let (field, after) = split(fields);
        if field[0] != 0xA0 && field[0] != 0xA3 {
            kept.extend_from_slice(field);
        }
        fields = after;
    }
    let whole = wrap(&[wrap(&kept), tail.to_vec()].concat());
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, whole);
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// Header and content of a DER element.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let long = usize::from(der[1]).checked_sub(0x80);
    let header = 2 + long.unwrap_or(0);
    let length = match long {
        None => usize::from(der[1]),
        Some(_) => der[2..header].iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)),
    };
    (&der[..header], &der[header..header + length])
}

/// The first DER element, and what comes after it.
fn split(der: &[u8]) -> (&[u8], &[u8]) {
    let (header, content) = element(der);
    der.split_at(header.len() + content.len())
}

fn wrap(content: &[u8]) -> Vec<u8> {
    let mut out = vec![0x30, 0x82];
    out.extend_from_slice(&(content.len() as u16).to_be_bytes());
    out.extend_from_slice(content);
    out
}

#[test]
fn sessions_resume_across_shards_and_reloads_but_never_across_client_certificate_scopes() {
    let files = Files::new();
    let (ca, other_ca) = (Authority::new("clients"), Authority::new("others"));
    let (cert, key) = files.pair("a", &ca.issue(&["a.test"]));
    let bundle = files.write("ca.pem", &ca.pem());
    let store = Store::new();
    for version in [&TLS12, &TLS13] {
        let open = || store.server("tls", &listener(vec![certificate(&cert, &key)]), true).unwrap();
        let mutual = |policy| store.server("tls", &auth(listener(vec![certificate(&cert, &key)]), policy, &bundle), true).unwrap();
        let resuming = |config: ClientConfig| {
            let mut config = config;
            config.resumption = rustls::client::Resumption::in_memory_sessions(8);
            Arc::new(config)
        };
        let kind = |tls: &crate::tls::ServerTls, client: &Arc<ClientConfig>| {
            handshake(tls.config(), client, "a.test").unwrap().0.handshake_kind().unwrap()
        };

        let client = resuming(presenting(&ca.issue(&["client.test"]), version));
        let before = open();
        assert_ne!(kind(&before, &client), HandshakeKind::Resumed);
        assert_eq!(kind(&before, &client), HandshakeKind::Resumed);
        // A renewed certificate: another configuration, the same ticket keys.
        files.pair("a", &ca.issue(&["a.test"]));
        let after = open();
        assert!(!Arc::ptr_eq(&before, &after));
        assert_eq!(kind(&after, &client), HandshakeKind::Resumed);
        // Its ticket from a listener that asks for no certificate is worth nothing where one is required.
        let required = mutual(ClientAuth::Required);
        assert_ne!(kind(&required, &client), HandshakeKind::Resumed);
        assert_eq!(kind(&required, &client), HandshakeKind::Resumed);
        let session = info(&handshake(required.config(), &client, "a.test").unwrap().0);
        assert!(session.certificate.is_some(), "a resumed session still knows whose it is");
        assert_ne!(kind(&mutual(ClientAuth::Optional), &client), HandshakeKind::Resumed);

        // The CA changes: a session of a client that the new one does not know must not come back.
        let client = resuming(presenting(&ca.issue(&["client.test"]), version));
        assert_ne!(kind(&required, &client), HandshakeKind::Resumed);
        assert_eq!(kind(&required, &client), HandshakeKind::Resumed);
        files.write("ca.pem", &other_ca.pem());
        assert!(handshake(mutual(ClientAuth::Required).config(), &client, "a.test").is_err());
        files.write("ca.pem", &ca.pem());
    }
}
