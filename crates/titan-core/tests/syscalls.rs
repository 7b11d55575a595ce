//! Two reads and two writes for a small request, no more: counted by strace.

#[path = "gateway/world.rs"]
mod world;

use std::process::{Command, Stdio};
use std::time::Duration;

use world::*;

const ROUNDS: usize = 200;

/// Shows a skip even where the output of passing tests is captured.
fn skip(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::fs::File::create("/dev/stderr").unwrap(), "SKIPPED syscalls: {why}");
}

#[test]
fn a_small_request_takes_two_reads_and_two_writes() {
    if !cfg!(target_os = "linux") || Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        return skip("strace is not installed");
    }
    let origin =
        Origin::fixed(b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n123456789012345678901234567890123456789012345678901234567890");
    let gateway = gateway(proxy(origin.address));
    let mut client = Peer::connect(address(&gateway));
    // Connections are made and buffers filled before anything is counted.
    for _ in 0..20 {
        client.get("/warm").unwrap();
    }
    let shard = shard_thread();
    let file = std::env::temp_dir().join(format!("titan-strace-{}", std::process::id()));
    let calls = "trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,epoll_wait,epoll_pwait";
    let mut strace = Command::new("strace")
        .args(["-qq", "-e", calls, "-o", file.to_str().unwrap(), "-p", &shard.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    if strace.try_wait().unwrap().is_some() {
        return skip("strace may not attach here (ptrace is forbidden)");
    }
    for _ in 0..ROUNDS {
        client.get("/counted").unwrap();
    }
    std::thread::sleep(Duration::from_millis(100));
    // SAFETY: a signal to a child that has not been waited for, so its id is its own.
    unsafe { libc::kill(strace.id() as i32, libc::SIGINT) };
    strace.wait().unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let _ = std::fs::remove_file(&file);
    let count = |names: &[&str]| text.lines().filter(|line| names.iter().any(|name| line.starts_with(&format!("{name}(")))).count();
    let (reads, writes) = (count(&["read", "readv", "recvfrom", "recvmsg"]), count(&["write", "writev", "sendto", "sendmsg"]));
    // A few more belong to timers that came up meanwhile (the sweep of the pool wakes once a second).
    assert!((2 * ROUNDS..=2 * ROUNDS + 6).contains(&reads), "{reads} reads for {ROUNDS} requests\n{text}");
    assert!((2 * ROUNDS..=2 * ROUNDS + 6).contains(&writes), "{writes} writes for {ROUNDS} requests\n{text}");
}

/// The one shard of this process.
fn shard_thread() -> u32 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let is_shard =
        |task: &std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("titan-shard-"));
    let found: Vec<u32> = tasks.filter(is_shard).map(|task| task.file_name().to_str().unwrap().parse().unwrap()).collect();
    assert_eq!(found.len(), 1);
    found[0]
}
