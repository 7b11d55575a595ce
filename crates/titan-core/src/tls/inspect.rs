//! What a certificate says, for `titan check`, the metrics and the choice by SNI.

use serde::Serialize;
use x509_parser::prelude::*;

use super::pem;

/// Facts of one certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateInfo {
    /// File it came from.
    pub path: String,
    /// Names it is good for: DNS names and addresses of its SANs, or the CN where there are none. Lower case.
    pub names: Vec<String>,
    /// Subject, as RFC 4514 writes it.
    pub subject: String,
    /// Issuer.
    pub issuer: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Valid from, Unix seconds.
    pub not_before: i64,
    /// Valid until, Unix seconds.
    pub not_after: i64,
    /// X.509 version: 1 or 3.
    pub version: u32,
    /// Subject and issuer are the same.
    pub self_signed: bool,
}

impl CertificateInfo {
    /// Facts of a certificate in DER.
    pub fn of(path: &str, der: &[u8]) -> Result<Self, String> {
        let (_, cert) = X509Certificate::from_der(der).map_err(|error| format!("{path} is not a valid X.509 certificate: {error}"))?;
        Ok(Self {
            path: path.to_owned(),
            names: names(&cert),
            subject: distinguished_name(cert.subject()),
            issuer: distinguished_name(cert.issuer()),
            serial: hex(cert.raw_serial()),
            not_before: cert.validity().not_before.timestamp(),
            not_after: cert.validity().not_after.timestamp(),
            version: cert.version().0 + 1,
            self_signed: cert.subject() == cert.issuer(),
        })
    }
}

/// Facts of every certificate of a PEM file, leaf first.
pub fn inspect(path: &str) -> Result<Vec<CertificateInfo>, String> {
    let text = pem::read(path, "certificate")?;
    pem::certificates(path, &text)?.iter().map(|der| CertificateInfo::of(path, der)).collect()
}

/// Whether a certificate holds this public key (SubjectPublicKeyInfo in DER).
pub(super) fn has_key(der: &[u8], public: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, cert)| cert.public_key().raw == public)
}

/// Subject alternative names as strings: DNS names lower case, addresses, e-mail addresses and URIs as they are.
pub(super) fn alternative_names(cert: &X509Certificate<'_>) -> Vec<(Kind, String)> {
    let Ok(Some(extension)) = cert.subject_alternative_name() else { return Vec::new() };
    let mut names = Vec::new();
    for name in &extension.value.general_names {
        match name {
            GeneralName::DNSName(dns) => names.push((Kind::Host, dns.to_ascii_lowercase())),
            GeneralName::IPAddress(bytes) => {
                if let Some(ip) = address(bytes) {
                    names.push((Kind::Host, ip));
                }
            }
            GeneralName::RFC822Name(mail) => names.push((Kind::Other, (*mail).to_owned())),
            GeneralName::URI(uri) => names.push((Kind::Other, (*uri).to_owned())),
            _ => {}
        }
    }
    names
}

/// Kind of an alternative name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// DNS name or address.
    Host,
    /// E-mail address or URI.
    Other,
}

fn names(cert: &X509Certificate<'_>) -> Vec<String> {
    let hosts: Vec<String> = alternative_names(cert).into_iter().filter(|(kind, _)| *kind == Kind::Host).map(|(_, name)| name).collect();
    if !hosts.is_empty() {
        return hosts;
    }
    cert.subject().iter_common_name().filter_map(|cn| cn.as_str().ok()).map(str::to_ascii_lowercase).collect()
}

fn address(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|v4| std::net::Ipv4Addr::from(v4).to_string()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string()),
        _ => None,
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A name as RFC 4514 writes it: most specific part first, special characters escaped, control characters as `\XX`.
pub(super) fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut out = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for (index, part) in parts.iter().rev().enumerate() {
        for (inner, attribute) in part.iter().enumerate() {
            match (index, inner) {
                (0, 0) => {}
                (_, 0) => out.push(','),
                _ => out.push('+'),
            }
            match x509_parser::objects::oid2abbrev(attribute.attr_type(), x509_parser::objects::oid_registry()) {
                Ok(short) => out.push_str(short),
                Err(_) => out.push_str(&attribute.attr_type().to_id_string()),
            }
            out.push('=');
            match attribute.as_str() {
                Ok(value) => escape(value, &mut out),
                Err(_) => {
                    out.push('#');
                    out.push_str(&hex(attribute.as_slice()));
                }
            }
        }
    }
    out
}

fn escape(value: &str, out: &mut String) {
    let last = value.len().saturating_sub(1);
    for (at, char) in value.char_indices() {
        match char {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', char]),
            '#' | ' ' if at == 0 => out.extend(['\\', char]),
            ' ' if at == last => out.push_str("\\ "),
            '\0'..='\x1F' | '\x7F' => out.push_str(&format!("\\{:02X}", char as u32)),
            char => out.push(char),
        }
    }
}
