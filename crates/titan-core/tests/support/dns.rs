//! A DNS server of one's own, on a loopback port.

use std::net::UdpSocket;

use serde_json::{Value, json};

/// Starts a server of one kind of answer: what `answer` says for a name and a type (1 = A, 28 = AAAA, 33 = SRV), with a TTL of one second.
/// `None` = SERVFAIL, an empty list = no such record. Returns the `dns` block of a configuration that asks it.
pub fn serve(answer: impl Fn(&str, u16) -> Option<Vec<Vec<u8>>> + Send + 'static) -> Value {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buf = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buf) {
            let query = &buf[..length];
            let (mut at, mut name) = (12, String::new());
            while query[at] != 0 {
                let label = &query[at + 1..at + 1 + usize::from(query[at])];
                name += &format!("{}.", String::from_utf8_lossy(label));
                at += 1 + label.len();
            }
            let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
            let records = answer(name.trim_end_matches('.'), kind);
            let mut reply = query[..2].to_vec();
            reply.extend_from_slice(&[0x81, if records.is_none() { 0x82 } else { 0x80 }, 0, 1]);
            let records = records.unwrap_or_default();
            reply.extend_from_slice(&(records.len() as u16).to_be_bytes());
            reply.extend_from_slice(&[0, 0, 0, 0]);
            reply.extend_from_slice(&query[12..at + 5]);
            for data in records {
                reply.extend_from_slice(&[0xc0, 12]);
                reply.extend_from_slice(&kind.to_be_bytes());
                reply.extend_from_slice(&[0, 1, 0, 0, 0, 1]);
                reply.extend_from_slice(&(data.len() as u16).to_be_bytes());
                reply.extend_from_slice(&data);
            }
            let _ = socket.send_to(&reply, from);
        }
    });
    json!({ "servers": [address.to_string()], "min_ttl_ms": 50, "timeout_ms": 500 })
}
