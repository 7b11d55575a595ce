use super::*;
use crate::http::h1::framing;
use crate::http::h1::parse::{request_from, response_from};

fn rules() -> Forwarding {
    Forwarding {
        trusted: vec!["10.0.0.0/8".parse().unwrap()],
        x_forwarded: true,
        via: Some("titan".into()),
        request_id: Some("x-request-id".into()),
        ..Forwarding::default()
    }
}

fn ids() -> RequestIds {
    RequestIds { request_id: SmallVec::from_slice(b"id-1"), correlation_id: None, traceparent: None }
}

fn client(peer: &str) -> ClientInfo {
    ClientInfo::new(peer.parse().unwrap(), "127.0.0.1:80".parse().unwrap(), None)
}

/// Encodes a request with those field lines; lines out, the request line left out.
fn lines(peer: &str, fields: &str, change: impl FnOnce(&mut RequestPlan<'_>)) -> Vec<String> {
    let head = request_from(format!("POST /x?q HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes()).unwrap();
    let (rules, ids, ops) = (rules(), ids(), HeaderOps::default());
    let mut client = client(peer);
    rules.identify(&head, &mut client);
    let mut plan = RequestPlan {
        path: b"/x",
        query: head.raw_query(),
        host: head.authority_bytes(),
        framing: Framing::None,
        upgrade: framing::upgrade(&head),
        expect: false,
        trailers: false,
        ops: &ops,
        forwarding: &rules,
        client: &client,
        ids: &ids,
    };
    change(&mut plan);
    let mut out = Vec::new();
    request(&head, &plan, &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with("\r\n\r\n") && text.starts_with("POST /x?q HTTP/1.1\r\n"), "{text:?}");
    request_from(text.as_bytes()).expect("what Titan sends, Titan accepts");
    text.trim_end().split("\r\n").skip(1).map(str::to_owned).collect()
}

const OURS: [&str; 5] =
    ["X-Forwarded-For: 9.9.9.9", "X-Forwarded-Proto: http", "X-Forwarded-Host: h", "Via: 1.1 titan", "X-Request-Id: id-1"];

fn with_ours(before: &[&str], after: &[&str]) -> Vec<String> {
    before.iter().chain(&OURS).chain(after).map(|s| (*s).to_owned()).collect()
}

#[test]
fn untouched_lines_pass_as_they_are() {
    let got = lines("9.9.9.9:1", "A:  1 \r\nb: 2\r\nContent-Length: 3\r\nA: 4\r\n", |p| p.framing = Framing::Length(3));
    assert_eq!(got, with_ours(&["Host: h", "A:  1 ", "b: 2", "Content-Length: 3", "A: 4"], &[]));
}

#[test]
fn hop_by_hop_fields_go() {
    let fields = "Connection: keep-alive, X-Hop\r\nKeep-Alive: 5\r\nX-Hop: 1\r\nA: 1\r\nTE: trailers\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\nTrailer: y\r\nExpect: 100-continue\r\nUpgrade: h2c\r\nB: 2\r\n";
    assert_eq!(lines("9.9.9.9:1", fields, |_| {}), with_ours(&["Host: h", "A: 1", "B: 2"], &[]));
    let got = lines("9.9.9.9:1", fields, |p| (p.expect, p.trailers) = (true, true));
    assert_eq!(got, with_ours(&["Host: h", "A: 1", "Trailer: y", "Expect: 100-continue", "B: 2"], &[]));
}

#[test]
fn v12_connection_strips_nothing_that_matters() {
    let fields = "Connection: X-Forwarded-For, Authorization, Host, Content-Length, Cookie, x-request-id\r\nAuthorization: a\r\nCookie: c\r\nContent-Length: 2\r\n";
    let got = lines("9.9.9.9:1", fields, |p| p.framing = Framing::Length(2));
    assert_eq!(got, with_ours(&["Host: h", "Authorization: a", "Cookie: c", "Content-Length: 2"], &[]));
}

#[test]
fn v13_spoofed_headers_and_their_aliases_go() {
    let fields = "X-Forwarded-For: 1.1.1.1\r\nx-forwarded-proto: https\r\nX_Forwarded_For: 1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Request-Id: evil\r\nX-Forwarded-Prefix: /\r\nX-Original-URL: /admin\r\nContent_Length: 3\r\nmy_own: 1\r\nx_user: me\r\n";
    assert_eq!(lines("9.9.9.9:1", fields, |_| {}), with_ours(&["Host: h", "my_own: 1", "x_user: me"], &[]));
    let mut ops = HeaderOps::default();
    ops.set("x-user", "alice");
    let got = lines("9.9.9.9:1", fields, |p| p.ops = leak(ops));
    assert_eq!(got, with_ours(&["Host: h", "my_own: 1"], &["x-user: alice"]));
}

fn leak(ops: HeaderOps) -> &'static HeaderOps {
    Box::leak(Box::new(ops))
}

#[test]
fn a_trusted_peer_is_believed_and_added_to_the_chain() {
    let fields = "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: public\r\nX-Real-IP: 1.1.1.1\r\n";
    let got = lines("10.0.0.1:1", fields, |_| {});
    let want = [
        "Host: h",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: public",
        "X-Real-IP: 1.1.1.1",
        "X-Forwarded-For: 1.1.1.1, 2.2.2.2, 10.0.0.1",
        "Via: 1.1 titan",
        "X-Request-Id: id-1",
    ];
    assert_eq!(got, want);
}

#[test]
fn forwarded_and_custom_id_names() {
    let mut r = rules();
    (r.forwarded, r.x_forwarded, r.request_id) = (true, false, Some("x-correlation".into()));
    let r: &'static Forwarding = Box::leak(Box::new(r));
    let got = lines("[2001:db8::1]:1", "X-Correlation: evil\r\nX_Correlation: evil\r\nA: 1\r\n", |p| p.forwarding = r);
    assert_eq!(got, ["Host: h", "A: 1", "Forwarded: for=\"[2001:db8::1]\";proto=http;host=h", "Via: 1.1 titan", "x-correlation: id-1"]);
}

#[test]
fn host_is_rewritten_once() {
    assert_eq!(lines("9.9.9.9:1", "", |p| p.host = b"backend:81")[0], "Host: backend:81");
    let mut ops = HeaderOps::default();
    ops.set("host", "other");
    ops.add("host", "second");
    let ops = leak(ops);
    let got = lines("9.9.9.9:1", "", |p| p.ops = ops);
    assert_eq!(got.iter().filter(|l| l.to_lowercase().starts_with("host:")).collect::<Vec<_>>(), ["Host: other"]);
}

#[test]
fn v14_an_absolute_target_decides_the_host() {
    let head = request_from(b"GET http://real/x HTTP/1.1\r\nHost: fake\r\n\r\n").unwrap();
    let (rules, ids, ops, client) = (rules(), ids(), HeaderOps::default(), client("9.9.9.9:1"));
    let plan = RequestPlan {
        path: b"/x",
        query: None,
        host: head.authority_bytes(),
        framing: Framing::None,
        upgrade: None,
        expect: false,
        trailers: false,
        ops: &ops,
        forwarding: &rules,
        client: &client,
        ids: &ids,
    };
    let mut out = Vec::new();
    request(&head, &plan, &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("Host: real\r\n") && !text.contains("fake") && text.contains("X-Forwarded-Host: real"), "{text}");
}

#[test]
fn edits_follow_their_order_and_reach_no_framing() {
    let mut ops = HeaderOps::default();
    ops.set("a", "1");
    ops.add("a", "2");
    ops.add("gone", "x");
    ops.remove("gone");
    ops.remove("accept");
    ops.set("content-length", "9");
    ops.set("transfer-encoding", "chunked");
    ops.set("connection", "close");
    ops.add("bad name", "x");
    ops.set("inject", "v\r\nEvil: 1");
    ops.set("via", "mine");
    ops.set("x-request-id", "mine");
    let got = lines("9.9.9.9:1", "A: 0\r\nGone: 1\r\nAccept: */*\r\nB: 1\r\n", |p| p.ops = leak(ops));
    let want = ["Host: h", "B: 1", OURS[0], OURS[1], OURS[2], "a: 1", "a: 2", "inject: v  Evil: 1", "via: mine", "x-request-id: mine"];
    assert_eq!(got, want);
}

#[test]
fn framings_of_a_request() {
    let tail = |fields: &str, f: Framing| {
        lines("9.9.9.9:1", fields, |p| p.framing = f)
            .into_iter()
            .filter(|l| l.contains("ength") || l.contains("ncoding"))
            .collect::<Vec<_>>()
    };
    assert_eq!(tail("Transfer-Encoding: chunked\r\n", Framing::Chunked), ["Transfer-Encoding: chunked"]);
    assert_eq!(tail("Transfer-Encoding: chunked\r\n", Framing::Length(7)), ["Content-Length: 7"]);
    assert_eq!(tail("Content-Length: 5\r\n", Framing::Length(7)), ["Content-Length: 7"]);
    assert_eq!(tail("Content-Length: 0\r\n", Framing::Length(0)), ["Content-Length: 0"]);
    assert_eq!(tail("Content-Length: 5\r\n", Framing::Chunked), ["Transfer-Encoding: chunked"]);
    assert_eq!(tail("", Framing::None), [""; 0]);
}

#[test]
fn upgrades_pass_only_when_they_are_one() {
    let ws = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n";
    let got = lines("9.9.9.9:1", ws, |_| {});
    assert_eq!(got, with_ours(&["Host: h", "Sec-WebSocket-Key: k"], &["Connection: upgrade", "Upgrade: websocket"]));
    for no in [
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: upgrade\r\nUpgrade: h2c\r\n",
        "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n",
        "Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n",
    ] {
        assert!(lines("9.9.9.9:1", no, |_| {}).iter().all(|l| !l.to_lowercase().contains("upgrade")), "{no:?}");
    }
}

/// Encodes a response; all of it.
fn respond(received: &str, change: impl FnOnce(&mut ResponsePlan<'_>)) -> String {
    let head = response_from(received.as_bytes()).unwrap();
    let (rules, ids, ops, date) = (rules(), ids(), HeaderOps::default(), HttpDate::from_unix(0));
    let mut plan = ResponsePlan {
        framing: Framing::None,
        version: Version::H11,
        keep_alive: true,
        upgrade: false,
        trailers: false,
        ops: &ops,
        forwarding: &rules,
        ids: &ids,
        date: &date,
    };
    change(&mut plan);
    let mut out = Vec::new();
    response(&head, &plan, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn responses() {
    let got = respond("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nDate: d\r\nServer: s\r\n\r\n", |p| p.framing = Framing::Length(3));
    assert_eq!(got, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nDate: d\r\nServer: s\r\nVia: 1.1 titan\r\nX-Request-Id: id-1\r\n\r\n");
    let got = respond("HTTP/1.0 418 Tea Pot\r\nConnection: X-Gone\r\nX-Gone: 1\r\nX-Request-Id: theirs\r\n\r\n", |p| {
        (p.framing, p.keep_alive) = (Framing::UntilClose, true)
    });
    assert_eq!(
        got,
        "HTTP/1.1 418 Tea Pot\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nVia: 1.0 titan\r\nX-Request-Id: id-1\r\nConnection: close\r\n\r\n"
    );
    let got = respond("HTTP/1.1 404\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n", |p| {
        (p.framing, p.version) = (Framing::Length(1), Version::H10)
    });
    assert_eq!(
        got,
        "HTTP/1.1 404 Not Found\r\nDate: d\r\nVia: 1.1 titan\r\nX-Request-Id: id-1\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n"
    );
    let head = respond("HTTP/1.1 304 Not Modified\r\nDate: d\r\nContent-Length: 99\r\n\r\n", |p| p.framing = Framing::Headless);
    assert!(head.contains("Content-Length: 99"));
    let none = respond("HTTP/1.1 204 No Content\r\nDate: d\r\nContent-Length: 0\r\n\r\n", |_| {});
    assert!(!none.contains("Content-Length"));
}

#[test]
fn interim_and_switching_responses() {
    let got = respond("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", |p| p.keep_alive = false);
    assert_eq!(got, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    assert_eq!(respond("HTTP/1.1 100 Continue\r\n\r\n", |_| {}), "HTTP/1.1 100 Continue\r\n\r\n");
    let got =
        respond("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n", |p| {
            p.upgrade = true
        });
    assert_eq!(got, "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    // Edits reach a 101, the last answer of its connection, and no other interim one.
    let mut ops = HeaderOps::default();
    ops.add("set-cookie", "sticky=1");
    let ops = leak(ops);
    let got = respond("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", |p| {
        (p.upgrade, p.ops) = (true, ops);
    });
    assert_eq!(got, "HTTP/1.1 101 Switching Protocols\r\nset-cookie: sticky=1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(respond("HTTP/1.1 103 Early Hints\r\n\r\n", |p| p.ops = ops), "HTTP/1.1 103 Early Hints\r\n\r\n");
}

#[test]
fn answers() {
    let mut headers = HeaderOps::default();
    headers.set("content-type", "text/plain");
    let a = |status| Answer { status, headers: headers.clone(), body: bytes::Bytes::from_static(b"body"), stage: "test" };
    let (rules, ids, date) = (rules(), ids(), HttpDate::from_unix(0));
    let mut ops = HeaderOps::default();
    ops.add("access-control-allow-origin", "*");
    ops.remove("x-request-id");
    let write = |status, head_only, keep_alive| {
        let plan = AnswerPlan { head_only, version: Version::H11, keep_alive, ops: &ops, forwarding: &rules, ids: Some(&ids), date: &date };
        let mut out = Vec::new();
        answer(&a(status), &plan, &mut out);
        String::from_utf8(out).unwrap()
    };
    let head = "HTTP/1.1 404 Not Found\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\ncontent-type: text/plain\r\naccess-control-allow-origin: *\r\nContent-Length: 4\r\n";
    assert_eq!(write(404, false, true), format!("{head}\r\nbody"));
    assert_eq!(write(404, true, false), format!("{head}Connection: close\r\n\r\n"));
    assert!(!write(204, false, true).contains("ength") && !write(204, false, true).contains("body"));
}
