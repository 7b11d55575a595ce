//! Policies that change bodies.

use serde::Deserialize;

/// Compression of answers (RFC 9110 §8.4). One compressed answer takes up to about 6 MiB at the default levels
/// (brotli; the others less).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Compression {
    /// Codings in the server's order of preference: `zstd`, `br`, `gzip`.
    pub algorithms: Vec<Coding>,
    /// Smaller answers are not compressed. An answer of unknown length is.
    pub min_size: u64,
    /// 1–9.
    pub gzip_level: u32,
    /// 1–19.
    pub zstd_level: i32,
    /// 0–11.
    pub brotli_level: u32,
    /// Media types compressed: exact, or `text/*`. Empty = the built-in list of text formats.
    pub content_types: Vec<String>,
    /// Media types never compressed; wins over `content_types`.
    pub excluded_content_types: Vec<String>,
    /// Match paths (exact, or a prefix when ending in `*`) whose answers are not compressed: secrets beside reflected input (BREACH).
    pub disable_for_paths: Vec<String>,
    /// Answers that set a cookie are not compressed (BREACH).
    pub disable_when_setting_cookies: bool,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            algorithms: vec![Coding::Zstd, Coding::Gzip, Coding::Br],
            min_size: 1024,
            gzip_level: 6,
            zstd_level: 5,
            brotli_level: 4,
            content_types: Vec::new(),
            excluded_content_types: Vec::new(),
            disable_for_paths: Vec::new(),
            disable_when_setting_cookies: true,
        }
    }
}

/// Content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coding {
    /// Zstandard (RFC 8878).
    Zstd,
    /// Brotli (RFC 7932).
    Br,
    /// gzip (RFC 1952).
    Gzip,
}

/// Rules for the fields of JSON bodies (`application/json` and `+json`), in order.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JsonBody {
    /// On requests.
    pub request: Vec<JsonRule>,
    /// On answers.
    pub response: Vec<JsonRule>,
    /// Largest body that is buffered: a larger request gets 413, a larger answer 502.
    pub max_body: u64,
}

impl Default for JsonBody {
    fn default() -> Self {
        Self { request: Vec::new(), response: Vec::new(), max_body: 1 << 20 }
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonRule {
    /// What to do.
    pub action: JsonAction,
    /// Member names and array indices joined by dots: `user.roles.0`. A dot in a name is written `\.`.
    pub field: String,
    /// Value of `add` and `modify`.
    #[serde(default)]
    pub value: serde_json::Value,
}

/// Action of a JSON rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JsonAction {
    /// Set where absent; objects on the way are made.
    Add,
    /// Set where present.
    Modify,
    /// Taken off where present.
    Remove,
}
