//! What a finished handshake says of the client.

use aws_lc_rs::digest;
use rustls::{ProtocolVersion, ServerConnection};
use x509_parser::prelude::*;

use super::inspect;
use crate::http::client::{ClientCertificate, TlsInfo};

/// Facts of a session, gathered once a connection.
pub fn info(connection: &ServerConnection) -> TlsInfo {
    TlsInfo {
        sni: connection.server_name().map(str::to_owned),
        alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
        version: match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "unknown",
        },
        certificate: connection.peer_certificates().and_then(|chain| chain.first()).and_then(|der| certificate(der)),
    }
}

/// `None` only where a verified certificate cannot be parsed, which rustls' verifier does not let pass.
fn certificate(der: &[u8]) -> Option<ClientCertificate> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    Some(ClientCertificate {
        subject: inspect::distinguished_name(cert.subject()),
        common_name: cert.subject().iter_common_name().next().and_then(|cn| cn.as_str().ok()).map(str::to_owned),
        sans: inspect::alternative_names(&cert).into_iter().map(|(_, name)| name).collect(),
        fingerprint: inspect::hex(digest::digest(&digest::SHA256, der).as_ref()),
    })
}
