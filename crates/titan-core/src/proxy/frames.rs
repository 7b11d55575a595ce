//! Where WebSocket frames begin and end (RFC 6455 §5.2), so that a tunnel can say goodbye between two of them. Payload is not looked at.

/// Close with 1001 (going away), as a server sends it.
pub(super) const CLOSE_TO_CLIENT: &[u8] = &[0x88, 0x02, 0x03, 0xe9];
/// The same as a client sends it: masked, with a key that hides nothing because there is nothing to hide.
pub(super) const CLOSE_TO_SERVER: &[u8] = &[0x88, 0x82, 0x1a, 0x2b, 0x3c, 0x4d, 0x03 ^ 0x1a, 0xe9 ^ 0x2b];

/// Longest header: two bytes, eight of length, four of mask.
const LONGEST: usize = 14;

/// Follows the frames of one direction.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Frames {
    /// Payload left of the frame.
    left: u64,
    header: [u8; LONGEST],
    have: u8,
}

impl Frames {
    /// Whether the next byte begins a frame.
    pub(super) fn at_boundary(&self) -> bool {
        self.left == 0 && self.have == 0
    }

    /// These bytes have passed.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left != 0 {
                let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= n as u64;
                bytes = &bytes[n..];
                continue;
            }
            self.header[usize::from(self.have)] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if usize::from(self.have) == self.header_length() {
                self.left = self.payload_length();
                self.have = 0;
            }
        }
    }

    /// Length of the header, as far as the bytes so far tell it.
    fn header_length(&self) -> usize {
        if self.have < 2 {
            return LONGEST;
        }
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if self.header[1] & 0x80 == 0 { 0 } else { 4 }
    }

    fn payload_length(&self) -> u64 {
        let h = &self.header;
        match h[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([h[2], h[3]])),
            127 => u64::from_be_bytes([h[2], h[3], h[4], h[5], h[6], h[7], h[8], h[9]]),
            n => u64::from(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(masked: bool, length: usize) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut out = vec![0x82];
        match length {
            0..=125 => out.push(mask | length as u8),
            126..=65_535 => {
                out.push(mask | 126);
                out.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                out.push(mask | 127);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        out.extend(std::iter::repeat_n(0x7e, if masked { 4 } else { 0 } + length));
        out
    }

    #[test]
    fn boundaries_are_found_whatever_the_pieces() {
        for masked in [false, true] {
            for length in [0, 1, 125, 126, 65_535, 65_536] {
                let bytes = frame(masked, length);
                for step in [1, 3, 1_000, bytes.len()] {
                    let mut frames = Frames::default();
                    for (n, piece) in bytes.chunks(step).enumerate() {
                        assert_eq!(frames.at_boundary(), n == 0, "{masked} {length} {step}");
                        frames.advance(piece);
                    }
                    assert!(frames.at_boundary(), "{masked} {length} {step}");
                }
            }
        }
        let mut frames = Frames::default();
        frames.advance(CLOSE_TO_SERVER);
        frames.advance(CLOSE_TO_CLIENT);
        assert!(frames.at_boundary());
    }
}
