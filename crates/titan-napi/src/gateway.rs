//! The gateway as JavaScript sees it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use napi::bindgen_prelude::{Function, Object, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Error, Result, Status};
use napi_derive::napi;
use serde_json::json;
use titan_core::gateway::{Event, Gateway, Host};

use crate::config::parse;
use crate::metrics::MetricsBridge;
use crate::outcome::Outcome;
use crate::{promise, system};

/// Calls JavaScript with an event; weak, bounded: what JavaScript is too stuck to hear is dropped.
type Tell = ThreadsafeFunction<String, Unknown<'static>, String, Status, false, true, 4096>;

/// A data plane. Starts once.
#[napi]
pub struct NativeGateway {
    core: Arc<Core>,
    tell: Arc<Tell>,
    metrics: Arc<MetricsBridge>,
}

/// The gateway while there is one: none before it started, and none once it has ended, so that its threads and descriptors are given back
/// then and not when the garbage collector finds the object.
#[derive(Default)]
struct Core(Mutex<Slot>);

#[derive(Default)]
enum Slot {
    #[default]
    New,
    Starting,
    Running(Arc<Gateway>),
    Ended,
}

impl Core {
    fn get(&self) -> Option<Arc<Gateway>> {
        match &*self.slot() {
            Slot::Running(gateway) => Some(gateway.clone()),
            _ => None,
        }
    }

    /// Takes the right to start; false where that was done before.
    fn begin(&self) -> bool {
        let mut slot = self.slot();
        let first = matches!(*slot, Slot::New);
        if first {
            *slot = Slot::Starting;
        }
        first
    }

    fn set(&self, next: Slot) {
        let before = std::mem::replace(&mut *self.slot(), next);
        drop(before);
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[napi]
impl NativeGateway {
    /// `on_event` gets each event as JSON `{level, name, message, fields}`; `on_metrics` is asked for the metrics page and answers
    /// through `answerMetrics`.
    #[napi(constructor)]
    pub fn new(
        #[napi(ts_arg_type = "(event: string) => void")] on_event: Function<'_, String, Unknown<'static>>,
        #[napi(ts_arg_type = "(id: number) => void")] on_metrics: Function<'_, u32, Unknown<'static>>,
    ) -> Result<Self> {
        let tell = on_event.build_threadsafe_function().weak::<true>().max_queue_size::<4096>().build()?;
        let ask = on_metrics.build_threadsafe_function().weak::<true>().max_queue_size::<16>().build()?;
        Ok(Self { core: Arc::default(), tell: Arc::new(tell), metrics: MetricsBridge::new(ask) })
    }

    /// Compiles the configuration, binds its listeners, starts the shards. With `inherit`, sockets handed over by systemd are used.
    #[napi(ts_return_type = "Promise<Outcome>")]
    pub fn start<'env>(&self, env: &'env Env, config: String, inherit: bool) -> Result<Object<'env>> {
        let (core, tell, metrics) = (self.core.clone(), self.tell.clone(), self.metrics.clone());
        promise::spawn(env, "titan-start", move || {
            if !core.begin() {
                return Outcome::fail("TITAN_STATE", "the gateway was started before");
            }
            let config = match parse(&config) {
                Ok(config) => config,
                Err(outcome) => return outcome,
            };
            let host = Host {
                metrics: Some(metrics),
                events: Some(Arc::new(move |event: Event| {
                    tell.call(event_json(&event), ThreadsafeFunctionCallMode::NonBlocking);
                })),
                inherited: if inherit { system::inherited() } else { Vec::new() },
                rehearsal: None,
            };
            match Gateway::start(config, host) {
                Ok(gateway) => {
                    if inherit && system::is_successor() {
                        gateway.forget_inherited();
                    }
                    core.set(Slot::Running(Arc::new(gateway)));
                    Outcome::ok(Some(1))
                }
                Err(issues) => Outcome::refused(issues),
            }
        })
    }

    /// Compiles another configuration and publishes it to every shard. On failure nothing changed.
    #[napi(ts_return_type = "Promise<Outcome>")]
    pub fn apply<'env>(&self, env: &'env Env, config: String) -> Result<Object<'env>> {
        let core = self.core.clone();
        promise::spawn(env, "titan-apply", move || {
            // Compiling, and freeing what was before: neither is in as much of a hurry as requests are.
            titan_core::rt::priority::give_way();
            let Some(gateway) = core.get() else { return not_started() };
            match parse(&config) {
                Ok(config) => match gateway.apply(config) {
                    Ok(generation) => Outcome::ok(Some(generation)),
                    Err(issues) => Outcome::refused(issues),
                },
                Err(outcome) => outcome,
            }
        })
    }

    /// Resolves when the gateway has ended. Until then, Node's event loop stays alive.
    #[napi(ts_return_type = "Promise<Outcome>")]
    pub fn closed<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let core = self.core.clone();
        promise::spawn(env, "titan-closed", move || {
            let Some(gateway) = core.get() else { return not_started() };
            match tokio::runtime::Builder::new_current_thread().build() {
                Ok(runtime) => {
                    runtime.block_on(gateway.closed());
                    core.set(Slot::Ended);
                    Outcome::ok(None)
                }
                Err(error) => Outcome::fail("TITAN_START", format!("no runtime to wait on: {error}")),
            }
        })
    }

    /// Begins to drain; `closed` resolves at its end.
    #[napi(catch_unwind)]
    pub fn drain(&self) {
        if let Some(gateway) = self.core.get() {
            gateway.drain();
        }
    }

    /// Begins to drain in favour of a process that has the sockets: held connections are not refused. `closed` resolves at its end.
    #[napi(catch_unwind)]
    pub fn hand_over(&self) {
        if let Some(gateway) = self.core.get() {
            gateway.hand_over();
        }
    }

    /// JSON `[{name, fd}]`: duplicates of the listening sockets. Whoever asks must close them.
    #[napi(catch_unwind)]
    pub fn sockets(&self) -> Result<String> {
        #[cfg(unix)]
        {
            use std::os::fd::IntoRawFd;
            let sockets = self.running()?.sockets().map_err(|error| Error::new(Status::GenericFailure, error.to_string()))?;
            let list: Vec<_> = sockets.into_iter().map(|(name, socket)| json!({"name": &*name, "fd": socket.into_raw_fd()})).collect();
            Ok(serde_json::Value::from(list).to_string())
        }
        #[cfg(not(unix))]
        Err(Error::new(Status::GenericFailure, "sockets cannot be handed over on this system"))
    }

    /// Takes a backend (`upstream/host:port`) out of traffic, or back; answers how many endpoints are meant.
    #[napi(catch_unwind)]
    pub fn drain_backend(&self, target: String, on: bool) -> Result<u32> {
        let meant = self.running()?.drain_backend(&target, on).map_err(|reason| Error::new(Status::InvalidArg, reason))?;
        Ok(u32::try_from(meant).unwrap_or(u32::MAX))
    }

    /// Refuses the token `jti` from now on, on every shard at once and on every Titan that shares its revocations. `exp` is the token's expiry (Unix
    /// seconds), after which it need not be remembered.
    #[napi(catch_unwind)]
    pub fn revoke(&self, jti: String, exp: Option<f64>) -> Result<()> {
        let exp = exp.filter(|exp| *exp >= 0.0).map(|exp| exp as u64);
        self.running()?.revoke(&jti, exp);
        Ok(())
    }

    /// Cuts every connection and ends.
    #[napi(catch_unwind)]
    pub fn stop(&self) {
        if let Some(gateway) = self.core.get() {
            gateway.stop();
        }
    }

    /// JSON `[{name, address, port}]`.
    #[napi(catch_unwind)]
    pub fn addresses(&self) -> Result<String> {
        let addresses = self.running()?.addresses();
        let list: Vec<_> =
            addresses.iter().map(|(name, at)| json!({"name": name, "address": at.ip().to_string(), "port": at.port()})).collect();
        Ok(serde_json::Value::from(list).to_string())
    }

    /// JSON: lifecycle, generation, listeners, upstreams.
    #[napi(catch_unwind)]
    pub fn status(&self) -> Result<String> {
        Ok(self.running()?.status_json())
    }

    /// JSON: every native metric family.
    #[napi(catch_unwind)]
    pub fn metrics(&self) -> Result<String> {
        Ok(self.running()?.metrics_json())
    }

    /// JSON in and out: which route a request would take, why, and the state of its backends.
    #[napi(catch_unwind)]
    pub fn explain(&self, request: String) -> Result<String> {
        self.running()?.explain(&request).map_err(|reason| Error::new(Status::InvalidArg, reason))
    }

    /// The metrics page that was asked for with `id`; without a body, `reason` says why there is none.
    #[napi(catch_unwind)]
    pub fn answer_metrics(&self, id: u32, content_type: String, body: Option<String>, reason: Option<String>) {
        let reply = match body {
            Some(body) => Ok((content_type, Bytes::from(body))),
            None => Err(reason.unwrap_or_else(|| "no reason given".into())),
        };
        self.metrics.answer(id, reply);
    }

    fn running(&self) -> Result<Arc<Gateway>> {
        self.core.get().ok_or_else(|| Error::new(Status::GenericFailure, "the gateway is not running"))
    }
}

impl Drop for NativeGateway {
    /// The JavaScript object is gone, for instance because its worker ended: nobody could stop the shards later.
    fn drop(&mut self) {
        self.stop();
    }
}

fn not_started() -> Outcome {
    Outcome::fail("TITAN_STATE", "the gateway was not started")
}

fn event_json(event: &Event) -> String {
    let fields: serde_json::Map<_, _> = event.fields.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    json!({"level": event.level, "name": event.name, "message": event.message, "fields": fields}).to_string()
}
