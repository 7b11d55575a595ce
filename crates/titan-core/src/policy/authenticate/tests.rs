use argon2::password_hash::PasswordHasher;
use serde_json::{Value, json};

use crate::auth::testing::Signer;
use crate::auth::unix_now;
use crate::http::ops::HeaderOp;
use crate::policy::Chain;
use crate::policy::testing::{Exchange, chain, head, issues, policies, value};

fn auth(config: Value) -> Value {
    json!({"name": "a", "type": "auth", "config": config})
}

fn jwt(signer: &Signer) -> Value {
    json!({"method": "jwt", "keys": [{"algorithm": signer.algorithm.name(), "public_key": signer.pem()}]})
}

fn token(signer: &Signer, extra: Value) -> String {
    let mut claims = json!({"sub": "u1", "exp": unix_now() + 100});
    claims.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    signer.sign(&claims)
}

fn with(fields: &[(&str, &str)]) -> Exchange {
    Exchange::new("10.0.0.1", head("GET", "/a", fields))
}

fn status(chain: &Chain, fields: &[(&str, &str)]) -> u16 {
    with(fields).run(chain).0.map_or(200, |a| a.status)
}

#[test]
fn requirement_34_the_exact_answers() {
    let signer = Signer::of("ES256");
    let chain =
        chain(json!([auth(json!({"methods": [jwt(&signer)]})), {"name": "z", "type": "authorize", "config": {"scopes": ["write"]}}]));
    let (answer, headers) = with(&[]).run(&chain);
    let answer = answer.unwrap();
    let body = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    assert_eq!(answer.status, 401);
    assert_eq!(body(&answer.body), json!({"error": "unauthorized", "message": "Authentication required", "request_id": "req-1"}));
    assert_eq!(value(&headers, "www-authenticate"), Some("Bearer realm=\"titan\""));
    let (answer, headers) = with(&[("authorization", "Bearer x.y.z")]).run(&chain);
    assert_eq!(body(&answer.unwrap().body)["message"], "Authentication required");
    assert_eq!(
        value(&headers, "www-authenticate"),
        Some("Bearer realm=\"titan\", error=\"invalid_token\", error_description=\"the token is malformed\"")
    );
    let bearer = format!("Bearer {}", token(&signer, json!({"scope": "read"})));
    let (answer, headers) = with(&[("authorization", &bearer)]).run(&chain);
    let answer = answer.unwrap();
    assert_eq!(answer.status, 403);
    assert_eq!(body(&answer.body), json!({"error": "forbidden", "message": "Insufficient permissions", "request_id": "req-1"}));
    assert_eq!(value(&headers, "www-authenticate"), Some("Bearer realm=\"titan\", error=\"insufficient_scope\", scope=\"write\""));
    for scheme in ["Bearer", "bearer", "BEARER"] {
        assert_eq!(status(&chain, &[("authorization", &format!("{scheme} {}", token(&signer, json!({"scope": ["a", "write"]}))))]), 200);
    }
    for value in [&bearer[7..], &format!("Basic {}", &bearer[7..]), &format!("Bearer{}", &bearer[7..]), "Bearer", "Bearer "] {
        assert_eq!(status(&chain, &[("authorization", value)]), 401, "{value}");
    }
    assert_eq!(status(&chain, &[("authorization", &bearer), ("authorization", &bearer)]), 401, "two credentials");
}

#[test]
fn requirement_34_scopes_and_roles_any_and_all() {
    let signer = Signer::of("EdDSA");
    let claims = json!({"scope": "read list", "realm_access": {"roles": ["dev", "ops"]}});
    let bearer = format!("Bearer {}", token(&signer, claims));
    let with = |config: Value| {
        let chain = chain(json!([auth(json!({"methods": [jwt(&signer)]})), {"name": "z", "type": "authorize", "config": config}]));
        status(&chain, &[("authorization", &bearer)])
    };
    for (config, expected) in [
        (json!({}), 200),
        (json!({"scopes": ["read", "write"]}), 200),
        (json!({"scopes": ["read", "write"], "all_scopes": true}), 403),
        (json!({"scopes": ["read", "list"], "all_scopes": true}), 200),
        (json!({"scopes": ["rea"]}), 403),
        (json!({"roles": ["dev"]}), 403),
        (json!({"roles": ["dev"], "roles_claim": "realm_access.roles"}), 200),
        (json!({"roles": ["dev", "admin"], "roles_claim": "realm_access.roles", "all_roles": true}), 403),
        (json!({"roles": ["dev"], "roles_claim": "realm_access.roles", "scopes": ["write"]}), 403),
    ] {
        assert_eq!(with(config.clone()), expected, "{config}");
    }
    let alone = chain(json!([{"name": "z", "type": "authorize", "config": {}}]));
    assert_eq!(status(&alone, &[("authorization", &bearer)]), 401, "nobody authenticated");
}

#[test]
fn requirement_37_claims_become_headers_and_a_clients_own_never_do() {
    let signer = Signer::of("ES256");
    let pairs =
        json!([{"claim": "sub", "header": "x-user-id"}, {"claim": "groups", "header": "x-groups"}, {"claim": "none", "header": "x-none"}]);
    let config = json!({"methods": [jwt(&signer)], "anonymous": true, "claim_headers": pairs});
    let chain = chain(json!([auth(config)]));
    let forged = [("X-User-Id", "root"), ("X_User_Id", "root"), ("x-USER_id", "root"), ("x-none", "y")];
    let removed = |exchange: &Exchange| {
        let ops = exchange
            .request_ops
            .iter()
            .filter_map(|op| if let HeaderOp::Remove(n) = op { Some(String::from_utf8_lossy(n).into_owned()) } else { None });
        ops.collect::<Vec<_>>()
    };
    let mut anonymous = with(&forged);
    assert!(anonymous.run(&chain).0.is_none());
    assert_eq!(removed(&anonymous), ["x-user-id", "x_user_id", "x-user_id", "x-groups", "x-none"]);
    assert!(anonymous.request_headers().is_empty());
    let bearer = format!("Bearer {}", token(&signer, json!({"sub": "u\r\n1", "groups": ["a", "b", 3]})));
    let mut known = with(&[&forged[..], &[("authorization", &bearer)]].concat());
    assert!(known.run(&chain).0.is_none());
    assert_eq!(known.request_headers(), [("x-user-id".into(), "u%0D%0A1".into()), ("x-groups".into(), "a,b,3".into())]);
    assert_eq!(known.state.identity().unwrap().subject(), "u\r\n1");
    assert_eq!(status(&chain, &[("authorization", "Bearer bad")]), 401, "anonymous is for those who say nothing");
}

#[test]
fn requirement_33_both_jwt_and_api_key() {
    let signer = Signer::of("ES256");
    let keys = json!({"method": "api_key", "query": "api_key", "keys": [
        {"id": "k1", "key": "secret-key-1", "scopes": ["a"], "tier": "gold"},
        {"id": "old", "key": "secret-key-2", "expires_at": 5},
        {"id": "off", "key": "secret-key-3", "disabled": true},
        {"id": "hashed", "sha256": "5E884898DA28047151D0E56F8DC6292773603D0D6AABBDD62A11EF721D1542D8"}
    ]});
    let chain = chain(json!([auth(json!({"methods": [jwt(&signer), keys]}))]));
    let bearer = format!("Bearer {}", token(&signer, json!({})));
    assert_eq!(status(&chain, &[("authorization", &bearer)]), 200);
    assert_eq!(status(&chain, &[("x-api-key", "secret-key-1")]), 200);
    assert_eq!(status(&chain, &[("x-api-key", "ApiKey secret-key-1")]), 200);
    assert_eq!(status(&chain, &[("x-api-key", "password")]), 200, "known by its hash");
    for bad in ["secret-key-2", "secret-key-3", "secret-key-", "", "k1"] {
        assert_eq!(status(&chain, &[("x-api-key", bad)]), 401, "{bad}");
    }
    assert_eq!(status(&chain, &[("authorization", "Bearer bad"), ("x-api-key", "secret-key-1")]), 401, "a good key saves no bad token");
    let (_, headers) = with(&[]).run(&chain);
    let challenges: Vec<_> = headers.iter().filter(|(n, _)| n == "www-authenticate").map(|(_, v)| v.as_str()).collect();
    assert_eq!(challenges, ["Bearer realm=\"titan\"", "ApiKey realm=\"titan\""]);

    let mut query = Exchange::new("10.0.0.1", head("GET", "/a?x=1&api_key=secret%2Dkey-1&y=2", &[]));
    assert!(query.run(&chain).0.is_none());
    let identity = query.state.identity().unwrap();
    assert_eq!((identity.subject(), identity.api_key(), identity.tier()), ("k1", Some("k1"), Some("gold")));
    assert!(matches!(query.state.hidden(), [one] if **one == *"api_key"));
    assert_eq!(query.state.forward_query(query.head.raw_query()).unwrap().as_ref(), b"x=1&y=2");
    assert_eq!(query.state.forward_query(Some(b"api_key=1")), None);
    let removed = query.request_ops.iter().any(|op| op == HeaderOp::Remove(b"x-api-key"));
    assert!(removed, "a key does not go upstream");
    let mut twice = Exchange::new("10.0.0.1", head("GET", "/a?api_key=secret-key-1&api_key=x", &[]));
    assert_eq!(twice.run(&chain).0.unwrap().status, 401);
}

#[test]
fn tokens_in_cookies_and_other_headers() {
    let signer = Signer::of("ES256");
    let mut method = jwt(&signer);
    method
        .as_object_mut()
        .unwrap()
        .extend(json!({"header": "x-token", "scheme": "", "cookie": "session", "strip": true}).as_object().unwrap().clone());
    let chain = chain(json!([auth(json!({"methods": [method]}))]));
    let token = token(&signer, json!({}));
    assert_eq!(status(&chain, &[("x-token", &token)]), 200);
    assert_eq!(status(&chain, &[("cookie", &format!("a=b; session={token}"))]), 200);
    assert_eq!(status(&chain, &[("cookie", &format!("session={token}; session=x"))]), 401, "a planted second cookie");
    assert_eq!(status(&chain, &[("authorization", &format!("Bearer {token}"))]), 401);
    let mut exchange = with(&[("x-token", &token)]);
    exchange.run(&chain);
    assert!(exchange.request_ops.iter().any(|op| op == HeaderOp::Remove(b"x-token")));
}

#[test]
fn passwords_are_checked_off_the_shard_and_guesses_are_limited() {
    let bcrypt = bcrypt::hash("right", 4).unwrap();
    let params = argon2::Params::new(64, 1, 1, None).unwrap();
    let hasher = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let argon = hasher.hash_password_with_salt("räght".as_bytes(), b"some-salt-of-16b").unwrap().to_string();
    let file = std::env::temp_dir().join(format!("titan-htpasswd-{}", std::process::id()));
    std::fs::write(&file, format!("# users\nbob:{}\n", bcrypt::hash("bobs", 4).unwrap())).unwrap();
    let config = json!({"methods": [{"method": "basic", "attempts": 3, "file": file, "users": [
        {"name": "amy", "hash": bcrypt, "scopes": ["w"]}, {"name": "zoë", "hash": argon}
    ]}], "claim_headers": [{"claim": "sub", "header": "x-user"}]});
    let first = policies(json!([auth(config.clone())]), None);
    let chain = first.chain(&[0]);
    let try_it = |chain: &Chain, ip: &str, pair: &str| {
        let value = format!("Basic {}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pair));
        let mut exchange = Exchange::new(ip, head("GET", "/a", &[("authorization", &value)]));
        (exchange.run(chain).0.map_or(200, |a| a.status), exchange.request_headers())
    };
    for _ in 0..10 {
        assert_eq!(try_it(&chain, "10.0.0.1", "amy:right"), (200, vec![("x-user".into(), "amy".into())]), "success costs no attempt");
    }
    assert_eq!(try_it(&chain, "10.0.0.1", "zoë:räght").0, 200);
    assert_eq!(try_it(&chain, "10.0.0.1", "bob:bobs").0, 200);
    for guess in ["amy:wrong", "nobody:right", "amy:"] {
        assert_eq!(try_it(&chain, "10.0.0.2", guess).0, 401, "{guess}");
    }
    assert_eq!(try_it(&chain, "10.0.0.2", "amy:more").0, 429);
    assert_eq!(try_it(&chain, "10.0.0.2", "bob:bobs").0, 200, "known already: nothing is guessed");
    assert_eq!(try_it(&chain, "10.0.0.3", "amy:wrong").0, 401, "another address");
    let second = policies(json!([auth(config)]), Some(&first));
    assert_eq!(try_it(&second.chain(&[0]), "10.0.0.2", "amy:more").0, 429, "a reload does not give new guesses");
    std::fs::remove_file(file).unwrap();
    let (_, headers) = with(&[]).run(&chain);
    assert_eq!(value(&headers, "www-authenticate"), Some("Basic realm=\"titan\", charset=\"UTF-8\""));
    assert_eq!(status(&chain, &[("authorization", "Basic !!!")]), 401);
}

#[test]
fn certificates_are_identities() {
    let chain = chain(json!([
        auth(json!({"methods": [{"method": "mtls", "allowed": ["svc"], "roles": ["m"]}]})),
        {"name": "z", "type": "authorize", "config": {"roles": ["m"]}}
    ]));
    let tls = |name: &str| {
        let certificate = crate::http::client::ClientCertificate { common_name: Some(name.into()), ..Default::default() };
        Some(std::sync::Arc::new(crate::http::client::TlsInfo { certificate: Some(certificate), ..Default::default() }))
    };
    let run = |tls| {
        let mut exchange = with(&[]);
        exchange.client.tls = tls;
        exchange.run(&chain).0.map_or(200, |a| a.status)
    };
    assert_eq!((run(tls("svc")), run(tls("other")), run(None)), (200, 401, 401));
}

#[test]
fn limits_follow_the_identity() {
    let limit = json!({"requests": 1, "window_ms": 60_000, "burst": 2, "key": [{"from": "claim", "name": "tenant"}]});
    let gold = json!({"requests": 1, "window_ms": 60_000, "burst": 5, "key": [{"from": "subject"}]});
    let signer = Signer::of("EdDSA");
    let chain = chain(json!([
        {"name": "l", "type": "rate_limit", "config": {"limits": [limit], "tiers": {"claim": "plan", "limits": {"gold": [gold]}}}},
        auth(json!({"methods": [jwt(&signer)]}))
    ]));
    let count = |claims: Value| {
        let bearer = format!("Bearer {}", token(&signer, claims));
        (0..20).take_while(|_| status(&chain, &[("authorization", &bearer)]) == 200).count()
    };
    assert_eq!(count(json!({"tenant": "a"})), 2);
    assert_eq!(count(json!({"tenant": "a", "sub": "other"})), 0);
    assert_eq!(count(json!({"tenant": "b"})), 2);
    assert_eq!(count(json!({"tenant": "a", "plan": "gold"})), 5);
    assert_eq!(count(json!({"tenant": "a", "plan": "unheard-of"})), 0);
    assert_eq!((0..5).map(|_| status(&chain, &[])).collect::<Vec<_>>(), [401; 5], "who is refused is not counted");
}

#[test]
fn wrong_configurations_say_what_is_wrong() {
    for (config, expected) in [
        (json!({"methods": []}), "a.methods: at least one method"),
        (json!({"methods": [{"method": "jwt"}]}), "a.methods[0].keys: a key or a JWKS is needed"),
        (json!({"methods": [{"method": "jwt", "keys": [{"algorithm": "none", "secret": {"value": "x"}}]}]}), "\"none\" is no signature"),
        (
            json!({"methods": [{"method": "jwt", "keys": [{"algorithm": "HS256", "secret": {"value": "c2hvcnQ=", "encoding": "base64"}}]}]}),
            "keys[0].secret: HS256 needs a secret of at least 32 bytes",
        ),
        (
            json!({"methods": [{"method": "jwt", "keys": [{"algorithm": "HS256", "secret": {"value": "ö", "encoding": "hex"}}]}]}),
            "keys[0].secret: it is not hexadecimal",
        ),
        (
            json!({"methods": [{"method": "jwt", "keys": [{"algorithm": "RS256", "public_key_path": "/nowhere.pem"}]}]}),
            "can't read /nowhere.pem",
        ),
        (json!({"methods": [{"method": "jwt", "keys": [{"algorithm": "RS256"}]}]}), "exactly one of public_key_path"),
        (
            json!({"methods": [{"method": "jwt", "jwks": {"url": "http://idp.example/keys"}}]}),
            "a.methods[0].jwks.url: keys fetched without TLS",
        ),
        (json!({"methods": [{"method": "jwt", "jwks": {}}]}), "exactly one of url and issuer"),
        (json!({"methods": [{"method": "api_key"}]}), "no API key is configured"),
        (
            json!({"methods": [{"method": "api_key", "keys": [{"id": "a", "key": "same-key"}, {"id": "b", "key": "same-key"}]}]}),
            "\"a\" and \"b\" have the same key",
        ),
        (json!({"methods": [{"method": "api_key", "keys": [{"id": "a", "sha256": "abc"}]}]}), "64 hexadecimal digits"),
        (json!({"methods": [{"method": "basic", "users": [{"name": "a", "hash": "plain"}]}]}), "a plain password is not accepted"),
        (json!({"methods": [{"method": "basic", "users": [{"name": "a", "hash": "$apr1$x$y"}]}]}), "MD5 hashes are broken"),
        (json!({"methods": [{"method": "jwt", "header": "X-Up"}]}), "lower case"),
        (json!({"methods": [{"method": "mtls"}], "realm": "a\"b"}), "a.realm"),
        (json!({"methods": [{"method": "mtls"}], "claim_headers": [{"claim": "x", "header": "host"}]}), "a.claim_headers[0].header"),
    ] {
        let found = issues(json!([auth(config.clone())]));
        assert!(found.iter().any(|f| f.contains(expected)), "{config}: {found:?}");
        let text = found.join("\n");
        assert!(!text.contains("c2hvcnQ=") && !text.contains("$apr1$x"), "no secret in a message: {text}");
    }
    let scopes = issues(json!([{"name": "z", "type": "authorize", "config": {"scopes": ["a b", "\""], "roles": [""]}}]));
    assert_eq!(scopes.len(), 3);
}
