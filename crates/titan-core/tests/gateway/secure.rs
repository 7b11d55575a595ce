//! TLS on both legs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::world::*;

/// A certificate for `localhost` and 127.0.0.1 in files of their own.
struct Files {
    dir: PathBuf,
    cert: String,
    key: String,
}

impl Files {
    fn new(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        let dir = std::env::temp_dir().join(format!("titan-secure-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = |file: &str| dir.join(file).to_str().unwrap().to_owned();
        let (cert, key) = (path("cert.pem"), path("key.pem"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Self { dir, cert, key }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.cert).unwrap()).unwrap();
        roots
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn client(files: &Files, address: std::net::SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(files.roots()).with_no_client_auth();
    let session = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(session, socket)
}

fn https(config: &mut Value, files: &Files) {
    config["listeners"] = json!([{ "name": "https", "address": "127.0.0.1", "port": 0,
        "tls": { "certificates": [{ "cert_path": files.cert, "key_path": files.key }] } }]);
}

fn read_answer(stream: &mut impl Read, length: usize) -> String {
    let (mut all, mut chunk) = (Vec::new(), [0; 16 << 10]);
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= length) {
            return text;
        }
        let n = stream.read(&mut chunk).unwrap();
        assert_ne!(n, 0, "{text}");
        all.extend_from_slice(&chunk[..n]);
    }
}

#[test]
fn https_serves_keep_alive_and_tells_the_scheme() {
    let files = Files::new("https");
    let origin = Origin::echo();
    let mut config = proxy(origin.address);
    https(&mut config, &files);
    let gateway = gateway(config);
    let mut client = client(&files, address(&gateway));
    for n in 0..20 {
        client.write_all(format!("GET /{n} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
        let answer = read_answer(&mut client, 10);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("GET /{n} ")), "{answer}");
    }
    assert!(origin.received().to_ascii_lowercase().contains("x-forwarded-proto: https"));
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_large_body_passes_through_tls_both_ways() {
    let files = Files::new("large");
    let origin = Origin::new(|mut peer| {
        let (_, body) = peer.request()?;
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes())?;
        peer.send(&body)
    });
    let mut config = proxy(origin.address);
    config["routes"][0]["max_body"] = json!(64 << 20);
    https(&mut config, &files);
    let gateway = gateway(config);
    let mut client = client(&files, address(&gateway));
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    client.write_all(format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes()).unwrap();
    client.write_all(&body).unwrap();
    let mut all = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    let at = loop {
        let n = client.read(&mut chunk).unwrap();
        assert_ne!(n, 0);
        all.extend_from_slice(&chunk[..n]);
        if let Some(at) = all.windows(4).position(|w| w == b"\r\n\r\n")
            && all.len() >= at + 4 + body.len()
        {
            break at + 4;
        }
    };
    assert!(all[at..] == body[..]);
}

#[test]
fn an_upstream_is_verified_unless_told_otherwise() {
    let files = Files::new("upstream");
    let server = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![CertificateDer::from_pem_file(&files.cert).unwrap()], key).unwrap();
    let server = Arc::new(server);
    let origin = Origin::new(move |peer| {
        let mut stream = StreamOwned::new(ServerConnection::new(server.clone()).unwrap(), peer.stream);
        loop {
            let mut seen = Vec::new();
            let mut byte = [0; 1024];
            while !seen.ends_with(b"\r\n\r\n") {
                let n = stream.read(&mut byte)?;
                if n == 0 {
                    return Ok(());
                }
                seen.extend_from_slice(&byte[..n]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")?;
        }
    });
    let mut config = proxy(origin.address);
    config["upstreams"][0]["retry"] = json!({ "max": 0 });
    for (tls, status) in [(json!({}), 502), (json!({ "ca_path": files.cert }), 200), (json!({ "verify": false }), 200)] {
        config["upstreams"][0]["tls"] = tls.clone();
        let gateway = gateway(config.clone());
        let mut client = Peer::connect(address(&gateway));
        for _ in 0..3 {
            assert_eq!(client.get("/").unwrap().status, status, "{tls}");
        }
    }
}

#[test]
fn a_handshake_has_an_end() {
    let files = Files::new("slow");
    let mut config = json!({});
    https(&mut config, &files);
    config["listeners"][0]["timeouts"] = json!({ "tls_handshake_ms": 100 });
    let gateway = gateway(config);
    assert!(Peer::connect(address(&gateway)).is_closed_within(PATIENCE));
}
