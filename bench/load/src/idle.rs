//! Holds idle connections: each is opened, used once and then kept, until standard input ends.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::Events;

use crate::args::Args;
use crate::load::{Generator, Pacing};

/// Prints `{"open": N, "lost": M}` once all are open (or after a minute), and again at the end.
pub fn run(args: Args) -> Result<(), String> {
    let mut generator = Generator::new(&args, Pacing::Once)?;
    let mut events = Events::with_capacity(1024);
    let ended = Arc::new(AtomicBool::new(false));
    let seen = ended.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        seen.store(true, Ordering::Relaxed);
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    while generator.settled < args.connections && Instant::now() < deadline && !ended.load(Ordering::Relaxed) {
        generator.turn(&mut events, Duration::from_millis(20))?;
    }
    say(&generator)?;
    while !ended.load(Ordering::Relaxed) {
        generator.turn(&mut events, Duration::from_millis(200))?;
    }
    say(&generator)
}

fn say(generator: &Generator) -> Result<(), String> {
    let line = serde_json::json!({ "open": generator.settled, "lost": generator.lost });
    writeln!(std::io::stdout(), "{line}").map_err(|error| error.to_string())
}
