//! Looks at a configuration without serving it.

use napi::bindgen_prelude::Object;
use napi::{Env, Error, Result, Status};
use napi_derive::napi;
use titan_core::config::compile::{Services, compile};
use titan_core::config::inspect::inspect;
use titan_core::config::raw;
use titan_core::explain;

use crate::outcome::Outcome;
use crate::promise;

/// The native shape is made by this package's own JavaScript: what does not fit it is another version's, or a bug.
pub fn parse(config: &str) -> std::result::Result<raw::Config, Outcome> {
    serde_json::from_str(config)
        .map_err(|error| Outcome::fail("TITAN_NATIVE_VERSION", format!("the native configuration was not understood: {error}")))
}

/// Compiles a configuration, certificates and patterns included, and drops the result. `thorough`: also looks for what is no error and may be
/// a mistake, and the names of backends up.
#[napi(ts_return_type = "Promise<Outcome>")]
pub fn check_config<'env>(env: &'env Env, config: String, thorough: bool) -> Result<Object<'env>> {
    promise::spawn(env, "titan-check", move || checked(&config, thorough).unwrap_or_else(|outcome| outcome))
}

fn checked(config: &str, thorough: bool) -> std::result::Result<Outcome, Outcome> {
    let config = parse(config)?;
    let snapshot = compile(&config, None, &Services::detached()).map_err(Outcome::refused)?;
    Ok(Outcome::warned(if thorough { inspect(&config, &snapshot) } else { Vec::new() }))
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
