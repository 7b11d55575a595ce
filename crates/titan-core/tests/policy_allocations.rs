//! Synchronous policies allocate nothing once they are warm: what a request costs must not depend on the allocator's mood.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;

use serde_json::json;
use titan_core::config::raw;
use titan_core::http::client::{ClientInfo, Scheme};
use titan_core::http::h1::parse;
use titan_core::http::ops::HeaderOps;
use titan_core::policy::{Flow, PolicyState, RequestCx, RequestView, ResponseCx, Services, compile};

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came; counting touches a thread-local without a destructor only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is the system allocator's condition.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `alloc` above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn token() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"sub": "u1", "exp": now + 600, "scope": "read write", "tenant": "acme", "jti": "t1"});
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes()).unwrap();
    jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256), &claims, &key).unwrap()
}

#[test]
fn a_warm_chain_allocates_nothing() {
    let limit = |key: serde_json::Value| json!({"requests": 1_000_000, "window_ms": 1000, "burst": 1_000_000, "key": key});
    let config: Vec<raw::Policy> = serde_json::from_value(json!([
        {"name": "ip", "type": "ip_filter", "config": {"allow": ["10.0.0.0/8"], "deny": ["10.1.0.0/16"]}},
        {"name": "limit", "type": "rate_limit", "config": {"draft_headers": true, "limits": [
            limit(json!([{"from": "ip"}])),
            limit(json!([{"from": "header", "name": "x-tenant"}, {"from": "cookie", "name": "s"}])),
            limit(json!([{"from": "claim", "name": "tenant"}, {"from": "route"}]))
        ]}},
        {"name": "flight", "type": "concurrency", "config": {"max": 10}},
        {"name": "cors", "type": "cors", "config": {"allowed_origins": ["https://*.example.com"], "allow_credentials": true}},
        {"name": "auth", "type": "auth", "config": {
            "methods": [{"method": "jwt", "strip": true, "keys": [{"algorithm": "HS256", "secret": {"value": SECRET}}]}],
            "claim_headers": [{"claim": "sub", "header": "x-user"}]
        }},
        {"name": "may", "type": "authorize", "config": {"scopes": ["write"]}},
        {"name": "headers", "type": "headers", "config": {
            "request": [{"action": "set", "name": "x-who", "value": "${client_ip} ${method} ${path} ${subject}"}],
            "response": [{"action": "add", "name": "x-route", "value": "${route}"}]
        }},
        {"name": "safe", "type": "headers", "config": {"security": "strict"}}
    ]))
    .unwrap();
    let services = Services::default();
    let (policies, issues) = compile(&config, None, &services);
    assert_eq!(issues, []);
    let chain = policies.chain(&(0..config.len()).collect::<Vec<_>>());
    // One revocation, so that the list is looked at.
    services.revoke("other", None);

    let text = format!(
        "GET /a HTTP/1.1\r\nHost: t\r\nOrigin: https://app.example.com\r\nX-Tenant: acme\r\nCookie: a=b; s=1\r\nAuthorization: Bearer {}\r\n\r\n",
        token()
    );
    let head = parse::request(&mut text.into_bytes(), &mut parse::Progress::default(), &parse::Limits::default()).unwrap().unwrap();
    let peer: SocketAddr = "10.0.0.1:4000".parse().unwrap();
    let client = ClientInfo { peer, local: peer, ip: peer.ip(), trusted: false, scheme: Scheme::Https, tls: None };
    let req = RequestView {
        head: &head,
        path: b"/a",
        query: None,
        client: &client,
        route: "api",
        route_index: 0,
        param_names: &[],
        param_spans: &[],
        request_id: b"r1",
    };
    let (mut state, mut request_ops, mut response_ops) = (PolicyState::default(), HeaderOps::default(), HeaderOps::default());
    let mut one = || {
        let flow = chain.request(&mut RequestCx { req, request_ops: &mut request_ops, state: &mut state });
        assert!(matches!(flow, Flow::Continue));
        chain.response(&ResponseCx { req, status: 200, upstream: None, state: &state }, &mut response_ops);
        assert!(!request_ops.is_empty() && !response_ops.is_empty());
        state.clear();
        request_ops.clear();
        response_ops.clear();
    };
    for _ in 0..200 {
        one();
    }
    let before = COUNT.with(Cell::get);
    for _ in 0..1000 {
        one();
    }
    assert_eq!(COUNT.with(Cell::get) - before, 0, "allocations in 1000 requests");
}
