use std::sync::Arc;

use super::fixture::*;
use crate::config::raw::{ClientAuth, UpstreamTls};
use crate::tls::{Store, UpstreamAlpn, explain, info, server_name};

fn raw() -> UpstreamTls {
    UpstreamTls { verify: true, ca_path: None, sni: None, cert_path: None, key_path: None }
}

#[test]
fn upstreams_are_verified_unless_that_is_turned_off() {
    let files = Files::new();
    let ca = Authority::new("internal");
    let (cert, key) = files.pair("a", &ca.issue(&["backend.test"]));
    let store = Store::new();
    let server = store.server("tls", &listener(vec![certificate(&cert, &key)]), true).unwrap();
    let connect = |raw: &UpstreamTls, name| {
        let client = store.client("upstreams[0].tls", raw, UpstreamAlpn::Http1).unwrap();
        handshake(server.config(), &client, name).map(|(server, _)| info(&server)).map_err(|error| explain(&std::io::Error::other(error)))
    };

    // Nobody's CA: neither the system's roots nor the bundled ones know it.
    assert!(connect(&raw(), "backend.test").unwrap_err().contains("does not chain to a CA"));
    let trusted = UpstreamTls { ca_path: Some(files.write("ca.pem", &ca.pem())), ..raw() };
    assert_eq!(connect(&trusted, "backend.test").unwrap().alpn.as_deref(), Some(&b"http/1.1"[..]));
    assert!(connect(&trusted, "other.test").unwrap_err().contains("not valid for name"));
    assert!(connect(&UpstreamTls { verify: false, ..raw() }, "other.test").is_ok());
}

#[test]
fn a_client_certificate_is_presented() {
    let files = Files::new();
    let ca = Authority::new("internal");
    let (cert, key) = files.pair("a", &ca.issue(&["backend.test"]));
    let bundle = files.write("ca.pem", &ca.pem());
    let store = Store::new();
    let server = store.server("tls", &auth(listener(vec![certificate(&cert, &key)]), ClientAuth::Required, &bundle), true).unwrap();
    let (own, own_key) = files.pair("titan", &ca.issue(&["titan.test"]));
    let raw = UpstreamTls { ca_path: Some(bundle), cert_path: Some(own), key_path: Some(own_key), ..raw() };
    let client = store.client("tls", &raw, UpstreamAlpn::Auto).unwrap();
    let session = info(&handshake(server.config(), &client, "backend.test").unwrap().0);
    assert_eq!(session.certificate.unwrap().sans, ["titan.test"]);
    assert_eq!(session.alpn.as_deref(), Some(&b"h2"[..]));
}

#[test]
fn sessions_are_kept_while_nothing_changes() {
    let files = Files::new();
    let ca = Authority::new("internal");
    let bundle = files.write("ca.pem", &ca.pem());
    let raw = UpstreamTls { ca_path: Some(bundle), ..raw() };
    let store = Store::new();
    let first = store.client("tls", &raw, UpstreamAlpn::Http1).unwrap();
    assert!(Arc::ptr_eq(&first, &store.client("tls", &raw, UpstreamAlpn::Http1).unwrap()));
    assert!(!Arc::ptr_eq(&first, &store.client("tls", &raw, UpstreamAlpn::H2).unwrap()));
    files.write("ca.pem", &Authority::new("new").pem());
    assert!(!Arc::ptr_eq(&first, &store.client("tls", &raw, UpstreamAlpn::Http1).unwrap()));
}

#[test]
fn problems_name_their_field() {
    let files = Files::new();
    let ca = Authority::new("internal");
    let (cert, key) = files.pair("a", &ca.issue(&["a.test"]));
    let (_, other_key) = files.pair("b", &ca.issue(&["b.test"]));
    let build = |raw: &UpstreamTls| messages(Store::new().client("u", raw, UpstreamAlpn::Http1));
    let bad = UpstreamTls { ca_path: Some("/nowhere".into()), sni: Some("not a name".into()), cert_path: Some(cert.clone()), ..raw() };
    assert_eq!(
        build(&bad),
        [
            "u.ca_path: CA file /nowhere does not exist",
            "u.key_path: a client certificate needs its key",
            "u.sni: \"not a name\" is neither a DNS name nor an address",
        ]
    );
    let mismatch = UpstreamTls { cert_path: Some(cert.clone()), key_path: Some(other_key), ..raw() };
    assert_eq!(build(&mismatch), ["u.key_path: the client key does not belong to the client certificate"]);
    let no_ca = UpstreamTls { ca_path: Some(key), ..raw() };
    assert!(build(&no_ca)[0].contains("holds a private key, not a certificate"));
}

#[test]
fn the_verified_name_is_the_configured_one_or_the_host() {
    let text = |sni, host| server_name(sni, host).map(|name| name.to_str().into_owned());
    assert_eq!(text(None, "a.test").unwrap(), "a.test");
    assert_eq!(text(Some("b.test"), "10.0.0.1").unwrap(), "b.test");
    assert_eq!(text(None, "10.0.0.1").unwrap(), "10.0.0.1");
    assert_eq!(text(None, "[::1]").unwrap(), "::1");
    assert!(text(None, "a b").unwrap_err().contains("neither"));
}
