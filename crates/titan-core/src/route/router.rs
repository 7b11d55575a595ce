//! The routing table.

use std::sync::Arc;

use smallvec::SmallVec;

use super::condition::{Asked, Condition, Methods};
use super::pattern::Pattern;
use super::table::Table;
use crate::http::head::{RequestHead, Span};

/// What a request is matched on.
#[derive(Clone, Copy)]
pub struct MatchInput<'a> {
    /// Host in lower case, without port (and without brackets for IPv6). Empty where there is none.
    pub host: &'a [u8],
    /// Normalised path.
    pub path: &'a [u8],
    /// Method; the one asked for where a CORS preflight is matched (see [`crate::policy::preflight_method`]).
    pub method: &'a [u8],
    /// The head: query, headers, cookies.
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

/// What a route contributes to the table.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Index of the route.
    pub route: usize,
    /// Lower case; `*.` first for a suffix; empty = any host.
    pub hosts: Vec<String>,
    /// Path.
    pub pattern: Pattern,
    /// Methods.
    pub methods: Methods,
    /// Everything else that must hold.
    pub conditions: Vec<Condition>,
    /// Among equally specific routes the higher one is tried first.
    pub priority: i32,
}

/// The routing table: immutable, shared by every shard; a match allocates nothing unless its outcome is 405.
#[derive(Debug, Default)]
pub struct Router {
    exact: hashbrown::HashMap<Box<[u8]>, Table, foldhash::fast::RandomState>,
    /// By suffix with its dot: `.example.com`.
    suffix: hashbrown::HashMap<Box<[u8]>, Table, foldhash::fast::RandomState>,
    longest_suffix: usize,
    any: Table,
}

/// A route that was considered, for `explain`.
#[derive(Debug)]
pub struct Considered<'r> {
    /// Index of the route.
    pub route: usize,
    /// What its path parameters would be.
    pub params: Params,
    /// Its methods, where the request's is not among them.
    pub wrong_method: Option<&'r Methods>,
    /// The conditions that do not hold.
    pub failed: Vec<&'r Condition>,
}

impl Router {
    /// Builds the table. Entries come in the order of the file.
    pub fn new(entries: Vec<Entry>) -> Self {
        let mut router = Router::default();
        for mut entry in entries {
            let hosts = std::mem::take(&mut entry.hosts);
            let entry = Arc::new(entry);
            if hosts.is_empty() {
                router.any.insert(&entry);
            }
            for host in hosts {
                let table = match host.strip_prefix('*') {
                    Some(suffix) => {
                        router.longest_suffix = router.longest_suffix.max(suffix.len());
                        router.suffix.entry(suffix.as_bytes().into()).or_default()
                    }
                    None => router.exact.entry(host.as_bytes().into()).or_default(),
                };
                table.insert(&entry);
            }
        }
        router.exact.values_mut().chain(router.suffix.values_mut()).chain([&mut router.any]).for_each(Table::seal);
        router
    }

    /// The route of a request.
    pub fn find(&self, input: &MatchInput) -> Found {
        let asked = Asked::new(input.method);
        let mut wrong_method = false;
        let mut found = None;
        for table in self.tables(input.host) {
            let hit = table.visit(input.path, &mut |leaf, spans| {
                for entry in leaf {
                    if !entry.conditions.iter().all(|c| c.holds(input.head)) {
                        continue;
                    }
                    if entry.methods.contains(asked) {
                        found = Some((entry.route, Params { spans: spans.into() }));
                        return true;
                    }
                    wrong_method = true;
                }
                false
            });
            if hit {
                break;
            }
        }
        match found {
            Some((route, params)) => Found::Route(route, params),
            None if wrong_method => Found::MethodNotAllowed(self.allow(input)),
            None => Found::None,
        }
    }

    /// Every route whose host and path match, in the order in which they are tried.
    pub fn considered(&self, input: &MatchInput) -> Vec<Considered<'_>> {
        let asked = Asked::new(input.method);
        let mut list: Vec<Considered> = Vec::new();
        for table in self.tables(input.host) {
            table.visit(input.path, &mut |leaf, spans| {
                for entry in leaf {
                    list.push(Considered {
                        route: entry.route,
                        params: Params { spans: spans.into() },
                        wrong_method: (!entry.methods.contains(asked)).then_some(&entry.methods),
                        failed: entry.conditions.iter().filter(|c| !c.holds(input.head)).collect(),
                    });
                }
                false
            });
        }
        list
    }

    /// Methods of the routes that differ from the request in the method alone.
    fn allow(&self, input: &MatchInput) -> String {
        let mut methods = Methods::new(&[]);
        let mut first = true;
        for entry in self.considered(input) {
            if let (Some(more), true) = (entry.wrong_method, entry.failed.is_empty()) {
                if std::mem::take(&mut first) {
                    methods = more.clone();
                } else {
                    methods.extend(more);
                }
            }
        }
        methods.names().join(", ")
    }

    /// The tables of a host, most specific first.
    fn tables<'r, 'h>(&'r self, host: &'h [u8]) -> impl Iterator<Item = &'r Table> + use<'r, 'h> {
        let exact = if self.exact.is_empty() { None } else { self.exact.get(host) };
        // A suffix stands for one or more labels, so the dot is never the first byte of the host.
        let suffixes = (self.longest_suffix > 0).then(|| memchr::memchr_iter(b'.', host)).into_iter().flatten();
        let suffixes = suffixes.filter(|dot| *dot > 0 && host.len() - dot <= self.longest_suffix);
        exact.into_iter().chain(suffixes.filter_map(|dot| self.suffix.get(&host[dot..]))).chain([&self.any])
    }
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
