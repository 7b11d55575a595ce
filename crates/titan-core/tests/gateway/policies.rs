//! Policies over sockets: the order, Titan's own answers, credentials that stay inside, revocation on every shard.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::world::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn token(claims: Value) -> String {
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    jsonwebtoken::encode(&header, &claims, &jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes()).unwrap()).unwrap()
}

fn auth(extra: Value) -> Value {
    let mut method = json!({"method": "jwt", "keys": [{"algorithm": "HS256", "secret": {"value": SECRET}}]});
    method.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({"name": "auth", "type": "auth", "config": {"methods": [method], "claim_headers": [{"claim": "sub", "header": "x-user"}]}})
}

fn limit(burst: u64) -> Value {
    json!({"name": "limit", "type": "rate_limit", "config": {"limits": [{"requests": 1, "window_ms": 60_000, "burst": burst, "key": [{"from": "ip"}]}]}})
}

fn cors() -> Value {
    json!({"name": "cors", "type": "cors", "config": {"allowed_origins": ["https://app.example"]}})
}

/// A proxy to `origin` with these policies on its route and, where `global`, on Titan's own answers.
fn with(origin: &Origin, policies: Value, global: bool) -> Value {
    let mut config = proxy(origin.address);
    let all: Vec<usize> = (0..policies.as_array().unwrap().len()).collect();
    config["routes"][0]["policies"] = json!(all);
    if global {
        config["routes"][0]["match"]["path"] = json!("/api/*");
        config["global"] = json!(all);
    }
    config["policies"] = policies;
    config
}

fn ask(peer: &mut Peer, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    peer.send(format!("{method} {target} HTTP/1.1\r\nHost: t\r\n{lines}\r\n").as_bytes()).unwrap();
    peer.response_to(method).unwrap()
}

#[test]
fn limits_and_cors_are_on_every_answer_titans_own_too() {
    let origin = Origin::fixed(b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 2\r\n\r\nok");
    let gateway = gateway(with(&origin, json!([limit(3), cors()]), true));
    let mut peer = Peer::connect(address(&gateway));
    let mine = [("Origin", "https://app.example")];
    let answer = ask(&mut peer, "GET", "/api/x", &mine);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some("https://app.example")));
    assert_eq!((answer.header("x-ratelimit-limit"), answer.header("x-ratelimit-remaining")), (Some("3"), Some("2")));
    let other = ask(&mut peer, "GET", "/api/x", &[("Origin", "https://evil.example")]);
    assert_eq!(other.header("access-control-allow-origin"), None, "the upstream's own star is taken off");
    let missing = ask(&mut peer, "GET", "/nowhere", &mine);
    assert_eq!((missing.status, missing.header("access-control-allow-origin")), (404, Some("https://app.example")));
    assert_eq!(missing.header("x-ratelimit-remaining"), Some("0"));
    let refused = ask(&mut peer, "GET", "/api/x", &mine);
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (429, Some("https://app.example")));
    assert_eq!(refused.header("retry-after"), Some("60"));
    assert_eq!(refused.json()["error"], "rate_limit_exceeded");
    assert!(refused.json()["request_id"].as_str().is_some_and(|id| !id.is_empty()));
    let metrics: Value = serde_json::from_str(&gateway.metrics_json()).unwrap();
    assert_eq!(metrics["policies"], json!([{"policy": "limit", "rejected": 1}]));
}

#[test]
fn a_preflight_is_matched_by_the_method_it_asks_about_and_ends_here() {
    let origin = Origin::echo();
    let mut config = with(&origin, json!([cors()]), false);
    config["routes"][0]["match"]["methods"] = json!(["PUT"]);
    let gateway = gateway(config);
    let mut peer = Peer::connect(address(&gateway));
    let asks = |method| [("Origin", "https://app.example"), ("Access-Control-Request-Method", method)];
    let answer = ask(&mut peer, "OPTIONS", "/x", &asks("PUT"));
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, Some("https://app.example")));
    assert_eq!(ask(&mut peer, "OPTIONS", "/x", &asks("DELETE")).status, 405, "there is no route for it");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn requirement_37_v13_identity_reaches_the_backend_and_forgeries_do_not() {
    let origin = Origin::echo();
    let gateway = gateway(with(&origin, json!([auth(json!({"query": "token", "strip": true}))]), false));
    let mut peer = Peer::connect(address(&gateway));
    let token = token(json!({"sub": "u1", "exp": now() + 60}));
    assert_eq!(ask(&mut peer, "GET", "/x", &[("X-User", "root")]).status, 401);
    assert_eq!(origin.connections(), 0, "nothing passes before authentication");
    let bearer = format!("Bearer {token}");
    let seen = ask(&mut peer, "GET", "/x", &[("Authorization", &bearer), ("X-User", "root"), ("X_User", "root")]).text();
    assert!(seen.contains("x-user: u1\r\n") && !seen.contains("root") && !seen.contains(&token), "{seen}");
    let seen = ask(&mut peer, "GET", &format!("/x?a=1&token={token}&b=2"), &[]).text();
    assert!(seen.starts_with("GET /x?a=1&b=2 HTTP/1.1") && seen.contains("x-user: u1"), "{seen}");
}

fn b64(text: impl AsRef<[u8]>) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in text.as_ref().chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).for_each(|i| out.push(DIGITS[(bits >> (18 - 6 * i)) as usize & 63] as char));
    }
    out
}

#[test]
fn v17_forged_tokens_reach_no_backend() {
    let origin = Origin::echo();
    let pair = rcgen::KeyPair::generate().unwrap();
    let key = json!({"algorithm": "ES256", "key_id": "k1", "public_key": pair.public_key_pem()});
    let method = json!({"method": "jwt", "keys": [key]});
    let auth = json!({"name": "auth", "type": "auth", "config": {"methods": [method]}});
    let gateway = gateway(with(&origin, json!([auth]), false));
    let mut peer = Peer::connect(address(&gateway));
    let claims = json!({"sub": "admin", "exp": now() + 60});
    let unsigned = |header: Value| format!("{}.{}.", b64(header.to_string()), b64(claims.to_string()));
    let hmac = |secret: &[u8]| {
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
        header.kid = Some("k1".into());
        jsonwebtoken::encode(&header, &claims, &jsonwebtoken::EncodingKey::from_secret(secret).unwrap()).unwrap()
    };
    let own = rcgen::KeyPair::generate().unwrap();
    let signed_by = |pair: &rcgen::KeyPair, claims: &Value, kid: &str| {
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
        (header.kid, header.jku) = (Some(kid.into()), Some(format!("http://{}/keys", origin.address)));
        let key = jsonwebtoken::EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(&header, claims, &key).unwrap()
    };
    let mut string_exp = claims.clone();
    string_exp["exp"] = json!((now() + 60).to_string());
    let forged = [
        unsigned(json!({"alg": "none"})),
        unsigned(json!({"alg": "nOnE", "kid": "k1"})),
        unsigned(json!({"alg": "ES256", "kid": "k1"})),
        hmac(pair.public_key_pem().as_bytes()),
        hmac(pair.public_key_pem().trim().as_bytes()),
        signed_by(&own, &claims, "k1"),
        signed_by(&pair, &claims, "../../dev/null"),
        signed_by(&pair, &string_exp, "k1"),
        format!("{}, {}", signed_by(&pair, &claims, "k1"), signed_by(&own, &claims, "k1")),
    ];
    for token in &forged {
        let answer = ask(&mut peer, "GET", "/", &[("Authorization", &format!("Bearer {token}"))]);
        assert_eq!((answer.status, answer.json()["message"].as_str()), (401, Some("Authentication required")), "{token}");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer realm=\"titan\", error=\"invalid_token\""), "{token}");
    }
    assert_eq!(origin.connections(), 0, "neither a forged request nor a fetch of the forger's keys");
    let good = format!("Bearer {}", signed_by(&pair, &claims, "k1"));
    assert_eq!(ask(&mut peer, "GET", "/", &[("Authorization", &good)]).status, 200);
}

#[test]
fn v18_unknown_keys_cost_the_provider_one_fetch() {
    let origin = Origin::echo();
    let provider = Origin::fixed(b"HTTP/1.1 200 OK\r\nContent-Length: 139\r\n\r\n{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"k\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\",\"use\":\"sig\",\"padding\":\"..............\"}]}");
    let method = json!({"method": "jwt", "jwks": {"url": format!("http://{}/keys", provider.address), "cooldown_ms": 60_000}});
    let auth = json!({"name": "auth", "type": "auth", "config": {"methods": [method]}});
    let mut config = with(&origin, json!([auth]), false);
    config["workers"] = json!(2);
    let gateway = gateway(config);
    let to = address(&gateway);
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            std::thread::spawn(move || {
                let mut peer = Peer::connect(to);
                for i in 0..50 {
                    let header = json!({"alg": "EdDSA", "kid": format!("{thread}-{i}"), "jku": "http://127.0.0.1:1/"});
                    let token = format!("{}.{}.{}", b64(header.to_string()), b64(json!({"exp": now() + 60}).to_string()), b64([0; 64]));
                    assert_eq!(ask(&mut peer, "GET", "/", &[("Authorization", &format!("Bearer {token}"))]).status, 401);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(provider.received().matches("GET /keys").count(), 1, "200 tokens with unknown keys, one fetch");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn the_upgrade_runs_the_whole_chain() {
    let origin = Origin::new(|mut peer| {
        peer.request()?;
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")?;
        std::thread::sleep(PATIENCE);
        Ok(())
    });
    let mut config = with(&origin, json!([auth(json!({})), limit(2)]), false);
    config["routes"][0]["websocket"] = json!({});
    let gateway = gateway(config);
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let statuses: Vec<u16> = [None, Some(format!("Bearer {}", token(json!({"sub": "u", "exp": now() + 60})))), None]
        .iter()
        .map(|bearer| {
            let mut headers = upgrade.to_vec();
            headers.extend(bearer.as_deref().map(|b| ("Authorization", b)));
            ask(&mut Peer::connect(address(&gateway)), "GET", "/ws", &headers).status
        })
        .collect();
    assert_eq!(statuses, [401, 101, 429]);
}

#[test]
fn requirement_35_a_revocation_holds_on_every_shard_at_once() {
    let origin = Origin::echo();
    let mut config = with(&origin, json!([auth(json!({}))]), false);
    config["workers"] = json!(2);
    let gateway = gateway(config);
    let bearer = format!("Bearer {}", token(json!({"sub": "u", "exp": now() + 60, "jti": "t1"})));
    let mut peers: Vec<Peer> = (0..8).map(|_| Peer::connect(address(&gateway))).collect();
    let all =
        |peers: &mut Vec<Peer>| peers.iter_mut().map(|p| ask(p, "GET", "/", &[("Authorization", &bearer)]).status).collect::<Vec<_>>();
    assert_eq!(all(&mut peers), [200; 8]);
    gateway.revoke("t1", Some(now() + 60));
    assert_eq!(all(&mut peers), [401; 8]);
}

/// Figure 14 on two shards: what the limit says, whoever is asked.
#[test]
fn v22_a_limit_is_one_for_all_shards() {
    let origin = Origin::fixed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let mut config = with(&origin, json!([limit(100)]), false);
    config["workers"] = json!(2);
    let gateway = gateway(config.clone());
    let to = address(&gateway);
    let threads: Vec<_> = (0..8)
        .map(|i| {
            std::thread::spawn(move || {
                let mut peer = Peer::connect(to);
                let forged = format!("10.0.0.{i}");
                (0..30).filter(|_| ask(&mut peer, "GET", "/", &[("X-Forwarded-For", &forged)]).status == 200).count()
            })
        })
        .collect();
    let admitted: usize = threads.into_iter().map(|t| t.join().unwrap()).sum();
    assert!((100..=101).contains(&admitted), "{admitted}");
    // A reload forgets nothing.
    config["routes"][0]["timeout_ms"] = json!(1000);
    gateway.apply(complete(config)).unwrap();
    assert_eq!(ask(&mut Peer::connect(to), "GET", "/", &[]).status, 429);
}
