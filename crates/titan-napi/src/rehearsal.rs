//! A gateway under test as JavaScript sees it: see `titan_core::rehearsal`.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use napi::bindgen_prelude::{Buffer, Object};
use napi::{Env, Error, Result, Status};
use napi_derive::napi;
use serde::Deserialize;
use titan_core::gateway::{Gateway, Host};
use titan_core::http::client::{ClientCertificate, TlsInfo};
use titan_core::rehearsal::{Arrival, Rehearsal, Rehearsed, Stream};

use crate::config::parse;
use crate::outcome::Outcome;
use crate::promise;

/// A data plane that binds no listener and reaches no backend.
#[napi]
#[derive(Default)]
pub struct NativeRehearsal {
    gateway: Arc<Mutex<Option<Arc<Gateway>>>>,
}

/// An answer, or why there is none.
#[napi(object, object_from_js = false)]
pub struct Sent {
    /// Why there is none.
    pub failure: Option<String>,
    /// Bytes of the answer.
    pub answer: Option<Buffer>,
    /// JSON: what was decided about the request; absent where its head could not be read.
    pub observation: Option<String>,
}

/// Whose request it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct From {
    listener: Option<String>,
    address: IpAddr,
    /// Server name of a TLS session; absent = plain.
    secure: Option<String>,
    certificate: Option<Certificate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Certificate {
    subject: String,
    common_name: Option<String>,
    #[serde(default)]
    sans: Vec<String>,
    #[serde(default)]
    fingerprint: String,
}

impl From {
    fn arrival(self, alpn: Option<&[u8]>) -> Arrival {
        let certificate = self.certificate.map(|c| ClientCertificate {
            subject: c.subject,
            common_name: c.common_name,
            sans: c.sans,
            fingerprint: c.fingerprint,
        });
        let tls = self.secure.map(|sni| TlsInfo { sni: Some(sni), alpn: alpn.map(Into::into), version: "TLSv1.3", certificate });
        // Any port will do: it is seen in logs only.
        Arrival { listener: self.listener, peer: SocketAddr::new(self.address, 49_152), tls }
    }
}

#[napi]
impl NativeRehearsal {
    /// One that has not begun.
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Compiles the configuration and starts its shards. Every connection to a backend goes to `backends` (`ip:port`) and begins with the
    /// line `TITAN-REHEARSAL token upstream host:port`.
    #[napi(ts_return_type = "Promise<Outcome>")]
    pub fn start<'env>(&self, env: &'env Env, config: String, backends: String, token: String) -> Result<Object<'env>> {
        let slot = self.gateway.clone();
        promise::spawn(env, "titan-start", move || {
            let config = match parse(&config) {
                Ok(config) => config,
                Err(outcome) => return outcome,
            };
            let Ok(backends) = backends.parse() else {
                return Outcome::fail("TITAN_USAGE", format!("{backends:?} is not an address"));
            };
            let host = Host { rehearsal: Some(Rehearsal::new(backends, token)), ..Host::default() };
            match Gateway::start(config, host) {
                Ok(gateway) => {
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(gateway));
                    Outcome::ok(Some(1))
                }
                Err(issues) => Outcome::refused(issues),
            }
        })
    }

    /// Sends the bytes of one request and gives those of its answer. `from` is JSON `{listener?, address, secure?, certificate?}`.
    #[napi(ts_return_type = "Promise<Sent>")]
    pub fn send<'env>(&self, env: &'env Env, from: String, request: Buffer, limit_ms: u32) -> Result<Object<'env>> {
        let gateway = self.running()?;
        let from: From = serde_json::from_str(&from).map_err(|error| Error::new(Status::InvalidArg, error.to_string()))?;
        let request = request.to_vec();
        sent(env, move || gateway.rehearse(from.arrival(None), request, Duration::from_millis(limit_ms.into())))
    }

    /// The same over HTTP/2. `head` is JSON `{method, scheme, authority, path, protocol?, headers: [name, value][]}`; the answer is written as
    /// HTTP/1.1 would write it, its body in chunks.
    #[napi(ts_return_type = "Promise<Sent>")]
    pub fn send_stream<'env>(&self, env: &'env Env, from: String, head: String, body: Buffer, limit_ms: u32) -> Result<Object<'env>> {
        let gateway = self.running()?;
        let wrong = |error: serde_json::Error| Error::new(Status::InvalidArg, error.to_string());
        let from: From = serde_json::from_str(&from).map_err(wrong)?;
        let head: Stream = serde_json::from_str(&head).map_err(wrong)?;
        let body = body.to_vec().into();
        sent(env, move || gateway.rehearse_stream(from.arrival(Some(b"h2")), &head, body, Duration::from_millis(limit_ms.into())))
    }

    /// JSON in and out: which route a request would take, and why.
    #[napi(catch_unwind)]
    pub fn explain(&self, request: String) -> Result<String> {
        self.running()?.explain(&request).map_err(|reason| Error::new(Status::InvalidArg, reason))
    }

    /// JSON: lifecycle, upstreams and the state of their backends.
    #[napi(catch_unwind)]
    pub fn status(&self) -> Result<String> {
        Ok(self.running()?.status_json())
    }

    /// Moves the clock of its limits ahead, and the process's, which circuits and ejections go by.
    #[napi(catch_unwind)]
    pub fn skip(&self, ms: u32) -> Result<()> {
        self.running()?.skip(Duration::from_millis(ms.into()));
        Ok(())
    }

    /// Ends it. Resolves when its threads have ended.
    #[napi(ts_return_type = "Promise<Outcome>")]
    pub fn close<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let gateway = self.gateway.lock().unwrap_or_else(PoisonError::into_inner).take();
        promise::spawn(env, "titan-closed", move || {
            let Some(gateway) = gateway else { return Outcome::ok(None) };
            gateway.stop();
            match tokio::runtime::Builder::new_current_thread().build() {
                Ok(runtime) => {
                    runtime.block_on(gateway.closed());
                    Outcome::ok(None)
                }
                Err(error) => Outcome::fail("TITAN_START", format!("no runtime to wait on: {error}")),
            }
        })
    }

    fn running(&self) -> Result<Arc<Gateway>> {
        let gateway = self.gateway.lock().unwrap_or_else(PoisonError::into_inner).clone();
        gateway.ok_or_else(|| Error::new(Status::GenericFailure, "the gateway is not running"))
    }
}

/// The promise of an answer.
fn sent<'env>(env: &'env Env, rehearse: impl FnOnce() -> std::result::Result<Rehearsed, String> + Send + 'static) -> Result<Object<'env>> {
    let failed = |failure: String| Sent { failure: Some(failure), answer: None, observation: None };
    promise::spawn_with(
        env,
        "titan-rehearse",
        move || match rehearse() {
            Ok(done) => Sent {
                failure: None,
                answer: Some(done.answer.into()),
                observation: done.observation.and_then(|seen| serde_json::to_string(&seen).ok()),
            },
            Err(failure) => failed(failure),
        },
        move |panic| failed(panic.message.unwrap_or_default()),
    )
}
