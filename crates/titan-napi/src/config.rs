//! Looks at a configuration without serving it.

use napi::bindgen_prelude::Object;
use napi::{Env, Error, Result, Status};
use napi_derive::napi;
use titan_core::config::compile::{Services, compile};
use titan_core::config::raw;
use titan_core::explain;
use titan_core::snapshot::Snapshot;

use crate::outcome::Outcome;
use crate::promise;

/// The native shape is made by this package's own JavaScript: what does not fit it is another version's, or a bug.
pub fn parse(config: &str) -> std::result::Result<raw::Config, Outcome> {
    serde_json::from_str(config)
        .map_err(|error| Outcome::fail("TITAN_NATIVE_VERSION", format!("the native configuration was not understood: {error}")))
}

/// Compiles a configuration, certificates and patterns included, and drops the result. The issues of one that is accepted are warnings.
#[napi(ts_return_type = "Promise<Outcome>")]
pub fn check_config<'env>(env: &'env Env, config: String) -> Result<Object<'env>> {
    promise::spawn(env, "titan-check", move || match compiled(&config) {
        Ok(snapshot) => Outcome::warned(
            snapshot.listeners.iter().filter_map(|listener| listener.tls.as_ref()).flat_map(|tls| tls.warnings()).cloned().collect(),
        ),
        Err(outcome) => outcome,
    })
}

fn compiled(config: &str) -> std::result::Result<Snapshot, Outcome> {
    compile(&parse(config)?, None, &Services::detached()).map_err(Outcome::refused)
}

/// JSON in and out: which route a request would take under a configuration, and why.
#[napi(catch_unwind)]
pub fn explain_config(config: String, request: String) -> Result<String> {
    let invalid = |reason: String| Error::new(Status::InvalidArg, reason);
    let config = parse(&config).map_err(|outcome| invalid(outcome.message.unwrap_or_default()))?;
    let request = serde_json::from_str(&request).map_err(|error| invalid(error.to_string()))?;
    let explanation =
        explain::explain(&config, &request).map_err(|issues| invalid(Outcome::refused(issues).message.unwrap_or_default()))?;
    serde_json::to_string(&explanation).map_err(|error| invalid(error.to_string()))
}
