use std::collections::HashSet;

use super::*;
use crate::http::h1::parse::request_from;

fn rules() -> Forwarding {
    Forwarding {
        trusted: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
        x_forwarded: true,
        forwarded: false,
        via: Some("titan".into()),
        request_id: Some("x-request-id".into()),
        trace_context: true,
        ..Forwarding::default()
    }
}

fn client(peer: &str) -> ClientInfo {
    ClientInfo::new(peer.parse().unwrap(), "127.0.0.1:80".parse().unwrap(), None)
}

fn head(fields: &str) -> RequestHead {
    request_from(format!("GET / HTTP/1.1\r\nHost: h:8080\r\n{fields}\r\n").as_bytes()).unwrap()
}

fn identified(peer: &str, fields: &str) -> (String, &'static str) {
    let mut c = client(peer);
    rules().identify(&head(fields), &mut c);
    (c.ip.to_string(), c.scheme.as_str())
}

#[test]
fn the_client_is_the_rightmost_untrusted_hop() {
    for (peer, fields, ip) in [
        ("203.0.113.9:1", "X-Forwarded-For: 1.1.1.1\r\n", "203.0.113.9"),
        ("[::ffff:203.0.113.9]:1", "", "203.0.113.9"),
        ("10.0.0.1:1", "", "10.0.0.1"),
        ("10.0.0.1:1", "X-Forwarded-For: 6.6.6.6, 1.1.1.1, 10.0.0.2\r\n", "1.1.1.1"),
        ("10.0.0.1:1", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.1.1.1\r\n", "1.1.1.1"),
        ("10.0.0.1:1", "X-Forwarded-For: 10.9.9.9, 10.0.0.2\r\n", "10.9.9.9"),
        ("10.0.0.1:1", "X-Forwarded-For: 6.6.6.6, unknown, 10.0.0.2\r\n", "10.0.0.2"),
        ("10.0.0.1:1", "X-Forwarded-For: 1.1.1.1:4711\r\n", "1.1.1.1"),
        ("10.0.0.1:1", "X-Forwarded-For: [2001:db8::1]:4711\r\n", "2001:db8::1"),
        ("10.0.0.1:1", "X-Forwarded-For: ::ffff:1.2.3.4\r\n", "1.2.3.4"),
        ("[fd00::1]:1", "Forwarded: for=6.6.6.6, for=\"[2001:db8::2]:1\";proto=https\r\n", "2001:db8::2"),
        ("10.0.0.1:1", "Forwarded: for=_hidden\r\n", "10.0.0.1"),
    ] {
        assert_eq!(identified(peer, fields).0, ip, "{peer} {fields:?}");
    }
}

#[test]
fn the_scheme_comes_from_trusted_peers_only() {
    assert_eq!(identified("203.0.113.9:1", "X-Forwarded-Proto: https\r\n").1, "http");
    assert_eq!(identified("10.0.0.1:1", "X-Forwarded-Proto: https\r\n").1, "https");
    assert_eq!(identified("10.0.0.1:1", "X-Forwarded-Proto: nonsense\r\n").1, "http");
    assert_eq!(identified("10.0.0.1:1", "Forwarded: for=1.1.1.1;proto=HTTPS\r\n").1, "https");
}

#[test]
fn ids_are_kept_from_trusted_peers_only() {
    let id = |peer, fields: &str| {
        let (r, h, mut c) = (rules(), head(fields), client(peer));
        r.identify(&h, &mut c);
        String::from_utf8(r.ids(&h, &c, &mut IdSource::new()).request_id.to_vec()).unwrap()
    };
    assert_eq!(id("10.0.0.1:1", "X-Request-Id: abc-1\r\n"), "abc-1");
    for (peer, fields) in [
        ("203.0.113.9:1", "X-Request-Id: abc-1\r\n".to_owned()),
        ("10.0.0.1:1", "X-Request-Id: a b\r\n".into()),
        ("10.0.0.1:1", "X-Request-Id: \"x\"\r\n".into()),
        ("10.0.0.1:1", "X-Request-Id:\r\n".into()),
        ("10.0.0.1:1", "X-Request-Id: a\r\nX-Request-Id: b\r\n".into()),
        ("10.0.0.1:1", format!("X-Request-Id: {}\r\n", "a".repeat(129))),
    ] {
        let got = id(peer, &fields);
        assert!(got.len() == 32 && got.bytes().all(|b| b.is_ascii_hexdigit()), "{fields:?} {got}");
    }
}

#[test]
fn traces_are_kept_when_valid_and_begun_otherwise() {
    let valid = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\n";
    let begun = |fields: &str| rules().ids(&head(fields), &client("203.0.113.9:1"), &mut IdSource::new()).traceparent;
    assert_eq!(begun(valid), None);
    assert_eq!(begun("traceparent: 01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more\r\n"), None);
    for bad in [
        "",
        "traceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-00\r\n",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-0000000000000000-00\r\n",
        "traceparent: ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\n",
        "traceparent: 00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\n",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more\r\n",
        "traceparent: x\r\n",
        &valid.repeat(2),
    ] {
        let t = begun(bad).expect(bad);
        let again = head(&format!("traceparent: {}\r\n", String::from_utf8_lossy(&t)));
        assert!(keeps_traceparent(&again), "{bad:?}");
    }
}

#[test]
fn generated_ids_do_not_repeat() {
    let (r, h, c) = (rules(), head(""), client("203.0.113.9:1"));
    let mut source = IdSource::new();
    let all: HashSet<_> = (0..10_000).map(|_| r.ids(&h, &c, &mut source).request_id).collect();
    assert_eq!(all.len(), 10_000);
}

#[test]
fn aliases_with_an_underscore_are_known() {
    for name in ["x_forwarded_for", "X_Forwarded-For", "content_length", "Transfer_Encoding", "x_real_ip", "X_Original_URL", "x_request_id"]
    {
        assert!(aliases_trusted(name.as_bytes()), "{name}");
    }
    for name in ["x_custom", "my_header", "a_very_long_header_name_that_is_longer_than_any_known"] {
        assert!(!aliases_trusted(name.as_bytes()), "{name}");
    }
}

#[test]
fn addresses_are_written_as_display_does() {
    for ip in ["0.0.0.0", "1.20.255.100", "10.0.0.9", "2001:db8::1"] {
        let mut out = Vec::new();
        write_ip(ip.parse().unwrap(), &mut out);
        assert_eq!(out, ip.as_bytes());
    }
}

#[test]
fn ids_of_a_pattern_are_taken_from_anyone_and_others_are_not() {
    let mut rules = rules();
    rules.id_pattern = Some(regex::bytes::Regex::new("^(?:[0-9a-f]{8}|job-[0-9]+)$").unwrap());
    rules.correlation_id = Some("x-correlation-id".into());
    let ids = |peer: &str, fields: &str| {
        let (head, mut client) = (head(fields), client(peer));
        rules.identify(&head, &mut client);
        let ids = rules.ids(&head, &client, &mut IdSource::new());
        (String::from_utf8(ids.request_id.to_vec()).unwrap(), String::from_utf8(ids.correlation_id.unwrap().to_vec()).unwrap())
    };
    let (outside, proxy) = ("203.0.113.9:1", "10.0.0.1:1");
    assert_eq!(
        ids(outside, "X-Request-Id: 0123abcd\r\nX-Correlation-Id: job-7\r\n"),
        ("0123abcd".into(), "job-7".into()),
        "of the pattern"
    );
    let (request, correlation) = ids(outside, "X-Request-Id: 0123abcd-and-more\r\nX-Correlation-Id: job-x\r\n");
    assert!(request.len() == 32 && request == correlation, "neither is: {request} {correlation}");
    let (request, correlation) = ids(outside, "X-Correlation-Id: job-7\r\nX-Correlation-Id: job-8\r\n");
    assert_eq!(request, correlation, "two are none");
    assert_eq!(ids(proxy, "X-Request-Id: any\r\nX-Correlation-Id: thing\r\n"), ("any".into(), "thing".into()), "a trusted proxy's");
    let (request, correlation) = ids(proxy, "X-Request-Id: a b\r\nX-Correlation-Id: \"c\"\r\n");
    assert!(request.len() == 32 && correlation == request, "not even a trusted proxy's, where it is not plain");
}
