//! Accepts connections, counts them and turns away those above a limit.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::connection::{Seat, serve, serve_known};
use super::port::{Full, Port};
use crate::metrics::Refusal;
use crate::proxy::{Local, turned_away};
use crate::rehearsal::Arrived;

/// Pause when the process is out of file descriptors or memory: the listener stays readable, so accepting at once would spin.
const PAUSE: Duration = Duration::from_millis(100);
/// Turned-away connections of a shard that are told why at one time; more are just closed.
const MOURNERS: usize = 64;
/// How long such a connection is kept so that it can read the reason.
const FAREWELL: Duration = Duration::from_millis(500);

/// Accepts until the port is closed, then empties the accept queue and returns: closing a socket with a queue would reset what is in it.
/// Whoever else holds the socket must have let go of it when the port is closed.
pub async fn accept(local: Rc<Local>, port: Rc<Port>, listener: Rc<TcpListener>) {
    let mut stop = std::pin::pin!(port.stop.notified());
    while !port.closing.get() {
        let accepted = std::future::poll_fn(|cx| {
            if stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            listener.poll_accept(cx).map(Some)
        })
        .await;
        match accepted {
            None => break,
            Some(Ok((stream, peer))) => admit(&local, &port, stream, peer),
            Some(Err(error)) if is_exhaustion(&error) => {
                local.process.pauses.add(&error);
                tokio::time::sleep(PAUSE).await;
            }
            // The client went away between its handshake and now.
            Some(Err(_)) => {}
        }
    }
    if let Some(Ok(listener)) = Rc::into_inner(listener).map(TcpListener::into_std) {
        while let Ok((stream, peer)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                admit(&local, &port, stream, peer);
            }
        }
    }
}

/// Whether an accept failed for want of something that others hold.
fn is_exhaustion(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
    }
    #[cfg(not(unix))]
    {
        error.kind() == io::ErrorKind::OutOfMemory
    }
}

/// Takes in the client of a rehearsal, or turns it away.
pub fn arrive(local: &Rc<Local>, port: &Rc<Port>, arrived: Arrived) {
    let Arrived { stream, mut client, .. } = arrived;
    client.local = port.spec().address;
    if stream.set_nonblocking(true).is_ok()
        && let Ok(stream) = TcpStream::from_std(stream)
    {
        take_in(local, port, stream, client.peer, |seat, stream| serve_known(seat, stream, client));
    }
}

/// Takes a connection in, or turns it away.
fn admit(local: &Rc<Local>, port: &Rc<Port>, stream: TcpStream, peer: SocketAddr) {
    take_in(local, port, stream, peer, |seat, stream| {
        let _ = stream.set_nodelay(true);
        serve(seat, stream, peer);
    });
}

fn take_in(local: &Rc<Local>, port: &Rc<Port>, stream: TcpStream, peer: SocketAddr, serve: impl FnOnce(Seat, TcpStream)) {
    let spec = port.spec();
    match port.open.enter(peer.ip(), &spec) {
        Ok(place) => {
            local.counts.accepted(spec.metric);
            serve(Seat::new(local.clone(), port.clone(), place), stream);
        }
        Err(full) => {
            let (why, message) = match full {
                Full::Listener(limit) => (Refusal::Limit, format!("listener {} has reached its max_connections of {limit}", spec.name)),
                Full::Address(limit) => (
                    Refusal::PerAddress,
                    format!("listener {} has reached its max_connections_per_ip of {limit} for your address", spec.name),
                ),
            };
            local.counts.refused(spec.metric, why);
            // On a TLS port the reason could only be told after a handshake, which is what an attacker would like Titan to do.
            if spec.tls.is_none() && local.mourners.get() < MOURNERS {
                local.mourners.set(local.mourners.get() + 1);
                let local = local.clone();
                tokio::task::spawn_local(async move {
                    let _ = tokio::time::timeout(FAREWELL, farewell(stream, &message)).await;
                    local.mourners.set(local.mourners.get() - 1);
                });
            }
        }
    }
}

/// Says why, and waits until the client has read it.
async fn farewell(mut stream: TcpStream, message: &str) -> io::Result<()> {
    stream.write_all(&turned_away(message)).await?;
    stream.shutdown().await?;
    let mut sink = [0; 512];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut sink) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}
