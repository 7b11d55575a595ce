//! Revoked tokens shared by every Titan on one Redis.
//!
//! Each Titan keeps the whole list in memory, so that a request asks nobody; a task writes its own revocations and reads the others' four
//! times a second. What could not be written while Redis was away is written when it is back.
//!
//! `<prefix>revoked` is a sorted set of `exp jti` by the time of revocation, `<prefix>revoked:exp` the same by the time of forgetting.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use redis::Script;
use tokio::sync::Notify;

use super::Store;
use crate::auth::Revocations;

const EVERY: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_millis(1_000);
/// Read again at each turn: what another Titan wrote before us may become visible after us.
const OVERLAP_MS: i64 = 5_000;

/// Writes one revocation by the server's clock, and forgets some that have expired.
const WRITE: &str = r"
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', t[1], 'LIMIT', 0, 100)) do
  redis.call('ZREM', KEYS[1], old)
  redis.call('ZREM', KEYS[2], old)
end
return 1";

/// A list shared through a store.
pub struct SharedRevocations {
    unwritten: Mutex<Vec<(String, Option<u64>)>>,
    written: Notify,
    task: OnceLock<tokio::task::AbortHandle>,
}

impl Drop for SharedRevocations {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl SharedRevocations {
    /// Keeps `list` the same as everybody else's while it lives.
    pub fn start(store: Arc<Store>, prefix: &str, list: Arc<Revocations>, runtime: Option<&tokio::runtime::Handle>) -> Arc<Self> {
        let keys = [format!("{prefix}revoked"), format!("{prefix}revoked:exp")];
        let sync = Sync { store, list, keys, write: Script::new(WRITE), cursor: 0 };
        // Whole before the task begins, which ends where there is nobody to sync for.
        let shared = Arc::new(Self { unwritten: Mutex::default(), written: Notify::new(), task: OnceLock::new() });
        if let Some(runtime) = runtime {
            let task = runtime.spawn(run(sync, Arc::downgrade(&shared)));
            let _ = shared.task.set(task.abort_handle());
        }
        shared
    }

    /// Tells the others.
    pub fn publish(&self, jti: &str, expires_at: Option<u64>) {
        self.unwritten.lock().push((jti.to_owned(), expires_at));
        self.written.notify_one();
    }
}

struct Sync {
    store: Arc<Store>,
    list: Arc<Revocations>,
    keys: [String; 2],
    write: Script,
    /// Time of the newest revocation read, by the server's clock.
    cursor: i64,
}

async fn run(mut sync: Sync, shared: Weak<SharedRevocations>) {
    loop {
        let Some(alive) = shared.upgrade() else { return };
        let pending = std::mem::take(&mut *alive.unwritten.lock());
        for (i, (jti, exp)) in pending.iter().enumerate() {
            if sync.push(jti, *exp).await.is_err() {
                alive.unwritten.lock().splice(0..0, pending[i..].iter().cloned());
                break;
            }
        }
        let _ = sync.pull().await;
        let _ = tokio::time::timeout(EVERY, alive.written.notified()).await;
    }
}

impl Sync {
    async fn push(&self, jti: &str, exp: Option<u64>) -> Result<(), super::Unavailable> {
        let until = exp.map_or("+inf".to_owned(), |exp| exp.saturating_add(86_400).to_string());
        let member = format!("{} {jti}", exp.unwrap_or(0));
        let question = async |mut connection| {
            let mut call = self.write.key(&self.keys[0]);
            call.key(&self.keys[1]).arg(&member).arg(&until);
            call.invoke_async::<i64>(&mut connection).await
        };
        self.store.ask(TIMEOUT, question).await.map(drop)
    }

    async fn pull(&mut self) -> Result<(), super::Unavailable> {
        let from = self.cursor - OVERLAP_MS;
        let key = &self.keys[0];
        let question = async |mut connection| {
            let mut command = redis::cmd("ZRANGEBYSCORE");
            command.arg(key).arg(from).arg("+inf").arg("WITHSCORES");
            command.query_async::<Vec<(String, f64)>>(&mut connection).await
        };
        for (member, at) in self.store.ask(TIMEOUT, question).await? {
            self.cursor = self.cursor.max(at as i64);
            if let Some((exp, jti)) = member.split_once(' ') {
                self.list.revoke(jti, exp.parse().ok().filter(|exp| *exp != 0));
            }
        }
        Ok(())
    }
}
