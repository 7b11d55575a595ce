//! A compiled access log.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use super::sink::{self, Sink};
use super::{Entry, line};
use crate::config::{Issue, raw};

/// A field of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldKind {
    Time,
    RequestId,
    CorrelationId,
    TraceId,
    ClientIp,
    Peer,
    Protocol,
    Scheme,
    TlsVersion,
    Sni,
    Listener,
    Method,
    Host,
    Path,
    Query,
    Target,
    Route,
    Upstream,
    Backend,
    Status,
    BytesIn,
    BytesOut,
    Duration,
    UpstreamConnect,
    UpstreamFirstByte,
    Tries,
    Error,
    ErrorDetail,
    UserAgent,
    Referer,
    User,
    /// Name without the prefix is in [`Field::header`].
    Header,
}

/// Names in the configuration.
const NAMES: [(&str, FieldKind); 31] = [
    ("time", FieldKind::Time),
    ("request_id", FieldKind::RequestId),
    ("correlation_id", FieldKind::CorrelationId),
    ("trace_id", FieldKind::TraceId),
    ("client_ip", FieldKind::ClientIp),
    ("peer", FieldKind::Peer),
    ("protocol", FieldKind::Protocol),
    ("scheme", FieldKind::Scheme),
    ("tls_version", FieldKind::TlsVersion),
    ("sni", FieldKind::Sni),
    ("listener", FieldKind::Listener),
    ("method", FieldKind::Method),
    ("host", FieldKind::Host),
    ("path", FieldKind::Path),
    ("query", FieldKind::Query),
    ("target", FieldKind::Target),
    ("route", FieldKind::Route),
    ("upstream", FieldKind::Upstream),
    ("backend", FieldKind::Backend),
    ("status", FieldKind::Status),
    ("bytes_in", FieldKind::BytesIn),
    ("bytes_out", FieldKind::BytesOut),
    ("duration_ms", FieldKind::Duration),
    ("upstream_connect_ms", FieldKind::UpstreamConnect),
    ("upstream_first_byte_ms", FieldKind::UpstreamFirstByte),
    ("tries", FieldKind::Tries),
    ("error", FieldKind::Error),
    ("error_detail", FieldKind::ErrorDetail),
    ("user_agent", FieldKind::UserAgent),
    ("referer", FieldKind::Referer),
    ("user", FieldKind::User),
];

/// A field with the bytes that go before its value.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) kind: FieldKind,
    /// Lower case, for [`FieldKind::Header`].
    pub(super) header: Box<[u8]>,
    /// `"name":` or `name=`.
    pub(super) key: Box<[u8]>,
}

/// A compiled access log with its writer. The writer stays the same across reloads as long as the output does.
#[derive(Debug)]
pub struct AccessLog {
    pub(super) format: raw::LogFormat,
    pub(super) fields: Vec<Field>,
    exclude: Vec<Excluded>,
    /// Of 2^32; everything when `None`.
    sample: Option<u32>,
    sink: Arc<Sink>,
}

#[derive(Debug)]
enum Excluded {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
}

thread_local! {
    static RANDOM: Cell<u32> = const { Cell::new(0x9E37_79B9) };
}

impl AccessLog {
    /// Compiles the configuration and opens the output. Issues are placed under `place` (`access_log`).
    pub fn compile(place: &str, raw: &raw::AccessLog) -> Result<Arc<Self>, Vec<Issue>> {
        let mut issues = Vec::new();
        let mut fields = Vec::with_capacity(raw.fields.len());
        for (index, name) in raw.fields.iter().enumerate() {
            match field(name, raw.format) {
                Ok(field) => fields.push(field),
                Err(message) => issues.push(Issue::new(format!("{place}.fields[{index}]"), message)),
            }
        }
        if !(0.0..=1.0).contains(&raw.sample) {
            issues.push(Issue::new(format!("{place}.sample"), format!("{} is not between 0 and 1", raw.sample)));
        }
        let sink = match sink::open(raw) {
            Ok(sink) => Some(sink),
            Err(message) => {
                issues.push(Issue::new(format!("{place}.output"), message));
                None
            }
        };
        let (true, Some(sink)) = (issues.is_empty(), sink) else { return Err(issues) };
        let exclude = raw
            .exclude_paths
            .iter()
            .map(|path| match path.strip_suffix('*') {
                Some(prefix) => Excluded::Prefix(prefix.as_bytes().into()),
                None => Excluded::Exact(path.as_bytes().into()),
            })
            .collect();
        let sample = (raw.sample < 1.0).then_some((raw.sample * f64::from(u32::MAX)) as u32);
        Ok(Arc::new(Self { format: raw.format, fields, exclude, sample, sink }))
    }

    /// Logs a request, unless it is excluded or not sampled. Never blocks.
    pub fn write(&self, entry: &Entry<'_>) {
        if self.wants(entry) {
            sink::append(&self.sink, |out| line::write(self, entry, out));
        }
    }

    /// Waits until everything that was flushed before is written, at most `limit`.
    pub fn sync(&self, limit: Duration) -> bool {
        self.sink.sync(limit)
    }

    /// Opens the file anew (after `logrotate` moved it away). Does nothing on stdout.
    pub fn reopen(&self) {
        self.sink.reopen();
    }

    fn wants(&self, entry: &Entry<'_>) -> bool {
        let excluded = self.exclude.iter().any(|excluded| match excluded {
            Excluded::Exact(path) => **path == *entry.match_path,
            Excluded::Prefix(prefix) => entry.match_path.starts_with(prefix),
        });
        !excluded && (entry.status >= 500 || self.sample.is_none_or(|share| random() < share))
    }
}

fn field(name: &str, format: raw::LogFormat) -> Result<Field, String> {
    let (kind, header) = match name.strip_prefix("header.") {
        Some(header) => {
            let header = header.to_ascii_lowercase();
            if super::redact::secret_header(header.as_bytes()) {
                return Err(format!("the header {header:?} may carry credentials and is never logged"));
            }
            (FieldKind::Header, header.into_bytes())
        }
        None => {
            let Some((_, kind)) = NAMES.iter().find(|(known, _)| *known == name) else {
                let known = NAMES.map(|(known, _)| known).join(", ");
                return Err(format!("{name:?} is no field of the access log; known: {known}, header.NAME"));
            };
            (*kind, Vec::new())
        }
    };
    let mut key = Vec::new();
    match format {
        raw::LogFormat::Json => {
            key.push(b'"');
            super::escape::json(name.as_bytes(), &mut key);
            key.extend_from_slice(b"\":");
        }
        raw::LogFormat::Text => {
            key.extend_from_slice(name.as_bytes());
            key.push(b'=');
        }
    }
    Ok(Field { kind, header: header.into(), key: key.into() })
}

/// xorshift32: sampling needs no better.
fn random() -> u32 {
    RANDOM.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        state.set(x);
        x
    })
}
