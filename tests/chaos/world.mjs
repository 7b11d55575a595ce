// Processes of the chaos suite: only what it started itself is ever stopped, by its own handle.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const HERE = import.meta.dirname;
const started = new Set();

/** Directory of this run. */
export const directory = mkdtempSync(path.join(tmpdir(), "titan-chaos-"));

/** Starts a process; what it writes is kept in `output`. */
export function start(argv, options = {}) {
  const child = spawn(argv[0], argv.slice(1), { stdio: ["pipe", "pipe", "pipe"], ...options });
  child.output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8");
    stream.on("data", (data) => {
      child.output = (child.output + data).slice(-200_000);
    });
  }
  child.on("error", (error) => {
    child.output += error.message;
  });
  child.stdin.on("error", () => {});
  child.ended = new Promise((resolve) => {
    child.on("close", (code, signal) => {
      started.delete(child);
      child.gone = true;
      resolve(code ?? signal);
    });
  });
  started.add(child);
  return child;
}

/** Ends a process: `signal`, and SIGKILL after `grace`. */
export async function stop(child, signal = "SIGTERM", grace = 3000) {
  if (!child || child.gone) return;
  child.kill("SIGCONT");
  child.kill(signal);
  await Promise.race([child.ended, sleep(grace)]);
  if (!child.gone) {
    child.kill("SIGKILL");
    await child.ended;
  }
}

/** Ends everything that still runs, and takes the files away. */
export async function clean() {
  await Promise.all([...started].map((child) => stop(child, "SIGTERM", 1000)));
  rmSync(directory, { recursive: true, force: true });
}

/** A port that nothing listens on. */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** One GET on a connection of its own: its status and time, or why there is none. */
export function get(port, target = "/", timeout = 3000) {
  const began = performance.now();
  return new Promise((resolve) => {
    const socket = net.connect({ port, host: "127.0.0.1" });
    const done = (outcome) => {
      socket.destroy();
      resolve({ ...outcome, ms: performance.now() - began });
    };
    let text = "";
    socket.setTimeout(timeout, () => done({ error: "timeout" }));
    socket.on("error", (error) => done({ error: error.code }));
    socket.on("connect", () => socket.write(`GET ${target} HTTP/1.1\r\nhost: chaos.test\r\nconnection: close\r\n\r\n`));
    socket.on("data", (data) => {
      text += data.toString("latin1");
    });
    socket.on("end", () => {
      const status = /^HTTP\/1\.[01] (\d{3})/.exec(text);
      done(
        status ? { status: Number(status[1]), body: text.slice(text.indexOf("\r\n\r\n") + 4) } : { error: "closed" },
      );
    });
  });
}

/** Waits until `holds`, at most `limit` milliseconds; resolves with the milliseconds it took. */
export async function until(what, holds, limit = 20_000) {
  const began = performance.now();
  while (!(await holds())) {
    if (performance.now() - began > limit) throw new Error(`never: ${what}`);
    await sleep(20);
  }
  return performance.now() - began;
}

/** A backend; `revive` starts it again on its port. */
export async function origin(name, options = {}) {
  const port = options.port ?? (await freePort());
  const self = { name, port };
  self.live = async () => {
    self.child = start([process.execPath, path.join(HERE, "origin.mjs"), JSON.stringify({ ...options, name, port })]);
    await until(`${name} listens`, () => self.child.output.includes("ready") || self.child.gone);
    if (self.child.gone) throw new Error(`origin ${name}: ${self.child.output}`);
  };
  await self.live();
  return self;
}

/** A backend of long streams: HTTP/1.1 at `port`, HTTP/2 in the clear at `h2`. */
export async function streamOrigin() {
  const self = { name: "streams", port: await freePort(), h2: await freePort() };
  const argument = JSON.stringify({ port: self.port, h2: self.h2 });
  self.child = start([process.execPath, path.join(HERE, "stream-origin.mjs"), argument]);
  await until("the streams' backend listens", () => self.child.output.includes("ready") || self.child.gone);
  if (self.child.gone) throw new Error(`the streams' backend: ${self.child.output}`);
  return self;
}

/** How many processes a process has below it. */
export function children(pid) {
  const of = (parent) => {
    const list = readFileSync(`/proc/${parent}/task/${parent}/children`, "utf8").trim().split(" ").filter(Boolean);
    return list.reduce((sum, child) => sum + of(child), list.length);
  };
  return of(pid);
}

/** Load until `end()` is called, which resolves with its counts. */
export function load(port, options = {}) {
  const child = start([process.execPath, path.join(HERE, "load.mjs"), JSON.stringify({ port, ...options })]);
  return {
    async end() {
      child.stdin.end();
      await child.ended;
      try {
        return JSON.parse(child.output.trim().split("\n").at(-1));
      } catch {
        throw new Error(`the load ended without a result: ${child.output}`);
      }
    },
  };
}

/** CPU seconds of a process and its children. */
export function cpu(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

export { sleep };
