//! Header rules and security-header presets.

use super::query::QueryRules;
use super::template::Template;
use super::{RequestCx, ResponseCx};
use crate::auth::Identity;
use crate::config::raw::{HeaderAction, HeaderRule, SecurityPreset};
use crate::config::{Issue, raw};
use crate::http::client::Scheme;
use crate::http::head::ResponseHead;
use crate::http::ops::HeaderOps;
use crate::http::token::is_token;

/// A headers policy.
#[derive(Debug)]
pub(super) struct Headers {
    security: Option<SecurityPreset>,
    request: Vec<Rule>,
    response: Vec<Rule>,
    query: QueryRules,
}

#[derive(Debug)]
struct Rule {
    action: HeaderAction,
    name: Box<str>,
    value: Template,
}

/// Headers that the codec alone writes: a rule on one of them would be a smuggling vector or without effect.
const FRAMING: [&str; 10] = [
    "connection",
    "content-length",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Headers {
    pub(super) fn compile(name: &str, raw: &raw::Headers, issues: &mut Vec<Issue>) -> Self {
        let mut rules = |field: &str, list: &[HeaderRule]| {
            let place = |i: usize, part: &str| format!("{name}.{field}[{i}].{part}");
            list.iter()
                .enumerate()
                .filter_map(|(i, rule)| {
                    if let Err(message) = check_name(&rule.name) {
                        issues.push(Issue::new(place(i, "name"), message));
                        return None;
                    }
                    match Template::parse(&rule.value) {
                        Ok(value) => Some(Rule { action: rule.action, name: rule.name.as_str().into(), value }),
                        Err(message) => {
                            issues.push(Issue::new(place(i, "value"), message));
                            None
                        }
                    }
                })
                .collect()
        };
        let request = rules("request", &raw.request);
        let response = rules("response", &raw.response);
        let query = QueryRules::compile(&format!("{name}.query"), &raw.query, issues);
        Self { security: raw.security, request, response, query }
    }

    pub(super) fn request(&self, cx: &mut RequestCx<'_>) {
        for rule in &self.request {
            rule.apply(&cx.req, cx.state.identity.as_deref(), cx.request_ops);
        }
        if !self.query.is_empty() {
            let hooked = &mut cx.state.hooked.rewrite;
            let given = hooked.as_ref().and_then(|rewrite| rewrite.query.as_deref()).or(cx.req.query);
            let query = self.query.apply(given, &cx.req, cx.state.identity.as_deref());
            hooked.get_or_insert_default().query = Some(query);
        }
    }

    /// Whether it holds a preset, which comes before the rules of others so that they can change it.
    pub(super) fn is_preset(&self) -> bool {
        self.security.is_some()
    }

    pub(super) fn response(&self, cx: &ResponseCx<'_>, ops: &mut HeaderOps) {
        if let Some(preset) = self.security {
            security(preset, cx.req.client.scheme, cx.upstream, ops);
        }
        for rule in &self.response {
            rule.apply(&cx.req, cx.state.identity.as_deref(), ops);
        }
    }
}

impl Rule {
    fn apply(&self, req: &super::RequestView<'_>, identity: Option<&Identity>, ops: &mut HeaderOps) {
        if self.action == HeaderAction::Remove {
            return ops.remove(&*self.name);
        }
        let write = |out: &mut Vec<u8>| self.value.write(req, identity, out);
        let drop_empty = self.value.only_variables();
        match (self.action, self.value.fixed()) {
            (HeaderAction::Add, Some(text)) => ops.add(&*self.name, text),
            (_, Some(text)) => ops.set(&*self.name, text),
            (HeaderAction::Add, None) => ops.add_if(&*self.name, write, drop_empty),
            (_, None) => {
                // An absent variable must not let a client's own header through: a rule that sets owns the name.
                if drop_empty {
                    ops.remove(&*self.name);
                    ops.add_if(&*self.name, write, true);
                } else {
                    ops.set_with(&*self.name, write);
                }
            }
        }
    }
}

/// Whether a rule may name this header.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if !is_token(name.as_bytes()) {
        return Err(format!("\"{name}\" can't be a header name"));
    }
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(format!("\"{name}\" must be lower case in the native form"));
    }
    if FRAMING.contains(&name) {
        return Err(format!("\"{name}\" belongs to the connection and is written by Titan alone"));
    }
    Ok(())
}

fn security(preset: SecurityPreset, scheme: Scheme, upstream: Option<&ResponseHead>, ops: &mut HeaderOps) {
    let strict = preset != SecurityPreset::Basic;
    ops.remove("server");
    ops.remove("x-powered-by");
    ops.set("x-content-type-options", "nosniff");
    ops.set("x-permitted-cross-domain-policies", "none");
    ops.set("x-frame-options", if strict { "DENY" } else { "SAMEORIGIN" });
    ops.set("referrer-policy", if strict { "no-referrer" } else { "strict-origin-when-cross-origin" });
    ops.set("cross-origin-opener-policy", if strict { "same-origin" } else { "same-origin-allow-popups" });
    if strict {
        ops.set("permissions-policy", "camera=(), microphone=(), geolocation=(), payment=()");
        if upstream.is_none_or(|head| head.get_name(b"content-security-policy").is_none()) {
            ops.set(
                "content-security-policy",
                match preset {
                    SecurityPreset::Api => "default-src 'none'; frame-ancestors 'none'",
                    _ => "default-src 'self'; frame-ancestors 'none'; base-uri 'self'; object-src 'none'",
                },
            );
        }
    }
    if preset == SecurityPreset::Strict {
        ops.set("cross-origin-resource-policy", "same-origin");
    }
    if scheme == Scheme::Https {
        ops.set("strict-transport-security", if strict { "max-age=63072000; includeSubDomains" } else { "max-age=15552000" });
    }
}

#[cfg(test)]
mod tests;
