//! Verification keys: from PEM, from a secret, from a JWK.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::ParsedPublicKey;
use serde::Deserialize;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};

use super::algorithm::{Algorithm, KeyType};
use crate::auth::base64;

/// A key with the algorithms that it is for.
#[derive(Debug)]
pub struct Key {
    /// `kid`; `None` = tried for every token.
    pub(super) id: Option<Box<str>>,
    /// Parsed once for each algorithm; one of a static key, several of an RSA JWK without `alg`.
    uses: Vec<(Algorithm, Material)>,
}

enum Material {
    Public(ParsedPublicKey),
    Secret(Box<hmac::Key>),
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Material::Secret(_)) { "secret" } else { "public key" })
    }
}

impl Key {
    /// A PEM: SPKI, PKCS#1 or a certificate.
    pub fn pem(id: Option<&str>, algorithm: Algorithm, text: &[u8]) -> Result<Self, String> {
        let block = x509_parser::pem::Pem::iter_from_buffer(text)
            .next()
            .ok_or("it holds no PEM (-----BEGIN PUBLIC KEY----- is expected)")?
            .map_err(|error| format!("it is not valid PEM: {error}"))?;
        let (key_type, bytes) = match block.label.as_str() {
            "PUBLIC KEY" => spki(&SubjectPublicKeyInfo::from_der(&block.contents).map_err(|_| "its DER is malformed")?.1)?,
            "CERTIFICATE" => spki(X509Certificate::from_der(&block.contents).map_err(|_| "its certificate is malformed")?.1.public_key())?,
            "RSA PUBLIC KEY" => (KeyType::Rsa, block.contents),
            label if label.ends_with("PRIVATE KEY") => {
                return Err("it holds a private key: a gateway needs, and should have, only the public one".into());
            }
            label => return Err(format!("it holds a {label}; a PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE is expected")),
        };
        if key_type != algorithm.key_type() {
            return Err(format!("it is a {key_type:?} key, and {} needs {:?}", algorithm.name(), algorithm.key_type()));
        }
        Ok(Self { id: id.map(Into::into), uses: vec![(algorithm, public(algorithm, &bytes)?)] })
    }

    /// A shared secret.
    pub fn secret(id: Option<&str>, algorithm: Algorithm, secret: &[u8]) -> Result<Self, String> {
        let Some((mac, least)) = algorithm.mac() else {
            return Err(format!("{} is verified with a public key, not with a secret", algorithm.name()));
        };
        if secret.len() < least {
            return Err(format!(
                "{} needs a secret of at least {least} bytes (RFC 7518 §3.2), this one has {}; check its encoding (utf8, base64, hex)",
                algorithm.name(),
                secret.len()
            ));
        }
        Ok(Self { id: id.map(Into::into), uses: vec![(algorithm, Material::Secret(Box::new(hmac::Key::new(mac, secret))))] })
    }

    /// A member of a JWK set; `None` where it is not for verifying signatures, or of a type that is never taken from a set (secrets).
    pub(super) fn jwk(jwk: &Jwk, allowed: &[Algorithm]) -> Option<Self> {
        if jwk.usage.as_deref().is_some_and(|u| u != "sig") || jwk.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|o| o == "verify")) {
            return None;
        }
        let part = |text: &Option<String>| base64(text.as_deref()?.as_bytes());
        let (key_type, bytes) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => (KeyType::Rsa, rsa_der(&part(&jwk.n)?, &part(&jwk.e)?)),
            ("EC", Some("P-256")) => (KeyType::P256, point(&part(&jwk.x)?, &part(&jwk.y)?, 32)?),
            ("EC", Some("P-384")) => (KeyType::P384, point(&part(&jwk.x)?, &part(&jwk.y)?, 48)?),
            ("EC", Some("P-521")) => (KeyType::P521, point(&part(&jwk.x)?, &part(&jwk.y)?, 66)?),
            ("OKP", Some("Ed25519")) => (KeyType::Ed25519, part(&jwk.x)?),
            _ => return None,
        };
        let named = match jwk.alg.as_deref() {
            // The fully specified name of RFC 9864.
            Some("Ed25519") => Some(Algorithm::EdDsa),
            Some(name) => Some(Algorithm::parse(name)?),
            None => None,
        };
        let fits = |a: &&Algorithm| a.key_type() == key_type && named.is_none_or(|n| n == **a);
        let uses: Vec<_> = allowed.iter().filter(fits).filter_map(|&a| Some((a, public(a, &bytes).ok()?))).collect();
        (!uses.is_empty()).then(|| Self { id: jwk.kid.as_deref().map(Into::into), uses })
    }

    /// Whether it is for this algorithm.
    pub fn is_for(&self, algorithm: Algorithm) -> bool {
        self.uses.iter().any(|(a, _)| *a == algorithm)
    }

    /// Whether `signature` is its signature of `message`.
    pub(super) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.uses.iter().filter(|(a, _)| *a == algorithm).any(|(_, material)| match material {
            Material::Public(key) => key.verify_sig(message, signature).is_ok(),
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
        })
    }
}

fn public(algorithm: Algorithm, bytes: &[u8]) -> Result<Material, String> {
    let verification = algorithm.verification().ok_or_else(|| format!("{} needs a secret", algorithm.name()))?;
    let key = ParsedPublicKey::new(verification, bytes)
        .map_err(|error| format!("it can't be used for {}: {error} (RSA keys have at least 2048 bits)", algorithm.name()))?;
    // Keys below 2048 bits parse and fail at each signature; a signature of nothing tells nothing apart, so the size is looked at here.
    if algorithm.key_type() == KeyType::Rsa && rsa_bits(bytes).is_none_or(|bits| !(2048..=8192).contains(&bits)) {
        return Err("an RSA key has between 2048 and 8192 bits".into());
    }
    Ok(Material::Public(key))
}

fn spki(info: &SubjectPublicKeyInfo<'_>) -> Result<(KeyType, Vec<u8>), String> {
    let curve = || info.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()).map(|oid| oid.to_id_string());
    let key_type = match info.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => KeyType::Rsa,
        "1.3.101.112" => KeyType::Ed25519,
        "1.2.840.10045.2.1" => match curve().as_deref() {
            Some("1.2.840.10045.3.1.7") => KeyType::P256,
            Some("1.3.132.0.34") => KeyType::P384,
            Some("1.3.132.0.35") => KeyType::P521,
            _ => return Err("it is on a curve that no algorithm uses (P-256, P-384 and P-521 are)".into()),
        },
        oid => return Err(format!("it is a key of an unknown type ({oid})")),
    };
    Ok((key_type, info.subject_public_key.data.to_vec()))
}

/// `RSAPublicKey` of RFC 8017 from modulus and exponent.
fn rsa_der(n: &[u8], e: &[u8]) -> Vec<u8> {
    let body = [der(2, &integer(n)), der(2, &integer(e))].concat();
    der(0x30, &body)
}

fn integer(bytes: &[u8]) -> Vec<u8> {
    let significant = &bytes[bytes.iter().take_while(|&&b| b == 0).count()..];
    // A first bit of 1 would make it negative.
    let pad = significant.first().is_none_or(|b| b & 0x80 != 0);
    [&[0][..usize::from(pad)], significant].concat()
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        len @ 0..0x80 => out.push(len as u8),
        len => {
            let bytes = len.to_be_bytes();
            let bytes = &bytes[bytes.iter().take_while(|&&b| b == 0).count()..];
            out.push(0x80 | bytes.len() as u8);
            out.extend_from_slice(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

fn rsa_bits(pkcs1: &[u8]) -> Option<usize> {
    let (_, key) = x509_parser::public_key::RSAPublicKey::from_der(pkcs1).ok()?;
    let modulus = &key.modulus[key.modulus.iter().take_while(|&&b| b == 0).count()..];
    Some(modulus.len() * 8 - modulus.first()?.leading_zeros() as usize)
}

/// Uncompressed point; coordinates have their full length (RFC 7518 §6.2.1.2).
fn point(x: &[u8], y: &[u8], len: usize) -> Option<Vec<u8>> {
    (x.len() == len && y.len() == len).then(|| [&[4], x, y].concat())
}

/// What is read of a JWK. `x5u`, `x5c` and private members are not.
#[derive(Debug, Deserialize)]
pub(super) struct Jwk {
    kty: String,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}
