use proptest::prelude::*;

use super::*;

fn ok(s: &str) -> RequestHead {
    request_from(s.as_bytes()).unwrap_or_else(|e| panic!("{s:?}: {e:?}"))
}

fn err(s: &str) -> ErrorKind {
    request_from(s.as_bytes()).map(|_| ()).expect_err(s).kind
}

fn bad_response(s: &str) {
    let e = response_from(s.as_bytes()).map(|_| ()).expect_err(s);
    assert_eq!(e.kind, ErrorKind::BadUpstreamResponse, "{s:?}");
}

#[test]
fn a_request_is_spans_of_its_bytes() {
    let h = ok("POST /a/b?x=1&y HTTP/1.1\r\nHost: Example.com:80\r\nX-Odd:  v \t w\t \r\nEmpty:\r\ncontent-length: 12\r\nX_Y: 1\r\n\r\n");
    assert_eq!((h.method, h.version, h.method_bytes()), (Method::Post, Version::H11, &b"POST"[..]));
    assert_eq!((h.raw_path(), h.raw_query(), h.authority_bytes()), (&b"/a/b"[..], Some(&b"x=1&y"[..]), &b"Example.com:80"[..]));
    assert_eq!(h.get_name(b"x-odd"), Some(&b"v \t w"[..]));
    assert_eq!(h.get_name(b"empty"), Some(&b""[..]));
    assert_eq!(h.facts.length, Some(12));
    assert!(h.facts.underscore && h.fields[4].underscore && !h.fields[3].underscore);
    assert!(h.facts.has(HeaderId::Host) && !h.facts.has(HeaderId::Connection));
    assert_eq!(h.bytes.last_chunk(), Some(b"\r\n\r\n"));
}

#[test]
fn targets_in_every_form() {
    let h = ok("GET http://a.example/x?y HTTP/1.1\r\nHost: b.example\r\n\r\n");
    assert_eq!((h.authority_bytes(), h.raw_path(), h.raw_query()), (&b"a.example"[..], &b"/x"[..], Some(&b"y"[..])));
    let h = ok("GET HTTPS://a.example:1 HTTP/1.1\r\nHost: b\r\n\r\n");
    assert_eq!((h.authority_bytes(), h.raw_path(), h.raw_query()), (&b"a.example:1"[..], &b"/"[..], None));
    let h = ok("GET http://a?q HTTP/1.1\r\nHost: b\r\n\r\n");
    assert_eq!((h.raw_path(), h.raw_query()), (&b"/"[..], Some(&b"q"[..])));
    assert_eq!(ok("GET /? HTTP/1.1\r\nHost: b\r\n\r\n").raw_query(), Some(&b""[..]));
    assert_eq!(ok("GET //x HTTP/1.1\r\nHost: b\r\n\r\n").raw_path(), b"//x");
    assert_eq!(ok("OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n").raw_path(), b"*");
    assert_eq!(ok("\r\nGET / HTTP/1.0\r\n\r\n").authority_bytes(), b"");
    for target in [
        "*",
        "x",
        "ftp://a/",
        "http://",
        "http:///x",
        "http://u@h/",
        "/a#f",
        "/?a#f",
        "http://a#f",
        "//a b",
        "/\u{7f}",
        "?q",
        "http://a b/",
    ] {
        assert_eq!(err(&format!("GET {target} HTTP/1.1\r\nHost: b\r\n\r\n")), ErrorKind::BadRequest, "{target}");
    }
    assert_eq!(err("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"), ErrorKind::MethodNotAllowed);
    assert_eq!(err("CONNECT /x HTTP/1.1\r\nHost: a:80\r\n\r\n"), ErrorKind::MethodNotAllowed);
}

#[test]
fn request_lines_that_are_refused() {
    for line in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET /",
        "GET / http/1.1",
        "GET\t/ HTTP/1.1",
        "G@T / HTTP/1.1",
        "GET / HTTP/11",
        "GET / HTTP/1.1x",
        "GET / HTTP/1 1",
        "",
    ] {
        assert_eq!(err(&format!("{line}\r\nHost: b\r\n\r\n")), ErrorKind::BadRequest, "{line:?}");
    }
    for version in ["0.9", "1.2", "2.0", "3.0"] {
        assert_eq!(err(&format!("GET / HTTP/{version}\r\nHost: b\r\n\r\n")), ErrorKind::VersionNotSupported);
    }
    assert_eq!(err("\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n"), ErrorKind::BadRequest);
    assert_eq!(err("\nGET / HTTP/1.1\r\nHost: b\r\n\r\n"), ErrorKind::BadRequest);
    assert_eq!(err("GET / HTTP/1.1\nHost: b\n\n"), ErrorKind::BadRequest);
}

#[test]
fn v6_framing_that_two_parsers_read_differently() {
    for fields in [
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 1",
        "Content-Length: 1\r\nContent-Length: 1",
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1, 1",
        "Content-Length:",
        "Content-Length: +1",
        "Content-Length: -1",
        "Content-Length: 0x1",
        "Content-Length: 1 1",
        "Content-Length: 18446744073709551616",
        "Content-Length: 1a",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding:",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\r\n : chunked",
        " Transfer-Encoding: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
    ] {
        assert_eq!(err(&format!("POST / HTTP/1.1\r\nHost: b\r\n{fields}\r\n\r\n")), ErrorKind::BadRequest, "{fields:?}");
    }
    for coding in ["gzip", "gzip, chunked", "identity", "br"] {
        assert_eq!(err(&format!("POST / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: {coding}\r\n\r\n")), ErrorKind::NotImplemented);
    }
    assert_eq!(err("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), ErrorKind::BadRequest);
    assert!(ok("POST / HTTP/1.1\r\nHost: b\r\ntransfer-encoding: Chunked\r\n\r\n").facts.chunked);
    assert_eq!(ok("POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 18446744073709551615\r\n\r\n").facts.length, Some(u64::MAX));
}

#[test]
fn v8_lines_that_are_refused() {
    for line in [
        "X: a\r\n b: c",
        "X: a\r\n\tb",
        ": v",
        " X: v",
        "X : v",
        "X\t: v",
        "X: a\0b",
        "X: a\rb",
        "X: a\nb",
        "X: a\x07",
        "X\0: v",
        "X",
        "X Y: v",
        "X(: v",
        "\u{e9}: v",
        "X: \x7f",
    ] {
        assert_eq!(err(&format!("GET / HTTP/1.1\r\nHost: b\r\n{line}\r\n\r\n")), ErrorKind::BadRequest, "{line:?}");
        bad_response(&format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n"));
    }
}

#[test]
fn v14_hosts() {
    for hosts in [
        "",
        "Host:\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: u@a\r\n",
        "Host: a:b\r\n",
        "Host: :80\r\n",
        "Host: a, b\r\n",
    ] {
        assert_eq!(err(&format!("GET / HTTP/1.1\r\n{hosts}\r\n")), ErrorKind::BadRequest, "{hosts:?}");
        // An absolute-form target wins over Host, but does not excuse it.
        assert_eq!(err(&format!("GET http://c/ HTTP/1.1\r\n{hosts}\r\n")), ErrorKind::BadRequest, "{hosts:?}");
    }
    assert_eq!(err("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"), ErrorKind::BadRequest);
}

#[test]
fn connection_options() {
    let f = |v: &str| ok(&format!("GET / HTTP/1.1\r\nHost: b\r\nConnection: {v}\r\n\r\n")).facts;
    assert!(f("close").close && f("x, CLOSE").close && f("x, close").listed && !f("closed").close);
    assert!(f("Keep-Alive").keep_alive && f("keep-alive, Upgrade").upgrade && !f("keep-alive, Upgrade").listed);
}

#[test]
fn limits_are_told_apart() {
    let parse = |s: &str, bytes, fields| {
        request(&mut s.as_bytes().to_vec(), &mut Progress::default(), &Limits { bytes, fields }).map_err(|e| e.kind)
    };
    assert_eq!(parse(&format!("GET /{}", "a".repeat(100)), 50, 9).map(|_| ()), Err(ErrorKind::TargetTooLong));
    assert_eq!(parse(&format!("GET / HTTP/1.1\r\nHost: {}", "a".repeat(100)), 50, 9).map(|_| ()), Err(ErrorKind::HeadTooLarge));
    assert_eq!(parse("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\n\r\n", 500, 2).map(|_| ()), Err(ErrorKind::HeadTooLarge));
    assert_eq!(parse(&format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(100)), 50, 9).map(|_| ()), Err(ErrorKind::HeadTooLarge));
    // A body behind a head that is within its limit does not count.
    assert!(matches!(parse(&format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{}", "b".repeat(100)), 50, 9), Ok(Some(_))));
    assert_eq!(parse(&format!("{} / HTTP/1.1\r\n", "A".repeat(40)), 5000, 2).map(|_| ()).err(), None);
    assert_eq!(parse(&"A".repeat(40), 5000, 2).map(|_| ()), Err(ErrorKind::BadRequest));
}

#[test]
fn what_follows_a_head_stays_in_the_buffer() {
    let mut buf = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGE".to_vec();
    let mut progress = Progress::default();
    for path in [b"/1", b"/2"] {
        let head = request(&mut buf, &mut progress, &Limits::default()).unwrap().unwrap();
        assert_eq!(head.raw_path(), path);
    }
    assert!(request(&mut buf, &mut progress, &Limits::default()).unwrap().is_none());
    buf.extend_from_slice(b"T /3 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(request(&mut buf, &mut progress, &Limits::default()).unwrap().unwrap().raw_path(), b"/3");
    assert!(buf.is_empty());
}

#[test]
fn responses() {
    let h = response_from(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert_eq!((h.status, h.reason.of(&h.bytes), h.facts.length), (404, &b"Not Found"[..], Some(0)));
    let h = response_from(b"HTTP/1.0 200\r\nConnection: keep-alive\r\n\r\n").unwrap();
    assert_eq!((h.status, h.reason.of(&h.bytes), h.version), (200, &b""[..], Version::H10));
    assert!(response_from(b"HTTP/1.1 200 \r\n\r\n").is_ok());
    assert!(response_from(b"HTTP/1.1 299 caf\xe9 \t!\r\n\r\n").is_ok());
    for s in [
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 200OK\r\n\r\n",
        "HTTP/1.1 200 OK\n\n",
        "HTTP/1.1 200 O\0K\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "<html>\r\n\r\n   ",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
    ] {
        bad_response(s);
    }
}

#[test]
fn the_preface_is_told_from_the_first_bytes() {
    assert_eq!(preface(b""), Preface::Partial);
    assert_eq!(preface(b"PRI * HT"), Preface::Partial);
    assert_eq!(preface(PREFACE), Preface::Yes);
    assert_eq!(preface(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0"), Preface::Yes);
    assert_eq!(preface(b"POST"), Preface::No);
    assert_eq!(preface(b"PRI * HTTP/1.1\r\n"), Preface::No);
}

/// Feeds `bytes` in pieces that end at `cuts`.
fn in_pieces(bytes: &[u8], cuts: &[usize]) -> Result<Option<(RequestHead, Vec<u8>)>, ErrorKind> {
    let (mut buf, mut progress, mut from) = (Vec::new(), Progress::default(), 0);
    for &to in cuts.iter().chain([&bytes.len()]) {
        let to = to.clamp(from, bytes.len());
        buf.extend_from_slice(&bytes[from..to]);
        from = to;
        if let Some(head) = request(&mut buf, &mut progress, &Limits::default()).map_err(|e| e.kind)? {
            buf.extend_from_slice(&bytes[from..]);
            return Ok(Some((head, buf)));
        }
    }
    Ok(None)
}

fn shape(h: &RequestHead) -> String {
    let fields: Vec<_> = h.fields.iter().map(|f| (f.name, f.value, f.id)).collect();
    format!("{:?} {:?} {:?} {:?} {:?} {:?} {fields:?} {:?}", h.bytes, h.method_span, h.path, h.query, h.authority, h.version, h.facts)
}

proptest! {
    #[test]
    fn any_split_gives_the_same_head(
        fields in prop::collection::vec(("[A-Za-z_-]{1,12}", "[ -~\t]{0,30}"), 0..10),
        body in "[ -~\r\n]{0,20}",
        mut cuts in prop::collection::vec(0usize..400, 0..8),
    ) {
        let mut s = "POST /p?q HTTP/1.1\r\nHost: a\r\n".to_owned();
        for (n, v) in &fields { s += &format!("{n}: {v}\r\n"); }
        s += "\r\n";
        s += &body;
        cuts.sort_unstable();
        let whole = in_pieces(s.as_bytes(), &[]);
        let split = in_pieces(s.as_bytes(), &cuts);
        match (whole, split) {
            (Ok(Some((a, rest_a))), Ok(Some((b, rest_b)))) => { prop_assert_eq!(shape(&a), shape(&b)); prop_assert_eq!(rest_a, rest_b); }
            (Err(a), Err(b)) => prop_assert_eq!(a, b),
            (a, b) => prop_assert!(false, "{:?} {:?}", a.is_ok(), b.is_ok()),
        }
    }

    #[test]
    fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), prefix in prop::sample::select(vec!["", "GET ", "GET / HTTP/1.1\r\n", "HTTP/1.1 200 ", "GET http://", "HTTP/1.1 200 OK\r\nConnection:"])) {
        let mut all = prefix.as_bytes().to_vec();
        all.extend_from_slice(&bytes);
        let _ = request_from(&all);
        let _ = response_from(&all);
    }
}
