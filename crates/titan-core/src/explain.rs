//! Which route a request would take, and why: `titan explain`. Nothing is sent; the same code decides as for a real request.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{Issue, compile, raw};
use crate::error::ProxyError;
use crate::hook::Point;
use crate::http::client::{ClientInfo, Scheme};
use crate::http::head::RequestHead;
use crate::http::ops::HeaderOps;
use crate::http::{h1, host, path};
use crate::policy::{self, PolicyState, RequestCx, RequestView};
use crate::proxy::builtin::{self, Builtin};
use crate::route::router::Considered;
use crate::route::{Action, Found, MatchInput, Params, Proxy, Route};
use crate::rt::clock;
use crate::snapshot::Snapshot;
use crate::upstream::Upstream;

/// A request to explain.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Value of Host.
    pub host: String,
    /// Path and query as they stand on the wire.
    pub target: String,
    /// Header fields besides Host.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The client's address.
    #[serde(default = "localhost")]
    pub client_ip: IpAddr,
}

/// What would become of it.
#[derive(Debug, Default, Serialize)]
pub struct Explanation {
    /// `route`, `builtin` (Titan answers by itself), `refused` (400), `method_not_allowed` (405) or `no_route` (404).
    pub outcome: &'static str,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Which built-in endpoint answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builtin: Option<&'static str>,
    /// Value of `Allow` where only the method is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<String>,
    /// Host that is matched.
    pub host: String,
    /// Path that is matched, after normalisation.
    pub path: String,
    /// Whether it is a CORS preflight that a policy answers. It is matched on the method that it asks about where that one's route answers it.
    pub preflight: bool,
    /// The route taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Taken>,
    /// Every route whose host and path match, in the order in which they are tried.
    pub considered: Vec<Candidate>,
    /// Policies in the order in which they run.
    pub policies: Vec<Step>,
}

/// The route taken.
#[derive(Debug, Serialize)]
pub struct Taken {
    /// Name.
    pub name: String,
    /// Path pattern.
    pub pattern: String,
    /// Values of its parameters.
    pub params: Vec<(String, String)>,
    /// What it does.
    pub action: Does,
}

/// What a route does with the request.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Does {
    /// Forwards it.
    Proxy {
        /// The upstream that this request is given to.
        upstream: String,
        /// Shares, where there are several upstreams.
        split: Vec<(String, u32)>,
        /// Path and query that are forwarded.
        target: String,
        /// Backends it may go to, with the Host that each is sent.
        backends: Vec<Backend>,
    },
    /// Redirects.
    Redirect {
        /// Status.
        status: u16,
        /// Value of Location.
        location: String,
    },
    /// Gives a fixed answer.
    Fixed {
        /// Status.
        status: u16,
    },
    /// Refuses it: the rewritten path is not a path.
    Refused {
        /// Why.
        message: String,
    },
}

/// A backend that may be chosen.
#[derive(Debug, Serialize)]
pub struct Backend {
    /// `host:port`.
    pub backend: String,
    /// Its address; absent where the name is not resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Share.
    pub weight: u32,
    /// Host header that it is sent.
    pub host: String,
    /// `up`, `half_open`, `circuit_open`, `ejected`, `unhealthy`, `draining` or `unresolved`. `up` where nothing runs.
    pub state: &'static str,
}

/// A route that was considered.
#[derive(Debug, Serialize)]
pub struct Candidate {
    /// Name.
    pub route: String,
    /// Path pattern.
    pub pattern: String,
    /// Whether it is the one taken.
    pub taken: bool,
    /// Why not.
    pub because: String,
}

/// A policy at its place in the order.
#[derive(Debug, Serialize)]
pub struct Step {
    /// Name.
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of a hook: the functions that it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handlers: Option<Vec<&'static str>>,
    /// Of a hook: whether its conditions (`when`) hold for this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applies: Option<bool>,
}

/// Functions of hooks, by their points.
const HANDLERS: [(Point, &str); 4] =
    [(Point::Request, "onRequest"), (Point::Response, "onResponse"), (Point::Error, "onError"), (Point::Log, "onLog")];

/// Explains `request` under `config`. Nothing of `config` is started.
pub fn explain(config: &raw::Config, request: &Request) -> Result<Explanation, Vec<Issue>> {
    Ok(decide(&compile::compile(config, None, &compile::Services::detached())?, request))
}

/// Explains `request` under a compiled configuration: of a running gateway, the state of the backends is theirs.
pub fn decide(snapshot: &Snapshot, request: &Request) -> Explanation {
    let head = match head_of(request) {
        Ok(head) => head,
        Err(message) => return refused(message),
    };
    let (name, normal) = match (host::normalise(head.authority_bytes()), path::normalise(head.raw_path())) {
        (Ok(name), Ok(normal)) => (name.name, normal.0),
        (Err(error), _) | (_, Err(error)) => return refused(error.detail.into_owned()),
    };
    let builtin = |reserved| builtin::at(&normal, &snapshot.builtin, reserved, &[request.client_ip]);
    if let Some(found) = builtin(true) {
        return answered_here(&name, &normal, &head, found);
    }
    let asked = policy::preflight_method(&head);
    let mut input = MatchInput { host: &name, path: &normal, method: asked.unwrap_or(head.method_bytes()), head: &head };
    let mut found = snapshot.router.find(&input);
    if asked.is_some() && !matches!(&found, Found::Route(index, _) if snapshot.routes[*index].chain.answers_preflight()) {
        // The route that it asks about does not answer: it is an OPTIONS request like another.
        input.method = head.method_bytes();
        found = snapshot.router.find(&input);
    }
    let taken = match &found {
        Found::Route(index, _) => Some(*index),
        _ => None,
    };
    if taken.is_none()
        && let Some(found) = builtin(false)
    {
        return answered_here(&name, &normal, &head, found);
    }
    let (policies, chain) = taken.map_or((&snapshot.fallback_policies, &snapshot.fallback), |index| {
        let route = &snapshot.routes[index];
        (&route.policies, &route.chain)
    });
    // One whose own route has a CORS policy, or that has no route where there is a global one, is answered all the same.
    let preflight = asked.is_some() && chain.answers_preflight();
    let step = |(place, (name, kind)): (usize, &(Arc<str>, &'static str))| {
        let hook = chain.hook_at(place);
        Step {
            name: name.to_string(),
            kind: (*kind).into(),
            handlers: hook.map(|hook| HANDLERS.iter().filter(|(point, _)| hook.has(*point)).map(|(_, name)| *name).collect()),
            applies: hook.map(|hook| hook.applies(&head, &normal)),
        }
    };
    let mut out = Explanation {
        host: text(&name),
        path: text(&normal),
        preflight,
        considered: snapshot.router.considered(&input).iter().map(|one| candidate(snapshot, one, taken, input.method)).collect(),
        policies: policies.iter().enumerate().map(step).collect(),
        ..Explanation::default()
    };
    match found {
        Found::Route(index, params) => {
            let route = &snapshot.routes[index];
            out.outcome = "route";
            out.route = Some(Taken {
                name: route.name.to_string(),
                pattern: route.pattern.to_string(),
                params: named(route, &params, &normal),
                action: does(route, index, &head, &params, &normal, request.client_ip),
            });
        }
        Found::MethodNotAllowed(allow) => {
            out.outcome = "method_not_allowed";
            out.allow = Some(allow);
        }
        Found::None if *normal == *b"*" => (out.outcome, out.builtin) = ("builtin", Some("options")),
        Found::None => out.outcome = "no_route",
    }
    out
}

/// What a built-in endpoint makes of a request.
fn answered_here(host: &[u8], path: &[u8], head: &RequestHead, found: Builtin) -> Explanation {
    let (outcome, allow) =
        if builtin::is_read(head.method) { ("builtin", None) } else { ("method_not_allowed", Some(builtin::READ.into())) };
    Explanation { outcome, allow, builtin: Some(found.name()), host: text(host), path: text(path), ..Explanation::default() }
}

fn does(route: &Route, index: usize, head: &RequestHead, params: &Params, normal: &[u8], client: IpAddr) -> Does {
    match &route.action {
        Action::Redirect(redirect) => {
            Does::Redirect { status: redirect.status, location: text(&redirect.location(normal, params, head.raw_query())) }
        }
        Action::Fixed(answer) => Does::Fixed { status: answer.status },
        Action::Proxy(proxy) => match forwarded(route, proxy, index, head, params, normal, client) {
            Err(error) => Does::Refused { message: error.detail.into_owned() },
            Ok(target) => {
                let upstream = proxy.choose(head, client);
                let split = match proxy.targets() {
                    [_] => Vec::new(),
                    targets => targets.iter().map(|target| (target.upstream.name.to_string(), target.weight)).collect(),
                };
                Does::Proxy { upstream: upstream.name.to_string(), split, target, backends: backends(upstream, head) }
            }
        },
    }
}

/// Path and query that are forwarded, as the route and its rules for the query make them; what hooks may change is not known here.
fn forwarded(
    route: &Route,
    proxy: &Proxy,
    index: usize,
    head: &RequestHead,
    params: &Params,
    normal: &[u8],
    ip: IpAddr,
) -> Result<String, ProxyError> {
    let (peer, local) = (SocketAddr::new(ip, 0), SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0));
    let client = ClientInfo { peer, local, ip, trusted: false, scheme: Scheme::Http, tls: None };
    let (mut ops, mut state) = (HeaderOps::default(), PolicyState::default());
    let req = RequestView {
        head,
        path: normal,
        query: head.raw_query(),
        client: &client,
        route: &route.name,
        route_index: index as u32,
        param_names: &route.param_names,
        param_spans: &params.spans,
        request_id: b"",
    };
    route.chain.rules(&mut RequestCx { req, request_ops: &mut ops, state: &mut state });
    let target = proxy.forward(normal, params, state.query(head.raw_query()))?;
    let query = target.query.as_deref().map(|query| format!("?{}", text(query))).unwrap_or_default();
    Ok(text(&target.path) + &query)
}

fn backends(upstream: &Upstream, head: &RequestHead) -> Vec<Backend> {
    let members = upstream.members();
    let now = clock::now();
    let mut list: Vec<Backend> = members
        .iter()
        .filter(|member| member.weight > 0)
        .map(|member| Backend {
            backend: member.endpoint.backend.to_string(),
            address: Some(member.endpoint.addr.to_string()),
            weight: member.weight,
            host: text(upstream.host_for(&member.endpoint, head.authority_bytes())),
            state: member.endpoint.status(now).as_str(),
        })
        .collect();
    for backend in upstream.backends.iter().filter(|backend| backend.weight > 0) {
        let name = upstream.backend_name(backend);
        if list.iter().all(|known| known.backend != name) {
            let host = upstream.host_of(backend, head.authority_bytes());
            list.push(Backend { backend: name, address: None, weight: backend.weight, host, state: "unresolved" });
        }
    }
    list
}

fn candidate(snapshot: &Snapshot, one: &Considered, taken: Option<usize>, method: &[u8]) -> Candidate {
    let route = &snapshot.routes[one.route];
    let chosen = taken == Some(one.route);
    let because = if chosen {
        String::new()
    } else if let Some(methods) = one.wrong_method {
        format!("it takes {} and not {}", methods.names().join(", "), text(method))
    } else if one.failed.is_empty() {
        "a route before it matches too".into()
    } else {
        let failed: Vec<_> = one.failed.iter().map(ToString::to_string).collect();
        format!("this does not hold: {}", failed.join("; "))
    };
    Candidate { route: route.name.to_string(), pattern: route.pattern.to_string(), taken: chosen, because }
}

fn named(route: &Route, params: &Params, normal: &[u8]) -> Vec<(String, String)> {
    let value = |(index, name): (usize, &std::sync::Arc<str>)| Some((name.to_string(), text(params.at(index, normal)?)));
    route.param_names.iter().enumerate().filter_map(value).collect()
}

fn head_of(request: &Request) -> Result<RequestHead, String> {
    let fields = request.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<String>();
    let lines =
        [request.method.as_str(), &request.target, &request.host].into_iter().chain(request.headers.iter().flat_map(|(n, v)| [&**n, &**v]));
    // The head is put together as text, so that the strict parser judges it; a line break would make it another head.
    if lines.flat_map(str::bytes).any(|byte| byte == b'\r' || byte == b'\n') {
        return Err("a line break in the request".into());
    }
    let Request { method, target, host, .. } = request;
    let head = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n{fields}\r\n");
    h1::parse::request_from(head.as_bytes()).map_err(|error| error.detail.into_owned())
}

fn refused(message: String) -> Explanation {
    Explanation { outcome: "refused", message: Some(message), ..Explanation::default() }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn localhost() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}
