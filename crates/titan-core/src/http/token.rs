//! Byte classes of HTTP, as one table: a lookup and a mask a byte.

/// `tchar` (RFC 9110 §5.6.2): methods and field names.
pub const TCHAR: u8 = 1;
/// May stand in a field value: HTAB, SP, VCHAR, obs-text.
pub const VALUE: u8 = 2;
/// May stand in a request target: VCHAR and obs-text. (Which of them a path may hold is [`super::path`]'s matter.)
pub const TARGET: u8 = 4;
/// May stand in a host name (RFC 3986 §3.2.2 without percent-encoding).
pub const HOST: u8 = 8;
/// Stands for itself in a normalised path segment: unreserved, sub-delims but `;` and `+`, `:`, `@`.
pub const SEGMENT: u8 = 16;
/// Hexadecimal digit.
pub const HEX: u8 = 32;
/// A name byte that is kept as it is when lowered: a `tchar` but no upper-case letter.
pub const LOWER: u8 = 64;

/// `_`.
pub const UNDERSCORE: u8 = 128;

/// Classes of each byte.
pub static CLASS: [u8; 256] = table();

const fn has(set: &[u8], b: u8) -> bool {
    let mut i = 0;
    while i < set.len() {
        if set[i] == b {
            return true;
        }
        i += 1;
    }
    false
}

const fn table() -> [u8; 256] {
    let mut t = [0; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        let mut c = 0;
        if b.is_ascii_alphanumeric() || has(b"!#$%&'*+-.^_`|~", b) {
            c |= TCHAR;
            if !b.is_ascii_uppercase() {
                c |= LOWER;
            }
        }
        if b == b'\t' || (b >= 0x20 && b != 0x7f) {
            c |= VALUE;
        }
        if b > 0x20 && b != 0x7f {
            c |= TARGET;
        }
        // The grammar also allows sub-delims (`,` among them) and percent-encoding; no host has them, and readers differ about what they mean.
        if b.is_ascii_alphanumeric() || has(b"-._~", b) {
            c |= HOST;
        }
        if b.is_ascii_alphanumeric() || has(b"-._~!$&'()*,=:@", b) {
            c |= SEGMENT;
        }
        if b.is_ascii_hexdigit() {
            c |= HEX;
        }
        if b == b'_' {
            c |= UNDERSCORE;
        }
        t[i] = c;
        i += 1;
    }
    t
}

/// Whether a byte has any class of the mask.
#[inline(always)]
pub fn is(b: u8, mask: u8) -> bool {
    CLASS[b as usize] & mask != 0
}

/// Whether every byte has a class of the mask.
#[inline]
pub fn all(bytes: &[u8], mask: u8) -> bool {
    bytes.iter().all(|&b| is(b, mask))
}

/// A non-empty token: a method or a field name.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TCHAR)
}

/// A field value without control bytes.
pub fn is_value(bytes: &[u8]) -> bool {
    super::scan::value_end(bytes, 0) == bytes.len()
}

/// Value of a hexadecimal digit.
#[inline]
pub fn hex(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

/// Without optional white space (SP, HTAB) on either side.
#[inline]
pub fn trim(mut s: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = s {
        s = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = s {
        s = rest;
    }
    s
}

/// Elements of a comma-separated list, trimmed, empty ones left out.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim).filter(|e| !e.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_the_grammar() {
        assert!(is_token(b"X-Thing_1!") && !is_token(b"") && !is_token(b"a b") && !is_token(b"a:b") && !is_token("é".as_bytes()));
        assert!(is_value(b"a\tb \xe9") && !is_value(b"a\0") && !is_value(b"a\r") && !is_value(b"a\n") && !is_value(b"\x7f"));
        assert!(!is(b' ', TARGET) && !is(b'\t', TARGET) && is(b'#', TARGET));
        assert!(!is(b';', SEGMENT) && !is(b'+', SEGMENT) && !is(b'/', SEGMENT) && !is(b'%', SEGMENT) && is(b':', SEGMENT));
        assert!(!is(b'@', HOST) && !is(b':', HOST) && !is(b'%', HOST) && is(b'_', HOST));
    }

    #[test]
    fn lists_are_split_and_trimmed() {
        let v: Vec<_> = list(b" a,, b\t,c ,").collect();
        assert_eq!(v, [b"a", b"b", b"c"]);
    }
}
