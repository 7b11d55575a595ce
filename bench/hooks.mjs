#!/usr/bin/env node
// `npm run bench:hooks`: what a hook costs, beside Node proxies that do the same. Method and limits are those of bench/README.md.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { CORES, firstJson, freePort, runJson, start, stop, stopAll, untilServing } from "./processes.mjs";
import { ratios, summary } from "./statistics.mjs";

const ROOT = path.resolve(import.meta.dirname, "..");
const CACHE = path.join(import.meta.dirname, ".cache");
/** Installed into bench/.cache when they are needed: nothing of Titan depends on them. */
const PACKAGES = { "@fastify/http-proxy": "11.6.3", fastify: "5.12.8", "http-proxy": "1.18.1", undici: "7.30.2" };

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "9" },
    seconds: { type: "string", default: "1.5" },
    warmup: { type: "string", default: "0.4" },
    rate: { type: "string", default: "2000" },
    only: { type: "string" },
    help: { type: "boolean", short: "h", default: false },
  },
});
const HELP = `usage: npm run bench:hooks -- [options]
  --rounds N   interleaved rounds of every case (9)
  --seconds S  measured time of one sample (1.5), after --warmup S (0.4)
  --rate N     requests a second of the fixed-rate case (2000)
  --only TEXT  cases whose name contains TEXT`;

/**
 * What the hook of each Titan does, and the share of requests that may enter JavaScript; the Node proxies are told apart by their name alone.
 */
const BODY = `(ctx) { ctx.request.headers.set("x-marked", ctx.request.headers.get("x-tenant") + "-1"); }`;
const GATEWAYS = {
  titan: { hook: "", share: 0 },
  "titan-aa": { hook: "", share: 0 },
  // A hook for requests of another kind: its route has it, and no request that is sent here enters it.
  "titan-other": { hook: `when: { headers: ["x-other"] }, onRequest${BODY}`, share: 0 },
  "titan-sync": { hook: `onRequest${BODY}`, share: 1, marks: true },
  "titan-async": { hook: `async onRequest${BODY}`, share: 1, marks: true },
  fastify: { node: true, marks: true },
  "fastify-async": { node: true, marks: true },
  "http-proxy": { node: true, marks: true },
  undici: { node: true, marks: true },
};
const CASES = [
  { name: "64 connections, saturation", connections: 64, targets: true },
  { name: "64 connections, fixed rate", connections: 64, rate: true },
  { name: "1 connection, saturation", connections: 1 },
];
/** CPU microseconds that a hook may add to a request, and how many times the CPU a Node proxy may at least take. */
const ADDED = { "titan-aa": undefined, "titan-other": undefined, "titan-sync": 4, "titan-async": 6 };
/** How far a share may be from what it must be: requests that the warm-up left under way. */
const SHARE_TOLERANCE = 0.005;
const TIMES = [
  ["fastify", "titan-sync", 4],
  ["fastify-async", "titan-async"],
  ["http-proxy", "titan-sync"],
  ["undici", "titan-sync"],
];

async function main() {
  if (options.help) return say(HELP);
  const load = path.join(ROOT, "target/release/titan-load");
  if (!existsSync(load)) execFileSync("cargo", ["build", "--release", "-q", "-p", "titan-load"], { cwd: ROOT });
  install();
  const dir = mkdtempSync(path.join(os.tmpdir(), "titan-bench-hooks-"));
  const running = [];
  try {
    await verify(dir);
    const origin = start(CORES.load, [load, "origin", "--listen", "127.0.0.1:0"]);
    const { port } = await firstJson(origin);
    for (const name of Object.keys(GATEWAYS)) running.push(await startGateway(name, dir, port));
    // V8 compiles what is hot, and not at once: what the first requests cost is not what a hook costs.
    for (const gateway of running) await sample(gateway, { connections: 64 }, load, "2");
    const when = new Date().toISOString();
    const cases = [];
    for (const one of CASES.filter(({ name }) => !options.only || name.includes(options.only))) {
      cases.push(await measure(one, running, load));
    }
    const results = path.join(ROOT, "bench/results");
    mkdirSync(results, { recursive: true });
    const file = path.join(results, `hooks-${when.replaceAll(":", "-")}.json`);
    writeFileSync(
      file,
      `${JSON.stringify({ when, node: process.version, options, packages: PACKAGES, cases }, null, 1)}\n`,
    );
    say(`\n${path.relative(process.cwd(), file)}`);
  } finally {
    await stopAll();
    rmSync(dir, { recursive: true, force: true });
  }
}

function install() {
  const installed = ([name, version]) => {
    try {
      return (
        JSON.parse(readFileSync(path.join(CACHE, "node_modules", name, "package.json"), "utf8")).version === version
      );
    } catch {
      return false;
    }
  };
  if (Object.entries(PACKAGES).every(installed)) return;
  mkdirSync(CACHE, { recursive: true });
  writeFileSync(path.join(CACHE, "package.json"), JSON.stringify({ private: true, dependencies: PACKAGES }));
  say("Installing the Node proxies into bench/.cache …");
  execFileSync("npm", ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"], {
    cwd: CACHE,
    stdio: "inherit",
  });
}

async function startGateway(name, parent, origin) {
  const { node, hook } = GATEWAYS[name];
  const dir = mkdtempSync(path.join(parent, `${name}-`));
  const port = await freePort();
  const admin = node ? undefined : await freePort();
  const argv = node
    ? [path.join(import.meta.dirname, "node-proxy.mjs"), name, String(port), String(origin)]
    : [path.join(ROOT, "dist/cli/main.js"), "serve", "--config", configuration(dir, port, admin, origin, hook)];
  const child = start(CORES.gateway, [process.execPath, ...argv], {
    cwd: dir,
    env: { ...process.env, NODE_ENV: "production" },
  });
  child.stdout.resume();
  await untilServing(child, port, "/109");
  return { name, child, port, admin };
}

function configuration(dir, port, admin, origin, hook) {
  const file = path.join(dir, "titan.config.mjs");
  const library = JSON.stringify(path.join(ROOT, "dist/define.js"));
  const route = `{ path: "/*", upstream: "origin"${hook ? ', middleware: ["mark"]' : ""} }`;
  const text = `import { defineConfig, defineHook } from ${library};
export default defineConfig({
  server: { host: "127.0.0.1", port: ${port}, workers: 1 },
  upstreams: [{ name: "origin", pool_size: 128, backends: [{ host: "127.0.0.1", port: ${origin} }] }],
  ${hook ? `hooks: { mark: defineHook({ reads: { headers: ["x-tenant"] }, ${hook} }) },` : ""}
  routes: [${route}],
  logging: { level: "error", log_requests: false },
  metrics: { port: ${admin} },
});
`;
  writeFileSync(file, text);
  return file;
}

/** Whoever is measured must do the work: the header arrives at an origin, with the value of the other one. */
async function verify(dir) {
  const server = http.createServer((request, response) => response.end(request.headers["x-marked"] ?? "none"));
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  for (const [name, { marks }] of Object.entries(GATEWAYS)) {
    const { child, port } = await startGateway(name, dir, server.address().port);
    const seen = await (await fetch(`http://127.0.0.1:${port}/109`, { headers: { "x-tenant": "acme" } })).text();
    await stop(child);
    const wanted = marks ? "acme-1" : "none";
    if (seen !== wanted) throw new Error(`${name}: the origin saw x-marked: ${seen}, not ${wanted}`);
  }
  server.close();
  server.closeAllConnections();
}

async function measure(one, gateways, load) {
  const busy = [os.loadavg()[0]];
  const before = await Promise.all(gateways.map(counted));
  const rounds = [];
  for (let round = 0; round < Number(options.rounds); round++) {
    const turn = round % gateways.length;
    const order = [...gateways.slice(turn), ...gateways.slice(0, turn)];
    if (round % 2) order.reverse();
    const samples = {};
    for (const gateway of order) samples[gateway.name] = await sample(gateway, one, load);
    rounds.push(samples);
  }
  busy.push(os.loadavg()[0]);
  const after = await Promise.all(gateways.map(counted));
  return report(one, rounds, busy, shares(gateways, before, after));
}

/** Requests of a Titan so far, and those of them that entered JavaScript, by its metrics. */
async function counted({ admin }) {
  if (admin === undefined) return undefined;
  const page = await (await fetch(`http://127.0.0.1:${admin}/metrics`)).text();
  const sum = (family) =>
    [...page.matchAll(new RegExp(`^${family}(?:\\{[^}]*\\})? (\\S+)$`, "gm"))].reduce(
      (all, [, n]) => all + Number(n),
      0,
    );
  return { requests: sum("titan_requests_total"), hooked: sum("titan_hooked_requests_total") };
}

/** By gateway, the share of a case's requests that entered JavaScript; throws where it is not what the hook asks for. */
function shares(gateways, before, after) {
  const found = {};
  for (const [index, { name }] of gateways.entries()) {
    if (after[index] === undefined) continue;
    const requests = after[index].requests - before[index].requests;
    const share = (after[index].hooked - before[index].hooked) / requests;
    if (!(requests > 0) || Math.abs(share - GATEWAYS[name].share) > SHARE_TOLERANCE)
      throw new Error(`${name}: ${share} of ${requests} requests entered JavaScript, not ${GATEWAYS[name].share}`);
    found[name] = share;
  }
  return found;
}

async function sample({ name, child, port }, { connections, rate }, load, seconds = options.seconds) {
  const argv = [load, "load", "--target", `127.0.0.1:${port}`, "--path", "/109", "--header", "X-Tenant: acme"];
  argv.push("--connections", String(connections), "--seconds", seconds, "--warmup", options.warmup);
  argv.push("--pid", String(child.pid), ...(rate ? ["--rate", options.rate] : []));
  const result = await runJson(CORES.load, argv);
  const bad = result.failed + Object.values(result.statuses).reduce((sum, count) => sum + count, 0);
  if (bad > 0 || result.ok === 0)
    throw new Error(`${name}: ${bad} bad answers: ${JSON.stringify(result)} ${child.errors}`);
  return result;
}

function report(one, rounds, busy, entered) {
  say(
    `\n${one.name}${one.rate ? ` of ${options.rate}/s` : ""} (load average ${busy.map((load) => load.toFixed(1)).join(" to ")})`,
  );
  const cpu = (sample) => sample.gateway_cpu_us;
  const gateways = {};
  for (const name of Object.keys(GATEWAYS)) {
    const of = (pick) => summary(rounds.map((round) => pick(round[name])));
    const figures = {
      cpu_us: of(cpu),
      rps: of(({ rps }) => rps),
      p50_us: of(({ latency_us }) => latency_us.p50),
      p99_us: of(({ latency_us }) => latency_us.p99),
    };
    gateways[name] = figures;
    say(
      `  ${name.padEnd(14)} ${spread(figures.cpu_us, 1)} µs CPU  ${figures.rps.median.toFixed(0).padStart(6)} /s` +
        `  p50 ${figures.p50_us.median.toFixed(0).padStart(6)} µs  p99 ${figures.p99_us.median.toFixed(0).padStart(6)} µs` +
        (name in entered ? `  in JavaScript ${(entered[name] * 100).toFixed(1).padStart(5)} %` : ""),
    );
  }
  const added = {};
  for (const [name, target] of Object.entries(ADDED)) {
    added[name] = summary(rounds.map((round) => cpu(round[name]) - cpu(round.titan)));
    const limit = one.targets && target !== undefined ? verdict("≤", target, added[name].median <= target) : "";
    say(`  ${name} − titan: ${spread(added[name], 1)} µs${limit}`);
  }
  const times = {};
  for (const [slow, fast, target] of TIMES) {
    const ratio = ratios(rounds, [slow, fast], cpu);
    times[`${slow}/${fast}`] = ratio;
    const limit = one.targets && target !== undefined ? verdict("≥", target, ratio.median >= target) : "";
    say(`  ${slow} / ${fast}: × ${spread(ratio, 2)}${limit}`);
  }
  return {
    ...one,
    load_average: busy,
    gateways,
    entered_javascript: entered,
    added_us: added,
    cpu_ratios: times,
    rounds,
  };
}

function spread({ median, min, max }, digits) {
  return `${median.toFixed(digits).padStart(6)} (${min.toFixed(digits)}–${max.toFixed(digits)})`;
}

function verdict(sign, target, met) {
  return `  target ${sign} ${target}: ${met ? "met" : "MISSED"}`;
}

function say(text) {
  process.stdout.write(`${text}\n`);
}

for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => stopAll().then(() => process.exit(130)));
main().catch((error) => {
  process.stderr.write(`bench: ${error.message}\n`);
  process.exitCode = 1;
});
