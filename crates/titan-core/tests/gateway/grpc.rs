//! gRPC: Titan's own failures as `grpc-status`, and retries by the status of the backend.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use serde_json::{Value, json};

use crate::h2_world::*;
use crate::world::*;

fn h2c(origin: std::net::SocketAddr) -> Value {
    let mut config = proxy(origin);
    config["upstreams"][0]["protocol"] = json!("h2c");
    config
}

fn call(path: &str) -> Request<()> {
    Request::builder()
        .method("POST")
        .uri(format!("http://titan.test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// `grpc-status` in the head of a trailers-only answer.
fn code(answer: &Answer) -> (u16, Option<u8>, usize) {
    (answer.status, answer.header("grpc-status").and_then(|code| code.parse().ok()), answer.body.len())
}

#[test]
fn each_refusal_of_a_policy_has_the_code_of_its_cause() {
    let origin = H2Origin::echo();
    let mut config = h2c(origin.address);
    config["policies"] = json!([
        { "name": "deny", "type": "ip_filter", "config": { "deny": ["127.0.0.0/8"] } },
        { "name": "limit", "type": "rate_limit", "config": { "limits": [{ "requests": 1, "window_ms": 60_000, "burst": 1, "key": [{ "from": "ip" }] }] } },
        { "name": "auth", "type": "auth", "config": { "methods": [{ "method": "jwt", "keys": [{ "algorithm": "HS256", "secret": { "value": "0123456789abcdef0123456789abcdef" } }] }] } },
    ]);
    let routes = ["/deny/*", "/limit/*", "/auth/*"].iter().enumerate().map(|(at, path)| {
        let mut route = route(path, "origin");
        route["policies"] = json!([at]);
        route
    });
    let mut small = route("/small/*", "origin");
    small["max_body"] = json!(3);
    config["routes"] = routes.chain([small]).collect();
    let gateway = gateway(config);
    run(async {
        let client = connect(address(&gateway)).await;
        let expect = |code: u8| (200, Some(code), 0);
        assert_eq!(code(&ask(&client, call("/deny/m"), b"m", None).await.unwrap()), expect(7), "403: PERMISSION_DENIED");
        assert_eq!(code(&ask(&client, call("/auth/m"), b"m", None).await.unwrap()), expect(16), "401: UNAUTHENTICATED");
        assert_eq!(ask(&client, call("/limit/m"), b"m", None).await.unwrap().text(), "m");
        let refused = ask(&client, call("/limit/m"), b"m", None).await.unwrap();
        assert_eq!(code(&refused), expect(8), "429: RESOURCE_EXHAUSTED");
        assert_eq!(refused.header("retry-after"), Some("60"));
        let mut said = call("/small/m");
        said.headers_mut().insert("content-length", http::HeaderValue::from_static("7"));
        let said = ask(&client, said, b"message", None).await.unwrap();
        assert_eq!(code(&said), expect(8), "413: RESOURCE_EXHAUSTED");
        let large = ask(&client, call("/small/m"), b"message", None).await.unwrap();
        // The backend may have begun to answer before the body had grown: then it is the trailers that say so.
        let late = large.trailers.as_ref().and_then(|trailers| trailers.get("grpc-status")?.to_str().ok()?.parse().ok());
        assert_eq!(code(&large).1.or(late), Some(8), "413: RESOURCE_EXHAUSTED");
        assert_eq!(code(&ask(&client, call("/nowhere/m"), b"m", None).await.unwrap()), expect(12), "404: UNIMPLEMENTED");
    });
    // The first of the limited calls, and perhaps the begin of the one that grew too large.
    assert!(origin.streams() <= 2, "{}", origin.streams());
}

/// A backend whose first `failures` calls fail at once (trailers-only) with `status`.
fn failing(failures: usize, status: &'static str) -> (H2Origin, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    let origin = H2Origin::new(100, move |request, mut respond| {
        let fails = seen.fetch_add(1, Ordering::SeqCst) < failures;
        async move {
            let (body, _) = drain(&mut request.into_body()).await?;
            let head = Response::builder().header("content-type", "application/grpc");
            if fails {
                return respond.send_response(head.header("grpc-status", status).body(()).unwrap(), true).map(drop);
            }
            let mut send = respond.send_response(head.body(()).unwrap(), false)?;
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            send_all(&mut send, &body, Some(trailers)).await
        }
    });
    (origin, calls)
}

#[test]
fn calls_are_tried_again_by_the_backends_status_where_the_route_says_so() {
    // `retry` of the upstream, code that the backend fails with twice, calls that reach it, code that the client sees.
    let again = json!({ "max": 2, "backoff_ms": 1, "budget_percent": 100.0, "statuses": [503], "non_idempotent": true });
    let mut unsaid = again.clone();
    unsaid["non_idempotent"] = json!(false);
    for (retry, status, reached, seen) in [(&again, "14", 3, "0"), (&again, "5", 1, "5"), (&again, "8", 1, "8"), (&unsaid, "14", 1, "14")] {
        let (origin, calls) = failing(2, status);
        let mut config = h2c(origin.address);
        config["upstreams"][0]["retry"] = retry.clone();
        let gateway = gateway(config);
        run(async {
            let client = connect(address(&gateway)).await;
            let answer = ask(&client, call("/s/m"), b"message", None).await.unwrap();
            let code = answer.header("grpc-status").map(str::to_owned).or_else(|| {
                let trailers = answer.trailers.as_ref()?;
                Some(trailers.get("grpc-status")?.to_str().ok()?.to_owned())
            });
            assert_eq!(code.as_deref(), Some(seen), "after {status}, {retry}");
            assert_eq!(answer.text(), if seen == "0" { "message" } else { "" });
        });
        assert_eq!(calls.load(Ordering::SeqCst), reached, "after {status}, {retry}");
    }
}

#[test]
fn a_call_that_has_begun_ends_with_its_status_in_trailers() {
    let origin = H2Origin::new(100, |request, mut respond| async move {
        let breaks = request.uri().path() == "/breaks/m";
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut send = respond.send_response(head, false)?;
        send.send_data(bytes::Bytes::from_static(b"first"), false)?;
        if breaks {
            // The first message is on its way before the end is.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            send.send_reset(h2::Reason::INTERNAL_ERROR);
            return Ok(());
        }
        std::future::poll_fn(|cx| send.poll_reset(cx)).await.map(drop)
    });
    let gateway = gateway(h2c(origin.address));
    run(async {
        let client = connect(address(&gateway)).await;
        for (path, timeout, expected) in [("/stalls/m", Some("500m"), "4"), ("/breaks/m", None, "14")] {
            let mut request = call(path);
            if let Some(timeout) = timeout {
                request.headers_mut().insert("grpc-timeout", http::HeaderValue::from_static(timeout));
            }
            let answer = ask(&client, request, b"m", None).await.unwrap();
            let trailers = answer.trailers.as_ref().unwrap_or_else(|| panic!("{path} ends with trailers"));
            assert_eq!((answer.text().as_str(), trailers["grpc-status"].to_str().unwrap()), ("first", expected), "{path}");
        }
    });
}
