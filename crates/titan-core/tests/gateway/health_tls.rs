//! Active health checks over TLS: a backend is as healthy as its certificate, and the reason is told.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use titan_core::gateway::{Event, Gateway, Host};

use crate::world::*;

/// A certification authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A server that answers /health with 200 over TLS, with a certificate for `name`.
    fn server(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Origin {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = CertificateDer::from(params.signed_by(&key, &self.issuer).unwrap());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![cert], key).unwrap());
        Origin::new(move |peer| {
            let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), peer.stream);
            let mut seen = Vec::new();
            let mut chunk = [0; 1024];
            loop {
                let n = stream.read(&mut chunk)?;
                if n == 0 {
                    return Ok(());
                }
                seen.extend_from_slice(&chunk[..n]);
                if seen.ends_with(b"\r\n\r\n") {
                    let status = if seen.starts_with(b"GET /health ") || seen.starts_with(b"GET /x ") { "200 OK" } else { "404 No" };
                    stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nwell").as_bytes())?;
                    seen.clear();
                }
            }
        })
    }
}

fn backend(address: SocketAddr) -> Value {
    json!({ "host": address.ip().to_string(), "port": address.port() })
}

/// State and reason of the backend at `address`.
fn state(gateway: &Gateway, address: SocketAddr) -> (String, String) {
    let status: Value = serde_json::from_str(&gateway.status_json()).unwrap();
    let backends = status["upstreams"][0]["backends"].as_array().unwrap();
    let one = backends.iter().find(|one| one["backend"] == address.to_string()).unwrap();
    (one["status"].as_str().unwrap().into(), one["last_check"]["error"].as_str().unwrap_or_default().into())
}

#[test]
fn a_backend_is_as_healthy_as_its_certificate() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let good = ours.server("127.0.0.1", |_| {});
    let wrong_name = ours.server("other.test", |_| {});
    let unknown = theirs.server("127.0.0.1", |_| {});
    let expired = ours.server("127.0.0.1", |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    // What an HTTP server says to a TLS handshake.
    let plain = Origin::new(|mut peer| {
        peer.fill()?;
        peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    });
    let ca = std::env::temp_dir().join(format!("titan-health-ca-{}.pem", std::process::id()));
    std::fs::write(&ca, &ours.pem).unwrap();

    let mut config = proxy(good.address);
    config["upstreams"][0]["backends"] = json!([&good, &wrong_name, &unknown, &expired, &plain].map(|origin| backend(origin.address)));
    config["upstreams"][0]["tls"] = json!({ "verify": true, "ca_path": ca });
    config["upstreams"][0]["health_check"] =
        json!({ "interval_ms": 100, "timeout_ms": 5000, "path": "/health", "healthy_threshold": 1, "unhealthy_threshold": 1 });
    let told: Arc<Mutex<Vec<Event>>> = Arc::default();
    let sink = told.clone();
    let host = Host { events: Some(Arc::new(move |event| sink.lock().unwrap().push(event))), ..Host::default() };
    let gateway = start(config, host).unwrap();

    for (bad, reason) in
        [(&wrong_name, "not valid for name"), (&unknown, "does not chain to a CA"), (&expired, "has expired"), (&plain, "this is not TLS")]
    {
        eventually(reason, || state(&gateway, bad.address).0 == "unhealthy");
        let (_, error) = state(&gateway, bad.address);
        assert!(error.starts_with("TLS failed: ") && error.contains(reason), "{error}");
        let told = told.lock().unwrap();
        let lines: Vec<_> = told.iter().filter(|event| event.message.contains(&format!("{} is unhealthy", bad.address))).collect();
        assert_eq!(lines.len(), 1, "one line for {reason}");
        assert!(lines[0].name == "backend_unhealthy" && lines[0].level == "warn" && lines[0].message.contains(reason), "{:?}", lines[0]);
    }
    eventually("it was checked", || state(&gateway, good.address) == ("up".into(), String::new()));
    // Only the good one is asked, verified as the checks are.
    let mut client = Peer::connect(address(&gateway));
    for _ in 0..10 {
        assert_eq!(client.get("/x").unwrap().text(), "well");
    }
    let _ = std::fs::remove_file(ca);
}
