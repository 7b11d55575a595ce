//! What both sides read of HTTP/1.1: where a head ends, the status, the body's length. Strict enough to notice a broken answer.

/// End of the head (after the blank line), looked for from `from` on.
pub fn head_end(buf: &[u8], from: usize) -> Option<usize> {
    let start = from.saturating_sub(3);
    buf[start..].windows(4).position(|window| window == b"\r\n\r\n").map(|at| start + at + 4)
}

/// Value of a header, name compared without case.
pub fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|&byte| byte == b'\n').skip(1).find_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
    })
}

/// Decimal number.
pub fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Head of an answer: status, body length, whether the connection stays open.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub length: u64,
    pub keep: bool,
}

/// Parses an answer's head; `None` = not something this client can count (chunked, read-until-close, garbage).
pub fn answer(head: &[u8]) -> Option<Answer> {
    if !head.starts_with(b"HTTP/1.1 ") {
        return None;
    }
    let status = number(head.get(9..12)?)? as u16;
    let length = match header(head, "content-length") {
        Some(value) => number(value)?,
        None if status == 204 || status == 304 || status == 101 => 0,
        None => return None,
    };
    let keep = !header(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
    Some(Answer { status, length, keep })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_answer() {
        let head = b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-LENGTH: 12\r\nConnection: close\r\n\r\n";
        assert_eq!(answer(head), Some(Answer { status: 200, length: 12, keep: false }));
        assert_eq!(answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), None);
        assert_eq!(answer(b"HTTP/1.1 204 No Content\r\n\r\n"), Some(Answer { status: 204, length: 0, keep: true }));
    }

    #[test]
    fn finds_a_head_that_arrives_in_two_reads() {
        let head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nrest";
        for split in 0..28 {
            let first = head_end(&head[..split], 0);
            assert_eq!(first.or_else(|| head_end(head, split)), Some(27), "split at {split}");
        }
    }
}
