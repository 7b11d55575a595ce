//! A timerfd: epoll's own timeout counts whole milliseconds, too coarse for thousands of arrivals a second.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// One-shot timer that makes its descriptor readable.
pub struct Timer(OwnedFd);

impl Timer {
    pub fn new(registry: &mio::Registry, token: mio::Token) -> io::Result<Self> {
        // SAFETY: plain system call without pointers.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just made and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        registry.register(&mut mio::unix::SourceFd(&fd.as_raw_fd()), token, mio::Interest::READABLE)?;
        Ok(Self(fd))
    }

    /// Fires once, `after` from now. Setting it again also takes back an expiry that was not read, so nothing needs to be read.
    pub fn set(&self, after: Duration) {
        let after = after.max(Duration::from_nanos(1));
        let spec = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec { tv_sec: after.as_secs() as _, tv_nsec: after.subsec_nanos() as _ },
        };
        // SAFETY: the descriptor is open, `spec` lives through the call, the old value is not asked for.
        unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &spec, std::ptr::null_mut()) };
    }
}
