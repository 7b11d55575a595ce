//! The streaming encoders of compressed answers.

use std::cell::RefCell;
use std::io::{self, Write};

use flate2::{Compress, Compression, FlushCompress, Status};

/// Windows are bounded so that a thousand streams at once stay affordable: 2^18 = 256 KiB for zstd and brotli.
const WINDOW_LOG: u32 = 18;
/// Deflate states that a thread keeps for its next answers (about 330 KiB each): making one costs a tenth of compressing 16 KiB.
const SPARE: usize = 8;

thread_local! {
    static DEFLATES: RefCell<Vec<(u32, Compress)>> = const { RefCell::new(Vec::new()) };
}

/// A streaming encoder.
pub struct Encoder(Inner);

enum Inner {
    Gzip(Gzip),
    Brotli(Option<Box<brotli::CompressorWriter<Vec<u8>>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

impl Encoder {
    /// gzip at a level of 1–9.
    pub fn gzip(level: u32) -> Self {
        Self(Inner::Gzip(Gzip::new(level)))
    }

    /// Brotli at a level of 0–11.
    pub fn brotli(level: u32) -> Self {
        Self(Inner::Brotli(Some(Box::new(brotli::CompressorWriter::new(Vec::new(), 4096, level.min(11), WINDOW_LOG)))))
    }

    /// Zstandard at a level of 1–19. `length` is the body's exact length where it is known: the tables are then no larger than the body
    /// needs, which halves the cost of a small one.
    pub fn zstd(level: i32, length: Option<u64>) -> io::Result<Self> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level.clamp(1, 19))?;
        encoder.window_log(WINDOW_LOG)?;
        encoder.set_pledged_src_size(length)?;
        Ok(Self(Inner::Zstd(Box::new(encoder))))
    }

    /// Takes bytes in; whatever comes out is appended to `out`, which may be nothing yet.
    pub fn write(&mut self, data: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        if let Inner::Gzip(encoder) = &mut self.0 {
            return encoder.run(data, FlushCompress::None, out);
        }
        self.with(out, |w| w.write_all(data))
    }

    /// Brings everything taken in so far out, so that a reader is never kept waiting (server-sent events). Costs some ratio: call it when
    /// the source has nothing more for now, not after each piece.
    pub fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if let Inner::Gzip(encoder) = &mut self.0 {
            return encoder.run(&[], FlushCompress::Sync, out);
        }
        self.with(out, |w| w.flush())
    }

    /// Ends the stream. Nothing may be written after it.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.0 {
            Inner::Gzip(encoder) => encoder.run(&[], FlushCompress::Finish, out)?,
            Inner::Zstd(encoder) => {
                encoder.do_finish()?;
                out.append(encoder.get_mut());
            }
            Inner::Brotli(encoder) => {
                if let Some(encoder) = encoder.take() {
                    out.append(&mut encoder.into_inner());
                }
            }
        }
        Ok(())
    }

    /// Lends `out` to the encoder as its sink for one call, so that output is not copied twice.
    fn with(&mut self, out: &mut Vec<u8>, run: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        fn lend<W: Write>(
            writer: &mut W,
            sink: fn(&mut W) -> &mut Vec<u8>,
            out: &mut Vec<u8>,
            run: impl FnOnce(&mut dyn Write) -> io::Result<()>,
        ) -> io::Result<()> {
            // What a constructor or an earlier call left inside comes first.
            out.append(sink(writer));
            std::mem::swap(sink(writer), out);
            let result = run(writer);
            std::mem::swap(sink(writer), out);
            result
        }
        match &mut self.0 {
            Inner::Gzip(_) => Err(io::Error::other("gzip appends to its output itself")),
            Inner::Zstd(encoder) => lend(encoder.as_mut(), |e| e.get_mut(), out, run),
            Inner::Brotli(Some(encoder)) => lend(encoder.as_mut(), |e| e.get_mut(), out, run),
            Inner::Brotli(None) => Err(io::Error::other("the stream has ended")),
        }
    }
}

/// A deflate state with gzip's framing.
struct Gzip {
    level: u32,
    /// Taken out when it is given back.
    state: Option<Compress>,
}

impl Gzip {
    fn new(level: u32) -> Self {
        // Level 1 of zlib-rs gives up a quarter of the size for speed. Its level 2 is as fast as zlib's 1, and smaller.
        let level = level.clamp(2, 9);
        let kept = DEFLATES.with_borrow_mut(|spare| spare.iter().position(|(of, _)| *of == level).map(|at| spare.swap_remove(at).1));
        let state = kept.unwrap_or_else(|| Compress::new_gzip(Compression::new(level), 15));
        Self { level, state: Some(state) }
    }

    /// Takes all of `data` in, and with a flush brings all of it out.
    fn run(&mut self, mut data: &[u8], flush: FlushCompress, out: &mut Vec<u8>) -> io::Result<()> {
        let Some(state) = &mut self.state else { return Err(io::Error::other("the stream has ended")) };
        loop {
            out.reserve((data.len() / 3).clamp(1 << 10, 64 << 10));
            let before = state.total_in();
            let status = state.compress_vec(data, out, flush).map_err(io::Error::other)?;
            data = &data[(state.total_in() - before) as usize..];
            // Output that was not filled means that nothing is kept back beyond what this flush allows.
            if status == Status::StreamEnd || (data.is_empty() && out.len() < out.capacity()) {
                return Ok(());
            }
        }
    }
}

impl Drop for Gzip {
    fn drop(&mut self) {
        let Some(mut state) = self.state.take() else { return };
        // At a thread's end the list may be gone already.
        let _ = DEFLATES.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE {
                state.reset();
                spare.push((self.level, state));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::compress::Coding;
    use super::*;

    fn started(coding: Coding, length: Option<u64>) -> Encoder {
        match coding {
            Coding::Gzip => Encoder::gzip(6),
            Coding::Br => Encoder::brotli(4),
            Coding::Zstd => Encoder::zstd(5, length).unwrap(),
        }
    }

    fn decode(coding: Coding, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(data).read_to_end(&mut out).unwrap(),
            Coding::Br => brotli::Decompressor::new(data, 4096).read_to_end(&mut out).unwrap(),
            Coding::Zstd => zstd::stream::read::Decoder::new(data).unwrap().read_to_end(&mut out).unwrap(),
        };
        out
    }

    #[test]
    fn every_coding_streams_flushes_and_ends() {
        let text: Vec<u8> = (0..20_000u32).flat_map(|n| format!("line {}\n", n % 97).into_bytes()).collect();
        for coding in [Coding::Gzip, Coding::Br, Coding::Zstd] {
            let mut encoder = started(coding, None);
            let mut out = b"kept".to_vec();
            for piece in text.chunks(1000) {
                encoder.write(piece, &mut out).unwrap();
            }
            encoder.finish(&mut out).unwrap();
            assert_eq!(&out[..4], b"kept");
            assert!(out.len() < text.len() / 10, "{coding:?} {}", out.len());
            assert_eq!(decode(coding, &out[4..]), text, "{coding:?}");

            // After a flush a decoder sees everything written so far, though the stream goes on.
            let mut encoder = started(coding, None);
            let mut out = Vec::new();
            encoder.write(b"data: 1\n\n", &mut out).unwrap();
            encoder.flush(&mut out).unwrap();
            let mut seen = [0; 9];
            match coding {
                Coding::Gzip => flate2::read::GzDecoder::new(&out[..]).read_exact(&mut seen).unwrap(),
                Coding::Br => brotli::Decompressor::new(&out[..], 4096).read_exact(&mut seen).unwrap(),
                Coding::Zstd => zstd::stream::read::Decoder::new(&out[..]).unwrap().read_exact(&mut seen).unwrap(),
            }
            assert_eq!(&seen, b"data: 1\n\n", "{coding:?}");
            let mut rest = Vec::new();
            encoder.write(b"data: 2\n\n", &mut rest).unwrap();
            encoder.finish(&mut rest).unwrap();
            assert_eq!(decode(coding, &[out, rest].concat()), b"data: 1\n\ndata: 2\n\n", "{coding:?}");
        }
    }

    #[test]
    fn a_state_that_is_used_again_remembers_nothing() {
        let text: Vec<u8> = (0..9_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let mut first = None;
        for round in 0..4 {
            // One that was given up in the middle comes before each whole one.
            let mut given_up = Encoder::gzip(6);
            given_up.write(&text[..round * 5_000], &mut Vec::new()).unwrap();
            drop(given_up);
            let mut whole = Encoder::gzip(6);
            let mut out = Vec::new();
            whole.write(&text, &mut out).unwrap();
            whole.finish(&mut out).unwrap();
            assert_eq!(decode(Coding::Gzip, &out), text);
            assert_eq!(*first.get_or_insert(out.clone()), out, "round {round}");
        }
        assert_eq!(DEFLATES.with_borrow(Vec::len), 1);
        let many: Vec<Encoder> = (0..20).map(|_| Encoder::gzip(6)).collect();
        drop(many);
        assert_eq!(DEFLATES.with_borrow(Vec::len), SPARE);
    }

    #[test]
    fn a_known_length_is_held_to() {
        for coding in [Coding::Gzip, Coding::Br, Coding::Zstd] {
            let mut encoder = started(coding, Some(3_000));
            let mut out = Vec::new();
            encoder.write(&[7; 1_000], &mut out).unwrap();
            encoder.flush(&mut out).unwrap();
            encoder.write(&[8; 2_000], &mut out).unwrap();
            encoder.finish(&mut out).unwrap();
            assert_eq!(decode(coding, &out), [vec![7; 1_000], vec![8; 2_000]].concat(), "{coding:?}");
        }
    }
}
