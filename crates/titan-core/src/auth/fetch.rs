//! A small HTTP/1.1 client for the services that Titan itself asks: key sets and forward-auth.
//!
//! It runs on the auxiliary runtime, keeps connections, never follows a redirect, reads no more of an answer than it was told to, and asks
//! only the one origin that it was made for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Scheme, host, port and path of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `https`.
    pub tls: bool,
    /// Host, lower case, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What Host says.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Parses an absolute `http` or `https` URL.
    pub fn parse(url: &str) -> Result<Self, String> {
        let uri: http::Uri = url.parse().map_err(|_| format!("\"{url}\" is not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(format!("\"{url}\" must begin with https:// or http://")),
        };
        let authority = uri.authority().ok_or_else(|| format!("\"{url}\" has no host"))?;
        if authority.as_str().contains('@') {
            return Err("a URL with a user name or password in it is not accepted".into());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        Ok(Self { tls, host, port, authority: authority.as_str().to_owned(), path })
    }

    /// Whether the host is a loopback address or `localhost`.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: http::HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// A client of one origin.
pub struct Client {
    target: Target,
    tls: Option<Arc<ClientConfig>>,
    idle: Mutex<Vec<SendRequest<Empty<Bytes>>>>,
    permits: Semaphore,
    timeout: Duration,
    max_body: usize,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("authority", &self.target.authority).finish_non_exhaustive()
    }
}

impl Client {
    /// `tls` must be there for an `https` target. `timeout` is for one request, connecting included; `max_body` for one answer.
    pub fn new(target: Target, tls: Option<Arc<ClientConfig>>, max_connections: usize, timeout: Duration, max_body: usize) -> Self {
        Self { target, tls, idle: Mutex::default(), permits: Semaphore::new(max_connections.max(1)), timeout, max_body }
    }

    /// The target of [`Client::get`].
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// GETs the target with these headers beside Host.
    pub async fn get(&self, headers: http::HeaderMap) -> Result<Reply, String> {
        match tokio::time::timeout(self.timeout, self.ask(headers)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("{} did not answer within {} ms", self.target.authority, self.timeout.as_millis())),
        }
    }

    async fn ask(&self, headers: http::HeaderMap) -> Result<Reply, String> {
        let _permit = self.permits.acquire().await.map_err(|_| "closed".to_owned())?;
        // A kept connection may have been closed by the other end: what fails on one before an answer is asked again on a new one.
        while let Some(mut kept) = self.idle_connection() {
            if kept.ready().await.is_err() {
                continue;
            }
            match self.exchange(kept, headers.clone()).await {
                Err(Failure::BeforeAnswer(_)) => {}
                Err(Failure::InAnswer(error)) => return Err(error),
                Ok(reply) => return Ok(reply),
            }
        }
        let fresh = self.connect().await?;
        self.exchange(fresh, headers).await.map_err(|(Failure::BeforeAnswer(e) | Failure::InAnswer(e))| e)
    }

    fn idle_connection(&self) -> Option<SendRequest<Empty<Bytes>>> {
        self.idle.lock().pop()
    }

    async fn exchange(&self, mut connection: SendRequest<Empty<Bytes>>, headers: http::HeaderMap) -> Result<Reply, Failure> {
        let authority = &self.target.authority;
        let mut request = http::Request::builder().uri(&self.target.path).header("host", authority);
        if let Some(all) = request.headers_mut() {
            all.extend(headers);
        }
        let request = request.body(Empty::new()).map_err(|e| Failure::InAnswer(e.to_string()))?;
        let answer = connection.send_request(request).await.map_err(|e| Failure::BeforeAnswer(format!("{authority}: {e}")))?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, self.max_body).collect().await;
        let body = body.map_err(|e| Failure::InAnswer(format!("{authority}: the answer could not be read: {e}")))?.to_bytes();
        self.idle.lock().push(connection);
        Ok(Reply { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, String> {
        let Target { host, port, authority, .. } = &self.target;
        let fail = |e: &dyn std::fmt::Display| format!("{authority}: {e}");
        let tcp = TcpStream::connect((host.as_str(), *port)).await.map_err(|e| fail(&e))?;
        tcp.set_nodelay(true).map_err(|e| fail(&e))?;
        let Some(tls) = self.tls.as_ref().filter(|_| self.target.tls) else {
            if self.target.tls {
                return Err(fail(&"no TLS configuration"));
            }
            return self.handshake(TokioIo::new(tcp)).await;
        };
        let name = ServerName::try_from(host.clone()).map_err(|e| fail(&e))?;
        let stream = tokio_rustls::TlsConnector::from(tls.clone()).connect(name, tcp).await.map_err(|e| fail(&e))?;
        self.handshake(TokioIo::new(stream)).await
    }

    async fn handshake<S>(&self, stream: S) -> Result<SendRequest<Empty<Bytes>>, String>
    where
        S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(stream).await.map_err(|e| format!("{}: {e}", self.target.authority))?;
        // Ends with the connection, at the latest when the sender is dropped.
        tokio::spawn(connection);
        Ok(sender)
    }
}

enum Failure {
    BeforeAnswer(String),
    InAnswer(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let target = Target::parse("https://IdP.example/keys?x=1").unwrap();
        assert_eq!((target.tls, target.host.as_str(), target.port, target.path.as_str()), (true, "idp.example", 443, "/keys?x=1"));
        let local = Target::parse("http://[::1]:8080").unwrap();
        assert!(local.is_loopback() && local.port == 8080 && local.path == "/");
        assert!(!Target::parse("http://127.0.0.1.evil.example/").unwrap().is_loopback());
        for wrong in ["ftp://x/", "/x", "https://u:p@x/", "https://", "x"] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }
}
