//! What a call gave, as a value: JavaScript turns it into a `TitanError`.

use std::any::Any;

use napi_derive::napi;
use titan_core::config::Issue;

/// A problem found by the data plane; the path is in the native configuration.
#[napi(object)]
pub struct NativeIssue {
    /// Such as `upstreams[0].backends[1].host`.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Success, or a code with its message and issues.
#[napi(object)]
pub struct Outcome {
    /// One of the codes of `src/errors.ts`; absent = success.
    pub code: Option<String>,
    /// Why not.
    pub message: Option<String>,
    /// Every problem of a refused configuration; warnings about an accepted one.
    pub issues: Vec<NativeIssue>,
    /// Generation of the configuration that is now served.
    pub generation: Option<f64>,
}

impl Outcome {
    /// Success.
    pub fn ok(generation: Option<u64>) -> Self {
        Self { code: None, message: None, issues: Vec::new(), generation: generation.map(|n| n as f64) }
    }

    /// Success, with what is to be said nevertheless.
    pub fn warned(warnings: Vec<Issue>) -> Self {
        Self { issues: shown(warnings), ..Self::ok(None) }
    }

    /// A failure with its code.
    pub fn fail(code: &str, message: impl Into<String>) -> Self {
        Self { code: Some(code.into()), message: Some(message.into()), issues: Vec::new(), generation: None }
    }

    /// A configuration that was refused.
    pub fn refused(issues: Vec<Issue>) -> Self {
        let message = issues.first().map_or_else(|| "refused without a reason".into(), ToString::to_string);
        Self { issues: shown(issues), ..Self::fail("TITAN_CONFIG_INVALID", message) }
    }

    /// A panic that was caught.
    pub fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::fail("TITAN_NATIVE_PANIC", text.unwrap_or("panic without a message"))
    }
}

fn shown(issues: Vec<Issue>) -> Vec<NativeIssue> {
    issues.into_iter().map(|issue| NativeIssue { path: issue.path, message: issue.message }).collect()
}
