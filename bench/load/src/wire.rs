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

/// Head of an answer: status, body, whether the connection stays open.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Body,
    pub keep: bool,
}

/// What is still to come of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
}

/// Place in a chunked body. Extensions and trailers are read over.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Chunks {
    /// In a size line; the digits so far, and whether they have ended.
    Size(u64, bool),
    /// This many bytes of data are to come.
    Data(u64),
    /// In the line break behind data.
    Break,
    /// In the trailers; bytes of the line so far.
    Trailer(usize),
    /// All of it was read.
    Done,
}

impl Body {
    /// Takes bytes; how many belong to the body, and whether it has ended. `None` = it breaks its framing.
    pub fn take(&mut self, data: &[u8]) -> Option<(usize, bool)> {
        match self {
            Self::Length(left) => {
                let count = (data.len() as u64).min(*left);
                *left -= count;
                Some((count as usize, *left == 0))
            }
            Self::Chunked(place) => {
                let count = place.take(data)?;
                Some((count, *place == Chunks::Done))
            }
        }
    }
}

impl Chunks {
    fn take(&mut self, data: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < data.len() && *self != Self::Done {
            if let Self::Data(left) = *self {
                let count = ((data.len() - at) as u64).min(left);
                at += count as usize;
                *self = if left == count { Self::Break } else { Self::Data(left - count) };
                continue;
            }
            let byte = data[at];
            at += 1;
            *self = match (*self, byte) {
                (Self::Size(0, true), b'\n') => Self::Trailer(0),
                (Self::Size(size, true), b'\n') => Self::Data(size),
                (Self::Size(size, _), b'\r' | b';') => Self::Size(size, true),
                (Self::Size(size, true), _) => Self::Size(size, true),
                (Self::Size(size, false), _) => Self::Size(size.checked_mul(16)? + u64::from(char::from(byte).to_digit(16)?), false),
                (Self::Break, b'\r') => Self::Break,
                (Self::Break, b'\n') => Self::Size(0, false),
                (Self::Trailer(0), b'\n') => Self::Done,
                (Self::Trailer(_), b'\n') => Self::Trailer(0),
                (Self::Trailer(line), b'\r') => Self::Trailer(line),
                (Self::Trailer(line), _) => Self::Trailer(line + 1),
                _ => return None,
            };
        }
        Some(at)
    }
}

/// Parses an answer's head; `None` = not something this client can count (read-until-close, garbage).
pub fn answer(head: &[u8]) -> Option<Answer> {
    if !head.starts_with(b"HTTP/1.1 ") {
        return None;
    }
    let status = number(head.get(9..12)?)? as u16;
    let body = match header(head, "content-length") {
        Some(value) => Body::Length(number(value)?),
        None if status == 204 || status == 304 || status == 101 => Body::Length(0),
        None if header(head, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case(b"chunked")) => {
            Body::Chunked(Chunks::Size(0, false))
        }
        None => return None,
    };
    let keep = !header(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
    Some(Answer { status, body, keep })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_answer() {
        let head = b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-LENGTH: 12\r\nConnection: close\r\n\r\n";
        assert_eq!(answer(head), Some(Answer { status: 200, body: Body::Length(12), keep: false }));
        assert_eq!(answer(b"HTTP/1.1 200 OK\r\n\r\n"), None);
        let chunked = Body::Chunked(Chunks::Size(0, false));
        assert_eq!(
            answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Some(Answer { status: 200, body: chunked, keep: true })
        );
        assert_eq!(answer(b"HTTP/1.1 204 No Content\r\n\r\n"), Some(Answer { status: 204, body: Body::Length(0), keep: true }));
    }

    #[test]
    fn finds_a_head_that_arrives_in_two_reads() {
        let head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nrest";
        for split in 0..28 {
            let first = head_end(&head[..split], 0);
            assert_eq!(first.or_else(|| head_end(head, split)), Some(27), "split at {split}");
        }
    }

    #[test]
    fn reads_chunks_however_they_are_cut() {
        let text = b"a\r\n0123456789\r\n1F;name=x\r\n0123456789012345678901234567890\r\n0\r\nT: v\r\n\r\nnext";
        for step in 1..text.len() {
            let mut body = Body::Chunked(Chunks::Size(0, false));
            let mut read = 0;
            for piece in text.chunks(step) {
                let (count, ended) = body.take(piece).unwrap();
                read += count;
                if ended {
                    break;
                }
                assert_eq!(count, piece.len());
            }
            assert_eq!(&text[read..], b"next", "pieces of {step}");
        }
        assert_eq!(Body::Chunked(Chunks::Size(0, false)).take(b"xyz\r\n"), None);
    }
}
