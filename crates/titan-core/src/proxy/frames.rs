//! Where WebSocket frames begin and end (RFC 6455 §5.2), so that a tunnel can say goodbye between two of them, and how large and how many they
//! are. Payload is not looked at.

use crate::route::FrameLimits;

/// Why Titan closes a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// 1001: the gateway drains, or nothing moved for too long.
    GoingAway,
    /// 1008: too many frames.
    TooMany,
    /// 1009: a frame or message is too large.
    TooBig,
}

impl Close {
    /// The frame as a server sends it.
    pub(super) fn to_client(self) -> &'static [u8] {
        match self {
            Self::GoingAway => &[0x88, 0x02, 0x03, 0xe9],
            Self::TooMany => &[0x88, 0x02, 0x03, 0xf0],
            Self::TooBig => &[0x88, 0x02, 0x03, 0xf1],
        }
    }

    /// The same as a client sends it: masked, with a key that hides nothing because there is nothing to hide.
    pub(super) fn to_server(self) -> &'static [u8] {
        match self {
            Self::GoingAway => &[0x88, 0x82, 0x1a, 0x2b, 0x3c, 0x4d, 0x03 ^ 0x1a, 0xe9 ^ 0x2b],
            Self::TooMany => &[0x88, 0x82, 0x1a, 0x2b, 0x3c, 0x4d, 0x03 ^ 0x1a, 0xf0 ^ 0x2b],
            Self::TooBig => &[0x88, 0x82, 0x1a, 0x2b, 0x3c, 0x4d, 0x03 ^ 0x1a, 0xf1 ^ 0x2b],
        }
    }
}

/// A frame that its limits do not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Breach {
    pub(super) close: Close,
    /// Bytes of the piece before the frame: they may still pass.
    pub(super) before: usize,
    /// No byte of the frame has passed with an earlier piece.
    pub(super) clean: bool,
}

/// Longest header: two bytes, eight of length, four of mask.
const LONGEST: usize = 14;

/// Follows the frames of one direction.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Frames {
    /// Payload left of the frame.
    left: u64,
    header: [u8; LONGEST],
    have: u8,
    limits: FrameLimits,
    /// Payload of the message so far.
    message: u64,
    /// Second in which frames are counted (of the coarse clock), and how many there were.
    second: u64,
    frames: u32,
}

impl Frames {
    /// Whether the next byte begins a frame.
    pub(super) fn at_boundary(&self) -> bool {
        self.left == 0 && self.have == 0
    }

    pub(super) fn limited(limits: FrameLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// These bytes are about to pass at `now` (milliseconds). A breach leaves the frame out: the direction ends before it.
    pub(super) fn advance(&mut self, piece: &[u8], now: u64) -> Result<(), Breach> {
        let mut at = 0;
        // Where the frame's header begins in this piece; `None` = in an earlier one.
        let mut begin = if self.have == 0 { Some(0) } else { None };
        while at < piece.len() {
            if self.left != 0 {
                let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(piece.len() - at);
                self.left -= n as u64;
                at += n;
                continue;
            }
            if self.have == 0 {
                begin = Some(at);
            }
            self.header[usize::from(self.have)] = piece[at];
            self.have += 1;
            at += 1;
            if usize::from(self.have) == self.header_length() {
                self.left = self.payload_length();
                self.have = 0;
                if let Some(close) = self.breach(now) {
                    self.left = 0;
                    return Err(Breach { close, before: begin.unwrap_or(0), clean: begin.is_some() });
                }
            }
        }
        Ok(())
    }

    /// Judges the frame whose header is whole.
    fn breach(&mut self, now: u64) -> Option<Close> {
        let FrameLimits { max_frame, max_message, max_rate } = self.limits;
        if max_rate != 0 {
            if self.second != now / 1_000 {
                (self.second, self.frames) = (now / 1_000, 0);
            }
            self.frames += 1;
            if self.frames > max_rate {
                return Some(Close::TooMany);
            }
        }
        if max_frame != 0 && self.left > max_frame {
            return Some(Close::TooBig);
        }
        // Control frames stand between those of a message.
        if self.header[0] & 0x08 == 0 {
            self.message = self.message.saturating_add(self.left);
            if max_message != 0 && self.message > max_message {
                return Some(Close::TooBig);
            }
            if self.header[0] & 0x80 != 0 {
                self.message = 0;
            }
        }
        None
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
                        frames.advance(piece, 0).unwrap();
                    }
                    assert!(frames.at_boundary(), "{masked} {length} {step}");
                }
            }
        }
        let mut frames = Frames::default();
        for close in [Close::GoingAway, Close::TooMany, Close::TooBig] {
            frames.advance(close.to_server(), 0).unwrap();
            frames.advance(close.to_client(), 0).unwrap();
        }
        assert!(frames.at_boundary());
    }

    #[test]
    fn a_frame_above_its_limit_is_left_out_and_one_at_it_passes() {
        let limits = FrameLimits { max_frame: 126, max_message: 200, max_rate: 0 };
        let mut frames = Frames::limited(limits);
        frames.advance(&frame(true, 126), 0).unwrap();
        let mut piece = frame(true, 1);
        let before = piece.len();
        piece.extend(frame(true, 127));
        assert_eq!(frames.advance(&piece, 0), Err(Breach { close: Close::TooBig, before, clean: true }));
        assert!(frames.at_boundary());

        let mut frames = Frames::limited(limits);
        let big = frame(true, 127);
        frames.advance(&big[..2], 0).unwrap();
        assert_eq!(frames.advance(&big[2..], 0), Err(Breach { close: Close::TooBig, before: 0, clean: false }));
    }

    #[test]
    fn the_frames_of_a_message_are_added_up_control_frames_excepted() {
        let mut frames = Frames::limited(FrameLimits { max_frame: 0, max_message: 200, max_rate: 0 });
        let part = |fin: bool, opcode: u8, length: usize| {
            let mut bytes = frame(false, length);
            bytes[0] = if fin { 0x80 } else { 0 } | opcode;
            bytes
        };
        frames.advance(&part(false, 1, 100), 0).unwrap();
        frames.advance(&part(true, 9, 125), 0).unwrap();
        frames.advance(&part(true, 0, 100), 0).unwrap();
        frames.advance(&part(false, 2, 100), 0).unwrap();
        assert_eq!(frames.advance(&part(true, 0, 101), 0).unwrap_err().close, Close::TooBig);
    }

    #[test]
    fn frames_are_counted_by_the_second() {
        let mut frames = Frames::limited(FrameLimits { max_frame: 0, max_message: 0, max_rate: 3 });
        for _ in 0..3 {
            frames.advance(&frame(true, 1), 1_500).unwrap();
        }
        frames.advance(&frame(true, 1), 2_000).unwrap();
        frames.advance(&[frame(true, 1), frame(true, 1)].concat(), 2_001).unwrap();
        assert_eq!(frames.advance(&frame(true, 1), 2_999).unwrap_err().close, Close::TooMany);
    }
}
