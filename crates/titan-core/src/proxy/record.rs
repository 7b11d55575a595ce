//! What is written down when a request's last byte has gone: metrics and the access log.

use std::net::IpAddr;
use std::time::{Instant, SystemTime};

use super::builtin;
use super::downstream::Downstream;
use super::exchange::Exchange;
use crate::http::client::ClientInfo;
use crate::http::head::HeaderId;
use crate::metrics::access_log::Entry;
use crate::metrics::{Done, Id};
use crate::rehearsal::Observation;

/// Status of a request whose client went away before it was answered.
const GONE: u16 = 499;

/// Closes a request.
pub(super) fn close<D: Downstream>(x: &Exchange<'_>, down: &D) {
    let route = x.taken();
    let notes = &x.notes;
    let status = if notes.status == 0 { GONE } else { notes.status };
    let duration = x.started.elapsed();
    x.local.counts.done(&Done {
        route: route.map_or(Id::NONE, |route| route.metric),
        method: x.head().method,
        status,
        duration,
        bytes_in: notes.bytes_in,
        bytes_out: notes.bytes_out,
        stage: notes.stage,
    });
    super::hooks::log(x, status);
    if x.kit.policy.was_hooked() {
        x.local.counts.hooked();
    }
    if let Some(rehearsal) = &x.local.process.rehearsal {
        // A test looks at its hooks as soon as the connection ends: what `onLog` is told must be on its way by then.
        crate::hook::flush();
        rehearsal.observe(observation(x, status));
    }
    let Some(log) = x.access_log() else { return };
    let tls = x.client.tls.as_deref();
    log.write(&Entry {
        time: SystemTime::now(),
        head: Some(x.head()),
        request_id: &x.ids.request_id,
        correlation_id: x.ids.correlation_id.as_deref().unwrap_or_default(),
        trace_id: trace_id(x),
        client_ip: x.client.ip,
        peer: x.client.peer,
        scheme: x.client.scheme.as_str(),
        tls_version: tls.map(|tls| tls.version),
        sni: tls.and_then(|tls| tls.sni.as_deref()),
        listener: &down.listener().name,
        match_path: x.path(),
        route: route.map_or("", |route| &route.name),
        upstream: notes.upstream.as_ref().map_or("", |upstream| &upstream.name),
        backend: notes.backend,
        status,
        bytes_in: notes.bytes_in,
        bytes_out: notes.bytes_out,
        duration,
        upstream_connect: notes.connect,
        upstream_first_byte: notes.first_byte,
        tries: notes.tries,
        stage: notes.stage,
        detail: notes.detail.as_deref(),
        user: x.kit.policy.identity().map(|identity| identity.subject()).filter(|subject| !subject.is_empty()),
        hidden: x.kit.policy.hidden(),
    });
}

/// What a test wants to know of a request.
fn observation(x: &Exchange<'_>, status: u16) -> Observation {
    let (snapshot, notes) = (x.snapshot(), &x.notes);
    let route = x.taken();
    let builtin = builtin::find(x, &snapshot, true).is_some() || (route.is_none() && builtin::find(x, &snapshot, false).is_some());
    Observation {
        route: route.map(|route| route.name.to_string()),
        upstream: notes.upstream.as_ref().map(|upstream| upstream.name.to_string()),
        client_ip: x.client.ip.to_string(),
        request_id: String::from_utf8_lossy(&x.ids.request_id).into_owned(),
        status,
        stage: notes.stage,
        tries: notes.tries,
        policies_ran: !x.path().is_empty() && !builtin && !matches!(notes.stage, Some("misdirected" | "shutdown")),
        answered_by: x.kit.policy.answered_by(),
        subject: x.kit.policy.identity().map(|identity| identity.subject().to_owned()),
    }
}

/// Trace id of the `traceparent` that was kept or begun.
fn trace_id<'x>(x: &'x Exchange<'_>) -> &'x [u8] {
    let parent = match &x.ids.traceparent {
        Some(begun) => Some(&begun[..]),
        None => x.head().get(HeaderId::Traceparent),
    };
    parent.and_then(|parent| parent.get(3..35)).unwrap_or_default()
}

/// The entry of a request whose head could not be read.
#[expect(clippy::too_many_arguments, reason = "the few fields that such an entry has")]
pub(super) fn bare<'a>(
    client: &ClientInfo,
    ip: IpAddr,
    listener: &'a str,
    request_id: &'a [u8],
    status: u16,
    stage: &'static str,
    started: Instant,
    time: SystemTime,
) -> Entry<'a> {
    Entry {
        time,
        head: None,
        request_id,
        correlation_id: &[],
        trace_id: &[],
        client_ip: ip,
        peer: client.peer,
        scheme: client.scheme.as_str(),
        tls_version: None,
        sni: None,
        listener,
        match_path: &[],
        route: "",
        upstream: "",
        backend: None,
        status,
        bytes_in: 0,
        bytes_out: 0,
        duration: started.elapsed(),
        upstream_connect: None,
        upstream_first_byte: None,
        tries: 0,
        stage: Some(stage),
        detail: None,
        user: None,
        hidden: &[],
    }
}
