//! What Node.js cannot do itself: systemd's notification socket and inherited listeners.

use std::net::TcpListener;

use napi_derive::napi;

/// Version of the addon; it must be the JavaScript's.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Tells systemd a state such as `READY=1`. False where no manager listens (`NOTIFY_SOCKET` unset) or it cannot be reached.
#[napi(catch_unwind)]
pub fn notify(state: String) -> bool {
    #[cfg(target_os = "linux")]
    return unix::notify(&state).unwrap_or(false);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = state;
        false
    }
}

/// Listeners handed over by systemd or another parent (`LISTEN_PID`, `LISTEN_FDS`), or by a Titan that this process takes over from
/// (`TITAN_HANDOVER_FROM` instead of `LISTEN_PID`, which a parent cannot know before the process is there). They are taken once: a second
/// call gives none.
pub fn inherited() -> Vec<TcpListener> {
    #[cfg(unix)]
    return unix::inherited();
    #[cfg(not(unix))]
    Vec::new()
}

/// Whether this process was started by a Titan to take over from it.
#[napi]
pub fn is_successor() -> bool {
    #[cfg(unix)]
    return unix::is_successor();
    #[cfg(not(unix))]
    false
}

#[cfg(unix)]
mod unix {
    use std::net::TcpListener;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
    use std::sync::atomic::{AtomicBool, Ordering};

    /// First descriptor that systemd hands over (SD_LISTEN_FDS_START).
    const FIRST: RawFd = 3;

    #[cfg(target_os = "linux")]
    pub fn notify(state: &str) -> std::io::Result<bool> {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixDatagram};

        let Ok(path) = std::env::var("NOTIFY_SOCKET") else { return Ok(false) };
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
        Ok(true)
    }

    pub fn inherited() -> Vec<TcpListener> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let mine = number("LISTEN_PID") == Some(std::process::id()) || is_successor();
        if !mine || TAKEN.swap(true, Ordering::Relaxed) {
            return Vec::new();
        }
        let count = number("LISTEN_FDS").unwrap_or(0).min(4096) as RawFd;
        (FIRST..FIRST + count).filter_map(adopt).collect()
    }

    /// A variable that a grandchild has inherited names another process than its parent.
    pub fn is_successor() -> bool {
        std::env::var_os("LISTEN_PID").is_none() && number("TITAN_HANDOVER_FROM") == Some(std::os::unix::process::parent_id())
    }

    fn number(name: &str) -> Option<u32> {
        std::env::var(name).ok().and_then(|text| text.parse().ok())
    }

    /// Takes the descriptor if it is a listening TCP socket.
    fn adopt(fd: RawFd) -> Option<TcpListener> {
        let mut listening: libc::c_int = 0;
        let mut size = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the pointers are to live locals of the sizes given; a descriptor that is not a socket makes the call fail.
        let status = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN, (&raw mut listening).cast(), &raw mut size) };
        if status != 0 || listening == 0 {
            return None;
        }
        // SAFETY: systemd's protocol gives this process the descriptor, and `TAKEN` makes sure that it is taken only once.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the descriptor is open. A child must not inherit it.
        unsafe { libc::fcntl(owned.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
        let listener = TcpListener::from(owned);
        // A Unix socket has no such address; it is not for a TCP listener.
        listener.local_addr().is_ok().then_some(listener)
    }
}
