#!/usr/bin/env node
// `npm run bench`: Titan, nginx, HAProxy and h2o in turn in one run. bench/README.md states the method and its limits.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { CASES } from "./cases.mjs";
import { certificate, identity, missing, startGateway, titanForm, VARIANTS } from "./gateways.mjs";
import { h2load } from "./h2load.mjs";
import { memory, tunnels } from "./memory.mjs";
import { CORES, firstJson, runJson, start, stop, stopAll } from "./processes.mjs";
import { differences, ratios, summary } from "./statistics.mjs";

const ROOT = path.resolve(import.meta.dirname, "..");
const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "9" },
    seconds: { type: "string", default: "1.5" },
    warmup: { type: "string", default: "0.4" },
    rate: { type: "string", default: "8000" },
    requests: { type: "string", default: "60000" },
    only: { type: "string" },
    gateways: { type: "string" },
    titan: { type: "string" },
    memory: { type: "string", default: "2000" },
    "no-build": { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});

/** Latencies that a driver tells. */
const LATENCIES = { own: ["p50", "p99", "p999"], h2load: ["mean", "max"] };

const HELP = `usage: npm run bench -- [options]
  --rounds N      interleaved rounds of every case (9)
  --seconds S     measured time of one sample (1.5), after --warmup S (0.4)
  --rate N        requests a second of the fixed-rate cases (8000)
  --requests N    requests of one sample by h2load (60000)
  --only TEXT     cases whose name contains TEXT, or of that group: ${[...new Set(CASES.flatMap((one) => one.groups))].join(", ")};
                or tunnels: the memory of idle WebSocket tunnels alone (with --memory 4000)
  --gateways A,B  only these: ${Object.keys(VARIANTS).join(", ")}
  --titan FORM    cli (node dist/cli/main.js) or native (the data plane without Node); default: cli when it is built
  --memory N      idle connections of the memory figures (2000); 0 leaves them out
  --no-build      use the load generator as it is`;

async function main() {
  if (options.help) return say(HELP);
  const load = path.join(ROOT, "target/release/titan-load");
  if (!options["no-build"] || !existsSync(load)) {
    execFileSync("cargo", ["build", "--release", "-q", "-p", "titan-load"], { cwd: ROOT, stdio: "inherit" });
  }
  const chosen = CASES.filter(
    ({ name, groups }) => !options.only || name.includes(options.only) || groups.includes(options.only),
  );
  // The memory of idle tunnels belongs to the cases of WebSocket, and can be had alone.
  const idle = [undefined, "ws", "tunnels"].includes(options.only);
  if (chosen.length === 0 && !idle) throw new Error(`--only ${options.only}: no such case`);
  for (const tool of ["nginx", "haproxy", "taskset", "openssl"]) needs(tool);
  if (chosen.some(({ driver }) => driver === "h2load")) needs("h2load");
  const dir = mkdtempSync(path.join(os.tmpdir(), "titan-bench-"));
  try {
    const context = { dir, form: titanForm(options.titan), ...certificate(dir), ...identity(dir) };
    const origin = start(CORES.load, [load, "origin", "--listen", "127.0.0.1:0"]);
    context.origin = (await firstJson(origin)).port;
    const calls = start(CORES.load, [load, "grpc-origin", "--listen", "127.0.0.1:0"]);
    context.grpcOrigin = (await firstJson(calls)).port;
    const result = {
      when: new Date().toISOString(),
      machine: machine(),
      options,
      titan: context.form,
      cases: [],
      memory: {},
    };
    const wanted = options.gateways?.split(",");
    const allowed = (name) => !wanted || wanted.includes(name);
    for (const one of chosen) {
      const gateways = one.gateways.filter(allowed).filter((name) => {
        const why = missing(name);
        if (why) say(`\nSKIPPED: ${name} in ${one.name}: ${why}`);
        return !why;
      });
      if (gateways.length > 0) result.cases.push(await measure({ ...one, gateways }, context, load));
    }
    const connections = Number(options.memory);
    if (connections > 0 && !options.only) {
      const names = ["titan", "nginx", "haproxy"].filter(allowed);
      result.memory = await memory(names, context, load, { connections, rounds: 5, say });
    }
    if (connections > 0 && idle) {
      const names = ["titan-ws", "nginx-ws", "haproxy"].filter(allowed);
      result.tunnels = await tunnels(names, context, load, { connections, rounds: 3, say });
    }
    mkdirSync(path.join(ROOT, "bench/results"), { recursive: true });
    const file = path.join(ROOT, "bench/results", `${result.when.replaceAll(":", "-")}.json`);
    writeFileSync(file, `${JSON.stringify(result, null, 1)}\n`);
    say(`\n${path.relative(process.cwd(), file)}`);
  } finally {
    await stopAll();
    rmSync(dir, { recursive: true, force: true });
  }
}

/** One case: its gateways are started once and take turns, in another order each round. */
async function measure(one, context, load) {
  const running = [];
  const rounds = [];
  try {
    for (const name of one.gateways) running.push(await startGateway(name, context));
    for (let round = 0; round < Number(options.rounds); round++) {
      const samples = {};
      for (const gateway of rotate(running, round)) {
        samples[gateway.name] = await sample(gateway, one, context, load);
      }
      rounds.push(samples);
    }
  } finally {
    for (const gateway of running) await stop(gateway.child);
  }
  return report(one, rounds);
}

function rotate(list, by) {
  const turned = [...list.slice(by % list.length), ...list.slice(0, by % list.length)];
  return by % 2 ? turned.reverse() : turned;
}

async function sample(gateway, one, { token }, load) {
  if (one.driver === "h2load") return h2load(gateway, one, load, Number(options.requests));
  const port = one.tls ? gateway.ports.https : gateway.ports.http;
  const argv = [
    load,
    "load",
    "--target",
    `127.0.0.1:${port}`,
    "--path",
    gateway.prefix + one.path,
    "--connections",
    String(one.connections),
    "--seconds",
    options.seconds,
    "--warmup",
    options.warmup,
    "--pid",
    String(gateway.child.pid),
  ];
  for (const header of one.headers ?? []) argv.push("--header", header.replace("{token}", token));
  if (one.tls) argv.push("--tls", "bench.test");
  if (one.websocket) argv.push("--websocket", String(one.websocket));
  if (one.rate) argv.push("--rate", options.rate);
  const result = await runJson(CORES.load, argv);
  const bad = result.failed + Object.values(result.statuses).reduce((sum, count) => sum + count, 0);
  if (bad > 0 || result.ok === 0) {
    throw new Error(
      `${gateway.name}, ${one.name}: ${bad} bad answers of ${result.ok + bad}: ${JSON.stringify(result)} ${gateway.child.errors}`,
    );
  }
  return result;
}

function report(one, rounds) {
  const gateways = {};
  const latencies = LATENCIES[one.driver] ?? LATENCIES.own;
  say(`\n${one.name}`);
  for (const name of one.gateways) {
    const samples = rounds.map((round) => round[name]);
    const figure = (pick) => summary(samples.map(pick));
    const figures = {
      cpu_us: figure((sample) => sample.gateway_cpu_us),
      rps: figure((sample) => sample.rps),
      cores: figure((sample) => sample.gateway_cores),
      ...(one.sizes && { bytes: figure(bytesEach) }),
    };
    for (const name of latencies) figures[`${name}_us`] = figure((sample) => sample.latency_us[name]);
    gateways[name] = figures;
    say(
      `  ${name.padEnd(13)} ${figures.cpu_us.median.toFixed(2).padStart(9)} µs CPU  ${figures.rps.median.toFixed(0).padStart(7)} /s` +
        latencies.map((name) => `  ${name.replace("999", "99.9")} ${micros(figures[`${name}_us`].median)}`).join("") +
        `  core ${(figures.cores.median * 100).toFixed(0).padStart(3)} %${one.sizes ? `  ${figures.bytes.median.toFixed(0)} bytes` : ""}`,
    );
  }
  const compared = {};
  for (const pair of one.pairs.filter((names) => names.every((name) => one.gateways.includes(name)))) {
    const name = pair.join("/");
    const cpu = ratios(rounds, pair, (sample) => sample.gateway_cpu_us);
    const latency = latencies.includes("p99") ? "p99" : "mean";
    const slower = ratios(rounds, pair, (sample) => sample.latency_us[latency]);
    const more = differences(rounds, pair, (sample) => sample.gateway_cpu_us);
    const size = one.sizes && ratios(rounds, pair, bytesEach);
    const wanted = [
      [one.targets?.[name], cpu.median, "target ≤ ", ""],
      [one.margins?.[name], more.median, "target ≤ + ", " µs"],
      [one.sizes?.[name], size?.median, "bytes ≤ ", ""],
    ].filter(([limit]) => limit !== undefined);
    const target = one.targets?.[name] ?? one.margins?.[name];
    compared[name] = {
      cpu,
      more,
      [latency]: slower,
      ...(size && { size }),
      ...(target && { target, met: wanted.every(([limit, is]) => is <= limit) }),
    };
    const verdict = wanted
      .map(
        ([limit, is, word, unit]) =>
          `  ${word}${limit.toFixed(2)}${unit}: ${is <= limit ? "met" : "MISSED"} (${is.toFixed(2)})`,
      )
      .join("");
    say(
      `  ${name.padEnd(24)} CPU × ${cpu.median.toFixed(3)} [${cpu.q1.toFixed(3)}–${cpu.q3.toFixed(3)}; ${cpu.min.toFixed(2)}–${cpu.max.toFixed(2)}]` +
        `  ${latency} × ${slower.median.toFixed(2)}${verdict}`,
    );
  }
  const { name, path: target, connections, streams, tls, rate } = one;
  return {
    name,
    path: target,
    connections,
    streams,
    tls,
    rate: rate ? Number(options.rate) : null,
    gateways,
    ratios: compared,
    rounds,
  };
}

/** Bytes of a whole answer, head and framing with it. */
function bytesEach(sample) {
  return sample.bytes / (sample.ok + Object.values(sample.statuses).reduce((sum, count) => sum + count, 0));
}

function micros(value) {
  return (value >= 10_000 ? `${(value / 1000).toFixed(1)} ms` : `${value.toFixed(0)} µs`).padStart(8);
}

function needs(tool) {
  try {
    execFileSync("which", [tool], { stdio: "ignore" });
  } catch {
    throw new Error(`${tool} is missing: apt-get install nginx-light haproxy nghttp2-client util-linux openssl`);
  }
}

function machine() {
  const version = (tool, ...argv) => {
    try {
      return execFileSync(tool, argv, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).split("\n")[0];
    } catch {
      return "unknown";
    }
  };
  return {
    cpus: os.cpus().map(({ model }) => model.trim()),
    kernel: os.release(),
    node: process.version,
    load: os.loadavg(),
    nginx: version("dpkg-query", "-W", "nginx"),
    haproxy: version("haproxy", "-v"),
    h2o: version("h2o", "-v"),
    h2load: version("h2load", "--version"),
  };
}

function say(text) {
  process.stdout.write(`${text}\n`);
}

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => stopAll().then(() => process.exit(130)));
}
main().catch((error) => {
  process.stderr.write(`bench: ${error.message}\n`);
  process.exitCode = 1;
});
