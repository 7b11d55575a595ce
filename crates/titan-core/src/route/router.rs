//! The routing table.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::http::head::{RequestHead, Span};

/// What a request is matched on.
#[derive(Clone, Copy)]
pub struct MatchInput<'a> {
    /// Host in lower case, without port (and without brackets for IPv6). Empty where there is none.
    pub host: &'a [u8],
    /// Normalised path.
    pub path: &'a [u8],
    /// The head: method, query, headers, cookies.
    pub head: &'a RequestHead,
}

/// Values of a route's parameters, as spans of the path that was matched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params {
    /// In the order of [`super::Route::param_names`].
    pub spans: SmallVec<[Span; 4]>,
}

impl Params {
    /// The value of parameter number `index`.
    pub fn at<'p>(&self, index: usize, path: &'p [u8]) -> Option<&'p [u8]> {
        self.spans.get(index).map(|span| span.of(path))
    }

    /// The value of a parameter by name; `names` is the route's `param_names`.
    pub fn get<'p>(&self, names: &[Arc<str>], name: &str, path: &'p [u8]) -> Option<&'p [u8]> {
        self.at(names.iter().position(|n| &**n == name)?, path)
    }
}

/// Outcome of a match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Index into `Snapshot::routes`, and the parameters.
    Route(usize, Params),
    /// Some route would match with another method: the value of `Allow`.
    MethodNotAllowed(String),
    /// 404.
    None,
}

/// The routing table: immutable, shared by every shard; a match allocates nothing.
#[derive(Default)]
pub struct Router {}

impl Router {
    /// The route of a request. A CORS preflight is matched on the method that it asks for.
    pub fn find(&self, input: &MatchInput) -> Found {
        let _ = input;
        Found::None
    }
}
