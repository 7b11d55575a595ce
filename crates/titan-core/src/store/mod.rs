//! The shared store: a Redis that several Titans use together, which may be slow, restarted or gone at any time.
//!
//! One multiplexed connection a server, driven on the auxiliary runtime: questions of every shard are pipelined on it, and none waits longer than
//! its own limit. A question that fails or is late takes the store out of use at once, so that an outage costs a few requests their limit and the
//! others nothing; a keeper asks until the server answers again (figure 13).

mod revocations;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult, TlsCertificates};
pub use revocations::SharedRevocations;
use tokio::sync::{Notify, watch};

use crate::auth::Events;

/// Connecting, greeting included.
const CONNECT: Duration = Duration::from_millis(1_000);
/// The keeper's own question.
const PING: Duration = Duration::from_millis(500);
/// Between two of them while all is well.
const PING_EVERY: Duration = Duration::from_millis(1_000);
/// Between two tries to connect.
const RETRY: Duration = Duration::from_millis(250);

/// The store can't be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable;

#[derive(Clone)]
enum Link {
    /// Not connected for the first time yet: worth a wait.
    Connecting,
    Up(MultiplexedConnection),
    Down,
}

/// A Redis server.
pub struct Store {
    label: String,
    link: watch::Sender<Link>,
    trouble: Notify,
    asked: AtomicU64,
    failed: AtomicU64,
}

/// State of a store for a scrape.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StoreState {
    /// Host and port, or path.
    pub store: String,
    /// Whether it is in use.
    pub up: bool,
    /// Questions.
    pub asked: u64,
    /// Of those, the ones that found no answer in time.
    pub failed: u64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.label).finish()
    }
}

impl Store {
    /// A store that `runtime` keeps connected while it lives. Without one (`check`) it is never up. `ca` is a PEM bundle in place of the system's
    /// roots. `Err` has nothing of the URL in it, which may hold a password.
    pub fn open(
        url: &str,
        ca: Option<Vec<u8>>,
        runtime: Option<&tokio::runtime::Handle>,
        events: Option<Events>,
    ) -> Result<Arc<Self>, String> {
        let mut client =
            Client::open(url).map_err(|_| "not a Redis URL; redis://host:6379/0, rediss:// for TLS and unix:///path are".to_owned())?;
        if let Some(pem) = ca {
            if !matches!(client.get_connection_info().addr(), redis::ConnectionAddr::TcpTls { .. }) {
                return Err("ca_path is for TLS, which a rediss:// URL asks for".into());
            }
            let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
            client = Client::build_with_tls(client.get_connection_info().clone(), certificates)
                .map_err(|error| format!("ca_path can't be used: {error}"))?;
        }
        let first = if runtime.is_some() { Link::Connecting } else { Link::Down };
        let label = client.get_connection_info().addr().to_string();
        let store = Arc::new(Self {
            label,
            link: watch::Sender::new(first),
            trouble: Notify::new(),
            asked: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        if let Some(runtime) = runtime {
            runtime.spawn(keep(client, Arc::downgrade(&store), events));
        }
        Ok(store)
    }

    /// Whether it is in use.
    pub fn is_up(&self) -> bool {
        matches!(*self.link.borrow(), Link::Up(_))
    }

    /// State for a scrape.
    pub fn state(&self) -> StoreState {
        let (asked, failed) = (self.asked.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed));
        StoreState { store: self.label.clone(), up: self.is_up(), asked, failed }
    }

    /// Asks within `timeout`, a first connect included. An error that the server answers (a script's, a wrong type) counts as unavailable too, but
    /// leaves the store in use.
    pub async fn ask<T>(
        &self,
        timeout: Duration,
        question: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, Unavailable> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let outcome = tokio::time::timeout(timeout, async {
            let connection = self.connection().await?;
            match question(connection).await {
                Ok(answer) => Ok(answer),
                Err(error) => {
                    if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() {
                        self.report_trouble();
                    }
                    Err(Unavailable)
                }
            }
        });
        let outcome = outcome.await.unwrap_or_else(|_| {
            self.report_trouble();
            Err(Unavailable)
        });
        if outcome.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    async fn connection(&self) -> Result<MultiplexedConnection, Unavailable> {
        match &*self.link.borrow() {
            Link::Up(connection) => return Ok(connection.clone()),
            Link::Down => return Err(Unavailable),
            Link::Connecting => {}
        }
        let mut changes = self.link.subscribe();
        let link = changes.wait_for(|link| !matches!(link, Link::Connecting)).await;
        match link.as_deref() {
            Ok(Link::Up(connection)) => Ok(connection.clone()),
            _ => Err(Unavailable),
        }
    }

    /// Out of use until the keeper has looked.
    fn report_trouble(&self) {
        self.link.send_if_modified(|link| {
            let up = matches!(link, Link::Up(_));
            if up {
                *link = Link::Down;
            }
            up
        });
        self.trouble.notify_one();
    }
}

/// Keeps a store connected until it is dropped.
async fn keep(client: Client, store: Weak<Store>, events: Option<Events>) {
    let mut was_up = true;
    loop {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(CONNECT));
        let connected = tokio::time::timeout(CONNECT, connect(&client, &config)).await;
        let Some(alive) = store.upgrade() else { return };
        match connected.unwrap_or_else(|_| Err(format!("no answer within {CONNECT:?}"))) {
            Ok(connection) => {
                alive.link.send_replace(Link::Up(connection.clone()));
                tell(&alive, &events, &mut was_up, Ok(()));
                drop(alive);
                watch_over(connection, &store, &events, &mut was_up).await;
            }
            Err(reason) => {
                alive.link.send_replace(Link::Down);
                tell(&alive, &events, &mut was_up, Err(&reason));
                drop(alive);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// A connection to a server that can be used; why not, in words that hold no password.
async fn connect(client: &Client, config: &AsyncConnectionConfig) -> Result<MultiplexedConnection, String> {
    let mut connection = client.get_multiplexed_async_connection_with_config(config).await.map_err(|error| error.to_string())?;
    // Who may not ask is no reason: the scripts will tell.
    let info = redis::cmd("INFO").arg("cluster").query_async::<String>(&mut connection).await.unwrap_or_default();
    if info.contains("cluster_enabled:1") {
        return Err("it is a node of a cluster, where a script's keys may be on several servers: use one that stands alone".into());
    }
    Ok(connection)
}

/// Returns when another connection is needed.
async fn watch_over(mut connection: MultiplexedConnection, store: &Weak<Store>, events: &Option<Events>, was_up: &mut bool) {
    let mut late = 0;
    loop {
        let Some(alive) = store.upgrade() else { return };
        if late == 0 {
            let _ = tokio::time::timeout(PING_EVERY, alive.trouble.notified()).await;
        }
        let pong = tokio::time::timeout(PING, redis::cmd("PING").query_async::<redis::Value>(&mut connection)).await;
        let good = matches!(pong, Ok(Ok(_)));
        alive.link.send_if_modified(|link| {
            let changed = good != matches!(link, Link::Up(_));
            if changed {
                *link = if good { Link::Up(connection.clone()) } else { Link::Down };
            }
            changed
        });
        let reason = match &pong {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {PING:?}")),
        };
        tell(&alive, events, was_up, reason.as_deref().map_or(Ok(()), Err));
        late = if good { 0 } else { late + 1 };
        // A stalled server answers the same connection when it goes on; a lost one never does.
        if matches!(pong, Ok(Err(_))) || late == 2 {
            return;
        }
    }
}

fn tell(store: &Store, events: &Option<Events>, was_up: &mut bool, state: Result<(), &str>) {
    if std::mem::replace(was_up, state.is_ok()) == state.is_ok() {
        return;
    }
    if let Some(events) = events {
        match state {
            Ok(()) => events("info", "store_recovered", format!("Redis {} answers again", store.label)),
            Err(reason) => {
                let message = format!("Redis {} can't be used ({reason}); each policy does what its fail_mode says", store.label);
                events("warn", "store_lost", message);
            }
        }
    }
}

/// Stores in use, one for each URL and CA.
#[derive(Clone, Default)]
pub struct Stores(Arc<Mutex<Vec<Known>>>);

type Known = ((String, Option<Vec<u8>>), Weak<Store>);

impl Stores {
    /// The store of a URL and a CA: the one in use, else a new one.
    pub fn get(
        &self,
        url: &str,
        ca: Option<Vec<u8>>,
        runtime: Option<&tokio::runtime::Handle>,
        events: Option<&Events>,
    ) -> Result<Arc<Store>, String> {
        let mut stores = self.0.lock();
        stores.retain(|(_, store)| store.strong_count() > 0);
        if let Some(store) = stores.iter().find(|((known, with), _)| known == url && *with == ca).and_then(|(_, store)| store.upgrade()) {
            return Ok(store);
        }
        let store = Store::open(url, ca.clone(), runtime, events.cloned())?;
        stores.push(((url.to_owned(), ca), Arc::downgrade(&store)));
        Ok(store)
    }

    /// State of each.
    pub fn states(&self) -> Vec<StoreState> {
        self.0.lock().iter().filter_map(|(_, store)| Some(store.upgrade()?.state())).collect()
    }
}
