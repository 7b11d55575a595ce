//! Health checks and name resolution against real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use titan_core::config::{compile, raw};
use titan_core::snapshot::Snapshot;
use titan_core::upstream::Upstream;
use titan_core::upstream::change::{Change, ChangeKind};
use titan_core::upstream::state;
use titan_core::upstream::supervisor::Supervisor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[path = "support/dns.rs"]
mod dns;

fn snapshot(upstream: &str, dns: &str) -> Snapshot {
    let json = format!(
        r#"{{"listeners":[{{"name":"http","address":"127.0.0.1","port":0}}],"dns":{dns},"upstreams":[{upstream}],
            "routes":[{{"name":"all","match":{{"path":"/*"}},"action":{{"type":"proxy","targets":[{{"upstream":"api"}}]}}}}]}}"#
    );
    let config: raw::Config = serde_json::from_str(&json).unwrap();
    compile::compile(&config, None, &compile::Services::detached()).unwrap()
}

struct Aux {
    runtime: tokio::runtime::Runtime,
    supervisor: Supervisor,
    changes: Arc<parking_lot::Mutex<Vec<Change>>>,
}

impl Aux {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let changes: Arc<parking_lot::Mutex<Vec<Change>>> = Arc::default();
        let sink = changes.clone();
        let supervisor = Supervisor::new(runtime.handle().clone(), Some(Arc::new(move |change| sink.lock().push(change))));
        Self { runtime, supervisor, changes }
    }

    fn start(&self, snapshot: &Snapshot) -> Arc<Upstream> {
        self.supervisor.prepare(&snapshot.upstreams, &snapshot.dns, Duration::from_secs(5));
        snapshot.upstreams[0].clone()
    }

    fn told(&self, kind: ChangeKind) -> Option<String> {
        self.changes.lock().iter().rev().find(|c| c.kind == kind).map(Change::message)
    }
}

/// Waits for something that happens soon.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Answers every connection with `answer(request)`; counts them.
fn server(aux: &Aux, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let listener = aux.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let (address, counted, answer) = (listener.local_addr().unwrap(), count.clone(), Arc::new(answer));
    aux.runtime.spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Relaxed);
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut buf = vec![0; 4096];
                let read = socket.read(&mut buf).await.unwrap_or(0);
                let text = answer(&String::from_utf8_lossy(&buf[..read]));
                let _ = socket.write_all(text.as_bytes()).await;
            });
        }
    });
    (address, count)
}

fn checked(port: u16, check: &str) -> String {
    format!(
        r#"{{"name":"api","backends":[{{"host":"127.0.0.1","port":{port}}}],"health_check":{{"interval_ms":100,"timeout_ms":500,{check}}}}}"#
    )
}

#[test]
fn http_checks_take_a_backend_out_and_back() {
    let aux = Aux::new();
    let status = Arc::new(AtomicU16::new(200));
    let answered = status.clone();
    let (address, count) = server(&aux, move |request| {
        assert!(request.starts_with("GET /ready?x=1 HTTP/1.1\r\nhost: check.test\r\n"), "{request}");
        format!("HTTP/1.1 {} X\r\ntransfer-encoding: chunked\r\n\r\n3\r\nsta\r\n6\r\ntus:ok\r\n0\r\n\r\n", answered.load(Relaxed))
    });
    let check = r#""path":"/ready?x=1","host":"check.test","body_contains":"status:ok","unhealthy_threshold":2"#;
    let upstream = aux.start(&snapshot(&checked(address.port(), check), "{}"));
    eventually("a check ran", || count.load(Relaxed) > 1);
    assert_eq!(upstream.usable(), 1);
    status.store(503, Relaxed);
    eventually("two failures take it out", || upstream.usable() == 0);
    assert!(aux.told(ChangeKind::Unhealthy).unwrap().ends_with("status 503"));
    let state = serde_json::to_value(state::services(std::slice::from_ref(&upstream))).unwrap();
    assert_eq!(state["status"], "unhealthy");
    assert_eq!(state["services"][0]["backends"][0]["status"], "unhealthy");
    assert_eq!(state["services"][0]["backends"][0]["last_check"]["error"], "status 503");
    status.store(204, Relaxed);
    eventually("it comes back", || upstream.usable() == 1);
    assert!(aux.told(ChangeKind::Healthy).is_some());
}

#[test]
fn the_body_is_looked_at_and_silence_is_a_failure() {
    let aux = Aux::new();
    let (address, _) = server(&aux, |_| "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno".into());
    let upstream = aux.start(&snapshot(&checked(address.port(), r#""body_contains":"yes""#), "{}"));
    eventually("the body is wrong", || upstream.usable() == 0);
    assert!(aux.told(ChangeKind::Unhealthy).unwrap().contains("does not contain \"yes\""));

    let aux = Aux::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = aux.start(&snapshot(&checked(silent.local_addr().unwrap().port(), r#""path":"/""#), "{}"));
    eventually("a server that accepts and says nothing is out", || upstream.usable() == 0);
    assert!(aux.told(ChangeKind::Unhealthy).unwrap().contains("within 500 ms"));
}

#[test]
fn tcp_checks_connect() {
    let aux = Aux::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = aux.start(&snapshot(&checked(listener.local_addr().unwrap().port(), r#""kind":"tcp""#), "{}"));
    eventually("a check passed", || upstream.members()[0].endpoint.counts.checks_ok.load(Relaxed) > 0);
    assert_eq!(upstream.usable(), 1);
    drop(listener);
    eventually("nobody listens", || upstream.usable() == 0);
}

#[test]
fn grpc_checks_ask_the_health_service() {
    let aux = Aux::new();
    let serving = Arc::new(AtomicU16::new(1));
    let says = serving.clone();
    let listener = aux.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    aux.runtime.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let says = says.load(Relaxed) as u8;
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    assert_eq!(request.uri().to_string(), "http://calls.test/grpc.health.v1.Health/Check");
                    let answer = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
                    let mut stream = respond.send_response(answer, false).unwrap();
                    stream.send_data(bytes::Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, says]), false).unwrap();
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                    stream.send_trailers(trailers).unwrap();
                }
            });
        }
    });
    let upstream = checked(port, r#""kind":"grpc""#).replacen(r#""name""#, r#""protocol":"h2c","host":{"fixed":"calls.test"},"name""#, 1);
    let upstream = aux.start(&snapshot(&upstream, "{}"));
    eventually("a check passed", || upstream.members()[0].endpoint.counts.checks_ok.load(Relaxed) > 0);
    serving.store(2, Relaxed);
    eventually("NOT_SERVING", || upstream.usable() == 0);
    assert!(aux.told(ChangeKind::Unhealthy).unwrap().ends_with("NOT_SERVING"));
}

fn addresses(upstream: &Upstream) -> Vec<String> {
    upstream.members().iter().map(|m| m.endpoint.addr.to_string()).collect()
}

#[test]
fn changed_answers_arrive_and_failing_ones_keep_the_last() {
    let aux = Aux::new();
    let phase = Arc::new(AtomicU16::new(0));
    let now = phase.clone();
    let servers = dns::serve(move |name, kind| {
        assert_eq!(name, "api.test");
        match (now.load(Relaxed), kind) {
            (0, 1) => Some(vec![vec![127, 0, 0, 2], vec![127, 0, 0, 1]]),
            (1, 1) => Some(vec![vec![127, 0, 0, 2], vec![127, 0, 0, 3]]),
            (2, _) => None,
            (4, 1) => Some(vec![vec![127, 0, 0, 9]]),
            _ => Some(vec![]),
        }
    });
    let upstream = aux.start(&snapshot(r#"{"name":"api","backends":[{"host":"api.test","port":80}]}"#, &servers.to_string()));
    assert_eq!(addresses(&upstream), ["127.0.0.1:80", "127.0.0.2:80"], "resolved before it is published");
    let kept = upstream.members()[1].endpoint.id;
    phase.store(1, Relaxed);
    eventually("a changed answer", || addresses(&upstream) == ["127.0.0.2:80", "127.0.0.3:80"]);
    assert_eq!(upstream.members()[0].endpoint.id, kept, "an address that stays keeps its endpoint");
    phase.store(2, Relaxed);
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(addresses(&upstream), ["127.0.0.2:80", "127.0.0.3:80"], "SERVFAIL");
    phase.store(3, Relaxed);
    eventually("no answer is told", || aux.told(ChangeKind::ResolveFailed).is_some());
    assert_eq!(addresses(&upstream).len(), 2, "an empty answer");
    phase.store(4, Relaxed);
    eventually("recovery", || addresses(&upstream) == ["127.0.0.9:80"]);
    assert!(aux.told(ChangeKind::ResolveRecovered).unwrap().contains("api.test:80 is resolved again"));
}

#[test]
fn srv_records_bring_ports_and_weights() {
    let aux = Aux::new();
    let srv = |priority: u8, weight: u8, port: u16, host: &str| {
        let mut data = vec![0, priority, 0, weight];
        data.extend_from_slice(&port.to_be_bytes());
        host.split('.').for_each(|label| {
            data.push(label.len() as u8);
            data.extend_from_slice(label.as_bytes());
        });
        data.push(0);
        data
    };
    let servers = dns::serve(move |name, kind| {
        Some(match (name, kind) {
            ("_http._tcp.api.test", 33) => vec![srv(1, 3, 8001, "a.test"), srv(1, 1, 8002, "b.test"), srv(2, 9, 8003, "spare.test")],
            ("a.test", 1) => vec![vec![127, 0, 0, 1]],
            ("b.test", 1) => vec![vec![127, 0, 0, 2]],
            _ => vec![],
        })
    });
    let upstream = aux.start(&snapshot(r#"{"name":"api","backends":[{"host":"_http._tcp.api.test","port":0}]}"#, &servers.to_string()));
    let found: Vec<_> =
        upstream.members().iter().map(|m| (m.endpoint.addr.to_string(), m.weight, m.endpoint.authority.to_string())).collect();
    assert_eq!(found, [("127.0.0.1:8001".into(), 3, "a.test:8001".into()), ("127.0.0.2:8002".into(), 1, "b.test:8002".into())]);
}

#[test]
fn a_name_that_nobody_knows_is_told_and_does_not_block() {
    let aux = Aux::new();
    let servers = dns::serve(|_, _| Some(vec![]));
    let upstream = aux.start(&snapshot(
        r#"{"name":"api","backends":[{"host":"nobody.test","port":80},{"host":"127.0.0.1","port":81}]}"#,
        &servers.to_string(),
    ));
    assert_eq!(addresses(&upstream), ["127.0.0.1:81"]);
    assert!(aux.told(ChangeKind::ResolveFailed).unwrap().contains("nobody.test has no address"));
    let state = serde_json::to_value(state::services(std::slice::from_ref(&upstream))).unwrap();
    assert_eq!((state["status"].as_str(), state["services"][0]["backends"][1]["status"].as_str()), (Some("degraded"), Some("unresolved")));
}
