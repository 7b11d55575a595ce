//! Who a request came from.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Scheme that the client used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// The client of a request.
#[derive(Debug, Clone)]
pub struct ClientInfo {
    /// The other end of the TCP connection (or what PROXY protocol said it is).
    pub peer: SocketAddr,
    /// This end.
    pub local: SocketAddr,
    /// Address of the client: the peer's, or through trusted proxies the one they vouch for. Policy uses this one.
    pub ip: IpAddr,
    /// Whether the peer is a trusted proxy.
    pub trusted: bool,
    /// Scheme of the connection, or through a trusted proxy the one it vouches for.
    pub scheme: Scheme,
    /// The TLS session; `None` on plain connections.
    pub tls: Option<Arc<TlsInfo>>,
}

/// What is known of a TLS session.
#[derive(Debug, Clone, Default)]
pub struct TlsInfo {
    /// Server name that the client asked for, lower case.
    pub sni: Option<String>,
    /// Negotiated protocol.
    pub alpn: Option<Vec<u8>>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The verified client certificate.
    pub certificate: Option<ClientCertificate>,
}

/// A verified client certificate.
#[derive(Debug, Clone, Default)]
pub struct ClientCertificate {
    /// Distinguished name of the subject, RFC 4514 form.
    pub subject: String,
    /// Common name of the subject.
    pub common_name: Option<String>,
    /// DNS, e-mail, URI and IP subject alternative names.
    pub sans: Vec<String>,
    /// SHA-256 of the certificate's DER, lower-case hex.
    pub fingerprint: String,
}

impl ClientInfo {
    /// A connection's client, not yet identified by any header: [`super::forward::Forwarding::identify`] does that for each request.
    pub fn new(peer: SocketAddr, local: SocketAddr, tls: Option<Arc<TlsInfo>>) -> Self {
        let scheme = if tls.is_some() { Scheme::Https } else { Scheme::Http };
        Self { peer, local, ip: peer.ip().to_canonical(), trusted: false, scheme, tls }
    }
}
