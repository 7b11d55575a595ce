//! Two threads for password hashes: slow on purpose, so never on a shard, and few, so that a flood of guesses leaves the other cores alone.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, LazyLock, Mutex};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

const THREADS: usize = 2;
const QUEUE: usize = 128;

static POOL: LazyLock<SyncSender<Job>> = LazyLock::new(|| {
    let (sender, receiver) = sync_channel::<Job>(QUEUE);
    let receiver = Arc::new(Mutex::new(receiver));
    for i in 0..THREADS {
        let receiver = receiver.clone();
        // Without the thread the queue fills and `run` says so.
        let _ = std::thread::Builder::new().name(format!("titan-hash-{i}")).spawn(move || work(&receiver));
    }
    sender
});

fn work(receiver: &Mutex<Receiver<Job>>) {
    loop {
        let job = receiver.lock().unwrap_or_else(|e| e.into_inner()).recv();
        match job {
            // A panic in a job must not take the thread away; the job's sender drops, and its request gets a 500.
            Ok(job) => drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(job))),
            Err(_) => return,
        }
    }
}

/// Runs `f` on the pool. `None` at once where the queue is full.
pub(super) fn run<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Option<oneshot::Receiver<T>> {
    let (sender, receiver) = oneshot::channel();
    let job = Box::new(move || {
        // Whoever went away in the queue is not worth a hash.
        if !sender.is_closed() {
            let _ = sender.send(f());
        }
    });
    match POOL.try_send(job) {
        Ok(()) => Some(receiver),
        Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => None,
    }
}
