#!/usr/bin/env node
// `npm run bench:reliability`: thousands of idle connections and four times the load that the backends carry, nginx and HAProxy in the same
// run. What else can go wrong is `npm run test:chaos`. Each scenario is bounded and ends by itself; everything is on loopback.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { certificate, startGateway, titanForm } from "./gateways.mjs";
import { CORES, firstJson, probe, residentBytes, runJson, start, stop, stopAll } from "./processes.mjs";

const ROOT = path.resolve(import.meta.dirname, "..");
const LOAD = path.join(ROOT, "target/release/titan-load");
const { values: options } = parseArgs({
  options: {
    only: { type: "string" },
    gateways: { type: "string", default: "titan,nginx,haproxy" },
    idle: { type: "string", default: "9000" },
    titan: { type: "string" },
    "no-build": { type: "boolean", default: false },
  },
});
const MIB = 2 ** 20;
const results = {};

/** A load that runs beside a scenario: `requests` of titan-load's JSON when it has ended. */
function load(port, more = []) {
  return runJson(CORES.load, [LOAD, "load", "--target", `127.0.0.1:${port}`, "--warmup", "0.2", ...more]);
}

/** Requests that failed after they were sent. A refused connection is none: nothing was accepted. */
function broken(result) {
  const { connect = 0, idle = 0, ...rest } = result.failures;
  return { refused: connect, idle, broken: Object.values(rest).reduce((sum, count) => sum + count, 0), kinds: rest };
}

function tell(scenario, gateway, figures) {
  results[scenario] = { ...results[scenario], [gateway]: figures };
  process.stdout.write(`${scenario.padEnd(10)} ${gateway.padEnd(9)} ${JSON.stringify(figures)}\n`);
}

const scenarios = {
  /** 9: many idle connections, and the latency of others beside them. */
  async idle(context, name) {
    const gateway = await startGateway(name, context);
    const { http, https } = gateway.ports;
    const rate = ["--connections", "16", "--seconds", "4", "--rate", "2000"];
    const figures = {};
    const alone = await load(http, rate);
    for (const [kind, port, more] of [
      ["plain", http, []],
      ["tls", https, ["--tls", "bench.test"]],
    ]) {
      const count = name === "haproxy" ? Math.min(Number(options.idle), 7500) : Number(options.idle);
      const before = residentBytes(gateway.child.pid);
      const holder = start(CORES.load, [
        LOAD,
        "idle",
        "--target",
        `127.0.0.1:${port}`,
        "--connections",
        String(count),
        ...more,
      ]);
      const state = await firstJson(holder);
      await sleep(1000);
      const each = (residentBytes(gateway.child.pid) - before) / Math.max(state.open, 1);
      const beside = await load(http, rate);
      figures[kind] = {
        open: state.open,
        bytes_each: Math.round(each),
        p99_us: beside.latency_us.p99,
        p99_ratio: Number((beside.latency_us.p99 / alone.latency_us.p99).toFixed(2)),
      };
      holder.stdin.end();
      await holder.ended;
      await sleep(1000);
    }
    tell("idle", name, { ...figures, resident_after_mib: Math.round(residentBytes(gateway.child.pid) / MIB) });
    await stop(gateway.child);
  },

  /** 11: four times what the backends can do; sheds, stays within its memory, recovers. */
  async overload(context, name) {
    // 40 connections to a backend that takes 20 ms: 2,000 requests a second.
    const gateway = await startGateway(name, { ...context, backendConnections: 40, memoryLimit: 256 * MIB });
    const { http } = gateway.ports;
    const before = residentBytes(gateway.child.pid);
    const running = load(http, [
      "--connections",
      "4000",
      "--seconds",
      "10",
      "--warmup",
      "1",
      "--rate",
      "8000",
      "--path",
      "/109?delay=20",
      "--timeout",
      "5",
    ]);
    let peak = 0;
    for (let n = 0; n < 10; n++) {
      await sleep(1000);
      peak = Math.max(peak, residentBytes(gateway.child.pid));
    }
    const result = await running;
    await sleep(1500);
    const after = await load(http, [
      "--connections",
      "16",
      "--seconds",
      "2",
      "--rate",
      "500",
      "--path",
      "/109?delay=20",
    ]);
    tell("overload", name, {
      ok: result.ok,
      statuses: result.statuses,
      ...broken(result),
      late: result.late,
      p99_us: result.latency_us.p99,
      before_mib: Math.round(before / MIB),
      peak_mib: Math.round(peak / MIB),
      alive: gateway.child.exitCode === null,
      recovered: { ok: after.ok, bad: after.failed, statuses: after.statuses, p99_us: after.latency_us.p99 },
    });
    await stop(gateway.child);
  },
};

async function main() {
  if (!options["no-build"])
    execFileSync("cargo", ["build", "--release", "-q", "-p", "titan-load"], { cwd: ROOT, stdio: "inherit" });
  const dir = mkdtempSync(path.join(os.tmpdir(), "titan-reliability-"));
  try {
    const context = { dir, form: titanForm(options.titan), ...certificate(dir) };
    const origin = start(CORES.load, [LOAD, "origin", "--listen", "127.0.0.1:0"]);
    context.origin = (await firstJson(origin)).port;
    await probe(context.origin);
    for (const [scenario, run] of Object.entries(scenarios)) {
      if (options.only && options.only !== scenario) continue;
      for (const name of options.gateways.split(",")) {
        await run(context, name).catch((error) => tell(scenario, name, { error: error.message }));
      }
    }
    mkdirSync(path.join(ROOT, "bench/results"), { recursive: true });
    const file = path.join(ROOT, "bench/results", `reliability-${new Date().toISOString().replaceAll(":", "-")}.json`);
    writeFileSync(
      file,
      `${JSON.stringify({ load: readFileSync("/proc/loadavg", "utf8").trim(), results }, null, 1)}\n`,
    );
    process.stdout.write(`\n${path.relative(process.cwd(), file)}\n`);
  } finally {
    await stopAll();
    rmSync(dir, { recursive: true, force: true });
  }
}

for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => stopAll().then(() => process.exit(130)));
main().catch((error) => {
  process.stderr.write(`reliability: ${error.message}\n`);
  process.exitCode = 1;
});
