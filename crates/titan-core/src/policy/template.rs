//! Values of header rules: text with variables.

use super::cx::RequestView;
use crate::auth::Identity;

/// A compiled value.
#[derive(Debug)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Text(Box<[u8]>),
    ClientIp,
    RequestId,
    Host,
    Path,
    Method,
    Scheme,
    Route,
    TlsSubject,
    Subject,
    Param(Box<str>),
    Header(Box<[u8]>),
    Claim(Box<str>),
}

const VARIABLES: [&str; 12] = [
    "client_ip",
    "request_id",
    "host",
    "path",
    "method",
    "scheme",
    "route",
    "tls_subject",
    "subject",
    "param.NAME",
    "header.NAME",
    "claim.PATH",
];

impl Template {
    /// Parses a value; `Err` says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(bad) = text.bytes().find(|&b| (b < 0x20 && b != b'\t') || b == 0x7f) {
            return Err(format!("a header value can't hold the control byte 0x{bad:02x}"));
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                literal.push_str(&rest[..at - 1]);
                literal.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            literal.push_str(&rest[..at]);
            let Some(end) = rest[at..].find('}') else { return Err(format!("\"{}\" has no closing brace", &rest[at..])) };
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal).into_bytes().into()));
            }
            parts.push(variable(&rest[at + 2..at + end])?);
            rest = &rest[at + end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into_bytes().into()));
        }
        Ok(Self { parts })
    }

    /// Whether it is written as it is.
    pub(super) fn fixed(&self) -> Option<&[u8]> {
        match &self.parts[..] {
            [] => Some(b""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether an empty outcome means that there is nothing to write.
    pub(super) fn only_variables(&self) -> bool {
        !self.parts.is_empty() && !self.parts.iter().any(|p| matches!(p, Part::Text(_)))
    }

    /// Appends the value for a request.
    pub(super) fn write(&self, req: &RequestView<'_>, identity: Option<&Identity>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::ClientIp => {
                    use std::io::Write;
                    let _ = write!(out, "{}", super::ip::canonical(req.client.ip));
                }
                Part::RequestId => safe(out, req.request_id),
                Part::Host => safe(out, req.head.authority_bytes()),
                Part::Path => safe(out, req.path),
                Part::Method => safe(out, req.head.method_bytes()),
                Part::Scheme => out.extend_from_slice(req.client.scheme.as_str().as_bytes()),
                Part::Route => safe(out, req.route.as_bytes()),
                Part::TlsSubject => {
                    if let Some(certificate) = req.client.tls.as_deref().and_then(|tls| tls.certificate.as_ref()) {
                        safe(out, certificate.subject.as_bytes());
                    }
                }
                Part::Subject => safe(out, identity.map_or("", |i| i.subject()).as_bytes()),
                Part::Param(name) => safe(out, req.param(name).unwrap_or_default()),
                Part::Header(name) => safe(out, req.head.get_name(name).unwrap_or_default()),
                Part::Claim(path) => {
                    if let Some(identity) = identity {
                        identity.with_claim(path, &mut |text| safe(out, text));
                    }
                }
            }
        }
    }
}

/// Appends a value that came from outside: what could end a field line is percent-encoded.
pub(super) fn safe(out: &mut Vec<u8>, value: &[u8]) {
    for &byte in value {
        if byte < 0x20 || byte == 0x7f {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.extend_from_slice(&[b'%', HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]]);
        } else {
            out.push(byte);
        }
    }
}

fn variable(name: &str) -> Result<Part, String> {
    Ok(match name {
        "client_ip" => Part::ClientIp,
        "request_id" => Part::RequestId,
        "host" => Part::Host,
        "path" => Part::Path,
        "method" => Part::Method,
        "scheme" => Part::Scheme,
        "route" => Part::Route,
        "tls_subject" => Part::TlsSubject,
        "subject" => Part::Subject,
        _ => match name.split_once('.') {
            Some(("param", name)) if !name.is_empty() => Part::Param(name.into()),
            Some(("header", name)) if !name.is_empty() => Part::Header(name.to_ascii_lowercase().into_bytes().into()),
            Some(("claim", path)) if !path.is_empty() => Part::Claim(path.into()),
            _ => {
                let known = VARIABLES.map(|v| format!("${{{v}}}")).join(", ");
                return Err(format!("unknown variable \"${{{name}}}\"; there are {known}"));
            }
        },
    })
}
