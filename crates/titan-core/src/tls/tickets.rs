//! Session tickets: one ticketer for all shards, by scope.
//!
//! A resumed session skips the verification of the client's certificate, so a ticket must not be valid where another client
//! certificate policy or another CA rules (CVE-2025-23419). A scope is a policy and its CA; a scope that is no longer in use
//! forgets its keys, so a CA that changes makes every earlier ticket worthless.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustls::server::ProducesTickets;

use super::store::Digest;

/// Ticketers in use, by scope.
#[derive(Default)]
pub(super) struct Tickets {
    by_scope: Mutex<HashMap<Digest, Weak<Scoped>>>,
}

/// A ticketer that can be found again while a configuration holds it.
#[derive(Debug)]
pub(super) struct Scoped(Arc<dyn ProducesTickets>);

impl Tickets {
    /// The ticketer of a scope. Its keys rotate by themselves (every 6 hours, the one before stays valid as long).
    pub(super) fn of(&self, scope: Digest) -> Result<Arc<Scoped>, rustls::Error> {
        let mut by_scope = self.by_scope.lock();
        if let Some(ticketer) = by_scope.get(&scope).and_then(Weak::upgrade) {
            return Ok(ticketer);
        }
        by_scope.retain(|_, weak| weak.strong_count() > 0);
        let ticketer = Arc::new(Scoped(rustls::crypto::aws_lc_rs::Ticketer::new()?));
        by_scope.insert(scope, Arc::downgrade(&ticketer));
        Ok(ticketer)
    }
}

impl ProducesTickets for Scoped {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }
    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(plain)
    }
    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher)
    }
}
