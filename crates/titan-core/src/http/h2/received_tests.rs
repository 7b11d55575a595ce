use super::*;

fn parts(method: &str, uri: &str, fields: &[(&str, &str)]) -> request::Parts {
    let mut r = http::Request::builder().method(method).uri(uri);
    for (n, v) in fields {
        r = r.header(*n, *v);
    }
    r.body(()).unwrap().into_parts().0
}

fn head(method: &str, uri: &str, fields: &[(&str, &str)]) -> Result<RequestHead, ProxyError> {
    request(&parts(method, uri, fields), None, Vec::new(), &Limits { fields: 100 })
}

#[test]
fn a_head_reads_as_its_http1_twin() {
    let h = head(
        "POST",
        "https://a.example:8443/p/q?x=1",
        &[("cookie", "a=1"), ("x-y", "z"), ("cookie", "b=2"), ("content-length", "5"), ("te", "trailers")],
    )
    .unwrap();
    let text = String::from_utf8(h.bytes.clone()).unwrap();
    assert_eq!(
        text,
        "POST /p/q?x=1 HTTP/2\r\nhost: a.example:8443\r\ncookie: a=1; b=2\r\nx-y: z\r\ncontent-length: 5\r\nte: trailers\r\n\r\n"
    );
    assert_eq!((h.method, h.version, h.raw_path(), h.raw_query()), (Method::Post, Version::H2, &b"/p/q"[..], Some(&b"x=1"[..])));
    assert_eq!((h.authority_bytes(), h.facts.length), (&b"a.example:8443"[..], Some(5)));
    assert_eq!(h.get(HeaderId::Cookie), Some(&b"a=1; b=2"[..]));
}

#[test]
fn v10_what_means_something_else_in_http1_is_refused() {
    for fields in [
        &[("connection", "close")][..],
        &[("transfer-encoding", "chunked")],
        &[("upgrade", "h2c")],
        &[("keep-alive", "1")],
        &[("proxy-connection", "x")],
        &[("te", "gzip")],
        &[("host", "b.example")],
        &[("host", "a.example"), ("host", "a.example")],
        &[("content-length", "5"), ("content-length", "5")],
        &[("content-length", "+5")],
    ] {
        assert_eq!(head("GET", "https://a.example/", fields).map(|_| ()).expect_err("refused").kind, ErrorKind::BadRequest, "{fields:?}");
    }
    assert!(head("GET", "https://a.example/", &[("host", "A.example")]).is_ok());
    assert!(head("GET", "https://u@a.example/", &[]).is_err());
    assert!(head("GET", "/", &[]).is_err(), "no authority at all");
    assert!(head("GET", "/", &[("host", "h")]).is_ok());
    assert_eq!(head("CONNECT", "a.example:443", &[]).map(|_| ()).unwrap_err().kind, ErrorKind::MethodNotAllowed);
    let many: Vec<(String, &str)> = (0..102).map(|i| (format!("x-{i}"), "1")).collect();
    let many: Vec<_> = many.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    assert_eq!(head("GET", "https://a/", &many).map(|_| ()).unwrap_err().kind, ErrorKind::HeadTooLarge);
}

#[test]
fn an_extended_connect_becomes_the_websocket_handshake() {
    let p = parts("CONNECT", "https://a.example/chat?x", &[("sec-websocket-version", "13"), ("sec-websocket-protocol", "v1")]);
    let h = request(&p, Some(b"websocket"), Vec::new(), &Limits { fields: 100 }).unwrap();
    assert_eq!((h.method, h.raw_path()), (Method::Get, &b"/chat"[..]));
    assert!(
        h.facts.upgrade
            && h.get(HeaderId::Upgrade) == Some(b"websocket")
            && h.get(HeaderId::SecWebSocketKey).is_some_and(|k| k.len() == 24)
    );
    assert_eq!(
        request(&p, Some(b"connect-udp"), Vec::new(), &Limits { fields: 100 }).map(|_| ()).unwrap_err().kind,
        ErrorKind::NotImplemented
    );
}

#[test]
fn responses_without_a_body_say_so() {
    let parts = |status: u16| http::Response::builder().status(status).header("x", "y").body(()).unwrap().into_parts().0;
    let h = response(&parts(200), true, false, Vec::new()).unwrap();
    assert_eq!((h.status, h.facts.length, h.get(HeaderId::ContentLength)), (200, Some(0), Some(&b"0"[..])));
    for (status, ended, to_head) in [(200, false, false), (200, true, true), (204, true, false), (304, true, false)] {
        assert_eq!(response(&parts(status), ended, to_head, Vec::new()).unwrap().facts.length, None);
    }
}
