//! Key sets from a provider that rotates, fails, redirects and stalls; and the forward-auth service.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::auth::testing::Signer;
use crate::auth::unix_now;
use crate::config::raw;
use crate::http::ops::HeaderOp;
use crate::policy::testing::{Exchange, head, value};
use crate::policy::{Chain, Policies, Services, compile};

/// An HTTP server that answers each path with what it was told to, and counts.
struct Server {
    address: SocketAddr,
    pages: Arc<Mutex<HashMap<String, String>>>,
    hits: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (pages, hits, heads) =
            (Arc::<Mutex<HashMap<String, String>>>::default(), Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<String>>>::default());
        let task = tokio::spawn({
            let (pages, hits, heads) = (pages.clone(), hits.clone(), heads.clone());
            async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let (pages, hits, heads) = (pages.clone(), hits.clone(), heads.clone());
                    tokio::spawn(async move {
                        let mut buffer = Vec::new();
                        while stream.read_buf(&mut buffer).await.is_ok_and(|n| n > 0) {
                            if !buffer.ends_with(b"\r\n\r\n") {
                                continue;
                            }
                            hits.fetch_add(1, Ordering::SeqCst);
                            let text = String::from_utf8_lossy(&buffer).into_owned();
                            let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                            heads.lock().unwrap().push(text);
                            buffer.clear();
                            let page = pages.lock().unwrap().get(&path).cloned();
                            let page = page.unwrap_or_else(|| "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into());
                            if page == "stall" {
                                tokio::time::sleep(Duration::from_secs(30)).await;
                            }
                            if stream.write_all(page.as_bytes()).await.is_err() {
                                return;
                            }
                        }
                    });
                }
            }
        });
        Self { address, pages, hits, heads, task }
    }

    fn page(&self, path: &str, status: &str, headers: &str, body: &str) {
        let text = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
        self.pages.lock().unwrap().insert(path.into(), text);
    }

    fn json(&self, path: &str, body: &Value) {
        self.page(path, "200 OK", "content-type: application/json\r\n", &body.to_string());
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }
}

fn build(config: Value) -> (Chain, Policies) {
    let raw: Vec<raw::Policy> = serde_json::from_value(config).unwrap();
    let services = Services { auxiliary: Some(tokio::runtime::Handle::current()), ..Services::default() };
    let (policies, issues) = compile(&raw, None, &services);
    assert_eq!(issues, []);
    (policies.chain(&[0]), policies)
}

fn jwks(extra: Value) -> Value {
    let mut jwks = json!({"cooldown_ms": 60_000, "timeout_ms": 2_000});
    jwks.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!([{"name": "a", "type": "auth", "config": {"methods": [{"method": "jwt", "jwks": jwks}]}}])
}

async fn ask(chain: &Chain, token: &str) -> u16 {
    let mut exchange = Exchange::new("10.0.0.1", head("GET", "/a", &[("authorization", &format!("Bearer {token}"))]));
    exchange.run_async(chain).await.0.map_or(200, |a| a.status)
}

fn claims() -> Value {
    json!({"sub": "u", "exp": unix_now() + 100})
}

#[tokio::test]
async fn requirement_33_keys_are_fetched_rotated_and_kept() {
    let server = Server::start().await;
    let (one, two) = (Signer::of("RS256"), Signer::of("ES256"));
    server.json("/keys", &json!({"keys": [one.jwk("k1"), {"kty": "broken"}, 5, Signer::of("HS256").jwk("h")]}));
    let (chain, _kept) = build(jwks(json!({"url": server.url("/keys"), "cooldown_ms": 300})));
    assert_eq!(ask(&chain, &one.sign_kid("k1", &claims())).await, 200, "the first request waits for the first keys");
    assert_eq!(server.hits(), 1);
    assert_eq!(ask(&chain, &Signer::of("HS256").sign_kid("h", &claims())).await, 401, "a secret is never taken from a set");
    tokio::time::sleep(Duration::from_millis(350)).await;
    // Rotation: the new key is found because a token names it.
    server.json("/keys", &json!({"keys": [one.jwk("k1"), two.jwk("k2")]}));
    assert_eq!(ask(&chain, &two.sign_kid("k2", &claims())).await, 200);
    assert_eq!(server.hits(), 2);
    tokio::time::sleep(Duration::from_millis(350)).await;
    // Figure 16: broken, then gone; what is known is used on.
    for page in ["{}", "not json", r#"{"keys": []}"#] {
        server.page("/keys", "200 OK", "", page);
        assert_eq!(ask(&chain, &one.sign_kid("k3", &claims())).await, 401);
        assert_eq!(ask(&chain, &two.sign_kid("k2", &claims())).await, 200, "{page}");
        tokio::time::sleep(Duration::from_millis(350)).await;
    }
    server.task.abort();
    assert_eq!(ask(&chain, &one.sign_kid("k9", &claims())).await, 401);
    assert_eq!(ask(&chain, &one.sign_kid("k1", &claims())).await, 200);
}

#[tokio::test]
async fn v18_one_refresh_a_cooldown_whatever_arrives() {
    let server = Server::start().await;
    let signer = Signer::of("ES256");
    server.json("/keys", &json!({"keys": [signer.jwk("k")]}));
    let (chain, _kept) = build(jwks(json!({"url": server.url("/keys")})));
    assert_eq!(ask(&chain, &signer.sign_kid("k", &claims())).await, 200);
    for i in 0..200 {
        assert_eq!(ask(&chain, &signer.sign_kid(&format!("random-{i}"), &claims())).await, 401);
    }
    assert_eq!(server.hits(), 1, "within the cooldown");
}

#[tokio::test]
async fn v18_nothing_foreign_is_fetched() {
    let (server, foreign) = (Server::start().await, Server::start().await);
    let signer = Signer::of("ES256");
    foreign.json("/keys", &json!({"keys": [signer.jwk("k")]}));
    // A redirect is not followed.
    server.page("/moved", "302 Found", &format!("location: {}\r\n", foreign.url("/keys")), "");
    let (chain, _kept) = build(jwks(json!({"url": server.url("/moved")})));
    assert_eq!(ask(&chain, &signer.sign_kid("k", &claims())).await, 503, "no keys at all is no verdict on the token");
    // What a token says about keys is not looked at.
    let header = json!({"alg": "ES256", "kid": "k", "jku": foreign.url("/keys"), "x5u": foreign.url("/x"), "jwk": signer.jwk("k")});
    assert_ne!(ask(&chain, &signer.sign_with(&header, &claims())).await, 200);
    // Discovery that points elsewhere, or is another issuer's.
    let issuer = server.url("");
    let elsewhere = foreign.url("/keys").replace("127.0.0.1", "localhost");
    server.json("/.well-known/openid-configuration", &json!({"issuer": issuer, "jwks_uri": elsewhere}));
    let (chain, _kept2) = build(jwks(json!({"issuer": issuer})));
    assert_eq!(ask(&chain, &signer.sign_kid("k", &claims())).await, 503);
    server.json("/.well-known/openid-configuration", &json!({"issuer": "https://other", "jwks_uri": server.url("/keys")}));
    let (chain, _kept3) = build(jwks(json!({"issuer": issuer, "refresh_ms": 5000})));
    assert_eq!(ask(&chain, &signer.sign_kid("k", &claims())).await, 503);
    assert_eq!(foreign.hits(), 0);
}

#[tokio::test]
async fn discovery_finds_the_keys_and_binds_the_issuer() {
    let server = Server::start().await;
    let signer = Signer::of("EdDSA");
    let issuer = server.url("");
    server.json("/.well-known/openid-configuration", &json!({"issuer": issuer, "jwks_uri": server.url("/k")}));
    server.json("/k", &json!({"keys": [signer.jwk("k")]}));
    let (chain, policies) = build(jwks(json!({"issuer": issuer})));
    let with = |iss: &str| {
        let mut claims = claims();
        claims["iss"] = json!(iss);
        signer.sign_kid("k", &claims)
    };
    assert_eq!(ask(&chain, &with(&issuer)).await, 200);
    assert_eq!(ask(&chain, &with("https://other")).await, 401, "the issuer is the one that was discovered");
    // A second policy with the same source shares the provider; a reload keeps it.
    let before = server.hits();
    let raw: Vec<raw::Policy> = serde_json::from_value(jwks(json!({"issuer": issuer}))).unwrap();
    let services = Services { auxiliary: Some(tokio::runtime::Handle::current()), ..Services::default() };
    let (first, _) = compile(&raw, None, &services);
    let (second, _) = compile(&raw, Some(&first), &services);
    drop(first);
    assert_eq!(ask(&second.chain(&[0]), &with(&issuer)).await, 200);
    assert_eq!(server.hits(), before + 2, "one discovery and one fetch for both");
    drop(policies);
}

#[tokio::test]
async fn a_provider_that_stalls_holds_nobody_longer_than_its_timeout() {
    let server = Server::start().await;
    server.pages.lock().unwrap().insert("/keys".into(), "stall".into());
    let (chain, _kept) = build(jwks(json!({"url": server.url("/keys"), "timeout_ms": 300})));
    let begin = Instant::now();
    assert_eq!(ask(&chain, &Signer::of("ES256").sign_kid("k", &claims())).await, 503);
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn requirement_36_forward_auth() {
    let server = Server::start().await;
    let config = |extra: Value| {
        let mut config =
            json!({"url": server.url("/check"), "timeout_ms": 500, "upstream_headers": ["x-user"], "subject_header": "x-user"});
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!([{"name": "f", "type": "forward_auth", "config": config}])
    };
    server.page("/check", "200 OK", "x-user: u7\r\nset-cookie: s=1\r\nx-other: no\r\n", "ok");
    let (chain, _kept) = build(config(json!({})));
    let fields = [("authorization", "Bearer t"), ("X-User", "root"), ("x-forwarded-uri", "/forged"), ("x-secret", "1")];
    for _ in 0..2 {
        let mut exchange = Exchange::new("10.0.0.9", head("POST", "/a?q=1", &fields));
        let (answer, response) = exchange.run_async(&chain).await;
        assert!(answer.is_none());
        assert!(exchange.request_ops.iter().any(|op| op == HeaderOp::Remove(b"x-user")), "a client's own is taken off");
        assert_eq!(exchange.request_headers(), [("x-user".into(), "u7".into())]);
        assert_eq!(response, [("set-cookie".into(), "s=1".into())]);
        assert_eq!(exchange.state.identity().unwrap().subject(), "u7");
    }
    let question = server.heads.lock().unwrap()[0].to_ascii_lowercase();
    for line in [
        "get /check http/1.1",
        "authorization: bearer t",
        "x-forwarded-method: post",
        "x-forwarded-for: 10.0.0.9",
        "x-forwarded-host: gateway.example",
    ] {
        assert!(question.contains(line), "{line} in {question}");
    }
    assert!(
        question.contains("x-forwarded-uri: /a/42%0d%0a?q=1\r\n")
            && !question.contains("forged")
            && !question.contains("x-secret")
            && !question.contains("root")
    );

    server.page("/check", "302 Found", "location: /login\r\nx-internal: 1\r\n", "go");
    let mut exchange = Exchange::get("10.0.0.9");
    let (answer, response) = exchange.run_async(&chain).await;
    let answer = answer.unwrap();
    assert_eq!((answer.status, &answer.body[..], answer.stage), (302, &b"go"[..], "forward_auth"));
    assert_eq!(response, [("location".into(), "/login".into())]);

    let (open, _kept2) = build(config(json!({"fail_mode": "open"})));
    let status = async |chain: &Chain| Exchange::get("10.0.0.9").run_async(chain).await.0.map_or(200, |a| a.status);
    server.page("/check", "500 Oops", "", "");
    assert_eq!((status(&chain).await, status(&open).await), (503, 200));
    server.pages.lock().unwrap().insert("/check".into(), "stall".into());
    let begin = Instant::now();
    assert_eq!((status(&chain).await, status(&open).await), (503, 200));
    assert!(begin.elapsed() < Duration::from_secs(4));
    server.task.abort();
    assert_eq!((status(&chain).await, status(&open).await), (503, 200));
    let (_, headers) = Exchange::get("10.0.0.9").run_async(&chain).await;
    assert_eq!(value(&headers, "retry-after"), Some("1"));
}
