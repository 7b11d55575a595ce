use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::*;
use crate::config::raw::{self, LogFormat};
use crate::http::head::{Facts, Field, Fields, HeaderId, Method, RequestHead, Span, Version};

/// A directory that goes with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = std::env::temp_dir().join(format!("titan-log-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn config(output: String, format: LogFormat, fields: &[&str]) -> raw::AccessLog {
    raw::AccessLog {
        format,
        fields: fields.iter().map(|&name| name.to_owned()).collect(),
        exclude_paths: Vec::new(),
        sample: 1.0,
        output,
        rotate_bytes: 0,
        rotate_files: 0,
    }
}

fn head(path: &[u8], query: Option<&[u8]>, headers: &[(HeaderId, &[u8], &[u8])]) -> RequestHead {
    let mut bytes = Vec::new();
    let mut put = |part: &[u8]| {
        let start = bytes.len() as u32;
        bytes.extend_from_slice(part);
        Span { start, end: bytes.len() as u32 }
    };
    let method_span = put(b"GET");
    let path = put(path);
    let query = query.map(&mut put);
    let authority = put(b"shop.test:8080");
    let mut fields = Fields::new();
    let mut facts = Facts::default();
    for (id, name, value) in headers {
        facts.ids |= id.bit();
        fields.push(Field { name: put(name), value: put(value), id: *id, underscore: false });
    }
    RequestHead { bytes, method: Method::Get, method_span, path, query, authority, version: Version::H11, fields, facts }
}

fn entry(head: Option<&RequestHead>) -> Entry<'_> {
    Entry {
        time: UNIX_EPOCH + Duration::from_millis(1_795_866_655_123),
        head,
        request_id: b"req-1",
        correlation_id: b"",
        trace_id: b"",
        client_ip: "203.0.113.7".parse().unwrap(),
        peer: "10.0.0.9:1234".parse().unwrap(),
        scheme: "https",
        tls_version: Some("TLSv1.3"),
        sni: Some("shop.test"),
        listener: "https",
        match_path: b"/",
        route: "api",
        upstream: "backend",
        backend: Some("127.0.0.1:3000".parse().unwrap()),
        status: 200,
        bytes_in: 0,
        bytes_out: 4096,
        duration: Duration::from_micros(12_034),
        upstream_connect: None,
        upstream_first_byte: Some(Duration::from_micros(999)),
        tries: 1,
        stage: None,
        detail: None,
        user: None,
        hidden: &[],
    }
}

fn line(format: LogFormat, fields: &[&str], entry: &Entry<'_>) -> String {
    let dir = Dir::new();
    let log = AccessLog::compile("access_log", &config(dir.path("log"), format, fields)).unwrap();
    log.write(entry);
    flush();
    assert!(log.sync(Duration::from_secs(5)));
    dir.read("log")
}

#[test]
fn a_json_line_holds_the_chosen_fields_in_order() {
    let head = head(b"/a/b", Some(b"x=1"), &[(HeaderId::UserAgent, b"User-Agent", b"curl/8"), (HeaderId::Other, b"X-Tenant", b"t1")]);
    let all = [
        "time",
        "request_id",
        "trace_id",
        "client_ip",
        "peer",
        "protocol",
        "scheme",
        "tls_version",
        "sni",
        "listener",
        "method",
        "host",
        "path",
        "query",
        "target",
        "route",
        "upstream",
        "backend",
        "status",
        "bytes_in",
        "bytes_out",
        "duration_ms",
        "upstream_connect_ms",
        "upstream_first_byte_ms",
        "tries",
        "error",
        "user_agent",
        "referer",
        "user",
        "header.x-tenant",
    ];
    assert_eq!(
        line(LogFormat::Json, &all, &entry(Some(&head))),
        concat!(
            r#"{"time":"2026-11-28T11:50:55.123Z","request_id":"req-1","client_ip":"203.0.113.7","peer":"10.0.0.9:1234","#,
            r#""protocol":"HTTP/1.1","scheme":"https","tls_version":"TLSv1.3","sni":"shop.test","listener":"https","method":"GET","#,
            r#""host":"shop.test:8080","path":"/a/b","query":"x=1","target":"/a/b?x=1","route":"api","upstream":"backend","#,
            r#""backend":"127.0.0.1:3000","status":200,"bytes_in":0,"bytes_out":4096,"duration_ms":12.034,"#,
            r#""upstream_first_byte_ms":0.999,"tries":1,"user_agent":"curl/8","header.x-tenant":"t1"}"#,
            "\n"
        )
    );
}

#[test]
fn a_text_line_marks_what_is_missing_and_quotes_what_needs_it() {
    let head = head(b"/a b", None, &[(HeaderId::UserAgent, b"User-Agent", b"A \"B\"\\\x01")]);
    let fields = ["status", "path", "query", "user_agent", "referer", "error"];
    assert_eq!(
        line(LogFormat::Text, &fields, &Entry { stage: Some("no_route"), status: 404, ..entry(Some(&head)) }),
        "status=404 path=\"/a b\" query=- user_agent=\"A \\\"B\\\"\\\\\\x01\" referer=- error=no_route\n"
    );
}

#[test]
fn a_request_without_a_head_has_a_line_too() {
    let bad = Entry { head: None, status: 400, stage: Some("bad_request"), request_id: b"", route: "", ..entry(None) };
    assert_eq!(
        line(LogFormat::Json, &["method", "path", "status", "error", "route"], &bad),
        "{\"status\":400,\"error\":\"bad_request\"}\n"
    );
}

#[test]
fn whatever_a_client_sends_a_line_stays_one_line_of_json() {
    let nasty = b"\"\\\n\r\t\0\x7f\xff\xfe\xe2\x80\xa8\xc3\xa9\",\"status\":200}";
    let head = head(nasty, Some(nasty), &[(HeaderId::UserAgent, b"user-agent", nasty), (HeaderId::Referer, b"referer", nasty)]);
    let text = line(LogFormat::Json, &["path", "target", "user_agent", "referer"], &entry(Some(&head)));
    assert_eq!(text.lines().count(), 1);
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed["path"], "\"\\\n\r\t\0\u{7f}\u{ff}\u{fe}\u{2028}é\",\"status\":200}");
    assert!(parsed.get("status").is_none(), "no field can be forged");
    let text = line(LogFormat::Text, &["path", "user_agent"], &entry(Some(&head)));
    assert!(text.lines().count() == 1 && text.is_ascii());
}

#[test]
fn secrets_never_reach_the_log() {
    let query = b"a=1&token=SECRET1&api_key=SECRET2;Password=SECRET3&x%2Dtoken=SECRET4&%74oken=SECRET5&X-Amz-Signature=SECRET6&client_secret=SECRET7&sig=SECRET8&tokens[]=SECRET9&flag&keyword=shoes";
    let referer = b"https://user:SECRETA@idp.test/cb?code=SECRETB&state=1#access_token=SECRETC&x=2";
    let head = head(b"/cb", Some(query), &[(HeaderId::Referer, b"Referer", referer)]);
    for format in [LogFormat::Json, LogFormat::Text] {
        let text = line(format, &["path", "query", "target", "referer"], &entry(Some(&head)));
        assert!(!text.contains("SECRET"), "{text}");
        for kept in ["a=1", "token=***", "flag", "keyword=shoes", "state=1", "***@idp.test/cb?code=***", "x=2"] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
    }
    let dir = Dir::new();
    for header in ["header.authorization", "header.Cookie", "header.x-api-key", "header.x-auth-token"] {
        let refused = AccessLog::compile("access_log", &config(dir.path("log"), LogFormat::Json, &[header])).unwrap_err();
        assert!(refused[0].message.contains("never logged"), "{header}");
    }
}

#[test]
fn problems_are_all_reported() {
    let mut raw = config("/nowhere/at/all/log".into(), LogFormat::Json, &["status", "statsu"]);
    raw.sample = 1.5;
    let issues = AccessLog::compile("access_log", &raw).unwrap_err();
    let paths: Vec<_> = issues.iter().map(|issue| issue.path.as_str()).collect();
    assert_eq!(paths, ["access_log.fields[1]", "access_log.sample", "access_log.output"]);
}

#[test]
fn excluded_paths_and_sampling_leave_errors_in() {
    let dir = Dir::new();
    let mut raw = config(dir.path("log"), LogFormat::Text, &["path"]);
    raw.exclude_paths = vec!["/health".into(), "/static/*".into()];
    raw.sample = 0.25;
    let log = AccessLog::compile("access_log", &raw).unwrap();
    let health = head(b"/health", None, &[]);
    for path in ["/health", "/static/a"] {
        log.write(&Entry { match_path: path.as_bytes(), status: 500, ..entry(Some(&health)) });
    }
    let other = head(b"/healthy", None, &[]);
    for n in 0..4_000 {
        log.write(&Entry { match_path: b"/healthy", status: if n < 100 { 502 } else { 200 }, ..entry(Some(&other)) });
    }
    flush();
    assert!(log.sync(Duration::from_secs(5)));
    let text = dir.read("log");
    assert!(!text.contains("path=/health\n"));
    let lines = text.lines().count();
    assert!((800..1_500).contains(&lines), "100 errors and about 975 others: {lines}");
}

#[test]
fn a_file_rotates_and_reopens() {
    let dir = Dir::new();
    let mut raw = config(dir.path("log"), LogFormat::Text, &["request_id"]);
    (raw.rotate_bytes, raw.rotate_files) = (40, 2);
    let log = AccessLog::compile("access_log", &raw).unwrap();
    let write = |id: &str| {
        log.write(&Entry { request_id: id.as_bytes(), ..entry(None) });
        flush();
        assert!(log.sync(Duration::from_secs(5)));
    };
    for id in ["first.......", "second......", "third.......", "fourth......"] {
        write(id);
    }
    assert_eq!(dir.read("log"), "request_id=fourth......\n");
    assert_eq!(dir.read("log.1"), "request_id=third.......\n");
    assert_eq!(dir.read("log.2"), "request_id=second......\n");
    assert!(!dir.0.join("log.3").exists());

    // As logrotate does it.
    std::fs::rename(dir.0.join("log"), dir.0.join("moved")).unwrap();
    log.reopen();
    write("fifth");
    assert_eq!((dir.read("moved"), dir.read("log")), ("request_id=fourth......\n".into(), "request_id=fifth\n".into()));
}

#[test]
fn a_reload_with_the_same_output_keeps_its_writer() {
    let dir = Dir::new();
    let compile = |fields: &[&str]| AccessLog::compile("access_log", &config(dir.path("log"), LogFormat::Text, fields)).unwrap();
    let first = compile(&["status"]);
    first.write(&entry(None));
    let second = compile(&["tries"]);
    second.write(&entry(None));
    drop(first);
    flush();
    assert!(second.sync(Duration::from_secs(5)));
    assert_eq!(dir.read("log"), "status=200\ntries=1\n");
    // Moved away and reloaded, as logrotate does it.
    std::fs::rename(dir.0.join("log"), dir.0.join("moved")).unwrap();
    let third = compile(&["status"]);
    third.write(&entry(None));
    flush();
    assert!(third.sync(Duration::from_secs(5)));
    assert_eq!((dir.read("moved"), dir.read("log")), ("status=200\ntries=1\n".into(), "status=200\n".into()));
}

#[cfg(unix)]
#[test]
fn a_writer_that_hangs_costs_lines_and_not_time() {
    let dir = Dir::new();
    let fifo = std::ffi::CString::new(dir.path("fifo")).unwrap();
    // SAFETY: the string is a valid C string, and mkfifo keeps no pointer.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    // Somebody has it open for reading and does not read.
    let reader = std::thread::spawn({
        let path = dir.path("fifo");
        move || std::fs::File::open(path).unwrap()
    });
    let log =
        AccessLog::compile("access_log", &config(dir.path("fifo"), LogFormat::Json, &["time", "request_id", "peer", "status"])).unwrap();
    let reader = reader.join().unwrap();
    let before = counts().dropped;
    let begin = Instant::now();
    for _ in 0..200_000 {
        log.write(&entry(None));
    }
    flush();
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert!(counts().dropped > before, "16 MB into a pipe that nobody reads");
    assert!(!log.sync(Duration::from_millis(50)));
    // The writer ends with an error, and the thread with the log.
    drop(reader);
}

#[test]
fn lines_are_cheap() {
    let head =
        head(b"/api/users/42", Some(b"page=2&sort=name"), &[(HeaderId::UserAgent, b"User-Agent", b"Mozilla/5.0 (X11; Linux x86_64)")]);
    let dir = Dir::new();
    let fields =
        ["time", "request_id", "client_ip", "method", "host", "path", "route", "upstream", "backend", "status", "bytes_out", "duration_ms"];
    let log: Arc<AccessLog> = AccessLog::compile("access_log", &config(dir.path("log"), LogFormat::Json, &fields)).unwrap();
    let entry = entry(Some(&head));
    let rounds = 50_000;
    let begin = Instant::now();
    for _ in 0..rounds {
        log.write(&entry);
    }
    let each = begin.elapsed() / rounds;
    // Below 1 µs when optimised; this only catches a mistake of another order.
    assert!(each < Duration::from_micros(100), "{each:?} a line");
}
