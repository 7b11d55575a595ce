//! One line.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::plan::{AccessLog, Field, FieldKind};
use super::{Entry, escape, redact};
use crate::config::raw::LogFormat;
use crate::http::forward::write_ip;
use crate::http::head::{HeaderId, RequestHead, Version};

/// Appends the line of `entry`, newline included.
pub(super) fn write(log: &AccessLog, entry: &Entry<'_>, out: &mut Vec<u8>) {
    let json = log.format == LogFormat::Json;
    out.reserve(512);
    let begin = if json {
        out.push(b'{');
        out.len()
    } else {
        out.len()
    };
    for field in &log.fields {
        let before = out.len();
        if before > begin {
            out.push(if json { b',' } else { b' ' });
        }
        out.extend_from_slice(&field.key);
        let mut value = Value { json, out };
        if value.field(field, entry).is_none() {
            if json {
                out.truncate(before);
            } else {
                out.push(b'-');
            }
        }
    }
    if json {
        out.push(b'}');
    }
    out.push(b'\n');
}

/// Writes one value. `None` = the request has none, and nothing was written.
struct Value<'o> {
    json: bool,
    out: &'o mut Vec<u8>,
}

impl Value<'_> {
    fn field(&mut self, field: &Field, entry: &Entry<'_>) -> Option<()> {
        match field.kind {
            FieldKind::Time => self.time(entry.time),
            FieldKind::RequestId => self.text(some(entry.request_id)?),
            FieldKind::CorrelationId => self.text(some(entry.correlation_id)?),
            FieldKind::TraceId => self.text(some(entry.trace_id)?),
            FieldKind::ClientIp => self.ip(entry.client_ip),
            FieldKind::Peer => self.address(entry.peer),
            FieldKind::Protocol => self.plain(protocol(entry.head?.version)),
            FieldKind::Scheme => self.plain(entry.scheme.as_bytes()),
            FieldKind::TlsVersion => self.plain(entry.tls_version?.as_bytes()),
            FieldKind::Sni => self.text(entry.sni?.as_bytes()),
            FieldKind::Listener => self.plain(entry.listener.as_bytes()),
            FieldKind::Method => self.text(entry.head?.method_bytes()),
            FieldKind::Host => self.text(some(entry.head?.authority_bytes())?),
            FieldKind::Path => self.text(entry.head?.raw_path()),
            FieldKind::Query => {
                let query = entry.head?.raw_query()?;
                self.scratch(|scratch| redact::query(query, entry.hidden, scratch));
            }
            FieldKind::Target => self.target(entry.head?, entry.hidden),
            FieldKind::Route => self.plain(some(entry.route.as_bytes())?),
            FieldKind::Upstream => self.plain(some(entry.upstream.as_bytes())?),
            FieldKind::Backend => self.address(entry.backend?),
            FieldKind::Status => self.number(entry.status),
            FieldKind::BytesIn => self.number(entry.bytes_in),
            FieldKind::BytesOut => self.number(entry.bytes_out),
            FieldKind::Duration => self.millis(entry.duration),
            FieldKind::UpstreamConnect => self.millis(entry.upstream_connect?),
            FieldKind::UpstreamFirstByte => self.millis(entry.upstream_first_byte?),
            FieldKind::Tries => self.number(entry.tries),
            FieldKind::Error => self.plain(entry.stage?.as_bytes()),
            FieldKind::ErrorDetail => self.text(entry.detail?.as_bytes()),
            FieldKind::UserAgent => self.text(entry.head?.get(HeaderId::UserAgent)?),
            FieldKind::Referer => {
                let referer = entry.head?.get(HeaderId::Referer)?;
                self.scratch(|scratch| redact::url(referer, entry.hidden, scratch));
            }
            FieldKind::User => self.text(entry.user?.as_bytes()),
            FieldKind::Header => self.text(entry.head?.get_name(&field.header)?),
        }
        Some(())
    }

    /// A value that may hold anything.
    fn text(&mut self, value: &[u8]) {
        if self.json {
            self.out.push(b'"');
            escape::json(value, self.out);
            self.out.push(b'"');
        } else {
            escape::text(value, self.out);
        }
    }

    /// A value that is known to need no escape: names of the configuration and constants.
    fn plain(&mut self, value: &[u8]) {
        if self.json {
            self.out.push(b'"');
            self.out.extend_from_slice(value);
            self.out.push(b'"');
        } else {
            self.out.extend_from_slice(value);
        }
    }

    fn ip(&mut self, ip: IpAddr) {
        if self.json {
            self.out.push(b'"');
        }
        write_ip(ip, self.out);
        if self.json {
            self.out.push(b'"');
        }
    }

    fn address(&mut self, address: SocketAddr) {
        if self.json {
            self.out.push(b'"');
        }
        match address.ip() {
            ip @ IpAddr::V4(_) => write_ip(ip, self.out),
            ip @ IpAddr::V6(_) => {
                self.out.push(b'[');
                write_ip(ip, self.out);
                self.out.push(b']');
            }
        }
        self.out.push(b':');
        self.number(address.port());
        if self.json {
            self.out.push(b'"');
        }
    }

    fn number(&mut self, value: impl itoa::Integer) {
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Milliseconds with three decimals.
    fn millis(&mut self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.number(us / 1_000);
        let part = (us % 1_000) as u16;
        self.out.extend_from_slice(&[b'.', b'0' + (part / 100) as u8, b'0' + (part / 10 % 10) as u8, b'0' + (part % 10) as u8]);
    }

    fn target(&mut self, head: &RequestHead, hidden: &[Arc<str>]) {
        match head.raw_query() {
            None => self.text(head.raw_path()),
            Some(query) => self.scratch(|scratch| {
                scratch.extend_from_slice(head.raw_path());
                scratch.push(b'?');
                redact::query(query, hidden, scratch);
            }),
        }
    }

    /// A value that is put together first and escaped then.
    fn scratch(&mut self, make: impl FnOnce(&mut Vec<u8>)) {
        thread_local! {
            static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            make(scratch);
            self.text(scratch);
        });
    }

    /// `2026-11-28T11:30:55.123Z`; everything up to the second is formatted once a second.
    fn time(&mut self, time: SystemTime) {
        thread_local! {
            static SECOND: Cell<(u64, [u8; 20])> = const { Cell::new((u64::MAX, [0; 20])) };
        }
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (second, mut text) = SECOND.get();
        if second != since.as_secs() {
            text = date_time(since.as_secs());
            SECOND.set((since.as_secs(), text));
        }
        let ms = since.subsec_millis();
        let digit = |n: u32| b'0' + (n % 10) as u8;
        if self.json {
            self.out.push(b'"');
        }
        self.out.extend_from_slice(&text);
        self.out.extend_from_slice(&[digit(ms / 100), digit(ms / 10), digit(ms), b'Z']);
        if self.json {
            self.out.push(b'"');
        }
    }
}

fn some(value: &[u8]) -> Option<&[u8]> {
    (!value.is_empty()).then_some(value)
}

fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::H10 => b"HTTP/1.0",
        Version::H11 => b"HTTP/1.1",
        Version::H2 => b"HTTP/2",
    }
}

/// `YYYY-MM-DDTHH:MM:SS.` of a Unix time (civil calendar from days, Howard Hinnant's algorithm).
fn date_time(seconds: u64) -> [u8; 20] {
    let (days, second) = ((seconds / 86_400) as i64, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let mut text = String::with_capacity(20);
    let _ = write!(text, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.", second / 3_600, second / 60 % 60, second % 60);
    text.as_bytes().try_into().unwrap_or(*b"9999-12-31T23:59:59.")
}
