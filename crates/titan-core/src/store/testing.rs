//! A real Redis for tests.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server of its own; ends with the test.
pub(crate) struct Server {
    pub(crate) port: u16,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Server {
    /// `None`, said loudly, where Redis is not installed.
    pub(crate) fn start() -> Option<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let Some(child) = spawn(port) else {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "SKIPPED: redis-server is not installed, so nothing was tested against a real Redis");
            return None;
        };
        let server = Self { port, child };
        server.wait();
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.port).unwrap();
        self.wait();
    }

    /// Runs a command over a connection of its own.
    pub(crate) fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut connection = redis::Client::open(self.url()).unwrap().get_connection().unwrap();
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(word);
        }
        command.query(&mut connection).unwrap()
    }

    fn wait(&self) {
        let begin = Instant::now();
        while redis::Client::open(self.url()).unwrap().get_connection().is_err() {
            assert!(begin.elapsed() < Duration::from_secs(10), "redis-server did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn spawn(port: u16) -> Option<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]).args(["--dir", "/tmp"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
}
