//! Scanning: how far a run of bytes of one class reaches, eight bytes at a time.

use crate::http::token::{CLASS, TARGET, TCHAR, VALUE};

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The high bit of each byte that is below `n` or DEL. Borrows may mark a byte above a marked one, so only the lowest mark is exact.
#[inline(always)]
fn marks(x: u64, n: u64) -> u64 {
    let below = x.wrapping_sub(ONES * n) & !x;
    let del = x ^ (ONES * 0x7f);
    let del = del.wrapping_sub(ONES) & !del;
    (below | del) & HIGH
}

/// Index of the first byte at or after `i` that is below `n` or DEL, or of the last bytes (fewer than eight) when there is none before them.
#[inline(always)]
fn words(bytes: &[u8], mut i: usize, n: u64) -> (usize, bool) {
    while let Some(chunk) = bytes.get(i..i + 8) {
        let x = u64::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3], chunk[4], chunk[5], chunk[6], chunk[7]]);
        let m = marks(x, n);
        if m != 0 {
            return (i + (m.trailing_zeros() / 8) as usize, true);
        }
        i += 8;
    }
    (i, false)
}

/// End of a field value that begins at `i`: the first byte that may not stand in one.
#[inline]
pub fn value_end(bytes: &[u8], mut i: usize) -> usize {
    loop {
        let (at, found) = words(bytes, i, 0x20);
        i = at;
        if !found {
            while i < bytes.len() && CLASS[bytes[i] as usize] & VALUE != 0 {
                i += 1;
            }
            return i;
        }
        if bytes[i] != b'\t' {
            return i;
        }
        i += 1;
    }
}

/// End of a request target that begins at `i`.
#[inline]
pub fn target_end(bytes: &[u8], i: usize) -> usize {
    let (mut i, found) = words(bytes, i, 0x21);
    if !found {
        while i < bytes.len() && CLASS[bytes[i] as usize] & TARGET != 0 {
            i += 1;
        }
    }
    i
}

/// Index of the first colon at or after `i`; the length where there is none.
#[inline]
pub fn colon(bytes: &[u8], mut i: usize) -> usize {
    while let Some(chunk) = bytes.get(i..i + 8) {
        let x = u64::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3], chunk[4], chunk[5], chunk[6], chunk[7]]);
        let x = x ^ (ONES * b':' as u64);
        let m = x.wrapping_sub(ONES) & !x & HIGH;
        if m != 0 {
            return i + (m.trailing_zeros() / 8) as usize;
        }
        i += 8;
    }
    while i < bytes.len() && bytes[i] != b':' {
        i += 1;
    }
    i
}

/// End of a token that begins at `i`, and the classes of its bytes together.
#[inline]
pub fn token_end(bytes: &[u8], mut i: usize) -> (usize, u8) {
    let mut classes = 0;
    while i < bytes.len() {
        let c = CLASS[bytes[i] as usize];
        if c & TCHAR == 0 {
            break;
        }
        classes |= c;
        i += 1;
    }
    (i, classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_table_at_every_place_and_for_every_byte() {
        for b in 0..=255u8 {
            for at in 0..20 {
                let mut s = [b'a'; 20];
                s[at] = b;
                let end = |mask| s.iter().position(|&b| CLASS[b as usize] & mask == 0).unwrap_or(20);
                assert_eq!(value_end(&s, 0), end(VALUE), "{b} at {at}");
                assert_eq!(target_end(&s, 0), end(TARGET), "{b} at {at}");
                assert_eq!(token_end(&s, 0).0, end(TCHAR), "{b} at {at}");
                assert_eq!(colon(&s, 0), s.iter().position(|&b| b == b':').unwrap_or(20), "{b} at {at}");
            }
        }
    }
}
