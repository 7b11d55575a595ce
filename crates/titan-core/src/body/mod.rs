//! What happens to a body on its way. A route with none of it passes bytes untouched.
//!
//! The proxy asks [`Compression::decide`](compress::Compression::decide) once the answer's head is known and streams the body through a
//! [`encoder::Encoder`]; [`json::JsonRules`] need the whole document, so that body is held within their limit.

pub mod compress;
pub mod decoder;
pub mod encoder;
pub mod json;

use std::sync::Arc;

use crate::config::Issue;
use crate::config::raw::{self, PolicyKind};

use compress::Compression;
use json::JsonPolicy;

/// What a route does to its bodies.
#[derive(Debug, Clone, Default)]
pub struct BodyPlan {
    /// Answers are compressed.
    pub compression: Option<Arc<Compression>>,
    /// Fields of JSON bodies are changed.
    pub json: Option<Arc<JsonPolicy>>,
}

impl BodyPlan {
    /// The plan of one policy; empty for those that leave bodies alone.
    pub fn compile(policy: &raw::Policy, issues: &mut Vec<Issue>) -> Self {
        match &policy.kind {
            PolicyKind::Compression(raw) => Self { compression: Some(Arc::new(Compression::new(raw))), json: None },
            PolicyKind::JsonBody(raw) => Self { compression: None, json: Some(Arc::new(JsonPolicy::compile(&policy.name, raw, issues))) },
            _ => Self::default(),
        }
    }

    /// Whether bodies pass untouched.
    pub fn is_pass_through(&self) -> bool {
        self.compression.is_none() && self.json.is_none()
    }

    /// Both plans; this one's parts win.
    pub fn and(self, other: &Self) -> Self {
        Self { compression: self.compression.or_else(|| other.compression.clone()), json: self.json.or_else(|| other.json.clone()) }
    }

    /// Type of the policy that the plan came from.
    pub fn kind(&self) -> Option<&'static str> {
        match (&self.compression, &self.json) {
            (Some(_), _) => Some("compression"),
            (_, Some(_)) => Some("json_body"),
            (None, None) => None,
        }
    }
}
