//! Opens a connection to an endpoint.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::connection::{Connection, Socket};
use crate::error::{ErrorKind, ProxyError, RetrySafety};
use crate::rehearsal::Rehearsal;
use crate::upstream::Endpoint;
use crate::upstream::permits::Permit;

/// What a connection is opened with.
pub struct Connect {
    /// Where to.
    pub endpoint: Arc<Endpoint>,
    /// TLS; `None` = plain.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Its place.
    pub permit: Permit,
    /// The shard that asks.
    pub shard: usize,
    /// Who plays the backends, and of which upstream this one is; `None` where they are real.
    pub rehearsal: Option<(Arc<Rehearsal>, Arc<str>)>,
}

/// Opens it. The caller limits the time; no byte of a request was written whatever the outcome.
pub async fn connect(ask: Connect) -> Result<Connection, ProxyError> {
    let endpoint = &ask.endpoint;
    if let Some((rehearsal, upstream)) = &ask.rehearsal {
        let socket = rehearsal.connect(upstream, endpoint).await.map_err(|e| refused(endpoint, &e))?;
        return Ok(Connection { socket: Socket::Plain(socket), inbox: Vec::new(), reused: false, shard: ask.shard, permit: ask.permit });
    }
    let socket = match TcpStream::connect(endpoint.addr).await {
        Err(first) => match endpoint.alternate {
            Some(other) => TcpStream::connect(other).await.map_err(|_| first),
            None => Err(first),
        },
        connected => connected,
    }
    .map_err(|e| refused(endpoint, &e))?;
    socket.set_nodelay(true).map_err(|e| refused(endpoint, &e))?;
    let socket = match (ask.tls, &endpoint.server_name) {
        (Some(config), Some(name)) => {
            let session = TlsConnector::from(config).connect(name.clone(), socket).await;
            Socket::Tls(Box::new(session.map_err(|e| {
                let detail = format!("TLS with {} failed: {}", endpoint.backend, crate::tls::explain(&e));
                ProxyError::upstream(ErrorKind::UpstreamTls, RetrySafety::Unsent, detail)
            })?))
        }
        _ => Socket::Plain(socket),
    };
    Ok(Connection { socket, inbox: Vec::new(), reused: false, shard: ask.shard, permit: ask.permit })
}

fn refused(endpoint: &Endpoint, error: &io::Error) -> ProxyError {
    // Out of descriptors, memory or ports: nothing that the backend did, and nothing that another backend would do better.
    #[cfg(unix)]
    if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EADDRNOTAVAIL)) {
        return ProxyError::gateway(ErrorKind::Overloaded, format!("no connection to {} could be opened: {error}", endpoint.backend));
    }
    let detail = format!("connecting to {} ({}) failed: {error}", endpoint.backend, endpoint.addr);
    ProxyError::upstream(ErrorKind::ConnectFailed, RetrySafety::Unsent, detail)
}
