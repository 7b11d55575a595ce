//! Threads that let requests go first.

/// Lets every other thread go before the calling one, from now to its end: shards that share its core interrupt it at once, and beside shards
/// that keep a core busy it gets about a tenth of it. Where the system has no such priority for one thread (elsewhere than Linux), or a
/// sandbox forbids to change it, nothing changes.
pub fn give_way() {
    #[cfg(target_os = "linux")]
    linux::give_way();
}

#[cfg(target_os = "linux")]
mod linux {
    /// The kernel's `struct sched_attr` (its first version; sched_setattr(2)).
    #[repr(C)]
    struct SchedAttr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }

    /// A `nice` value whose weight (110 of 1,024) still finishes a large configuration in half a second beside saturated shards. The long slice
    /// is what lets them interrupt: since Linux 6.12 a thread that wakes does not wait for the end of a slice that is longer than its own,
    /// which would be some milliseconds whatever the weights are. Older kernels take no notice of it.
    const BEHIND: SchedAttr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: libc::SCHED_BATCH as u32,
        flags: 0,
        nice: 10,
        priority: 0,
        runtime: 100_000_000,
        deadline: 0,
        period: 0,
    };

    pub fn give_way() {
        let attributes = BEHIND;
        // SAFETY: the pointer is to a live struct of the layout and size that the call expects; "process 0" is the calling thread alone.
        // Lowering one's own priority needs no right.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    }

    #[cfg(test)]
    #[test]
    fn the_thread_is_behind_and_no_other_one() {
        let nice = || {
            // Field 19, counted behind the name, which may hold anything but the last parenthesis.
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().to_owned()
        };
        let before = nice();
        let there = std::thread::spawn(move || {
            give_way();
            nice()
        });
        assert_eq!(there.join().unwrap(), "10");
        assert_eq!(nice(), before);
    }
}
