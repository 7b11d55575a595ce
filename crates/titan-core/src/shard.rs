//! One thread, one current-thread runtime: its listeners, pools, timers and counters. It is spoken to through its mailbox alone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};

use crate::listener::{self, ListenerSpec, Open, Port, accept};
use crate::metrics;
use crate::proxy::{Local, Process};
use crate::rehearsal::Arrived;
use crate::snapshot::Snapshot;
use crate::upstream::Endpoint;

/// Between two sweeps of idle upstream connections.
const SWEEP: Duration = Duration::from_secs(1);
/// How often a draining shard looks whether its last connection has ended.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// Key of a listener across reloads.
pub type ListenerKey = Arc<str>;

/// What a shard can be told.
pub enum Mail {
    /// Serve this configuration; told back when done.
    Publish(Box<Publication>, oneshot::Sender<()>),
    /// Requests on other shards wait for a connection to this endpoint.
    Spare(Arc<Endpoint>),
    /// Close the listeners, finish what is under way, end.
    Drain,
    /// End at once.
    Stop,
    /// Serve a client of a rehearsal.
    Arrive(Box<Arrived>),
    /// Look at the shard's state.
    Inspect(Box<dyn FnOnce(&Local) + Send>),
    /// Duplicates of the listening sockets, for another process.
    Sockets(oneshot::Sender<io::Result<Vec<(ListenerKey, TcpListener)>>>),
}

/// A configuration for one shard.
pub struct Publication {
    /// What requests are served under.
    pub snapshot: Arc<Snapshot>,
    /// Listeners to open.
    pub open: Vec<Opening>,
    /// Listeners whose limits or certificates may have changed.
    pub update: Vec<(ListenerKey, Arc<ListenerSpec>)>,
    /// Listeners to drain and close.
    pub close: Vec<ListenerKey>,
}

/// A bound socket for one shard, which may get several of one listener: a process with more shards may have handed them over.
pub struct Opening {
    /// Its key.
    pub key: ListenerKey,
    /// What it is.
    pub spec: Arc<ListenerSpec>,
    /// This shard's socket; `None` in a rehearsal, whose clients arrive by mail.
    pub socket: Option<TcpListener>,
    /// Its connections, over all shards.
    pub open: Arc<Open>,
}

/// Sends mail to a shard. Mail to one that has ended is dropped.
pub type Mailbox = mpsc::UnboundedSender<Mail>;

/// What a shard begins with.
pub struct Plan {
    /// Which one.
    pub index: usize,
    /// Of how many.
    pub count: usize,
    /// What the shards share.
    pub process: Arc<Process>,
    /// Its series.
    pub counts: Arc<metrics::Shard>,
    /// Its mail.
    pub mail: mpsc::UnboundedReceiver<Mail>,
    /// Its first configuration.
    pub first: Publication,
    /// Told when it accepts, or why it can't.
    pub ready: oneshot::Sender<io::Result<()>>,
    /// Told when it has ended.
    pub ended: Box<dyn FnOnce() + Send>,
}

/// Starts the thread.
pub fn spawn(plan: Plan) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("titan-shard-{}", plan.index)).spawn(move || {
        // Told also when the thread panics.
        let _ended = Ended(Some(plan.ended));
        let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = plan.ready.send(Err(error));
                return;
            }
        };
        metrics::enter(plan.counts.clone());
        let shard = Shard {
            local: Local::new(plan.index, plan.count, plan.process, plan.first.snapshot.clone(), plan.counts),
            ports: RefCell::default(),
        };
        runtime.block_on(shard.run(plan.first, plan.mail, plan.ready));
        // Connections that are still open are cut here.
        runtime.shutdown_background();
    })
}

struct Ended(Option<Box<dyn FnOnce() + Send>>);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell();
        }
    }
}

struct Shard {
    local: Rc<Local>,
    ports: RefCell<HashMap<ListenerKey, Listening>>,
}

/// An open listener.
struct Listening {
    port: Rc<Port>,
    /// Each with the task that accepts from it.
    sockets: Vec<(Rc<tokio::net::TcpListener>, tokio::task::JoinHandle<()>)>,
}

impl Listening {
    /// Closes it; what is given ends when its accept queues are empty.
    fn close(self) -> Vec<tokio::task::JoinHandle<()>> {
        // The tasks must hold their sockets alone by then.
        let tasks = self.sockets.into_iter().map(|(_, task)| task).collect();
        self.port.close();
        tasks
    }
}

impl Shard {
    async fn run(self, first: Publication, mut mail: mpsc::UnboundedReceiver<Mail>, ready: oneshot::Sender<io::Result<()>>) {
        tokio::task::spawn_local(self.local.timers.clone().drive());
        tokio::task::spawn_local(sweep(self.local.clone()));
        tokio::task::spawn_local(crate::metrics::access_log::flusher());
        let Publication { snapshot, open, .. } = first;
        // The shard has it already; here it would live as long as the shard.
        drop(snapshot);
        let opened = open.into_iter().try_for_each(|opening| self.open(opening));
        let failed = opened.is_err();
        let _ = ready.send(opened);
        if failed {
            return;
        }
        while let Some(mail) = mail.recv().await {
            match mail {
                Mail::Publish(publication, done) => {
                    self.publish(*publication);
                    let _ = done.send(());
                }
                Mail::Spare(endpoint) => self.local.pool.borrow_mut().spare(&endpoint),
                Mail::Arrive(arrived) => self.arrive(*arrived),
                Mail::Inspect(look) => look(&self.local),
                Mail::Sockets(tell) => {
                    let _ = tell.send(self.sockets());
                }
                Mail::Stop => return,
                Mail::Drain => break,
            }
        }
        self.drain(mail).await;
    }

    /// Serves another configuration. Listeners were bound before, so nothing here can fail halfway: a socket that the reactor refuses is
    /// reported by the thread's log and leaves the others alone.
    fn publish(&self, publication: Publication) {
        self.local.publish(publication.snapshot);
        for opening in publication.open {
            let _ = self.open(opening);
        }
        for (key, spec) in publication.update {
            if let Some(listening) = self.ports.borrow().get(&key) {
                listening.port.update(&spec);
            }
        }
        let closes = !publication.close.is_empty();
        for key in publication.close {
            if let Some(listening) = self.ports.borrow_mut().remove(&key) {
                listening.close();
            }
        }
        // Idle connections of a closed listener must notice; the others need not be woken by every reload.
        if closes {
            self.local.timers.wake_all();
        }
    }

    fn open(&self, opening: Opening) -> io::Result<()> {
        let socket = opening.socket.map(tokio::net::TcpListener::from_std).transpose()?.map(Rc::new);
        let mut ports = self.ports.borrow_mut();
        let listening =
            ports.entry(opening.key).or_insert_with(|| Listening { port: Port::new(&opening.spec, opening.open), sockets: Vec::new() });
        if let Some(socket) = socket {
            let task = tokio::task::spawn_local(accept(self.local.clone(), listening.port.clone(), socket.clone()));
            listening.sockets.push((socket, task));
        }
        Ok(())
    }

    fn sockets(&self) -> io::Result<Vec<(ListenerKey, TcpListener)>> {
        let ports = self.ports.borrow();
        let all = ports.iter().flat_map(|(key, listening)| listening.sockets.iter().map(move |(socket, _)| (key.clone(), socket)));
        all.map(|(key, socket)| Ok((key, socket2::SockRef::from(&**socket).try_clone()?.into()))).collect()
    }

    /// Serves a client as if its listener had accepted it. Without such a listener the connection is closed.
    fn arrive(&self, arrived: Arrived) {
        let ports = self.ports.borrow();
        let specs = self.local.snapshot();
        let named = |name: &str| ports.values().map(|listening| &listening.port).find(|port| *port.spec().name == *name);
        let name = arrived.listener.as_deref().or_else(|| specs.listeners.first().map(|spec| &*spec.name));
        if let Some(port) = name.and_then(named) {
            listener::arrive(&self.local, port, arrived);
        }
    }

    /// Requirement 46: no new connections, held ones end after their answer; ends with the last connection, or when told to stop.
    async fn drain(self, mut mail: mpsc::UnboundedReceiver<Mail>) {
        let ports = std::mem::take(&mut *self.ports.borrow_mut());
        for listening in ports.into_values() {
            for task in listening.close() {
                // The accept queue is empty when the task has ended.
                let _ = task.await;
            }
        }
        self.local.timers.wake_all();
        while self.local.connections.get() != 0 {
            match tokio::time::timeout(DRAIN_LOOK, mail.recv()).await {
                Ok(Some(Mail::Stop) | None) => return,
                Ok(Some(Mail::Spare(endpoint))) => self.local.pool.borrow_mut().spare(&endpoint),
                Ok(Some(Mail::Inspect(look))) => look(&self.local),
                // They are closed already.
                Ok(Some(Mail::Sockets(tell))) => {
                    let _ = tell.send(Ok(Vec::new()));
                }
                Ok(Some(Mail::Publish(publication, done))) => {
                    // Requests still under way see it; listeners stay closed.
                    self.local.publish(publication.snapshot);
                    let _ = done.send(());
                }
                Ok(Some(Mail::Drain | Mail::Arrive(_))) | Err(_) => {}
            }
        }
    }
}

/// Drops idle upstream connections that are too old or were closed by their backend.
async fn sweep(local: Rc<Local>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        local.pool.borrow_mut().sweep();
    }
}
