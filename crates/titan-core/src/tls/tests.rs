//! Real handshakes in memory, with certificates made on the spot.

mod fixture;
mod handshake;
mod upstream;

use fixture::{Authority, Files, auth, certificate, listener, messages};

use super::{Store, inspect};
use crate::config::raw::{ClientAuth, TlsVersion};

#[test]
fn every_problem_is_reported_at_once_and_named() {
    let files = Files::new();
    let one = Authority::new("one").issue(&["a.test"]);
    let (cert, key) = files.pair("a", &one);
    let other_key = files.pair("b", &Authority::new("two").issue(&["b.test"])).1;
    let empty = files.write("empty.pem", "");
    let encrypted = files.write("enc.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let mut raw = listener(vec![certificate("/nowhere/cert.pem", &key), certificate(&cert, "/nowhere/key.pem")]);
    raw.client_auth = ClientAuth::Required;
    let found = messages(Store::new().server("listeners[0].tls", &raw, true));
    assert_eq!(
        found,
        [
            "listeners[0].tls.certificates[0].cert_path: certificate file /nowhere/cert.pem does not exist",
            "listeners[0].tls.certificates[1].key_path: key file /nowhere/key.pem does not exist",
            "listeners[0].tls.client_ca_path: client certificates need the CA that they chain to",
        ]
    );
    for (cert, key, wanted) in [
        (&cert, &other_key, "does not belong to the certificate"),
        (&key, &cert, "are the two paths swapped?"),
        (&cert, &cert, "holds a certificate and no private key"),
        (&empty, &key, "holds no certificate"),
        (&cert, &encrypted, "pass phrase"),
    ] {
        let found = messages(Store::new().server("tls", &listener(vec![certificate(cert, key)]), true));
        assert!(found.len() == 1 && found[0].contains(wanted), "{wanted}: {found:?}");
    }
    assert!(messages(Store::new().server("tls", &listener(vec![]), true))[0].contains("at least one certificate"));
}

#[test]
fn an_expired_certificate_is_a_warning() {
    let files = Files::new();
    let mut params = fixture::params(&["old.test"]);
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let (cert, key) = files.pair("old", &Authority::new("ca").sign(params));
    let tls = Store::new().server("tls", &listener(vec![certificate(&cert, &key)]), true).unwrap();
    assert_eq!(tls.warnings().len(), 1);
    assert!(tls.warnings()[0].message.contains("expired on Tue, 01 Jan 2002"), "{:?}", tls.warnings());
}

#[test]
fn inspection_tells_names_and_dates() {
    let files = Files::new();
    let mut params = fixture::params(&["A.test", "*.b.test"]);
    params.subject_alt_names.push(rcgen::SanType::IpAddress("10.0.0.1".parse().unwrap()));
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "Acme, Inc.");
    params.distinguished_name.push(rcgen::DnType::CommonName, "front");
    params.not_after = rcgen::date_time_ymd(2030, 1, 2);
    let (cert, _) = files.pair("a", &Authority::new("ca").sign(params));
    let info = &inspect(&cert).unwrap()[0];
    assert_eq!(info.names, ["a.test", "*.b.test", "10.0.0.1"]);
    assert_eq!(info.subject, "CN=front,O=Acme\\, Inc.");
    assert_eq!(info.issuer, "CN=ca");
    assert_eq!((info.not_after, info.version, info.self_signed), (1_893_542_400, 3, false));

    // No SAN: the CN is the name.
    let mut params = fixture::params(&[]);
    params.distinguished_name.push(rcgen::DnType::CommonName, "Only.test");
    let (cert, _) = files.pair("cn", &Authority::new("ca").sign(params));
    assert_eq!(inspect(&cert).unwrap()[0].names, ["only.test"]);
}

#[test]
fn unchanged_content_gives_the_same_object_and_changed_content_a_new_one() {
    let files = Files::new();
    let authority = Authority::new("ca");
    let (cert, key) = files.pair("a", &authority.issue(&["a.test"]));
    let raw = listener(vec![certificate(&cert, &key)]);
    let store = Store::new();
    let first = store.server("tls", &raw, true).unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &store.server("other place", &raw, true).unwrap()));
    files.pair("a", &authority.issue(&["a.test"]));
    let second = store.server("tls", &raw, true).unwrap();
    assert!(!std::sync::Arc::ptr_eq(&first, &second), "the renewed certificate must be read");
    let mut strict = raw.clone();
    strict.min_version = TlsVersion::V13;
    assert!(!std::sync::Arc::ptr_eq(&second, &store.server("tls", &strict, true).unwrap()));
}

#[test]
fn a_host_beside_the_session_is_misdirected_only_with_client_certificates() {
    let files = Files::new();
    let authority = Authority::new("ca");
    let (cert, key) = files.pair("a", &authority.issue(&["a.test"]));
    let ca = files.write("ca.pem", &authority.pem());
    let store = Store::new();
    let plain = store.server("tls", &listener(vec![certificate(&cert, &key)]), true).unwrap();
    let mutual = store.server("tls", &auth(listener(vec![certificate(&cert, &key)]), ClientAuth::Optional, &ca), true).unwrap();
    assert!(plain.serves(Some("a.test"), b"b.test"));
    for (sni, authority, served) in [
        (Some("a.test"), "a.test", true),
        (Some("a.test"), "A.Test.:8443", true),
        (Some("a.test"), "b.test", false),
        (Some("a.test"), "a.test.evil", false),
        (Some("a.test"), "", false),
        (Some("a.test"), "[::1]:443", false),
        (None, "10.0.0.1:443", true),
    ] {
        assert_eq!(mutual.serves(sni, authority.as_bytes()), served, "{sni:?} {authority}");
    }
}
