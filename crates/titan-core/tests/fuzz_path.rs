//! Fuzzing of the path normaliser against a slow reference that does it in whole passes: decode, split, resolve, encode. Bounded by
//! `TITAN_FUZZ_MS` (default 1500).

#[path = "support/fuzz.rs"]
mod fuzz;

use fuzz::{Rng, mutate};
use titan_core::http::path;

/// A byte of a path, and whether it was percent-encoded.
type Unit = (u8, bool);

fn decode(raw: &[u8]) -> Option<Vec<Unit>> {
    let mut units = Vec::new();
    let mut i = 0;
    while i < raw.len() {
        if raw[i] == b'%' {
            let digits = std::str::from_utf8(raw.get(i + 1..i + 3)?).ok()?;
            if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            units.push((u8::from_str_radix(digits, 16).ok()?, true));
            i += 3;
        } else {
            units.push((raw[i], false));
            i += 1;
        }
    }
    Some(units)
}

/// The default rules, by the table in the module's documentation.
fn reference(raw: &[u8]) -> Option<Vec<u8>> {
    if raw == b"*" {
        return Some(raw.to_vec());
    }
    let units = decode(raw)?;
    if units.iter().any(|u| u.0 == 0 || matches!(u, (b'/' | b'\\', true))) || !matches!(raw.first(), Some(b'/' | b'\\')) {
        return None;
    }
    let segments: Vec<Vec<Unit>> = units[1..]
        .split(|u| matches!(u, (b'/' | b'\\', false)))
        .map(|s| s.iter().copied().take_while(|u| *u != (b';', false)).collect())
        .collect();
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let mut directory = false;
    for segment in segments {
        let plain: Vec<u8> = segment.iter().map(|u| u.0).collect();
        directory = matches!(&plain[..], b"" | b"." | b"..");
        match &plain[..] {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            _ => kept.push(segment.iter().flat_map(encode).collect()),
        }
    }
    let mut out = b"/".to_vec();
    out.extend(kept.join(&b'/'));
    if directory && !kept.is_empty() {
        out.push(b'/');
    }
    Some(out)
}

fn encode(&(b, encoded): &Unit) -> Vec<u8> {
    let literal = b.is_ascii_alphanumeric() || b"-._~!$&'()*,=:@".contains(&b) || (b == b'+' && !encoded);
    if literal { vec![b] } else { format!("%{b:02X}").into_bytes() }
}

const SEEDS: &[&[u8]] =
    &[b"/a/b/c", b"/a/../b/./c//d", b"/a%2e%2e/%2E/x;y=z/", b"\\a\\..\\b", b"/..;/admin", b"/caf\xc3\xa9/%41+%2b", b"/a/%2e%2e%3b/b", b"*"];
const WORDS: &[&[u8]] = &[
    b"/", b"//", b".", b"..", b"/../", b"/./", b"%2e", b"%2E%2e", b"%2f", b"%5C", b"\\", b";", b"%3b", b"%00", b"%", b"%4", b"%7e",
    b"%C3%a9", b"+", b"%2B", b"\"", b"%25", b"*",
];

#[test]
fn the_normaliser_agrees_with_the_reference() {
    let (mut rng, stop) = (Rng::new(0x5eed_0003), fuzz::deadline());
    let mut accepted = 0;
    while std::time::Instant::now() < stop {
        let seed = rng.state();
        let raw = mutate(&mut rng, SEEDS, WORDS);
        let got = path::normalise(&raw).ok().map(|n| n.0.into_owned());
        accepted += usize::from(got.is_some());
        let text = |v: &Option<Vec<u8>>| v.as_ref().map(|v| String::from_utf8_lossy(v).into_owned());
        let want = reference(&raw);
        assert_eq!(got, want, "seed {seed}, {:?}: {:?}, {:?}", String::from_utf8_lossy(&raw), text(&got), text(&want));
        if let Some(once) = got {
            assert_eq!(path::normalise(&once).ok().map(|n| n.0.into_owned()), Some(once), "not idempotent, seed {seed}");
        }
    }
    assert!(accepted > 100);
}
