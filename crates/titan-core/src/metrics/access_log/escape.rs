//! Values into lines: whatever a client sends, a line stays one line and a JSON line stays JSON.

use std::io::Write as _;

/// Bytes that a JSON string and a quoted text value take as they are.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7F {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

/// Appends the inside of a JSON string. Bytes that are not UTF-8 become `\u00XX`.
pub(super) fn json(value: &[u8], out: &mut Vec<u8>) {
    // Without a way out in between, so that many bytes are looked at at once.
    let special = value.iter().fold(false, |special, &byte| special | !(b' '..=b'~').contains(&byte) | (byte == b'"') | (byte == b'\\'));
    if !special {
        return out.extend_from_slice(value);
    }
    for chunk in value.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                // Also DEL, C1 controls and the line separators that some viewers break lines at.
                '\0'..='\x1F' | '\x7F'..='\u{9F}' | '\u{2028}' | '\u{2029}' => {
                    let _ = write!(out, "\\u{:04x}", char as u32);
                }
                char => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\u00{byte:02x}");
        }
    }
}

/// Appends a value of a text line: bare where it is one plain word, else quoted with `\"`, `\\` and `\xHH`.
pub(super) fn text(value: &[u8], out: &mut Vec<u8>) {
    if value.is_empty() {
        return out.extend_from_slice(b"\"\"");
    }
    if value != b"-" && value.iter().all(|&byte| PLAIN[byte as usize] && byte != b' ' && byte != b'=') {
        return out.extend_from_slice(value);
    }
    out.push(b'"');
    for &byte in value {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            byte if PLAIN[byte as usize] => out.push(byte),
            byte => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out.push(b'"');
}
