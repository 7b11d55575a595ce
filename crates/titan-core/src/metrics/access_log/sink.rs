//! From shards to the output: a buffer a shard, a bounded channel, a thread that writes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use crate::config::raw;

/// A shard's buffer is handed over at this size, or by [`flush`].
const CHUNK: usize = 32 << 10;
/// Lines wait at most this long.
const FLUSH: Duration = Duration::from_millis(100);
/// Chunks on their way. With full chunks this is 8 MiB; then lines are dropped.
const QUEUE: usize = 256;

static WRITTEN: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);
static ERRORS: AtomicU64 = AtomicU64::new(0);

/// What became of lines, for the process.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Counts {
    /// Lines written.
    pub written: u64,
    /// Lines dropped because the writer could not follow, or could not write.
    pub dropped: u64,
    /// Writes, rotations and openings that failed.
    pub errors: u64,
}

/// Lines written and dropped since the process began.
pub fn counts() -> Counts {
    Counts { written: WRITTEN.load(Relaxed), dropped: DROPPED.load(Relaxed), errors: ERRORS.load(Relaxed) }
}

/// Where lines go: shared by every generation that has the same output.
#[derive(Debug)]
pub(super) struct Sink {
    queue: SyncSender<Message>,
    /// Empty buffers on their way back.
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
    settings: Arc<Mutex<Rotation>>,
}

enum Message {
    Chunk { lines: u64, bytes: Vec<u8> },
    Reopen,
    Sync(SyncSender<()>),
}

#[derive(Debug, Clone, Copy)]
struct Rotation {
    bytes: u64,
    files: u32,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

/// Sinks in use, by output.
static SINKS: LazyLock<Mutex<HashMap<String, Weak<Sink>>>> = LazyLock::new(Mutex::default);

/// The sink of an output: the one in use, or a new one with its thread.
pub(super) fn open(raw: &raw::AccessLog) -> Result<Arc<Sink>, String> {
    let rotation = Rotation { bytes: raw.rotate_bytes, files: raw.rotate_files };
    let mut sinks = SINKS.lock();
    if let Some(sink) = sinks.get(&raw.output).and_then(Weak::upgrade) {
        *sink.settings.lock() = rotation;
        // A reload is how logrotate says that it moved the file away.
        sink.reopen();
        return Ok(sink);
    }
    let output = if raw.output == "stdout" {
        Output::Stdout
    } else if raw.output == "stderr" {
        Output::Stderr
    } else {
        let path = PathBuf::from(&raw.output);
        let (file, size) = open_file(&path).map_err(|error| format!("the access log {} cannot be opened: {error}", raw.output))?;
        Output::File { path, file, size }
    };
    let (queue, messages) = sync_channel(QUEUE);
    let sink = Arc::new(Sink { queue, spare: Arc::default(), settings: Arc::new(Mutex::new(rotation)) });
    let writer = Writer { output, spare: Arc::clone(&sink.spare), settings: Arc::clone(&sink.settings) };
    std::thread::Builder::new()
        .name("titan-access-log".into())
        .spawn(move || writer.run(&messages))
        .map_err(|error| format!("no thread for the access log: {error}"))?;
    sinks.retain(|_, weak| weak.strong_count() > 0);
    sinks.insert(raw.output.clone(), Arc::downgrade(&sink));
    Ok(sink)
}

impl Sink {
    fn send(&self, lines: u64, bytes: Vec<u8>) {
        match self.queue.try_send(Message::Chunk { lines, bytes }) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                DROPPED.fetch_add(lines, Relaxed);
            }
        }
    }

    pub(super) fn sync(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let (done, wait) = sync_channel(1);
        let mut message = Message::Sync(done);
        // Not `send`: it would wait for a writer that hangs.
        while let Err(error) = self.queue.try_send(message) {
            let TrySendError::Full(back) = error else { return false };
            if Instant::now() >= end {
                return false;
            }
            message = back;
            std::thread::sleep(Duration::from_millis(2));
        }
        wait.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok()
    }

    pub(super) fn reopen(&self) {
        // A full queue is being written to the old file: the next reload, or the next rotation, opens it anew.
        let _ = self.queue.try_send(Message::Reopen);
    }
}

/// Lines of this thread that are not handed over yet.
struct Pending {
    sink: Option<Arc<Sink>>,
    lines: u64,
    bytes: Vec<u8>,
    flusher: Option<std::task::Waker>,
}

thread_local! {
    static PENDING: RefCell<Pending> = const { RefCell::new(Pending { sink: None, lines: 0, bytes: Vec::new(), flusher: None }) };
}

impl Pending {
    fn hand_over(&mut self) {
        let Some(sink) = &self.sink else { return };
        if self.lines > 0 {
            let empty = sink.spare.lock().pop().unwrap_or_default();
            sink.send(std::mem::take(&mut self.lines), std::mem::replace(&mut self.bytes, empty));
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// Hands this thread's lines over a moment after the first of them was written. A shard runs it beside its connections; it sleeps while
/// nothing is logged.
pub async fn flusher() {
    loop {
        std::future::poll_fn(|cx| {
            PENDING.with_borrow_mut(|pending| {
                pending.flusher = Some(cx.waker().clone());
                if pending.lines > 0 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
        })
        .await;
        tokio::time::sleep(FLUSH).await;
        flush();
    }
}

/// Appends a line to this thread's buffer.
pub(super) fn append(sink: &Arc<Sink>, write: impl FnOnce(&mut Vec<u8>)) {
    PENDING.with_borrow_mut(|pending| {
        if !pending.sink.as_ref().is_some_and(|current| Arc::ptr_eq(current, sink)) {
            pending.hand_over();
            pending.sink = Some(Arc::clone(sink));
        }
        write(&mut pending.bytes);
        pending.lines += 1;
        if pending.lines == 1
            && let Some(flusher) = &pending.flusher
        {
            flusher.wake_by_ref();
        }
        if pending.bytes.len() >= CHUNK {
            pending.hand_over();
        }
    });
}

/// Hands this thread's lines to the writer. [`flusher`] calls it.
pub fn flush() {
    PENDING.with_borrow_mut(|pending| {
        pending.hand_over();
        // An idle shard must not keep the writer of an earlier configuration alive.
        pending.sink = None;
    });
}

enum Output {
    Stdout,
    Stderr,
    File { path: PathBuf, file: File, size: u64 },
}

struct Writer {
    output: Output,
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
    settings: Arc<Mutex<Rotation>>,
}

impl Writer {
    /// Until every sender is gone.
    fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(message) = messages.recv() {
            match message {
                Message::Chunk { lines, mut bytes } => {
                    match self.write(&bytes) {
                        Ok(()) => WRITTEN.fetch_add(lines, Relaxed),
                        Err(_) => {
                            ERRORS.fetch_add(1, Relaxed);
                            DROPPED.fetch_add(lines, Relaxed)
                        }
                    };
                    bytes.clear();
                    let mut spare = self.spare.lock();
                    if spare.len() < 16 && bytes.capacity() <= 4 * CHUNK {
                        spare.push(bytes);
                    }
                }
                Message::Reopen => self.reopen(),
                Message::Sync(done) => {
                    let _ = done.send(());
                }
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let rotation = *self.settings.lock();
        match &mut self.output {
            Output::Stdout => write_all(&mut io::stdout().lock(), bytes),
            Output::Stderr => write_all(&mut io::stderr().lock(), bytes),
            Output::File { path, file, size } => {
                if rotation.bytes > 0 && *size > 0 && *size + bytes.len() as u64 > rotation.bytes {
                    match rotate(path, rotation.files).and_then(|()| open_file(path)) {
                        Ok((new, now)) => (*file, *size) = (new, now),
                        // Better a file that is too large than lines that are lost.
                        Err(_) => {
                            ERRORS.fetch_add(1, Relaxed);
                        }
                    }
                }
                write_all(file, bytes)?;
                *size += bytes.len() as u64;
                Ok(())
            }
        }
    }

    fn reopen(&mut self) {
        if let Output::File { path, file, size } = &mut self.output {
            match open_file(path) {
                Ok((new, now)) => (*file, *size) = (new, now),
                Err(_) => {
                    ERRORS.fetch_add(1, Relaxed);
                }
            }
        }
    }
}

/// Node may have made stdout non-blocking, so "would block" means "wait".
fn write_all(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(2)),
            Err(error) => return Err(error),
        }
    }
    out.flush()
}

fn open_file(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    let file = options.open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// `log` → `log.1` → `log.2` …; the oldest goes. With no files kept, the log begins anew.
fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let numbered = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    if keep == 0 {
        return std::fs::remove_file(path);
    }
    for n in (1..keep).rev() {
        match std::fs::rename(numbered(n), numbered(n + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(path, numbered(1))
}
