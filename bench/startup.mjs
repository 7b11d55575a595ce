#!/usr/bin/env node
// `npm run bench:startup`: from spawn to the first proxied answer, for each kind of configuration, beside a bare Node.
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { freePort } from "./processes.mjs";

const ROOT = path.resolve(import.meta.dirname, "..");
const { values: options } = parseArgs({
  options: {
    starts: { type: "string", default: "7" },
    node: { type: "string", default: process.execPath },
    titan: { type: "string", default: path.join(ROOT, "dist/cli/main.js") },
    prefix: { type: "string", default: "" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
const HELP = `usage: npm run bench:startup -- [options]
  --starts N     starts of each configuration, in turn (7)
  --node FILE    the Node.js to start with (the one that runs this)
  --titan FILE   the command's script (dist/cli/main.js)
  --prefix CMD   what to start it under, such as "chrt -r 1"`;

/** Milliseconds; what docs/performance.md sets. */
const TARGET = 300;
/** Asked this often, milliseconds. */
const PROBE = 2;
/** Nothing takes this long. */
const LIMIT = 20_000;

const HOOK = `{ mark: defineHook({ reads: { headers: ["x-tenant"] }, onRequest(ctx) { ctx.request.headers.set("x-marked", "1"); } }) }`;
const module = (base, hooks, type) => `import { defineConfig, defineHook } from "@titan-gateway/titan";
const base${type ? ": object" : ""} = ${JSON.stringify(base)};
export default defineConfig({ ...base, hooks: ${hooks} }${type ? " as object" : ""});
`;

/** Kinds of configuration by file name; what they say is the same but for the hook. */
const KINDS = {
  "titan.json": (base) => JSON.stringify(base),
  // YAML holds JSON; what costs is the parser.
  "titan.yaml": (base) => JSON.stringify(base, null, 1),
  "titan.config.mjs": (base) => module(base, "{}", false),
  "titan.config.ts": (base) => module(base, "{}", true),
  "hook.config.ts": (base) =>
    module({ ...base, routes: base.routes.map((route) => ({ ...route, middleware: ["mark"] })) }, HOOK, true),
};

async function main() {
  if (options.help) return process.stdout.write(`${HELP}\n`);
  const dir = mkdtempSync(path.join(os.tmpdir(), "titan-bench-startup-"));
  const origin = http.createServer((_, response) => response.end("ok"));
  await new Promise((done) => origin.listen(0, "127.0.0.1", done));
  const times = Object.fromEntries([...Object.keys(KINDS), "node -e 0"].map((kind) => [kind, []]));
  try {
    // Once before they count: what the disk gives for the first time is not measured.
    for (let start = -1; start < Number(options.starts); start++) {
      for (const kind of Object.keys(KINDS)) {
        const taken = await startOf(kind, dir, origin.address().port);
        if (start >= 0) times[kind].push(taken);
      }
      const taken = await bare();
      if (start >= 0) times["node -e 0"].push(taken);
    }
  } finally {
    origin.close();
    rmSync(dir, { recursive: true, force: true });
  }
  report(times);
}

async function startOf(kind, dir, origin) {
  const [port, admin] = [await freePort(), await freePort()];
  const folder = path.join(dir, kind);
  mkdirSync(folder, { recursive: true });
  const file = path.join(folder, kind);
  const base = {
    server: { host: "127.0.0.1", port, workers: 1 },
    metrics: { port: admin },
    admin: { control_socket: path.join(folder, "titan.sock") },
    logging: { level: "error", log_requests: false },
    upstreams: [{ name: "origin", backends: [{ host: "127.0.0.1", port: origin }] }],
    routes: [{ path: "/*", upstream: "origin" }],
  };
  writeFileSync(file, KINDS[kind](base));
  const began = performance.now();
  const child = run([options.titan, "serve", "--config", file], folder);
  try {
    for (;;) {
      if (child.exitCode !== null) throw new Error(`${kind} ended with ${child.exitCode}: ${child.errors}`);
      if (performance.now() - began > LIMIT) throw new Error(`${kind} does not answer: ${child.errors}`);
      if (await answers(port)) return performance.now() - began;
      await sleep(PROBE);
    }
  } finally {
    child.kill("SIGTERM");
    await child.ended;
  }
}

async function bare() {
  const began = performance.now();
  await run(["-e", "0"], ROOT).ended;
  return performance.now() - began;
}

function run(args, cwd) {
  const [command, ...rest] = [...options.prefix.split(" ").filter(Boolean), options.node, ...args];
  const child = spawn(command, rest, { cwd, stdio: ["ignore", "ignore", "pipe"] });
  child.errors = "";
  child.stderr.on("data", (data) => {
    child.errors = (child.errors + data).slice(-2000);
  });
  child.ended = new Promise((done) => child.on("close", done));
  return child;
}

/** Whether a request is answered with 200: a bare socket, because a client of Node's would cost more than what is measured. */
function answers(port) {
  return new Promise((done) => {
    const socket = net.connect(port, "127.0.0.1", () =>
      socket.write("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
    );
    socket.once("data", (data) => {
      socket.destroy();
      done(data.toString("latin1", 0, 12) === "HTTP/1.1 200");
    });
    socket.on("error", () => done(false));
    socket.on("close", () => done(false));
  });
}

function report(times) {
  const rows = Object.entries(times).map(([kind, list]) => {
    const sorted = [...list].sort((a, b) => a - b);
    const median = sorted[Math.floor(sorted.length / 2)];
    return { kind, median, least: sorted[0], most: sorted.at(-1) };
  });
  if (options.json) return process.stdout.write(`${JSON.stringify(rows)}\n`);
  process.stdout.write(`load average ${os.loadavg()[0].toFixed(1)}; milliseconds, median (least to most)\n`);
  for (const { kind, median, least, most } of rows) {
    const verdict = kind === "node -e 0" ? "" : median <= TARGET ? "met" : "missed";
    const text = `${Math.round(median)} (${Math.round(least)} to ${Math.round(most)})`;
    process.stdout.write(`${kind.padEnd(18)} ${text.padEnd(24)} ${verdict}\n`);
  }
}

await main();
