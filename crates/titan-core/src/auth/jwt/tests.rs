use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::auth::testing::{Signer, b64};

const NOW: u64 = 1_800_000_000;

fn rules() -> Rules {
    Rules { skew: 60, require_exp: true, ..Rules::default() }
}

fn key(signer: &Signer, id: Option<&str>) -> Key {
    match signer.algorithm.is_asymmetric() {
        true => Key::pem(id, signer.algorithm, signer.pem().as_bytes()).unwrap(),
        false => Key::secret(id, signer.algorithm, signer.secret()).unwrap(),
    }
}

fn verifier(keys: Vec<Key>, algorithms: &[&str]) -> Verifier {
    with_rules(keys, algorithms, rules())
}

fn with_rules(keys: Vec<Key>, algorithms: &[&str], rules: Rules) -> Verifier {
    let algorithms = algorithms.iter().map(|a| Algorithm::parse(a).unwrap()).collect();
    Verifier::new(keys, None, algorithms, rules, 100, Some(Arc::default()), None)
}

fn claims() -> Value {
    json!({"sub": "u1", "exp": NOW + 100, "iss": "https://idp", "aud": ["x", "api"], "jti": "t1", "scope": "read write"})
}

fn result(verifier: &Verifier, token: &str) -> Result<String, Refusal> {
    at(verifier, token, NOW)
}

fn at(verifier: &Verifier, token: &str, now: u64) -> Result<String, Refusal> {
    match verifier.verify(token.as_bytes(), now, false) {
        Verdict::Accepted(identity) => Ok(identity.subject().to_owned()),
        Verdict::Refused(refusal) => Err(refusal),
        Verdict::Wait(_) | Verdict::NoKeys => panic!("no provider"),
    }
}

#[test]
fn requirement_33_every_algorithm_and_a_second_opinion() {
    let rsa = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
    for name in rsa.into_iter().chain(["ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512"]) {
        let signer = Signer::of(name);
        let token = signer.sign(&claims());
        let good = verifier(vec![key(&signer, None)], &[name]);
        assert_eq!(result(&good, &token), Ok("u1".into()), "{name}");
        assert_eq!(result(&good, &token), Ok("u1".into()), "{name}, from the cache");
        assert_eq!(good.cache_counts(), (1, 1));
        assert_eq!(
            result(&verifier(vec![key(&Signer::of(name), None)], &[name]), &token),
            if signer.algorithm.is_asymmetric() { Err(Refusal::Signature) } else { Ok("u1".into()) }
        );
        // Any changed character of the signed part.
        for at in [3, token.find('.').unwrap() + 3] {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(result(&good, std::str::from_utf8(&bytes).unwrap()).is_err(), "{name} {at}");
        }
        // jsonwebtoken agrees about what was signed (it has no ES512).
        if let Ok(algorithm) = name.parse::<jsonwebtoken::Algorithm>() {
            let theirs = match algorithm {
                _ if !signer.algorithm.is_asymmetric() => jsonwebtoken::DecodingKey::from_secret(signer.secret()).unwrap(),
                _ => jsonwebtoken::DecodingKey::from_jwk(&serde_json::from_value(signer.jwk("k")).unwrap()).unwrap(),
            };
            let mut validation = jsonwebtoken::Validation::new(algorithm);
            validation.set_audience(&["api"]);
            validation.validate_exp = false;
            assert!(jsonwebtoken::decode::<Value>(&token, &theirs, &validation).is_ok(), "{name}");
        }
    }
}

#[test]
fn v17_no_forged_token_is_accepted() {
    let signer = Signer::of("RS256");
    let verifier = verifier(vec![key(&signer, Some("k1"))], &["RS256", "PS256", "ES256"]);
    let good = signer.sign_kid("k1", &claims());
    assert_eq!(result(&verifier, &good), Ok("u1".into()));
    let unsigned = |header: Value| format!("{}.{}.", b64(header.to_string()), b64(claims().to_string()));
    for alg in ["none", "None", "NONE", "nOnE", "", "RS256 ", "rs256", "HS256"] {
        assert!(result(&verifier, &unsigned(json!({"alg": alg}))).is_err(), "{alg}");
    }
    assert_eq!(result(&verifier, &unsigned(json!({"alg": "RS256", "kid": "k1"}))), Err(Refusal::Signature), "an empty signature");
    // RS → HS with the public key as the secret, in each spelling that a library may have used.
    for secret in [signer.pem(), signer.pem().trim().to_owned(), String::new()] {
        let mac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
        let signed = format!("{}.{}", b64(json!({"alg": "HS256", "kid": "k1"}).to_string()), b64(claims().to_string()));
        let forged = format!("{signed}.{}", b64(aws_lc_rs::hmac::sign(&mac, signed.as_bytes())));
        assert_eq!(result(&verifier, &forged), Err(Refusal::Algorithm));
    }
    // Keys that the token brings along are not looked at.
    let attacker = Signer::of("RS256");
    for extra in [
        json!({"jwk": attacker.jwk("k1")}),
        json!({"jku": "http://127.0.0.1:1/keys"}),
        json!({"x5u": "http://127.0.0.1:1/cert"}),
        json!({"x5c": ["MIIB"]}),
    ] {
        let mut header = json!({"alg": "RS256", "kid": "k1"});
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        assert_eq!(result(&verifier, &attacker.sign_with(&header, &claims())), Err(Refusal::Signature), "{header}");
    }
    // A key for RS256 is not one for PS256, though its type fits.
    let ps = Signer::of("PS256");
    let static_key = Key::pem(None, Algorithm::Rs256, ps.pem().as_bytes()).unwrap();
    let narrow = super::tests::verifier(vec![static_key], &["RS256", "PS256"]);
    assert_eq!(result(&narrow, &ps.sign(&claims())), Err(Refusal::UnknownKey));
    assert_eq!(
        result(&verifier, &signer.sign_with(&json!({"alg": "RS256", "kid": "k1", "crit": ["exp"]}), &claims())),
        Err(Refusal::Malformed)
    );
    assert_eq!(result(&verifier, &signer.sign_kid("k2", &claims())), Err(Refusal::UnknownKey));
    for malformed in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        &good[1..],
        &format!("{good}."),
        &format!("x.{good}"),
        &format!("{good}="),
        &good.replace('.', ".."),
    ] {
        assert!(result(&verifier, malformed).is_err(), "{malformed}");
    }
    let duplicate = format!("{}.{}", b64(r#"{"alg":"none","alg":"RS256"}"#), b64(claims().to_string()));
    assert_eq!(result(&verifier, &format!("{duplicate}.x")), Err(Refusal::Malformed), "a duplicate member");
}

#[test]
fn duplicate_kids_are_all_tried() {
    let (a, b) = (Signer::of("ES256"), Signer::of("ES256"));
    let verifier = verifier(vec![key(&a, Some("k")), key(&b, Some("k"))], &["ES256"]);
    assert!(result(&verifier, &a.sign_kid("k", &claims())).is_ok() && result(&verifier, &b.sign_kid("k", &claims())).is_ok());
    assert_eq!(result(&verifier, &Signer::of("ES256").sign_kid("k", &claims())), Err(Refusal::Signature));
}

#[test]
fn times_and_their_exact_edges() {
    let signer = Signer::of("EdDSA");
    let verifier = verifier(vec![key(&signer, None)], &["EdDSA"]);
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        signer.sign(&claims)
    };
    let token = with("exp", json!(NOW));
    for _ in 0..2 {
        assert!(at(&verifier, &token, NOW + 59).is_ok(), "within the skew, then from the cache");
    }
    assert_eq!(at(&verifier, &token, NOW + 60), Err(Refusal::Expired), "the cache knows the exact time");
    assert_eq!(result(&verifier, &with("exp", json!((NOW + 100).to_string()))), Err(Refusal::Malformed), "a string is no time");
    assert_eq!(result(&verifier, &with("exp", json!(null))), Err(Refusal::Malformed));
    assert_eq!(result(&verifier, &with("exp", json!(-1))), Err(Refusal::Malformed));
    assert!(result(&verifier, &with("exp", json!(NOW as f64 + 0.5))).is_ok());
    assert!(result(&verifier, &with("nbf", json!(NOW + 60))).is_ok());
    assert_eq!(result(&verifier, &with("nbf", json!(NOW + 61))), Err(Refusal::NotYet));
    assert_eq!(result(&verifier, &with("iat", json!(NOW + 61))), Err(Refusal::NotYet));
    let mut endless = claims();
    endless.as_object_mut().unwrap().remove("exp");
    assert_eq!(result(&verifier, &signer.sign(&endless)), Err(Refusal::NoExpiry));
    let lax = with_rules(vec![key(&signer, None)], &["EdDSA"], Rules::default());
    assert!(result(&lax, &signer.sign(&endless)).is_ok());
}

#[test]
fn issuer_audience_subject() {
    let signer = Signer::of("EdDSA");
    let strict = Rules { issuers: vec!["https://idp".into()], audiences: vec!["api".into()], require_sub: true, ..rules() };
    let verifier = with_rules(vec![key(&signer, None)], &["EdDSA"], strict);
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        result(&verifier, &signer.sign(&claims))
    };
    assert!(with("x", json!(1)).is_ok());
    assert!(with("aud", json!("api")).is_ok());
    for aud in [json!("other"), json!(["other"]), json!([]), json!(null), json!({"api": 1}), json!("api,x"), json!([["api"]])] {
        assert_eq!(with("aud", aud.clone()), Err(Refusal::Audience), "{aud}");
    }
    for iss in [json!("https://idp/"), json!(["https://idp"]), json!(null), json!("")] {
        assert_eq!(with("iss", iss.clone()), Err(Refusal::Issuer), "{iss}");
    }
    for sub in [json!(""), json!(1), json!(null)] {
        assert_eq!(with("sub", sub.clone()), Err(Refusal::NoSubject), "{sub}");
    }
}

#[test]
fn requirement_35_revoked_at_once_cached_or_not() {
    let signer = Signer::of("HS256");
    let list: Arc<Revocations> = Arc::default();
    let verifier = Verifier::new(vec![key(&signer, None)], None, vec![Algorithm::Hs256], rules(), 10, Some(list.clone()), None);
    let token = signer.sign(&claims());
    assert!(result(&verifier, &token).is_ok() && result(&verifier, &token).is_ok());
    list.revoke("t1", Some(NOW + 100));
    assert_eq!(result(&verifier, &token), Err(Refusal::Revoked));
    let mut other = claims();
    other["scope"] = json!("x");
    assert_eq!(result(&verifier, &signer.sign(&other)), Err(Refusal::Revoked), "not in the cache");
    other["jti"] = json!("t2");
    assert!(result(&verifier, &signer.sign(&other)).is_ok());
}

#[test]
fn keys_that_can_not_be_are_refused_with_the_reason() {
    let signer = Signer::of("RS256");
    let text = |r: Result<Key, String>| r.unwrap_err();
    assert!(text(Key::pem(None, Algorithm::Es256, signer.pem().as_bytes())).contains("Rsa key, and ES256 needs P256"));
    assert!(text(Key::pem(None, Algorithm::Rs256, b"nothing")).contains("no PEM"));
    assert!(
        text(Key::pem(None, Algorithm::Rs256, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")).contains("private key")
    );
    assert!(text(Key::secret(None, Algorithm::Hs256, b"short")).contains("at least 32 bytes"));
    assert!(text(Key::secret(None, Algorithm::Hs256, b"")).contains("this one has 0"), "an empty key");
    assert!(text(Key::secret(None, Algorithm::Rs256, &[1; 64])).contains("public key"));
    let secret = |value: &str, encoding| decode_secret(&crate::config::raw::Secret { value: value.into(), encoding });
    use crate::config::raw::Encoding;
    assert_eq!(secret("YWJj", Encoding::Base64).unwrap(), b"abc");
    assert_eq!(secret("616263", Encoding::Hex).unwrap(), b"abc");
    assert!(
        secret("not base64!", Encoding::Base64).is_err() && secret("xyz", Encoding::Hex).is_err() && secret("+1+1", Encoding::Hex).is_err()
    );
}

#[test]
fn certificates_and_small_rsa_keys() {
    let certificate = rcgen::generate_simple_self_signed(["idp.example".into()]).unwrap();
    assert!(Key::pem(None, Algorithm::Es256, certificate.cert.pem().as_bytes()).is_ok());
    // 1024 bits: it would parse, and refuse every signature.
    let small = json!({"kty": "RSA", "n": b64([&[0xff][..], &[1; 127]].concat()), "e": "AQAB"});
    assert!(Key::jwk(&serde_json::from_value(small).unwrap(), &[Algorithm::Rs256]).is_none());
}
