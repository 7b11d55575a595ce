//! Forward-auth: an external service decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use super::credential::strip;
use super::template::safe;
use super::{Flow, Outcome, RequestCx, wait};
use crate::auth::fetch::{Client, Reply};
use crate::auth::{Identity, IdentityKind};
use crate::config::raw::{self, FailMode};
use crate::http::answer::Answer;
use crate::metrics::{self, Id};

/// Most bytes of the service's answer.
pub(super) const MAX_BODY: usize = 64 << 10;

/// A forward-auth policy.
pub(super) struct ForwardAuth {
    pub(super) client: Arc<Client>,
    /// Where its requests run, so that one pool of connections serves every shard.
    pub(super) runtime: Option<tokio::runtime::Handle>,
    pub(super) raw: raw::ForwardAuth,
    pub(super) failures: AtomicU64,
    pub(super) rejected: Id,
}

impl std::fmt::Debug for ForwardAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForwardAuth").field("client", &self.client).finish_non_exhaustive()
    }
}

/// Ends a request to the service whose client went away.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ForwardAuth {
    pub(super) fn request(&self, cx: &mut RequestCx<'_>) -> Flow {
        for name in &self.raw.upstream_headers {
            strip(cx.req.head, name, cx.request_ops);
        }
        let Some(runtime) = &self.runtime else {
            return self.reply(cx, Err("nothing runs".into())).map_or(Flow::Continue, Flow::Answer);
        };
        let headers = self.question(cx);
        let client = self.client.clone();
        let task = runtime.spawn(async move { client.get(headers).await });
        let guard = AbortOnDrop(task.abort_handle());
        wait(async move {
            let reply = task.await.unwrap_or_else(|e| Err(e.to_string()));
            drop(guard);
            Outcome::Forwarded(reply)
        })
    }

    pub(super) fn reply(&self, cx: &mut RequestCx<'_>, reply: Result<Reply, String>) -> Option<Answer> {
        match reply {
            Ok(reply) if (200..300).contains(&reply.status) => {
                self.admit(cx, &reply);
                None
            }
            Ok(reply) if reply.status < 500 => {
                metrics::with(|shard| shard.limited(self.rejected));
                let mut answer =
                    Answer { status: reply.status, headers: Default::default(), body: reply.body.clone(), stage: "forward_auth" };
                copy(&reply.headers, &self.raw.refusal_headers, |name, value| answer.headers.add(name, value));
                Some(answer)
            }
            Ok(_) | Err(_) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                if self.raw.fail_mode == FailMode::Open {
                    return None;
                }
                metrics::with(|shard| shard.limited(self.rejected));
                let message = "The authorization service can't be asked; try again shortly";
                let mut answer = Answer::error(503, "authorization_unavailable", message, "forward_auth", cx.req.request_id, cx.req.head);
                answer.headers.set("retry-after", "1");
                Some(answer)
            }
        }
    }

    fn admit(&self, cx: &mut RequestCx<'_>, reply: &Reply) {
        copy(&reply.headers, &self.raw.upstream_headers, |name, value| cx.request_ops.add(name, value));
        copy(&reply.headers, &self.raw.client_headers, |name, value| cx.state.response_ops.add(name, value));
        let subject = self.raw.subject_header.as_ref().and_then(|name| reply.headers.get(name)?.to_str().ok());
        if let Some(subject) = subject {
            cx.state.identity = Some(Identity::new(IdentityKind::ForwardAuth, subject, json!({"sub": subject})));
        }
    }

    /// Headers of the question. What Titan says of the request comes last, so that a client's own words never stand in its place.
    fn question(&self, cx: &RequestCx<'_>) -> HeaderMap {
        let head = cx.req.head;
        let mut out = HeaderMap::new();
        let all = self.raw.request_headers.iter().any(|h| h == "*");
        for field in &head.fields {
            let name = field.name.of(&head.bytes);
            let wanted = (all && !field.underscore) || self.raw.request_headers.iter().any(|h| name.eq_ignore_ascii_case(h.as_bytes()));
            if wanted
                && let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(field.value.of(&head.bytes)))
                && !is_private(&name)
            {
                out.append(name, value);
            }
        }
        let mut uri = Vec::with_capacity(cx.req.path.len() + 16);
        safe(&mut uri, cx.req.path);
        if let Some(query) = cx.req.query {
            uri.push(b'?');
            safe(&mut uri, query);
        }
        let ip = super::ip::canonical(cx.req.client.ip).to_string();
        for (name, value) in [
            ("x-forwarded-method", head.method_bytes()),
            ("x-forwarded-proto", cx.req.client.scheme.as_str().as_bytes()),
            ("x-forwarded-host", head.authority_bytes()),
            ("x-forwarded-uri", &uri),
            ("x-forwarded-for", ip.as_bytes()),
            ("x-request-id", cx.req.request_id),
        ] {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                out.insert(name, value);
            }
        }
        out
    }
}

/// Headers of a request that are of its connection, its body or its upgrade, or that Titan writes itself.
fn is_private(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "host"
            | "connection"
            | "content-length"
            | "transfer-encoding"
            | "te"
            | "trailer"
            | "upgrade"
            | "expect"
            | "keep-alive"
            | "http2-settings"
            | "forwarded"
    ) || name.starts_with("x-forwarded-")
        || name.starts_with("proxy-")
        || name.starts_with("sec-websocket-")
}

fn copy(headers: &HeaderMap, names: &[String], mut put: impl FnMut(&str, &[u8])) {
    for name in names {
        for value in headers.get_all(name.as_str()) {
            put(name, value.as_bytes());
        }
    }
}
