//! Binds a listener: one socket for each shard, and never as a silent partner of another process.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Why a listener could not be bound.
#[derive(Debug)]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// Why.
    pub error: io::Error,
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = self.address;
        match self.error.kind() {
            io::ErrorKind::AddrInUse => {
                write!(f, "{address} is in use: another process (perhaps another Titan) listens there; stop it or choose another port")
            }
            io::ErrorKind::PermissionDenied => {
                write!(f, "{address} may not be bound: ports below 1024 need CAP_NET_BIND_SERVICE (or choose a port from 1024 up)")
            }
            io::ErrorKind::AddrNotAvailable => write!(f, "{address} is no address of this machine"),
            _ => write!(f, "{address} cannot be bound: {}", self.error),
        }
    }
}

/// Whether the kernel shares incoming connections out among sockets of one port.
const BALANCES: bool = cfg!(target_os = "linux");

/// `shards` listening sockets on `address`. Where `inherited` has sockets bound to it, they are taken instead.
pub fn bind(address: SocketAddr, backlog: u32, shards: usize, inherited: &mut Vec<TcpListener>) -> Result<Vec<TcpListener>, BindError> {
    let fail = |error| BindError { address, error };
    let mut taken = Vec::new();
    let mut index = 0;
    while index < inherited.len() {
        if inherited[index].local_addr().is_ok_and(|bound| serves(bound, address)) {
            taken.push(inherited.swap_remove(index));
        } else {
            index += 1;
        }
    }
    if !taken.is_empty() {
        return share(taken, shards).map_err(fail);
    }
    if !BALANCES || shards == 1 {
        let one = open(address, backlog, false).map_err(fail)?;
        return share(vec![one], shards).map_err(fail);
    }
    // First without sharing: whoever else listens here, sharing included, makes this fail.
    let probe = socket(address, false).map_err(fail)?;
    let bound = probe.local_addr().map_err(fail)?.as_socket().unwrap_or(address);
    drop(probe);
    (0..shards).map(|_| open(bound, backlog, true)).collect::<io::Result<_>>().map_err(fail)
}

/// Sockets for every shard out of those there are: some shards share one.
fn share(sockets: Vec<TcpListener>, shards: usize) -> io::Result<Vec<TcpListener>> {
    for socket in &sockets {
        socket.set_nonblocking(true)?;
    }
    let more: Vec<TcpListener> =
        (sockets.len()..shards).map(|index| sockets[index % sockets.len()].try_clone()).collect::<io::Result<_>>()?;
    Ok(sockets.into_iter().chain(more).collect())
}

fn serves(bound: SocketAddr, wanted: SocketAddr) -> bool {
    bound.port() == wanted.port() && wanted.port() != 0 && bound.ip().to_canonical() == wanted.ip().to_canonical()
}

fn open(address: SocketAddr, backlog: u32, shared: bool) -> io::Result<TcpListener> {
    let socket = socket(address, shared)?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // On Windows this would let another process take the port; elsewhere it lets a restart bind while old connections fade out.
    #[cfg(unix)]
    SockRef::from(&socket).set_reuse_address(true)?;
    #[cfg(unix)]
    if shared {
        socket.set_reuse_port(true)?;
    }
    #[cfg(not(unix))]
    let _ = (shared, SockRef::from(&socket));
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_listener_on_the_port_is_an_error_that_says_so() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 16, 2, &mut Vec::new()).unwrap();
        let address = first[0].local_addr().unwrap();
        assert_eq!(first[1].local_addr().unwrap(), address);
        let second = bind(address, 16, 2, &mut Vec::new()).unwrap_err();
        assert!(second.to_string().contains("is in use"), "{second}");
    }

    #[test]
    fn inherited_sockets_are_taken_and_shared() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let mut inherited = vec![TcpListener::bind("127.0.0.1:0").unwrap(), socket];
        let all = bind(address, 16, 3, &mut inherited).unwrap();
        assert!(all.len() == 3 && all.iter().all(|socket| socket.local_addr().unwrap() == address));
        assert_eq!(inherited.len(), 1);
    }
}
