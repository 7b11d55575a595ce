//! What a hook reads of a request.

use crate::auth::Identity;
use crate::http::head::{HeaderId, RequestHead, ResponseHead};
use crate::policy::RequestView;

use super::call::{Extra, LogFacts};

/// One declared need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Read {
    Path,
    Query,
    Host,
    Method,
    Scheme,
    ClientIp,
    RequestId,
    Route,
    Params,
    Headers,
    Header(Box<[u8]>, HeaderId),
    Identity,
    Claim(Box<str>),
    ResponseHeaders,
    ResponseHeader(Box<[u8]>),
    Error,
    Log,
    RequestBody,
    ResponseBody,
}

impl Read {
    /// By its name in the configuration.
    pub(super) fn parse(name: &str) -> Option<Self> {
        if let Some((kind, of)) = name.split_once(':') {
            return match kind {
                "header" => Some(Self::Header(of.as_bytes().into(), HeaderId::Other)),
                "response_header" => Some(Self::ResponseHeader(of.as_bytes().into())),
                "claim" => Some(Self::Claim(of.into())),
                _ => None,
            };
        }
        Some(match name {
            "path" => Self::Path,
            "query" => Self::Query,
            "host" => Self::Host,
            "method" => Self::Method,
            "scheme" => Self::Scheme,
            "client_ip" => Self::ClientIp,
            "request_id" => Self::RequestId,
            "route" => Self::Route,
            "params" => Self::Params,
            "headers" => Self::Headers,
            "identity" => Self::Identity,
            "response_headers" => Self::ResponseHeaders,
            "error" => Self::Error,
            "log" => Self::Log,
            "request_body" => Self::RequestBody,
            "response_body" => Self::ResponseBody,
            _ => return None,
        })
    }

    /// Appends the value; `false` where there is none.
    pub(super) fn write(&self, req: &RequestView<'_>, identity: Option<&Identity>, extra: &Extra<'_>, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Path => out.extend_from_slice(req.path),
            Self::Query => return put(req.query, out),
            Self::Host => out.extend_from_slice(req.head.authority_bytes()),
            Self::Method => out.extend_from_slice(req.head.method_bytes()),
            Self::Scheme => out.extend_from_slice(req.client.scheme.as_str().as_bytes()),
            Self::ClientIp => display(req.client.ip, out),
            Self::RequestId => out.extend_from_slice(req.request_id),
            Self::Route => out.extend_from_slice(req.route.as_bytes()),
            Self::Params => {
                for (name, span) in req.param_names.iter().zip(req.param_spans) {
                    lines([name.as_bytes(), span.of(req.path)], out);
                }
            }
            Self::Headers => request_headers(req.head, out),
            Self::Header(name, _) => return put(req.head.get_name(name), out),
            Self::Identity => match identity {
                Some(identity) => identity_json(identity, out),
                None => return false,
            },
            Self::Claim(path) => {
                let mut found = false;
                if let Some(identity) = identity {
                    identity.with_claim(path, &mut |value| {
                        found = true;
                        out.extend_from_slice(value);
                    });
                }
                return found;
            }
            Self::ResponseHeaders => match extra.response {
                Some(head) => response_headers(head, out),
                None => return false,
            },
            Self::ResponseHeader(name) => return put(extra.response.and_then(|head| head.get_name(name)), out),
            Self::Error => match extra.error {
                Some((stage, message)) => {
                    out.extend_from_slice(stage.as_bytes());
                    out.push(b'\n');
                    out.extend_from_slice(message.as_bytes());
                }
                None => return false,
            },
            Self::Log => match &extra.log {
                Some(facts) => log_json(facts, out),
                None => return false,
            },
            Self::RequestBody => return put(extra.request_body, out),
            Self::ResponseBody => return put(extra.response_body, out),
        }
        true
    }
}

fn put(value: Option<&[u8]>, out: &mut Vec<u8>) -> bool {
    value.map(|value| out.extend_from_slice(value)).is_some()
}

fn display(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    // A Vec never fails to grow.
    let _ = std::io::Write::write_fmt(out, format_args!("{value}"));
}

/// Neither names nor values of a head hold a line feed.
fn lines(parts: [&[u8]; 2], out: &mut Vec<u8>) {
    for part in parts {
        out.extend_from_slice(part);
        out.push(b'\n');
    }
}

fn request_headers(head: &RequestHead, out: &mut Vec<u8>) {
    for field in &head.fields {
        lines([field.name.of(&head.bytes), field.value.of(&head.bytes)], out);
    }
}

fn response_headers(head: &ResponseHead, out: &mut Vec<u8>) {
    for field in &head.fields {
        lines([field.name.of(&head.bytes), field.value.of(&head.bytes)], out);
    }
}

fn identity_json(identity: &Identity, out: &mut Vec<u8>) {
    let value = serde_json::json!({
        "kind": identity.kind().as_str(),
        "subject": identity.subject(),
        "claims": identity.claims(),
    });
    display(value, out);
}

fn log_json(facts: &LogFacts<'_>, out: &mut Vec<u8>) {
    let ms = |time: std::time::Duration| time.as_micros() as f64 / 1_000.0;
    let value = serde_json::json!({
        "duration_ms": ms(facts.duration),
        "upstream_first_byte_ms": facts.first_byte.map(ms),
        "bytes_in": facts.bytes_in,
        "bytes_out": facts.bytes_out,
        "upstream": facts.upstream,
        "backend": facts.backend.map(|at| at.to_string()),
        "tries": facts.tries,
        "stage": facts.stage,
    });
    display(value, out);
}
