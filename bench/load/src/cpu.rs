//! CPU time and memory of a process and its descendants.

use std::collections::HashMap;

/// CPU nanoseconds (user and system, every thread, ended ones too) of the given processes and all their descendants.
pub fn tree_nanos(roots: &[u32]) -> u64 {
    descendants(roots).into_iter().map(process_nanos).sum()
}

/// Own CPU nanoseconds.
pub fn own_nanos() -> u64 {
    process_nanos(std::process::id())
}

/// Read through the process's CPU clock, which counts nanoseconds where `/proc/PID/stat` counts ticks of 10 ms.
fn process_nanos(pid: u32) -> u64 {
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both calls write to the locals passed to them and nothing else.
    let ok = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) == 0 && libc::clock_gettime(clock, &mut time) == 0 };
    if ok { time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64 } else { 0 }
}

fn descendants(roots: &[u32]) -> Vec<u32> {
    if roots.is_empty() {
        return Vec::new();
    }
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // The command in brackets may hold anything, so the fields are counted from its end.
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)).and_then(|word| word.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = roots.to_vec();
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(children.get(&pid).into_iter().flatten());
        next += 1;
    }
    found
}
