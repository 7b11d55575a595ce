//! Promises settled by threads of this crate's own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use napi::bindgen_prelude::{Object, ToNapiValue};
use napi::{Env, Error, Result, Status};

use crate::outcome::Outcome;

type Settle<T> = Box<dyn FnOnce(Env) -> Result<T> + Send>;

/// Runs `work` on a thread named `name` and returns the promise of its outcome. While it is pending, Node's event loop stays alive.
pub fn spawn<'env>(env: &'env Env, name: &str, work: impl FnOnce() -> Outcome + Send + 'static) -> Result<Object<'env>> {
    spawn_with(env, name, work, |panic| panic)
}

/// The same for other values; `panicked` makes one of a panic.
pub fn spawn_with<'env, T: ToNapiValue + Send + 'static>(
    env: &'env Env,
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
    panicked: impl FnOnce(Outcome) -> T + Send + 'static,
) -> Result<Object<'env>> {
    let (deferred, promise) = env.create_deferred::<T, Settle<T>>()?;
    let body = move || {
        let value = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| panicked(Outcome::panicked(&*panic)));
        deferred.resolve(Box::new(move |_| Ok(value)));
    };
    thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .map_err(|error| Error::new(Status::GenericFailure, format!("no thread could be started: {error}")))?;
    Ok(promise)
}
