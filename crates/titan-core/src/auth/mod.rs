//! Ways to authenticate: what a credential is worth, without knowing of routes or chains ([`crate::policy`] asks).

pub mod api_key;
pub mod basic;
mod blocking;
pub mod fetch;
mod generations;
mod identity;
pub mod jwt;
mod mtls;
mod revocation;

#[cfg(test)]
pub(crate) mod testing;

pub use identity::{Identity, IdentityKind};
pub use mtls::Mtls;
pub use revocation::Revocations;

/// Told of what is worth a log line: level, event name, sentence.
pub type Events = std::sync::Arc<dyn Fn(&'static str, &'static str, String) + Send + Sync>;

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Unpadded or padded base64 of either alphabet.
pub(crate) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    use base64::alphabet;
    use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let url = text.iter().any(|b| matches!(b, b'-' | b'_'));
    GeneralPurpose::new(if url { &alphabet::URL_SAFE } else { &alphabet::STANDARD }, config).decode(text).ok()
}

/// Hexadecimal digits of either case.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok().filter(|_| !text[i..].starts_with('+'))).collect()
}
