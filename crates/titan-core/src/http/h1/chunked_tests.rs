use proptest::prelude::*;

use super::*;

type Decoded = (Vec<u8>, Vec<u8>, Option<Vec<u8>>);

/// Decodes pieces; data, trailers, and bytes left after the end (`None`: not ended).
fn decode(pieces: &[&[u8]]) -> Result<Decoded, ErrorKind> {
    let mut d = Decoder::request();
    let mut data = Vec::new();
    let mut rest = None;
    for piece in pieces {
        let mut at = 0;
        loop {
            let step = d.step(&piece[at..]).map_err(|e| e.kind)?;
            match step.event {
                Event::Data(r) => {
                    assert!(!r.is_empty() && r.end == step.consumed);
                    data.extend_from_slice(&piece[at..][r]);
                }
                Event::More => {
                    assert_eq!(at + step.consumed, piece.len());
                    break;
                }
                Event::End => {
                    rest.get_or_insert_with(Vec::new).extend_from_slice(&piece[at + step.consumed..]);
                    break;
                }
            }
            at += step.consumed;
        }
    }
    assert_eq!(d.ended(), rest.is_some());
    Ok((data, d.trailers().to_vec(), rest))
}

fn whole(s: &str) -> Result<(String, String, Option<String>), ErrorKind> {
    let text = |v: Vec<u8>| String::from_utf8_lossy(&v).into_owned();
    decode(&[s.as_bytes()]).map(|(d, t, r)| (text(d), text(t), r.map(text)))
}

#[test]
fn bodies() {
    let done = |d: &str, t: &str, r: &str| Ok((d.to_owned(), t.to_owned(), Some(r.to_owned())));
    assert_eq!(whole("5\r\nhello\r\n0\r\n\r\n"), done("hello", "", ""));
    assert_eq!(whole("2\r\nab\r\n0003\r\ncde\r\n000\r\n\r\nGET /"), done("abcde", "", "GET /"));
    assert_eq!(whole("0\r\nA: b\r\nC:d\r\n\r\n"), done("", "A: b\r\nC:d\r\n", ""));
    assert_eq!(whole("A\r\n0123456789\r\n0\r\n\r\n"), done("0123456789", "", ""));
    assert_eq!(whole("5\r\nhel"), Ok(("hel".into(), String::new(), None)));
}

#[test]
fn v7_extensions_are_read_strictly_and_dropped() {
    for ext in [";a", ";a=b", "; a = b ;c", ";a=\"b;\\\"c\r", " ;a", ";a=\"x y\""] {
        let valid = !ext.ends_with('\r');
        let s = format!("1{ext}\r\nx\r\n0{}\r\n\r\n", if valid { ext } else { "" });
        assert_eq!(whole(&s).is_ok(), valid, "{ext:?}");
    }
    for ext in [";", ";a=", ";=b", ";a b", ";a=b c", ";\u{0}", ";a\n", ";a=\"b\n\"", ";a=\"b", "\n", " ", " x", ";a\rx", ";a;", ";\"a\""] {
        assert_eq!(whole(&format!("1{ext}\r\nx\r\n0\r\n\r\n")), Err(ErrorKind::BadRequest), "{ext:?}");
    }
}

#[test]
fn v7_sizes_and_line_ends_that_are_refused() {
    for s in [
        "",
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\nx\r\n",
        "1\nx\r\n",
        "1\r\nxx\r\n",
        "1\r\nx\n0\r\n\r\n",
        "1\r\nx0\r\n\r\n",
        "1\r\nx\rx",
        "10000000000000000\r\n",
        "00000000000000001\r\n",
        "1 1\r\n",
        " 1\r\nx\r\n",
        "1_0\r\n",
    ] {
        let s = format!("{s}ZZ");
        assert_eq!(whole(&s), Err(ErrorKind::BadRequest), "{s:?}");
    }
    assert!(matches!(whole("ffffffffffffffff\r\nx"), Ok((_, _, None))));
}

#[test]
fn v7_trailers_that_are_refused() {
    for t in [
        "A: b\n\r\n",
        "\n",
        "A : b\r\n\r\n",
        " A: b\r\n\r\n",
        ": b\r\n\r\n",
        "A\r\n\r\n",
        "A: b\r\n c\r\n\r\n",
        "A: b\0\r\n\r\n",
        "A: \rb\r\n\r\n",
    ] {
        assert_eq!(whole(&format!("0\r\n{t}")), Err(ErrorKind::BadRequest), "{t:?}");
    }
    assert_eq!(whole(&format!("0\r\nA: {}\r\n\r\n", "b".repeat(9000))), Err(ErrorKind::HeadTooLarge));
    assert_eq!(whole(&format!("0\r\n{}\r\n", "A: b\r\n".repeat(65))), Err(ErrorKind::HeadTooLarge));
    assert_eq!(whole(&format!("1;{}\r\nx", "a".repeat(20_000))), Err(ErrorKind::BadRequest));
}

#[test]
fn trailers_pass_only_when_announced_and_harmless() {
    let received =
        b"X-Sum: 1\r\nContent-Length: 5\r\nHost: x\r\nAuthorization: y\r\nX_Forwarded_For: 1\r\nX-Other: 2\r\ngrpc-status: 0\r\n";
    let announced = [&b"x-sum, content-length, Host, authorization"[..], b"x_forwarded_for,grpc-status"];
    assert_eq!(passable_trailers(received, announced.into_iter()), b"X-Sum: 1\r\ngrpc-status: 0\r\n");
    assert_eq!(passable_trailers(received, std::iter::empty()), b"");
}

#[test]
fn sizes_are_written_in_hexadecimal() {
    for n in [1usize, 9, 15, 16, 255, 256, 4096, 65_535, 1 << 40] {
        let mut out = Vec::new();
        chunk_head(n, &mut out);
        assert_eq!(out, format!("{n:x}\r\n").into_bytes());
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same_body(
        chunks in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..40), prop::sample::select(vec!["", ";a", " ; b=\"q\""])), 0..6),
        trailer in prop::sample::select(vec!["", "A: b\r\n", "A: b\r\nC: d\r\n"]),
        mut cuts in prop::collection::vec(0usize..300, 0..12),
    ) {
        let (mut body, mut wire) = (Vec::new(), Vec::new());
        for (data, ext) in &chunks {
            body.extend_from_slice(data);
            wire.extend_from_slice(format!("{:x}{ext}\r\n", data.len()).as_bytes());
            wire.extend_from_slice(data);
            wire.extend_from_slice(CHUNK_END);
        }
        last_chunk(trailer.as_bytes(), &mut wire);
        wire.extend_from_slice(b"next");
        cuts.push(wire.len());
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for to in cuts {
            let to = to.min(wire.len());
            pieces.push(&wire[from..to]);
            from = to;
        }
        prop_assert_eq!(decode(&pieces), Ok((body, trailer.as_bytes().to_vec(), Some(b"next".to_vec()))));
    }

    #[test]
    fn no_input_panics(bytes in prop::collection::vec(prop::sample::select(b"0123456789abcdefF;=\" \r\n\t\\x:".to_vec()), 0..200)) {
        let _ = decode(&[&bytes]);
    }
}
