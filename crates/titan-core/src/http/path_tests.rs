use proptest::prelude::*;

use super::*;

fn with(raw: &str, rules: &Rules) -> Result<String, String> {
    normalise_with(raw.as_bytes(), rules).map(|n| String::from_utf8(n.0.into_owned()).unwrap()).map_err(|e| e.detail.into_owned())
}

fn n(raw: &str) -> Result<String, String> {
    with(raw, &Rules::default())
}

#[test]
fn every_spelling_becomes_one() {
    for (raw, want) in [
        ("/", "/"),
        ("*", "*"),
        ("/a/b", "/a/b"),
        ("/a/", "/a/"),
        ("/%61dmin", "/admin"),
        ("/a%7eb%2D%5f", "/a~b-_"),
        ("/v1/x%3Acancel", "/v1/x:cancel"),
        ("/a%40b%24%21", "/a@b$!"),
        ("/a+b", "/a+b"),
        ("/a%2bb", "/a%2Bb"),
        ("/a%3bb", "/a%3Bb"),
        ("/%c3%a9", "/%C3%A9"),
        ("/é", "/%C3%A9"),
        ("/a\"{}|^`<>[]b", "/a%22%7B%7D%7C%5E%60%3C%3E%5B%5Db"),
        ("/a%20b%25", "/a%20b%25"),
        ("//", "/"),
        ("//a///b//", "/a/b/"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/..", "/"),
        ("/../../x", "/x"),
        ("/a/b/../../../x", "/x"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a/%2e/b", "/a/b"),
        ("/a//../b", "/b"),
        ("/...", "/..."),
        ("/.hidden/..x", "/.hidden/..x"),
        ("\\a\\b", "/a/b"),
        ("/a\\..\\b", "/b"),
        ("/a/..\\", "/"),
        ("/a;x=1/b", "/a/b"),
        ("/a/..;/b", "/b"),
        ("/a/..;x/b", "/b"),
        ("/a/.;/b", "/a/b"),
        ("/a/%2e%2e;x/b", "/b"),
        ("/;x/a", "/a"),
        ("/a;%zz", "/a"),
        ("/a/;", "/a/"),
        ("/%252e%252e/b", "/%252e%252e/b"),
    ] {
        if raw == "/a;%zz" {
            assert!(n(raw).is_err(), "a broken escape is refused even where it is taken off");
            continue;
        }
        assert_eq!(n(raw), Ok(want.to_owned()), "{raw}");
    }
}

#[test]
fn what_is_refused() {
    for raw in ["", "a", "a/b", "%2fa", "/%", "/%4", "/%zz", "/%00", "/a%2Fb", "/a%2f..%2fb", "/a%5cb", "/..%2fx", "/%2e%2e%2fx", "/a;%2f"]
    {
        assert!(n(raw).is_err(), "{raw}");
    }
}

#[test]
fn choices() {
    let keep = Rules { encoded_slash: EncodedSlash::Keep, parameters: Parameters::Keep };
    assert_eq!(with("/a%2fb%5c", &keep), Ok("/a%2Fb%5C".into()));
    assert_eq!(with("/a;x=1/b", &keep), Ok("/a;x=1/b".into()));
    for raw in ["/a%2f..%2fb", "/..%2fb", "/a%5c%2e", "/..;/b", "/.;x"] {
        assert!(with(raw, &keep).is_err(), "{raw}");
    }
    let decode = Rules { encoded_slash: EncodedSlash::Decode, parameters: Parameters::Reject };
    assert_eq!(with("/a%2fb%5Cc", &decode), Ok("/a/b/c".into()));
    assert_eq!(with("/a%2f..%2fb", &decode), Ok("/b".into()));
    assert_eq!(with("/a/%2f%2f", &decode), Ok("/a/".into()));
    assert!(with("/a;b", &decode).is_err());
    let lax = Rules { encoded_slash: EncodedSlash::Decode, parameters: Parameters::Keep };
    assert!(with("/.;%5c", &lax).is_err() && with("/..;%2fa", &lax).is_err());
}

#[test]
fn the_usual_path_is_borrowed() {
    for raw in ["/", "/api/v1/users/42", "/a.b/c~d", "/a:b@c,d=e"] {
        assert!(matches!(normalise(raw.as_bytes()).unwrap().0, Cow::Borrowed(_)), "{raw}");
    }
}

/// Decodes everything once, as a careless backend does.
fn decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut i = 0;
    while i < path.len() {
        match (path[i], path.get(i + 1).and_then(|b| token::hex(*b)), path.get(i + 2).and_then(|b| token::hex(*b))) {
            (b'%', Some(h), Some(l)) => {
                out.push(h << 4 | l);
                i += 3;
            }
            (b, ..) => {
                out.push(b);
                i += 1;
            }
        }
    }
    out
}

fn rules() -> impl Strategy<Value = Rules> {
    use prop::sample::select;
    (
        select(vec![EncodedSlash::Reject, EncodedSlash::Keep, EncodedSlash::Decode]),
        select(vec![Parameters::Strip, Parameters::Reject, Parameters::Keep]),
    )
        .prop_map(|(encoded_slash, parameters)| Rules { encoded_slash, parameters })
}

proptest! {
    #[test]
    fn normalising_twice_changes_nothing(raw in "(/|[.]|[.]{2}|;|a|B|%2[eEfF5]|%5c|\\\\|%41|%3b|\\+|é|:|%){0,24}", rules in rules()) {
        let raw = format!("/{raw}");
        if let Ok(once) = with(&raw, &rules) {
            prop_assert_eq!(with(&once, &rules), Ok(once.clone()));
            prop_assert!(once.starts_with('/') && !once.contains("//"));
            // No one who decodes once sees a dot segment or a NUL.
            let seen = decoded(once.as_bytes());
            prop_assert!(!seen.contains(&0));
            prop_assert!(!seen.split(|b| matches!(b, b'/' | b'\\')).any(|s| s == b"." || s == b".."), "{}", once);
        }
    }

    #[test]
    fn spellings_of_a_segment_agree(segment in "[A-Za-z0-9._~!$&'()*,=:@-]{1,12}", mask in any::<u16>()) {
        let spelled: String = segment.bytes().enumerate().map(|(i, b)| if mask >> i & 1 == 1 { format!("%{b:02x}") } else { char::from(b).to_string() }).collect();
        prop_assert_eq!(n(&format!("/x/{spelled}")), n(&format!("/x/{segment}")));
    }

    #[test]
    fn no_bytes_panic(raw in prop::collection::vec(any::<u8>(), 0..60), rules in rules()) {
        let _ = normalise_with(&raw, &rules);
    }
}
