//! Requests for tests.

use std::net::SocketAddr;

use super::{Chain, Policies, PolicyState, RequestCx, RequestView, ResponseCx};
use crate::config::raw;
use crate::http::answer::Answer;
use crate::http::client::{ClientInfo, Scheme};
use crate::http::h1::parse;
use crate::http::head::{RequestHead, Span};
use crate::http::ops::{HeaderOp, HeaderOps};

/// A head from a request line's parts and field lines.
pub(crate) fn head(method: &str, path: &str, fields: &[(&str, &str)]) -> RequestHead {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: gateway.example\r\n");
    for (name, value) in fields {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    parse::request(&mut text.into_bytes(), &mut parse::Progress::default(), &parse::Limits::default()).unwrap().unwrap()
}

/// What a chain sees of an exchange.
pub(crate) fn view<'a>(head: &'a RequestHead, client: &'a ClientInfo, route: &'a str) -> RequestView<'a> {
    RequestView {
        head,
        path: b"/a",
        query: head.raw_query(),
        client,
        route,
        route_index: 0,
        param_names: &[],
        param_spans: &[],
        request_id: b"req-1",
    }
}

/// One exchange with its client.
pub(crate) struct Exchange {
    pub(crate) head: RequestHead,
    pub(crate) client: ClientInfo,
    pub(crate) route: &'static str,
    pub(crate) state: PolicyState,
    pub(crate) request_ops: HeaderOps,
}

impl Exchange {
    pub(crate) fn new(ip: &str, head: RequestHead) -> Self {
        let peer: SocketAddr = SocketAddr::new(ip.parse().unwrap(), 4000);
        let client = ClientInfo { peer, local: peer, ip: peer.ip(), trusted: false, scheme: Scheme::Http, tls: None };
        Self { head, client, route: "r", state: PolicyState::default(), request_ops: HeaderOps::default() }
    }

    pub(crate) fn get(ip: &str) -> Self {
        Self::new(ip, head("GET", "/a", &[]))
    }

    /// Runs a chain to its end and gives its answer and response edits.
    pub(crate) fn run(&mut self, chain: &Chain) -> (Option<Answer>, Vec<(String, String)>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.run_async(chain))
    }

    pub(crate) async fn run_async(&mut self, chain: &Chain) -> (Option<Answer>, Vec<(String, String)>) {
        let names = ["id".into()];
        let spans = [Span { start: 3, end: 7 }];
        let req =
            RequestView { path: b"/a/42\r\n", param_names: &names, param_spans: &spans, ..view(&self.head, &self.client, self.route) };
        let mut cx = RequestCx { req, request_ops: &mut self.request_ops, state: &mut self.state };
        let answer = chain.run(&mut cx).await;
        let mut ops = HeaderOps::default();
        if let Some(answer) = &answer {
            ops.extend(&answer.headers);
        }
        let status = answer.as_ref().map_or(200, |a| a.status);
        chain.response(&ResponseCx { req, status, upstream: None, state: &self.state }, &mut ops);
        (answer, apply(&ops))
    }

    /// The request edits as a list.
    pub(crate) fn request_headers(&self) -> Vec<(String, String)> {
        apply(&self.request_ops)
    }
}

/// Edits applied to an empty head.
pub(crate) fn apply(ops: &HeaderOps) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut out: Vec<(String, String)> = Vec::new();
    for op in ops.iter() {
        match op {
            HeaderOp::Add(name, value) => out.push((text(name), text(value))),
            HeaderOp::Set(name, value) => {
                out.retain(|(n, _)| n.as_bytes() != name);
                out.push((text(name), text(value)));
            }
            HeaderOp::Remove(name) => out.retain(|(n, _)| n.as_bytes() != name),
        }
    }
    out
}

pub(crate) fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

/// Compiles a JSON list of policies that must have no issue.
pub(crate) fn policies(json: serde_json::Value, previous: Option<&Policies>) -> Policies {
    let raw: Vec<raw::Policy> = serde_json::from_value(json).unwrap();
    let (policies, issues) = super::compile(&raw, previous, &super::Services::default());
    assert_eq!(issues, [], "no issues expected");
    policies
}

/// The issues of a JSON list of policies.
pub(crate) fn issues(json: serde_json::Value) -> Vec<String> {
    let raw: Vec<raw::Policy> = serde_json::from_value(json).unwrap();
    super::compile(&raw, None, &super::Services::default()).1.iter().map(|(_, issue)| issue.to_string()).collect()
}

/// The chain of all of a JSON list of policies.
pub(crate) fn chain(json: serde_json::Value) -> Chain {
    let count = json.as_array().unwrap().len();
    policies(json, None).chain(&(0..count).collect::<Vec<_>>())
}
