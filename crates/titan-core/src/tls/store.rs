//! What outlives a configuration: built configs by content, and ticket keys by scope.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use aws_lc_rs::digest;
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};

use super::client::{self, UpstreamAlpn};
use super::server::{self, ServerTls};
use super::tickets::Tickets;
use crate::config::{Issue, raw};

/// SHA-256 of everything that an object was built from.
pub(super) type Digest = [u8; 32];

/// Builds TLS configurations and remembers those in use. Reads files: call it off the shards.
#[derive(Default)]
pub struct Store {
    servers: Mutex<HashMap<Digest, Weak<ServerTls>>>,
    clients: Mutex<HashMap<Digest, Weak<ClientConfig>>>,
    tickets: Tickets,
    system_roots: OnceLock<Arc<RootCertStore>>,
}

impl Store {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// TLS of a listener. `http2` = whether `h2` may be offered by ALPN. Issues are placed under `place` (`listeners[0].tls`).
    ///
    /// Returns the object that is in use already where configuration, certificates, keys and CA are unchanged.
    pub fn server(&self, place: &str, raw: &raw::ListenerTls, http2: bool) -> Result<Arc<ServerTls>, Vec<Issue>> {
        let source = server::Source::read(place, raw, http2)?;
        let key = source.digest();
        if let Some(built) = self.servers.lock().get(&key).and_then(Weak::upgrade) {
            return Ok(built);
        }
        let built = Arc::new(source.build(&self.tickets)?);
        let mut servers = self.servers.lock();
        servers.retain(|_, weak| weak.strong_count() > 0);
        servers.insert(key, Arc::downgrade(&built));
        Ok(built)
    }

    /// TLS towards an upstream. Issues are placed under `place` (`upstreams[0].tls`).
    ///
    /// Returns the object that is in use already where nothing changed: its session cache is shared by every shard.
    pub fn client(&self, place: &str, raw: &raw::UpstreamTls, alpn: UpstreamAlpn) -> Result<Arc<ClientConfig>, Vec<Issue>> {
        let source = client::Source::read(place, raw, alpn)?;
        let key = source.digest();
        if let Some(built) = self.clients.lock().get(&key).and_then(Weak::upgrade) {
            return Ok(built);
        }
        let built = Arc::new(source.build(|| self.system_roots())?);
        let mut clients = self.clients.lock();
        clients.retain(|_, weak| weak.strong_count() > 0);
        clients.insert(key, Arc::downgrade(&built));
        Ok(built)
    }

    /// The system's roots, read once; the bundled Mozilla roots where the system has none (a scratch container).
    fn system_roots(&self) -> Arc<RootCertStore> {
        Arc::clone(self.system_roots.get_or_init(|| Arc::new(client::load_system_roots())))
    }
}

/// Hash of parts, each with its length, so that no two lists of parts collide by concatenation.
pub(super) fn digest_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}
