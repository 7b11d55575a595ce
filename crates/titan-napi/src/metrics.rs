//! The metrics page is rendered by JavaScript (prom-client); the data plane asks for it through here.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use napi::Status;
use napi::bindgen_prelude::Unknown;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use titan_core::gateway::MetricsPage;
use tokio::sync::oneshot;

/// Calls JavaScript with the id of a question; weak, and refused rather than queued beyond a few.
pub type Ask = ThreadsafeFunction<u32, Unknown<'static>, u32, Status, false, true, 16>;

type Reply = Result<(String, Bytes), String>;

/// Questions on their way to JavaScript.
pub struct MetricsBridge {
    ask: Ask,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    last: u32,
    waiting: HashMap<u32, oneshot::Sender<Reply>>,
}

impl MetricsBridge {
    /// A bridge to `ask`.
    pub fn new(ask: Ask) -> Arc<Self> {
        Arc::new(Self { ask, pending: Mutex::default() })
    }

    /// JavaScript's answer; one that comes after its deadline is dropped.
    pub fn answer(&self, id: u32, reply: Reply) {
        if let Some(waiting) = self.pending().waiting.remove(&id) {
            let _ = waiting.send(reply);
        }
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn question(&self) -> Result<oneshot::Receiver<Reply>, String> {
        let (sender, receiver) = oneshot::channel();
        let id = {
            let mut pending = self.pending();
            // Those whose asker gave up, for instance while the event loop was stuck.
            pending.waiting.retain(|_, waiting| !waiting.is_closed());
            pending.last = pending.last.wrapping_add(1);
            let id = pending.last;
            pending.waiting.insert(id, sender);
            id
        };
        match self.ask.call(id, ThreadsafeFunctionCallMode::NonBlocking) {
            Status::Ok => Ok(receiver),
            status => {
                self.pending().waiting.remove(&id);
                Err(format!("JavaScript cannot be asked: {status}"))
            }
        }
    }
}

impl MetricsPage for MetricsBridge {
    fn render(&self) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        let asked = self.question();
        Box::pin(async move { asked?.await.unwrap_or_else(|_| Err("the gateway is closing".into())) })
    }
}
