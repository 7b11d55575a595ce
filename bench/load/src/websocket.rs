//! What generator and origin need of RFC 6455: one handshake for all, messages in one short frame, masked by the client.

/// The nonce of RFC 6455's example, so that nobody needs SHA-1 here.
pub const HANDSHAKE: &str =
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// The origin's answer to it.
pub const ACCEPT: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Longest message that [`message`] makes: a frame with a short length.
pub const LONGEST: usize = 125;

/// A binary message of the client.
pub fn message(length: usize) -> Vec<u8> {
    let key = [0x1a, 0x2b, 0x3c, 0x4d];
    let mut frame = vec![0x82, 0x80 | length.min(LONGEST) as u8];
    frame.extend(key);
    frame.extend((0..length.min(LONGEST)).map(|at| b'x' ^ key[at % 4]));
    frame
}

/// Header of an echo: bytes of header and of payload. `Ok(None)` = not whole yet.
pub fn echo_head(bytes: &[u8]) -> Result<Option<(usize, u64)>, ()> {
    match bytes {
        [0x82, length, ..] if usize::from(*length) <= LONGEST => Ok(Some((2, u64::from(*length)))),
        [0x82] | [] => Ok(None),
        _ => Err(()),
    }
}

/// Appends the echoes of the whole messages in `bytes` to `out`; how many bytes they were. `Err` = the end or something unexpected.
pub fn echo(bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, ()> {
    let mut at = 0;
    while let [first, length, key @ ..] = &bytes[at..] {
        let length = length.checked_sub(0x80).map(usize::from).filter(|length| *length <= LONGEST).ok_or(())?;
        if *first != 0x82 {
            return Err(());
        }
        let Some((key, rest)) = key.split_at_checked(4) else { break };
        let Some(payload) = rest.get(..length) else { break };
        out.extend([0x82, length as u8]);
        out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        at += 6 + length;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_messages_come_back_unmasked() {
        let mut bytes = [message(64), message(3)].concat();
        let whole = bytes.len();
        bytes.extend(&message(64)[..20]);
        let mut out = Vec::new();
        assert_eq!(echo(&bytes, &mut out), Ok(whole));
        let expected = [[0x82, 64].as_slice(), &[b'x'; 64], &[0x82, 3], b"xxx"].concat();
        assert_eq!(out, expected);
        assert_eq!(echo_head(&out), Ok(Some((2, 64))));
        assert_eq!(echo(&[0x88, 0x80], &mut out), Err(()));
        assert_eq!(echo_head(&[0x88, 2]), Err(()));
    }
}
