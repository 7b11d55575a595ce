//! WebSockets over HTTP/1.1 and HTTP/2: what the log says, goodbyes on a drain, and the rules of routes.

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use serde_json::{Value, json};

use crate::h2_world::*;
use crate::world::*;

/// 1001 as a server sends it, and as a client does (Titan's mask).
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];
const GOING_AWAY_MASKED: [u8; 8] = [0x88, 0x82, 0x1a, 0x2b, 0x3c, 0x4d, 0x19, 0xc2];

const SWITCHED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

/// An HTTP/1.1 origin that agrees to every WebSocket and only listens.
fn listening() -> Origin {
    Origin::new(|mut peer| {
        peer.request()?;
        peer.send(SWITCHED)?;
        peer.rest().map(drop)
    })
}

/// `origin` behind one route with these rules.
fn config(origin: std::net::SocketAddr, rules: Value) -> Value {
    let mut config = proxy(origin);
    config["routes"][0]["websocket"] = rules;
    config
}

fn opening(extra: &str) -> Vec<u8> {
    format!(
        "GET /chat HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extra}\r\n"
    )
    .into_bytes()
}

/// Opens over HTTP/1.1: the connection and the answer.
fn open(gateway: &titan_core::gateway::Gateway, extra: &str) -> (Peer, crate::world::Response) {
    let mut client = Peer::connect(address(gateway));
    client.send(&opening(extra)).unwrap();
    let answer = client.response().unwrap();
    (client, answer)
}

/// Opens over HTTP/2, once the server's settings allow it.
async fn open_h2(client: &mut SendRequest<Bytes>, fields: &[(&str, &str)]) -> (Response<RecvStream>, SendStream<Bytes>) {
    if !client.is_extended_connect_protocol_enabled() {
        ask(client, get("/_health"), b"", None).await.unwrap();
    }
    let mut request = Request::builder().method("CONNECT").uri("http://titan.test/chat").header("sec-websocket-version", "13");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let mut request = request.body(()).unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let mut ready = client.clone().ready().await.unwrap();
    let (response, send) = ready.send_request(request, false).unwrap();
    (response.await.unwrap(), send)
}

#[test]
fn log_and_metrics_say_what_the_client_was_told() {
    let origin = listening();
    let file = std::env::temp_dir().join(format!("titan-websocket-log-{}", std::process::id()));
    let mut config = config(origin.address, json!({}));
    config["access_log"] = json!({ "format": "json", "fields": ["protocol", "status"], "output": file });
    let gateway = gateway(config);
    let (one, answer) = open(&gateway, "");
    assert_eq!(answer.status, 101);
    let two = run(async {
        let mut client = connect(address(&gateway)).await;
        let (answer, _send) = open_h2(&mut client, &[]).await;
        answer.status().as_u16()
    });
    assert_eq!(two, 200);
    drop(one);
    let lines = || std::fs::read_to_string(&file).unwrap_or_default();
    let said = |protocol: &str, status: u16| {
        lines().lines().filter(|line| **line == format!(r#"{{"protocol":"{protocol}","status":{status}}}"#)).count()
    };
    eventually("both are logged as they were answered", || said("HTTP/1.1", 101) == 1 && said("HTTP/2", 200) >= 1);
    assert_eq!(said("HTTP/2", 101), 0, "{}", lines());
    let metrics: Value = serde_json::from_str(&gateway.metrics_json()).unwrap();
    let route = metrics["routes"].as_array().unwrap().iter().find(|route| route["route"] == "/*").unwrap();
    assert_eq!(route["requests"], json!([["GET", 101, 1], ["GET", 200, 1]]));
    let _ = std::fs::remove_file(file);
}

/// A client of an extended CONNECT takes 2xx for an open tunnel, and whatever follows for frames.
#[test]
fn over_http2_only_an_open_tunnel_is_answered_with_2xx() {
    let origin = Origin::fixed(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage");
    let mut config = config(origin.address, json!({}));
    let template = config["routes"][0].clone();
    let at = |path: &str, change: &dyn Fn(&mut Value)| {
        let mut route = template.clone();
        (route["name"], route["match"]["path"]) = (json!(path), json!(path));
        change(&mut route);
        route
    };
    config["routes"] = json!([
        at("/chat", &|_| {}),
        at("/off", &|route| route["websocket"] = Value::Null),
        at("/page", &|route| route["action"] = json!({ "type": "fixed", "status": 200, "body": "page" })),
        at("/gone", &|route| route["action"] = json!({ "type": "fixed", "status": 410, "body": "page" })),
    ]);
    let gateway = gateway(config);
    let over_h2 = |path: &str| {
        run(async {
            let client = connect(address(&gateway)).await;
            ask(&client, get("/_health"), b"", None).await.unwrap();
            let mut request = Request::builder().method("CONNECT").uri(format!("http://titan.test{path}")).body(()).unwrap();
            request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
            let mut ready = client.clone().ready().await.unwrap();
            let (response, _send) = ready.send_request(request, false).unwrap();
            response.await.unwrap().status().as_u16()
        })
    };
    assert_eq!(["/chat", "/off", "/page", "/gone", "/_health"].map(over_h2), [502, 403, 400, 410, 400]);
    // Over HTTP/1.1 nothing is mistaken: a server may leave `Upgrade` aside.
    let over_h1 = |path: &str| {
        let mut client = Peer::connect(address(&gateway));
        client.send(&String::from_utf8(opening("")).unwrap().replace("/chat", path).into_bytes()).unwrap();
        client.response().unwrap().status
    };
    assert_eq!(["/chat", "/off", "/page", "/gone", "/_health"].map(over_h1), [200, 200, 200, 410, 200]);
}

#[test]
fn a_drain_says_1001_over_http2_too() {
    let origin = listening();
    let gateway = gateway(config(origin.address, json!({})));
    run(async {
        let mut client = connect(address(&gateway)).await;
        let (answer, _send) = open_h2(&mut client, &[]).await;
        gateway.drain();
        let (bytes, _) = drain(&mut answer.into_body()).await.unwrap();
        assert_eq!(bytes, GOING_AWAY);
    });
    eventually("the origin is told too, masked", || origin.received.lock().unwrap().ends_with(&GOING_AWAY_MASKED));
}

#[test]
fn a_drain_says_1001_to_a_backend_that_speaks_http2() {
    let (told, heard) = std::sync::mpsc::channel();
    let origin = H2Origin::new(100, move |request, mut respond| {
        let told = told.clone();
        async move {
            let mut recv = request.into_body();
            let mut send = respond.send_response(Response::new(()), false)?;
            let mut all = Vec::new();
            while let Some(piece) = recv.data().await {
                all.extend_from_slice(&piece?);
            }
            told.send(all).unwrap();
            send.send_data(Bytes::new(), true)
        }
    });
    let mut config = config(origin.address, json!({}));
    config["upstreams"][0]["protocol"] = json!("h2c");
    let gateway = gateway(config);
    let (mut client, answer) = open(&gateway, "");
    assert_eq!(answer.status, 101);
    gateway.drain();
    assert_eq!(client.rest().unwrap(), GOING_AWAY);
    drop(client);
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), GOING_AWAY_MASKED);
}

#[test]
fn a_route_keeps_to_its_number_of_tunnels_whatever_the_protocol() {
    let origin = listening();
    let gateway = gateway(config(origin.address, json!({ "max_connections": 2 })));
    let (one, answer) = open(&gateway, "");
    assert_eq!(answer.status, 101);
    run(async {
        let mut client = connect(address(&gateway)).await;
        let (answer, two) = open_h2(&mut client, &[]).await;
        assert_eq!(answer.status(), 200);
        let (refused, _third) = open_h2(&mut client, &[]).await;
        let refused = read(refused).await.unwrap();
        assert_eq!((refused.status, refused.header("content-type")), (503, Some("application/json")));
        drop((answer, two));
    });
    // The tunnel whose client has gone ends in its own time; its place is taken again, and then there is none.
    let two = std::cell::RefCell::new(None);
    eventually("the place of the tunnel that ended is free", || {
        let (client, answer) = open(&gateway, "");
        *two.borrow_mut() = Some(client);
        answer.status == 101
    });
    let (_, refused) = open(&gateway, "");
    assert_eq!((refused.status, refused.header("content-type")), (503, Some("application/json")));
    drop((one, two));
}

#[test]
fn origins_and_subprotocols_are_checked_before_the_backend_is_asked() {
    let origin = listening();
    let rules = json!({ "origins": ["https://good.example", "https://*.good.example"], "subprotocols": ["chat.v1", "chat.v2"] });
    let gateway = gateway(config(origin.address, rules));
    let cases = [
        (Some("https://good.example"), Some("chat.v1"), 101),
        (Some("https://a.good.example"), Some("x, chat.v2"), 101),
        (Some("https://evil.example"), Some("chat.v1"), 403),
        (Some("https://good.example.evil"), Some("chat.v1"), 403),
        (None, Some("chat.v1"), 403),
        (Some("https://good.example"), Some("chat.v3"), 400),
        (Some("https://good.example"), None, 400),
    ];
    for (from, protocol, expected) in cases {
        let before = origin.connections();
        let fields: Vec<_> =
            [("origin", from), ("sec-websocket-protocol", protocol)].into_iter().filter_map(|(n, v)| Some((n, v?))).collect();
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        assert_eq!(open(&gateway, &lines).1.status, expected, "{fields:?} over HTTP/1.1");
        let (status, expected_h2) = run(async {
            let mut client = connect(address(&gateway)).await;
            let (answer, _send) = open_h2(&mut client, &fields).await;
            (answer.status().as_u16(), if expected == 101 { 200 } else { expected })
        });
        assert_eq!(status, expected_h2, "{fields:?} over HTTP/2");
        assert_eq!(origin.connections() - before, if expected == 101 { 2 } else { 0 }, "{fields:?}: what reached the backend");
    }
}
