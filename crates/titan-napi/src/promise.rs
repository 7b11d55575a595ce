//! Promises settled by threads of this crate's own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use napi::bindgen_prelude::Object;
use napi::{Env, Error, Result, Status};

use crate::outcome::Outcome;

type Settle = Box<dyn FnOnce(Env) -> Result<Outcome> + Send>;

/// Runs `work` on a thread named `name` and returns the promise of its outcome. While it is pending, Node's event loop stays alive.
pub fn spawn<'env>(env: &'env Env, name: &str, work: impl FnOnce() -> Outcome + Send + 'static) -> Result<Object<'env>> {
    let (deferred, promise) = env.create_deferred::<Outcome, Settle>()?;
    let body = move || {
        let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Outcome::panicked(&*panic));
        deferred.resolve(Box::new(move |_| Ok(outcome)));
    };
    thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .map_err(|error| Error::new(Status::GenericFailure, format!("no thread could be started: {error}")))?;
    Ok(promise)
}
