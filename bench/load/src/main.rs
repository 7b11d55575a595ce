//! Load generator and origin of the benchmark. One thread, one epoll, no allocation per request (but for gRPC).
//!
//! - `titan-load origin` answers fixed bodies by path, and echoes WebSocket messages;
//! - `titan-load grpc-origin` answers gRPC-shaped calls over HTTP/2;
//! - `titan-load load` measures: closed loop (every connection sends as soon as it was answered) or, with `--rate`, open loop (arrivals
//!   are drawn beforehand and latency counts from the arrival, so a stalled gateway can't hide its stall);
//! - `titan-load around` runs another generator and reads the gateway's CPU clock at both ends;
//! - `titan-load idle` opens connections, uses each once and holds them until its standard input ends.
//!
//! Results are one JSON object on standard output. `bench/README.md` states the method.

mod args;
mod around;
mod client;
mod cpu;
mod grpc;
mod histogram;
mod idle;
mod load;
mod origin;
mod timer;
mod websocket;
mod wire;

use std::io::Write;

fn main() {
    let mut args = std::env::args().skip(1);
    let mode = args.next().unwrap_or_default();
    let outcome = match mode.as_str() {
        "origin" => args::Args::parse(args).and_then(origin::run),
        "grpc-origin" => args::Args::parse(args).and_then(grpc::run),
        "load" => args::Args::parse(args).and_then(load::run),
        "around" => around::run(args),
        "idle" => args::Args::parse(args).and_then(idle::run),
        _ => Err(args::USAGE.to_owned()),
    };
    if let Err(message) = outcome {
        // Nothing is left to do if standard error is gone too.
        let _ = writeln!(std::io::stderr(), "titan-load: {message}");
        std::process::exit(1);
    }
}
