//! The data plane alone: starts a gateway from a native configuration file (the JSON that the control plane lowers to), with no Node in the
//! process. For profiles and benches: `cargo run --profile dist -p titan-core --example serve -- native.json`. Ends with the signal that
//! ends any process; there is no drain.

use std::io::Write;
use std::process::ExitCode;

use titan_core::config::raw;
use titan_core::gateway::{Gateway, Host};

fn main() -> ExitCode {
    match start() {
        Ok(gateway) => {
            let mut out = std::io::stdout();
            for (name, address) in gateway.addresses() {
                // A closed standard output is no reason to stop serving.
                let _ = writeln!(out, "{name} {address}");
            }
            loop {
                std::thread::park();
            }
        }
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<Gateway, String> {
    let file = std::env::args().nth(1).ok_or("usage: serve CONFIG.json")?;
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    let config: raw::Config = serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?;
    Gateway::start(config, Host::default()).map_err(|issues| issues.iter().map(|issue| format!("{issue:?}")).collect::<Vec<_>>().join("\n"))
}
