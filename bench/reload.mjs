#!/usr/bin/env node
// `npm run bench:reload`: how long the data plane takes to apply 10,000 routes, and what requests feel while it does nothing else.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { CORES, firstJson, freePort, runJson, start, stop, stopAll, untilServing } from "./processes.mjs";
import { summary } from "./statistics.mjs";

const ROOT = path.resolve(import.meta.dirname, "..");
const { values: options } = parseArgs({
  options: {
    routes: { type: "string", default: "10000" },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "3" },
    rate: { type: "string", default: "2000" },
    gateway: { type: "string" },
    help: { type: "boolean", short: "h", default: false },
  },
});
const HELP = `usage: npm run bench:reload -- [options]
  --routes N    routes of the configuration (10000)
  --rounds N    pairs of samples: without reloads, and with one reload after the other (5)
  --seconds S   of each sample (3)
  --rate N      requests a second (2000)`;
/** What docs/performance.md sets: milliseconds of an apply, and the ratio of p99.9. */
const TARGET = { apply: 100, ratio: 2 };

/** Two configurations that differ in every route's name, in turn, so that nothing of the old one can be kept. */
function configuration({ port, origin, routes }, turn) {
  return JSON.stringify({
    workers: 1,
    listeners: [{ name: "http", address: "127.0.0.1", port }],
    upstreams: [{ name: "origin", backends: [{ host: "127.0.0.1", port: origin }] }],
    routes: Array.from({ length: routes }, (_, index) => ({
      name: `r${turn}-${index}`,
      match: { path: `/r${index}/*` },
      action: { type: "proxy", targets: [{ upstream: "origin" }], rewrite: { strip_prefix: `/r${index}` } },
    })),
  });
}

/** The gateway's process: told on its input how long to apply one configuration after the other, it answers with the times. */
async function serve(about) {
  const { NativeGateway } = await import(path.join(ROOT, "index.js"));
  const gateway = new NativeGateway(
    () => {},
    () => {},
  );
  const texts = [configuration(about, "a"), configuration(about, "b")];
  const check = ({ code, issues }) => {
    if (code) throw new Error(`${code} ${JSON.stringify(issues)}`);
  };
  check(await gateway.start(texts[0], false));
  let turn = 0;
  for await (const line of createInterface({ input: process.stdin })) {
    const until = performance.now() + Number(line);
    const times = [];
    do {
      turn += 1;
      const from = performance.now();
      check(await gateway.apply(texts[turn % 2]));
      times.push(performance.now() - from);
    } while (performance.now() < until);
    process.stdout.write(`${JSON.stringify(times)}\n`);
  }
  gateway.stop();
}

async function main() {
  const load = path.join(ROOT, "target/release/titan-load");
  if (!existsSync(load)) {
    execFileSync("cargo", ["build", "--release", "-q", "-p", "titan-load"], { cwd: ROOT, stdio: "inherit" });
  }
  const origin = start(CORES.load, [load, "origin", "--listen", "127.0.0.1:0"]);
  const about = { origin: (await firstJson(origin)).port, port: await freePort(), routes: Number(options.routes) };
  const child = start(CORES.gateway, [process.execPath, import.meta.filename, "--gateway", JSON.stringify(about)]);
  const target = `/r${about.routes / 2}/109`;
  await untilServing(child, about.port, target);
  const apply = async (milliseconds) => {
    const times = firstJson(child);
    child.stdin.write(`${milliseconds}\n`);
    return times;
  };
  const sample = async () => {
    const argv = ["load", "--target", `127.0.0.1:${about.port}`, "--path", target, "--connections", "16"];
    argv.push("--seconds", options.seconds, "--warmup", "0.3", "--rate", options.rate);
    const result = await runJson(CORES.load, [load, ...argv]);
    if (result.failed > 0 || result.ok === 0) throw new Error(`bad answers: ${JSON.stringify(result)}`);
    return result.latency_us;
  };
  await apply(500);
  const alone = await apply(3000);
  const quiet = [];
  const during = [];
  const applied = [];
  for (let round = 0; round < Number(options.rounds); round++) {
    quiet.push(await sample());
    const [times, latency] = await Promise.all([apply(Number(options.seconds) * 1000 + 300), sample()]);
    applied.push(...times);
    during.push(latency);
  }
  await stop(child);
  const show = (name, numbers, unit) => {
    const { median, min, max } = summary(numbers);
    say(`${name.padEnd(40)} ${median.toFixed(median < 100 ? 2 : 0)} ${unit} (${min.toFixed(1)}–${max.toFixed(1)})`);
    return median;
  };
  const ms = show(`apply() of ${about.routes} routes, no load`, alone, "ms");
  say(`  target ≤ ${TARGET.apply} ms: ${ms <= TARGET.apply ? "met" : "MISSED"}`);
  show(`apply() under ${options.rate} requests/s`, applied, "ms");
  for (const which of ["p50", "p99", "p999"]) {
    show(
      `${which} without reloads`,
      quiet.map((one) => one[which]),
      "µs",
    );
    show(
      `${which} within reloads`,
      during.map((one) => one[which]),
      "µs",
    );
  }
  const ratio = show(
    "p99.9 within / without, pairwise",
    during.map((one, index) => one.p999 / quiet[index].p999),
    "×",
  );
  say(`  target ≤ ${TARGET.ratio}: ${ratio <= TARGET.ratio ? "met" : "MISSED"}`);
}

function say(text) {
  process.stdout.write(`${text}\n`);
}

if (options.help) say(HELP);
else if (options.gateway) await serve(JSON.parse(options.gateway));
else await main().finally(stopAll);
