//! A gateway under test: no listener, no backend, and the verdicts told.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use titan_core::gateway::{Gateway, Host};
use titan_core::http::client::{ClientCertificate, TlsInfo};
use titan_core::rehearsal::{Arrival, Rehearsal, Rehearsed};

use crate::world::*;

/// Plays every backend: answers with the line that a connection began with, and keeps the heads.
fn stage() -> (std::net::SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = heads.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let kept = kept.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut preface = String::new();
                reader.read_line(&mut preface).unwrap();
                loop {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if reader.read_line(&mut head).unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    kept.lock().unwrap().push(head);
                    let body = preface.trim();
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    (&stream).write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    (address, heads)
}

fn rehearse(gateway: &Gateway, listener: Option<&str>, tls: Option<TlsInfo>, request: &str) -> (String, Rehearsed) {
    let arrival = Arrival { listener: listener.map(Into::into), peer: "203.0.113.7:1".parse().unwrap(), tls };
    let done = gateway.rehearse(arrival, request.as_bytes().to_vec(), PATIENCE).unwrap();
    (String::from_utf8(done.answer.clone()).unwrap(), done)
}

fn config() -> Value {
    json!({
        // Nobody listens there, and the port stays free for whoever has it.
        "listeners": [
            { "name": "http", "address": "127.0.0.1", "port": 1 },
            { "name": "small", "address": "127.0.0.1", "port": 2, "limits": { "max_body": 3 } },
        ],
        "upstreams": [{ "name": "api", "backends": [{ "host": "api.example", "port": 443 }], "tls": { "verify": true } }],
        "policies": [
            { "name": "cert", "type": "auth", "config": { "methods": [{ "method": "mtls" }] } },
            { "name": "office", "type": "ip_filter", "config": { "allow": ["10.0.0.0/8"] } },
            { "name": "guard", "type": "auth", "config": { "methods": [{ "method": "mtls" }], "anonymous": true } },
        ],
        "routes": [
            route("/*", "api"),
            { "name": "office", "match": { "path": "/office" }, "policies": [2, 1], "action": { "type": "proxy", "targets": [{ "upstream": "api" }] } },
            { "name": "cert", "match": { "path": "/cert" }, "policies": [0], "action": { "type": "proxy", "targets": [{ "upstream": "api" }] } },
        ],
    })
}

#[test]
fn nothing_is_bound_or_reached_and_the_verdicts_are_told() {
    let (address, heads) = stage();
    let host = Host { rehearsal: Some(Rehearsal::new(address, "secret".into())), ..Host::default() };
    let gateway = start(config(), host).unwrap_or_else(|issues| panic!("{issues:?}"));

    let (answer, done) = rehearse(&gateway, None, None, "GET /a HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("TITAN-REHEARSAL secret api api.example:443"), "{answer}");
    let seen = done.observation.unwrap();
    assert_eq!((seen.route.as_deref(), seen.upstream.as_deref(), &*seen.client_ip), (Some("/*"), Some("api"), "203.0.113.7"));
    assert!(seen.policies_ran && seen.answered_by.is_none() && seen.stage.is_none() && seen.tries == 1);
    assert!(heads.lock().unwrap()[0].to_lowercase().contains("x-forwarded-for: 203.0.113.7\r\n"));

    // The address list comes before authentication, whatever the route says.
    let (answer, done) = rehearse(&gateway, None, None, "GET /office HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let seen = done.observation.unwrap();
    assert_eq!((seen.answered_by, seen.stage), (Some(0), Some("ip_filter")));

    let certificate = ClientCertificate { subject: "CN=jo".into(), common_name: Some("jo".into()), ..Default::default() };
    let tls = TlsInfo { sni: Some("t".into()), alpn: None, version: "TLSv1.3", certificate: Some(certificate) };
    let (answer, done) = rehearse(&gateway, None, Some(tls), "GET /cert HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(done.observation.unwrap().subject.as_deref(), Some("jo"));
    assert!(heads.lock().unwrap().last().unwrap().to_lowercase().contains("x-forwarded-proto: https\r\n"));

    // A listener's own limits hold, and what never becomes a request has an answer all the same.
    let body = "POST /a HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfour";
    assert!(rehearse(&gateway, Some("small"), None, body).0.starts_with("HTTP/1.1 413 "));
    assert!(rehearse(&gateway, Some("http"), None, body).0.starts_with("HTTP/1.1 200 "));
    let (answer, done) = rehearse(&gateway, None, None, "GET /a HTTP/1.1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 ") && done.observation.is_none(), "{answer}");
    let (_, done) = rehearse(&gateway, None, None, "GET /_health HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    assert!(!done.observation.unwrap().policies_ran);
}

#[test]
fn limits_go_by_a_clock_that_stands_still() {
    let (address, _) = stage();
    let host = Host { rehearsal: Some(Rehearsal::new(address, "secret".into())), ..Host::default() };
    let mut config = config();
    // In real time a token would come back every hundred microseconds.
    let limit = json!({ "limits": [{ "requests": 10_000, "window_ms": 1_000, "burst": 2 }] });
    config["policies"] = json!([{ "name": "limit", "type": "rate_limit", "config": limit }]);
    config["routes"] = json!([{ "name": "all", "match": { "path": "/*" }, "policies": [0], "action": { "type": "fixed", "status": 200 } }]);
    let gateway = start(config, host).unwrap_or_else(|issues| panic!("{issues:?}"));
    let statuses = |count: usize| -> Vec<String> {
        (0..count)
            .map(|_| rehearse(&gateway, None, None, "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").0[9..12].into())
            .collect()
    };
    assert_eq!(statuses(4), ["200", "200", "429", "429"]);
    gateway.skip(std::time::Duration::from_millis(1));
    assert_eq!(statuses(3), ["200", "200", "429"]);
}

#[test]
fn a_gateway_that_serves_rehearses_nothing() {
    let origin = Origin::fixed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let gateway = gateway(proxy(origin.address));
    let arrival = Arrival { listener: None, peer: "127.0.0.1:1".parse().unwrap(), tls: None };
    let refused = gateway.rehearse(arrival, Vec::new(), PATIENCE).unwrap_err();
    assert!(refused.contains("not started for a rehearsal"), "{refused}");
}
