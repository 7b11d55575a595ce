//! Reading PEM files, with errors that name the file and say what it holds instead.

use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Reads a file for `what` ("certificate", "key", "CA bundle").
pub(super) fn read(path: &str, what: &str) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{what} file {path} does not exist"),
        std::io::ErrorKind::PermissionDenied => format!("{what} file {path} may not be read by this user"),
        _ => format!("{what} file {path} cannot be read: {error}"),
    })
}

/// Every certificate of a PEM text, at least one.
pub(super) fn certificates(path: &str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain =
        CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>().map_err(|error| format!("{path} is not valid PEM: {error}"))?;
    if chain.is_empty() {
        return Err(match PrivateKeyDer::from_pem_slice(text) {
            Ok(_) => format!("{path} holds a private key, not a certificate (are the two paths swapped?)"),
            Err(_) => format!("{path} holds no certificate; PEM (-----BEGIN CERTIFICATE-----) is expected"),
        });
    }
    Ok(chain)
}

/// The private key of a PEM text.
pub(super) fn key(path: &str, text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(text).map_err(|_| {
        let holds = |marker: &[u8]| text.windows(marker.len()).any(|window| window == marker);
        if holds(b"BEGIN ENCRYPTED PRIVATE KEY") || holds(b"Proc-Type: 4,ENCRYPTED") {
            format!("{path} is encrypted with a pass phrase, which is not supported: decrypt it (openssl pkey -in KEY -out NEWKEY)")
        } else if <(SectionKind, Vec<u8>)>::pem_slice_iter(text).any(|s| matches!(s, Ok((SectionKind::Certificate, _)))) {
            format!("{path} holds a certificate and no private key (are the two paths swapped?)")
        } else {
            format!("{path} holds no private key; PEM with PKCS#8, PKCS#1 or SEC1 is expected")
        }
    })
}
