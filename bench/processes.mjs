// Child processes of the bench: started pinned, stopped by their own handle, measured through /proc.
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const started = new Set();

/** Core of the gateway, core of generator and origin. */
export const CORES = { gateway: "0", load: "1" };

/** Starts `argv` pinned to `core`; its error output is kept for messages. */
export function start(core, argv, options = {}) {
  const child = spawn("taskset", ["-c", core, ...argv], { stdio: ["pipe", "pipe", "pipe"], ...options });
  child.errors = "";
  child.stderr?.on("data", (data) => {
    child.errors = (child.errors + data).slice(-4000);
  });
  child.on("error", (error) => {
    child.errors += error.message;
  });
  child.ended = new Promise((resolve) => {
    child.on("close", (code) => {
      started.delete(child);
      resolve(code);
    });
  });
  started.add(child);
  return child;
}

/** Ends a child that {@link start} made: SIGTERM, and SIGKILL if it takes longer than `grace`. */
export async function stop(child, grace = 3000) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGTERM");
  const ended = await Promise.race([child.ended.then(() => true), sleep(grace).then(() => false)]);
  if (!ended) {
    child.kill("SIGKILL");
    await child.ended;
  }
}

/** Ends everything that is still running. */
export async function stopAll() {
  await Promise.all([...started].map((child) => stop(child)));
}

/** Runs to the end and parses the last line of its output as JSON. */
export async function runJson(core, argv) {
  const child = start(core, argv);
  child.stdin.end();
  let output = "";
  child.stdout.on("data", (data) => {
    output += data;
  });
  const code = await child.ended;
  if (code !== 0) throw new Error(`${argv[0]} ended with ${code}: ${child.errors}`);
  return JSON.parse(output.trim().split("\n").at(-1));
}

/** First line of output that is JSON. */
export function firstJson(child) {
  return new Promise((resolve, reject) => {
    let output = "";
    const look = (data) => {
      output += data;
      const end = output.indexOf("\n");
      if (end < 0) return;
      child.stdout.off("data", look);
      resolve(JSON.parse(output.slice(0, end)));
    };
    child.stdout.on("data", look);
    child.ended.then((code) => reject(new Error(`ended with ${code}: ${child.errors}`)));
  });
}

/** A port that nothing listens on. */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** One GET over a raw socket; resolves with the status code, rejects when there is no answer. */
export function probe(port, path = "/109", timeout = 1000, headers = []) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, "127.0.0.1");
    let text = "";
    const fail = (error) => {
      socket.destroy();
      reject(error);
    };
    socket.setTimeout(timeout, () => fail(new Error("timeout")));
    socket.on("error", fail);
    const head = [`GET ${path} HTTP/1.1`, "Host: bench.test", "Connection: close", ...headers];
    socket.on("connect", () => socket.write(`${head.join("\r\n")}\r\n\r\n`));
    socket.on("data", (data) => {
      text += data.toString("latin1");
      const status = /^HTTP\/1\.1 (\d{3})/.exec(text);
      if (!status) return;
      socket.destroy();
      resolve(Number(status[1]));
    });
    socket.on("end", () => fail(new Error("closed")));
  });
}

/** Waits until the port answers 200; resolves with the milliseconds since `from`. */
export async function untilServing(child, port, path, from = performance.now(), headers = [], limit = 20_000) {
  let last = "";
  while (performance.now() - from < limit) {
    if (child.exitCode !== null) throw new Error(`gateway ended with ${child.exitCode}: ${child.errors}`);
    try {
      const status = await probe(port, path, 1000, headers);
      if (status === 200) return performance.now() - from;
      last = `status ${status}`;
    } catch (error) {
      last = error.message;
    }
    await sleep(2);
  }
  throw new Error(`port ${port} does not answer 200 (${last}): ${child.errors}`);
}

/** Process ids of a process and its descendants. */
export function family(pid) {
  const children = new Map();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
    } catch {
      // ended meanwhile
    }
  }
  const found = [pid];
  for (const one of found) found.push(...(children.get(one) ?? []));
  return found;
}

/** Proportional set size of a process tree in bytes: pages that master and workers share count once. */
export function residentBytes(pid) {
  let sum = 0;
  for (const one of family(pid)) {
    try {
      const kib = /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${one}/smaps_rollup`, "utf8"));
      sum += Number(kib?.[1] ?? 0) * 1024;
    } catch {
      // ended meanwhile
    }
  }
  return sum;
}
