//! Bodies that come encoded to a step that reads them, unpacked within a bound. Nothing else is ever unpacked.

use std::io::Read;

/// Largest window of a zstd frame that is unpacked (RFC 9659): 2^23 bytes.
const WINDOW_LOG: u32 = 23;

/// Why a body can't be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undecodable {
    /// Another coding than gzip, deflate, br and zstd, or several.
    Coding,
    /// What came is not of that coding, or ends too early.
    Broken,
    /// It would be larger than the bound.
    TooLarge,
}

/// The body behind one content coding, at most `limit` bytes of it: a bomb is given up as soon as it exceeds them.
pub fn decode(coding: &[u8], data: &[u8], limit: u64) -> Result<Vec<u8>, Undecodable> {
    let mut out = Vec::new();
    // One byte more tells what is larger from what is exactly as large.
    let bound = limit.saturating_add(1);
    let mut read = |reader: &mut dyn Read| reader.take(bound).read_to_end(&mut out).map_err(|_| Undecodable::Broken);
    match coding.trim_ascii().to_ascii_lowercase().as_slice() {
        b"gzip" | b"x-gzip" => read(&mut flate2::read::MultiGzDecoder::new(data))?,
        b"deflate" => read(&mut flate2::read::ZlibDecoder::new(data))?,
        b"br" => read(&mut brotli::Decompressor::new(data, 4096))?,
        b"zstd" => {
            let mut decoder = zstd::stream::read::Decoder::new(data).map_err(|_| Undecodable::Broken)?;
            decoder.window_log_max(WINDOW_LOG).map_err(|_| Undecodable::Broken)?;
            read(&mut decoder)?
        }
        _ => return Err(Undecodable::Coding),
    };
    if out.len() as u64 > limit { Err(Undecodable::TooLarge) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::encoder::Encoder;
    use super::*;

    fn packed(coding: &str, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = match coding {
            "gzip" => Encoder::gzip(6),
            "br" => Encoder::brotli(4),
            "zstd" => Encoder::zstd(5, None).unwrap(),
            _ => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(data).unwrap();
                return encoder.finish().unwrap();
            }
        };
        encoder.write(data, &mut out).unwrap();
        encoder.finish(&mut out).unwrap();
        out
    }

    #[test]
    fn what_was_packed_comes_back_up_to_its_bound() {
        let data: Vec<u8> = (0..20_000u32).flat_map(|n| format!("{n},").into_bytes()).collect();
        let length = data.len() as u64;
        for coding in ["gzip", "deflate", "br", "zstd"] {
            let body = packed(coding, &data);
            assert_eq!(decode(coding.to_uppercase().as_bytes(), &body, length).as_ref(), Ok(&data), "{coding}");
            assert_eq!(decode(coding.as_bytes(), &body, length - 1), Err(Undecodable::TooLarge), "{coding}");
            assert_eq!(decode(coding.as_bytes(), &body[..body.len() - 9], length), Err(Undecodable::Broken), "{coding} cut short");
            assert_eq!(decode(coding.as_bytes(), b"{\"a\":1}", 100), Err(Undecodable::Broken), "{coding}");
        }
    }

    #[test]
    fn other_codings_and_several_are_not_guessed_at() {
        for coding in ["compress", "gzip, gzip", "gzip,", "identity, br", ""] {
            assert_eq!(decode(coding.as_bytes(), b"x", 10), Err(Undecodable::Coding), "{coding:?}");
        }
    }

    #[test]
    fn a_bomb_is_given_up_at_its_bound() {
        let zeros = vec![0; 8 << 20];
        for coding in ["gzip", "br", "zstd"] {
            let body = packed(coding, &zeros);
            assert!(body.len() < 64 << 10, "{coding}: {}", body.len());
            assert_eq!(decode(coding.as_bytes(), &body, 64 << 10), Err(Undecodable::TooLarge), "{coding}");
        }
    }
}
