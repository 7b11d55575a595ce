//! Active health checks: probes over own connections, on the auxiliary runtime.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::endpoint::{Endpoint, LastCheck};
use super::settings::{HealthSettings, Probe, Protocol};
use super::{HostRule, Upstream};
use crate::balance::random;
use crate::http::h1::chunked::{Decoder, Event};
use crate::http::h1::parse;
use crate::rt::clock;

/// Bytes of a body that are looked at.
const BODY: usize = 64 << 10;

/// Checks an endpoint until the task is aborted.
pub async fn watch(upstream: Arc<Upstream>, endpoint: Arc<Endpoint>, settings: HealthSettings) {
    let (mut passed, mut failed) = (0u32, 0u32);
    // Spread the first probes, so that a configuration of a thousand backends does not probe them in one moment.
    tokio::time::sleep(settings.interval.min(Duration::from_secs(1)).mul_f64(random::unit() * 0.5)).await;
    loop {
        let begun = Instant::now();
        let outcome = match tokio::time::timeout(settings.timeout, probe(&upstream, &endpoint, &settings)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {} ms", settings.timeout.as_millis())),
        };
        endpoint.checked(LastCheck { at: clock::now(), took: begun.elapsed(), error: outcome.as_ref().err().cloned() });
        match outcome {
            Ok(()) => {
                endpoint.counts.checks_ok.fetch_add(1, Relaxed);
                (passed, failed) = (passed.saturating_add(1), 0);
                if passed >= settings.healthy_threshold {
                    endpoint.set_healthy(true, "its health check passes");
                }
            }
            Err(reason) => {
                endpoint.counts.checks_failed.fetch_add(1, Relaxed);
                (passed, failed) = (0, failed.saturating_add(1));
                if failed >= settings.unhealthy_threshold {
                    endpoint.set_healthy(false, &reason);
                }
            }
        }
        // Jitter only shortens: "after one interval and timeout" is a promise.
        tokio::time::sleep(settings.interval.mul_f64(1.0 - random::unit() * 0.1).saturating_sub(begun.elapsed())).await;
    }
}

/// One probe.
pub async fn probe(upstream: &Upstream, endpoint: &Endpoint, settings: &HealthSettings) -> Result<(), String> {
    let mut addr = endpoint.addr;
    let mut alternate = endpoint.alternate;
    if let Some(port) = settings.port {
        addr.set_port(port);
        alternate = alternate.map(|a| (a.ip(), port).into());
    }
    let tcp = match (TcpStream::connect(addr).await, alternate) {
        (Ok(tcp), _) => tcp,
        (Err(_), Some(other)) => TcpStream::connect(other).await.map_err(|e| connect_failed(&e))?,
        (Err(error), None) => return Err(connect_failed(&error)),
    };
    // Best effort: a probe is one small segment anyway.
    let _ = tcp.set_nodelay(true);
    match (&upstream.tls, &endpoint.server_name) {
        (Some(config), Some(name)) => {
            let connector = TlsConnector::from(config.clone());
            let tls = connector.connect(name.clone(), tcp).await.map_err(|e| format!("TLS failed: {}", crate::tls::explain(&e)))?;
            let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2") || upstream.protocol == Protocol::H2;
            ask(tls, h2, upstream, endpoint, settings).await
        }
        _ => ask(tcp, upstream.protocol == Protocol::H2c, upstream, endpoint, settings).await,
    }
}

async fn ask<T>(io: T, h2: bool, upstream: &Upstream, endpoint: &Endpoint, settings: &HealthSettings) -> Result<(), String>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let authority: &str = match &upstream.host {
        HostRule::Fixed(host) => host,
        _ => &endpoint.authority,
    };
    let scheme = if upstream.tls.is_some() { "https" } else { "http" };
    match &settings.probe {
        Probe::Tcp => Ok(()),
        Probe::Grpc { service } => grpc(io, scheme, authority, service).await,
        Probe::Http { path, host, statuses, body_contains } => {
            let host = host.as_deref().unwrap_or(authority);
            let (status, body) = if h2 {
                http2(io, format!("{scheme}://{host}{path}")).await?
            } else {
                http1(io, path, host, body_contains.is_some()).await?
            };
            let accepted = if statuses.is_empty() { (200..400).contains(&status) } else { statuses.contains(&status) };
            if !accepted {
                return Err(format!("status {status}"));
            }
            match body_contains {
                Some(text) if memchr::memmem::find(&body, text.as_bytes()).is_none() => {
                    Err(format!("the body does not contain \"{text}\""))
                }
                _ => Ok(()),
            }
        }
    }
}

async fn http1<T: AsyncRead + AsyncWrite + Unpin>(mut io: T, path: &str, host: &str, want_body: bool) -> Result<(u16, Vec<u8>), String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: titan-health/1\r\naccept: */*\r\nconnection: close\r\n\r\n");
    io.write_all(request.as_bytes()).await.map_err(|e| broken(&e))?;
    let (mut buf, mut progress) = (Vec::with_capacity(4 << 10), parse::Progress::default());
    let head = loop {
        if read(&mut io, &mut buf).await? == 0 {
            return Err("closed before an answer".into());
        }
        let limits = parse::Limits { bytes: BODY, fields: 200 };
        match parse::response(&mut buf, &mut progress, &limits).map_err(|e| format!("malformed answer: {}", e.detail))? {
            Some(head) if head.status >= 200 || head.status == 101 => break head,
            Some(_) | None => {}
        }
    };
    if !want_body {
        return Ok((head.status, Vec::new()));
    }
    let mut body = Vec::new();
    let mut chunks = head.facts.chunked.then(Decoder::response);
    let most = head.facts.length.map_or(BODY, |length| (length as usize).min(BODY));
    loop {
        let mut at = 0;
        match &mut chunks {
            None => body.append(&mut buf),
            Some(decoder) => loop {
                let step = decoder.step(&buf[at..]).map_err(|e| format!("malformed answer: {}", e.detail))?;
                match step.event {
                    Event::Data(range) => body.extend_from_slice(&buf[at + range.start..at + range.end]),
                    Event::More => break,
                    Event::End => return Ok((head.status, body)),
                }
                at += step.consumed;
            },
        }
        buf.clear();
        if body.len() >= most || read(&mut io, &mut buf).await? == 0 {
            body.truncate(BODY);
            return Ok((head.status, body));
        }
    }
}

async fn read<T: AsyncRead + Unpin>(io: &mut T, buf: &mut Vec<u8>) -> Result<usize, String> {
    match io.read_buf(buf).await {
        // Many servers close TLS without a farewell.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        other => other.map_err(|e| broken(&e)),
    }
}

/// A request over HTTP/2: status, body (at most [`BODY`] bytes) and the gRPC status of its trailers or head.
async fn exchange<T>(io: T, request: http::Request<()>, payload: Option<Bytes>) -> Result<(u16, Vec<u8>, Option<String>), String>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |e: h2::Error| format!("HTTP/2 failed: {e}");
    let (sender, connection) = h2::client::handshake(io).await.map_err(failed)?;
    // Ends with the probe, whatever becomes of it.
    let driver = AbortOnDrop(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let mut sender = sender.ready().await.map_err(failed)?;
    let (answer, mut stream) = sender.send_request(request, payload.is_none()).map_err(failed)?;
    if let Some(payload) = payload {
        stream.send_data(payload, true).map_err(failed)?;
    }
    let answer = answer.await.map_err(failed)?;
    let grpc = |headers: &http::HeaderMap| headers.get("grpc-status").and_then(|v| v.to_str().ok()).map(str::to_owned);
    let (status, mut grpc_status) = (answer.status().as_u16(), grpc(answer.headers()));
    let mut stream = answer.into_body();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.map_err(failed)?;
        let _ = stream.flow_control().release_capacity(data.len());
        body.extend_from_slice(&data);
        if body.len() >= BODY {
            body.truncate(BODY);
            return Ok((status, body, grpc_status));
        }
    }
    if let Some(trailers) = stream.trailers().await.map_err(failed)? {
        grpc_status = grpc(&trailers).or(grpc_status);
    }
    drop(driver);
    Ok((status, body, grpc_status))
}

async fn http2<T>(io: T, uri: String) -> Result<(u16, Vec<u8>), String>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = http::Request::get(uri).header("user-agent", "titan-health/1").body(()).map_err(|e| e.to_string())?;
    let (status, body, _) = exchange(io, request, None).await?;
    Ok((status, body))
}

/// `grpc.health.v1.Health/Check`: `SERVING` is what is wanted.
async fn grpc<T>(io: T, scheme: &str, authority: &str, service: &str) -> Result<(), String>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = http::Request::post(format!("{scheme}://{authority}/grpc.health.v1.Health/Check"))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(|e| e.to_string())?;
    // HealthCheckRequest { string service = 1; } behind the prefix of a gRPC message. Names are shorter than 128 bytes by validation.
    let mut message = Vec::with_capacity(7 + service.len());
    if !service.is_empty() {
        message.extend_from_slice(&[0x0a, service.len() as u8]);
        message.extend_from_slice(service.as_bytes());
    }
    let mut payload = vec![0, 0, 0, 0, message.len() as u8];
    payload.append(&mut message);
    let (status, body, grpc_status) = exchange(io, request, Some(payload.into())).await?;
    match (status, grpc_status.as_deref()) {
        (200, Some("0")) => {}
        (200, Some(code)) => return Err(format!("gRPC status {code}")),
        (200, None) => return Err("no gRPC status".into()),
        (status, _) => return Err(format!("status {status}")),
    }
    // HealthCheckResponse { ServingStatus status = 1; }, 1 = SERVING.
    match body.get(5..) {
        Some([0x08, 1, ..]) => Ok(()),
        Some([0x08, 2, ..]) => Err("NOT_SERVING".into()),
        _ => Err("the service is unknown or says nothing of its health".into()),
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn connect_failed(error: &io::Error) -> String {
    format!("connect failed: {error}")
}

fn broken(error: &io::Error) -> String {
    format!("connection broke: {error}")
}
