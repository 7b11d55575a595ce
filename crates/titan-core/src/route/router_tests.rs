use proptest::prelude::*;

use super::super::condition::tests::head;
use super::super::condition::{Place, Test};
use super::super::pattern::Segment;
use super::*;

fn entry(route: usize, pattern: &str) -> Entry {
    let pattern = Pattern::parse(pattern).unwrap();
    Entry { route, hosts: Vec::new(), pattern, methods: Methods::new(&[]), conditions: Vec::new(), priority: 0 }
}

fn methods(mut entry: Entry, names: &[&str]) -> Entry {
    entry.methods = Methods::new(&names.iter().map(|n| (*n).to_string()).collect::<Vec<_>>());
    entry
}

fn hosts(mut entry: Entry, names: &[&str]) -> Entry {
    entry.hosts = names.iter().map(|n| (*n).to_string()).collect();
    entry
}

fn header(mut entry: Entry, name: &str, value: &str) -> Entry {
    entry.conditions.push(Condition { place: Place::Header, name: name.into(), test: Test::Exact(value.as_bytes().into()), invert: false });
    entry
}

fn find(router: &Router, host: &str, method: &str, path: &str) -> Found {
    find_with(router, host, method, path, &[])
}

fn find_with(router: &Router, host: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> Found {
    let head = head(method, path, headers);
    router.find(&MatchInput { host: host.as_bytes(), path: path.as_bytes(), method: method.as_bytes(), head: &head })
}

fn index(found: Found) -> Option<usize> {
    match found {
        Found::Route(index, _) => Some(index),
        _ => None,
    }
}

fn router(patterns: &[&str]) -> Router {
    Router::new(patterns.iter().enumerate().map(|(i, p)| entry(i, p)).collect())
}

#[test]
fn literal_beats_param_beats_wildcard_in_each_segment() {
    let router = router(&["/*", "/users/:id", "/users/me", "/users/*", "/:any/me", "/users/:id/posts/:post"]);
    for (path, expected) in [
        ("/", 0),
        ("/users/me", 2),
        ("/users/7", 1),
        ("/users/7/x", 3),
        ("/users/", 3),
        ("/other/me", 4),
        ("/users/7/posts/9", 5),
        ("/users/7/posts/", 3),
        ("/other/x", 0),
        ("/users", 0),
    ] {
        assert_eq!(index(find(&router, "h", "GET", path)), Some(expected), "{path}");
    }
}

#[test]
fn a_wildcard_matches_the_empty_rest_but_not_the_path_before_it() {
    let router = router(&["/api/*", "/files/*path"]);
    assert_eq!(index(find(&router, "h", "GET", "/api/")), Some(0));
    assert_eq!(index(find(&router, "h", "GET", "/api")), None);
    let Found::Route(1, params) = find(&router, "h", "GET", "/files/a/b.txt") else { panic!() };
    assert_eq!(params.get(&["path".into()], "path", b"/files/a/b.txt"), Some(&b"a/b.txt"[..]));
}

#[test]
fn walks_back_out_of_a_literal_that_leads_nowhere() {
    let router = router(&["/a/b/c", "/:x/b/d", "/a/*"]);
    let Found::Route(2, params) = find(&router, "h", "GET", "/a/b/d") else { panic!() };
    assert_eq!(params.spans.len(), 1, "spans of the branches left behind are gone");
    let router = self::router(&["/a/b/:y/c", "/:x/b/d"]);
    let Found::Route(1, params) = find(&router, "h", "GET", "/a/b/d") else { panic!() };
    assert_eq!(params.at(0, b"/a/b/d"), Some(&b"a"[..]));
}

#[test]
fn priority_then_conditions_then_file_order() {
    let router = Router::new(vec![
        entry(0, "/x"),
        header(entry(1, "/x"), "x-v", "2"),
        entry(2, "/x"),
        Entry { priority: 5, ..header(entry(3, "/x"), "x-v", "3") },
        methods(entry(4, "/x"), &["POST"]),
    ]);
    let with = |value| index(find_with(&router, "h", "GET", "/x", &[("X-V", value)]));
    assert_eq!((with("2"), with("3"), with("4")), (Some(1), Some(3), Some(0)));
    assert_eq!(index(find(&router, "h", "POST", "/x")), Some(4));
}

#[test]
fn priority_does_not_beat_specificity() {
    let router = Router::new(vec![Entry { priority: 100, ..entry(0, "/*") }, entry(1, "/a")]);
    assert_eq!(index(find(&router, "h", "GET", "/a")), Some(1));
}

#[test]
fn hosts_exact_then_longest_suffix_then_any() {
    let router = Router::new(vec![
        entry(0, "/*"),
        hosts(entry(1, "/*"), &["*.example.com"]),
        hosts(entry(2, "/*"), &["*.eu.example.com"]),
        hosts(entry(3, "/only"), &["a.eu.example.com", "b.test"]),
    ]);
    for (host, path, expected) in [
        ("a.eu.example.com", "/only", 3),
        ("a.eu.example.com", "/else", 2),
        ("x.y.eu.example.com", "/only", 2),
        ("eu.example.com", "/", 1),
        ("example.com", "/", 0),
        (".example.com", "/", 0),
        ("b.test", "/only", 3),
        ("", "/", 0),
    ] {
        assert_eq!(index(find(&router, host, "GET", path)), Some(expected), "{host}{path}");
    }
}

#[test]
fn not_allowed_only_where_the_method_alone_is_wrong() {
    let router = Router::new(vec![
        methods(entry(0, "/a"), &["GET"]),
        methods(entry(1, "/:x"), &["PUT"]),
        header(methods(entry(2, "/a"), &["DELETE"]), "x-admin", "1"),
        methods(hosts(entry(3, "/a"), &["h"]), &["PATCH"]),
    ]);
    assert_eq!(find(&router, "h", "POST", "/a"), Found::MethodNotAllowed("GET, HEAD, PUT, PATCH".into()));
    assert_eq!(find(&router, "h", "POST", "/b"), Found::MethodNotAllowed("PUT".into()));
    assert_eq!(index(find(&router, "h", "PUT", "/a")), Some(1), "a less specific route takes a method that the literal one lacks");
    assert_eq!(index(find(&router, "h", "HEAD", "/a")), Some(0));
    assert_eq!(index(find(&router, "h", "GET", "/a")), Some(0), "the host's own table does not hide the general one");
    assert_eq!(find(&router, "h", "GET", "/a/b"), Found::None);
    assert_eq!(find(&router, "h", "OPTIONS", "*"), Found::None);
    let only = Router::new(vec![header(methods(entry(0, "/a"), &["GET"]), "x", "1")]);
    assert_eq!(find(&only, "h", "POST", "/a"), Found::None, "a header is wrong too");
}

#[test]
fn head_alone_beats_get() {
    let router = Router::new(vec![methods(entry(0, "/a"), &["GET"]), methods(entry(1, "/a"), &["HEAD"])]);
    assert_eq!(index(find(&router, "h", "HEAD", "/a")), Some(1));
    assert_eq!(index(find(&router, "h", "GET", "/a")), Some(0));
}

#[test]
fn overlapping_patterns_do_not_blow_up() {
    // Every combination of literal and parameter over eight segments: the worst that a trie can hold; a match visits 2^9 nodes, not more.
    let patterns: Vec<String> = (0..256u32)
        .map(|bits| (0..8).map(|i| if bits >> i & 1 == 1 { "/a".to_string() } else { format!("/:p{i}") }).collect::<String>() + "/end")
        .collect();
    let router = router(&patterns.iter().map(String::as_str).collect::<Vec<_>>());
    let started = std::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(find(&router, "h", "GET", "/a/a/a/a/a/a/a/a/nope"), Found::None);
    }
    assert!(started.elapsed().as_millis() < 2_000);
}

/// The rule of matching, written down as plainly as possible: every entry that matches, ordered.
fn naive(entries: &[Entry], host: &str, method: &str, path: &str, headers: &RequestHead) -> Option<usize> {
    fn path_rank(pattern: &Pattern, path: &str) -> Option<Vec<u8>> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let mut rank = Vec::new();
        for (i, segment) in pattern.segments.iter().enumerate() {
            match segment {
                Segment::Rest => {
                    return (i < parts.len()).then(|| {
                        rank.push(2);
                        rank
                    });
                }
                Segment::Literal(l) if parts.get(i).map(|p| p.as_bytes()) == Some(l) => rank.push(0),
                Segment::Param if parts.get(i).is_some_and(|p| !p.is_empty()) => rank.push(1),
                _ => return None,
            }
        }
        (pattern.segments.len() == parts.len()).then_some(rank)
    }
    fn host_rank(hosts: &[String], host: &str) -> Option<i64> {
        if hosts.is_empty() {
            return Some(1);
        }
        let rank = |h: &String| match h.strip_prefix('*') {
            Some(suffix) => (host.ends_with(suffix) && host.len() > suffix.len()).then_some(-(suffix.len() as i64)),
            None => (h == host).then_some(i64::MIN),
        };
        hosts.iter().filter_map(rank).min()
    }
    let asked = Asked::new(method.as_bytes());
    entries
        .iter()
        .filter(|e| e.methods.contains(asked) && e.conditions.iter().all(|c| c.holds(headers)))
        .filter_map(|e| {
            let conditions = e.conditions.len() + usize::from(!e.methods.is_any()) + usize::from(e.methods.is_head_only());
            Some((host_rank(&e.hosts, host)?, path_rank(&e.pattern, path)?, -e.priority, -(conditions as i64), e.route))
        })
        .min()
        .map(|key| key.4)
}

fn pattern() -> impl Strategy<Value = String> {
    let segment = prop_oneof!["[ab]", ":[x]", Just(String::new())];
    (prop::collection::vec(segment, 1..4), any::<bool>()).prop_map(|(mut parts, rest)| {
        // An empty segment only at the end: paths never hold one elsewhere.
        let last = parts.len() - 1;
        for (i, part) in parts.iter_mut().enumerate() {
            if part.starts_with(':') {
                *part = format!(":p{i}");
            } else if part.is_empty() && (i != last || rest) {
                *part = "c".into();
            }
        }
        if rest {
            parts.push("*".into());
        }
        format!("/{}", parts.join("/"))
    })
}

/// Pattern, hosts, methods, priority, whether a header is asked for.
type Drawn = (String, Vec<&'static str>, Vec<&'static str>, i32, bool);

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let host = prop::sample::select(vec![vec![], vec!["h.t"], vec!["*.t"], vec!["*.h.t", "x.t"]]);
    let method = prop::sample::select(vec![vec![], vec!["GET"], vec!["POST", "PUT"], vec!["HEAD"]]);
    prop::collection::vec((pattern(), host, method, -1..2i32, any::<bool>()), 1..12).prop_map(|list| {
        let build = |(i, (p, h, m, priority, canary)): (usize, Drawn)| {
            let entry = methods(hosts(Entry { priority, ..entry(i, &p) }, &h), &m);
            if canary { header(entry, "x-c", "1") } else { entry }
        };
        list.into_iter().enumerate().map(build).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn trie_equals_the_naive_matcher(
        entries in entries(),
        host in prop::sample::select(vec!["", "h.t", "a.t", "b.h.t", "x.t"]),
        method in prop::sample::select(vec!["GET", "POST", "HEAD", "PATCH"]),
        parts in prop::collection::vec("[abc]", 1..5),
        slash in any::<bool>(),
        canary in any::<bool>(),
    ) {
        let path = format!("/{}{}", parts.join("/"), if slash { "/" } else { "" });
        let headers: &[(&str, &str)] = if canary { &[("X-C", "1")] } else { &[] };
        let head = head(method, &path, headers);
        let expected = naive(&entries, host, method, &path, &head);
        let router = Router::new(entries.clone());
        let input = MatchInput { host: host.as_bytes(), path: path.as_bytes(), method: method.as_bytes(), head: &head };
        let found = router.find(&input);
        prop_assert_eq!(index(found.clone()), expected);
        if let Found::Route(route, params) = found {
            prop_assert_eq!(params.spans.len(), entries[route].pattern.names.len());
        }
    }

    #[test]
    fn no_path_panics(path in prop::collection::vec(any::<u8>(), 0..40), host in prop::collection::vec(any::<u8>(), 0..20)) {
        let router = Router::new(vec![entry(0, "/a/:b/*"), hosts(entry(1, "/:x"), &["*.t"])]);
        let head = head("GET", "/", &[]);
        router.find(&MatchInput { host: &host, path: &path, method: b"GET", head: &head });
    }
}
