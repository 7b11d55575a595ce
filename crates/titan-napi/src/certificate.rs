//! Certificates for development.

use napi::{Error, Result, Status};
use napi_derive::napi;
use rcgen::{CertificateParams, DnType, KeyPair};
use time::{Duration, OffsetDateTime};

/// A certificate and its key, PEM.
#[napi(object)]
pub struct DevCertificate {
    /// Self-signed certificate.
    pub certificate: String,
    /// Its private key, PKCS#8.
    pub key: String,
}

/// A self-signed ECDSA P-256 certificate for host names and addresses, good for a year.
#[napi(catch_unwind)]
pub fn dev_certificate(names: Vec<String>) -> Result<DevCertificate> {
    let failed = |error: rcgen::Error| Error::new(Status::GenericFailure, format!("no certificate could be made: {error}"));
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, "Titan development certificate");
    // A clock that is a little behind must not make it invalid.
    params.not_before = OffsetDateTime::now_utc() - Duration::hours(1);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(365);
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(DevCertificate { certificate: certificate.pem(), key: key.serialize_pem() })
}
