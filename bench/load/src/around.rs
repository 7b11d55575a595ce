//! Runs another program's load and reads the gateway's CPU clock before and after it, so that figures of foreign generators (h2load) are
//! counted by the same clock as this one's.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::args::USAGE;
use crate::cpu;

/// `--pid PID... -- COMMAND...`: prints what the process trees used while the command ran, and the command's output.
pub fn run(words: impl Iterator<Item = String>) -> Result<(), String> {
    let (pids, command) = parse(words)?;
    let [program, arguments @ ..] = command.as_slice() else { return Err(USAGE.to_owned()) };
    let before = cpu::tree_nanos(&pids);
    let began = Instant::now();
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    let seconds = began.elapsed().as_secs_f64();
    let nanos = cpu::tree_nanos(&pids).saturating_sub(before);
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(format!("{program} ended with {}: {text}", output.status));
    }
    let result = serde_json::json!({
        "seconds": seconds,
        "gateway_cpu_nanos": nanos,
        "gateway_cores": nanos as f64 / 1e9 / seconds,
        "output": text,
    });
    writeln!(std::io::stdout(), "{result}").map_err(|error| error.to_string())
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<(Vec<u32>, Vec<String>), String> {
    let mut pids = Vec::new();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--" => return Ok((pids, words.collect())),
            "--pid" => pids.push(words.next().and_then(|value| value.parse().ok()).ok_or("--pid needs a number")?),
            _ => break,
        }
    }
    Err(USAGE.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_processes_from_the_command() {
        let words = |text: &str| parse(text.split(' ').map(str::to_owned));
        let (pids, command) = words("--pid 7 --pid 8 -- h2load --pid 9").unwrap();
        assert_eq!((pids, command.join(" ")), (vec![7, 8], "h2load --pid 9".to_owned()));
        assert!(words("--pid x -- h2load").is_err());
        assert!(words("h2load").is_err());
    }
}
