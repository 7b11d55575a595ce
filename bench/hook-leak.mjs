#!/usr/bin/env node
// `npm run bench:leak`: heap, resident memory, threads and descriptors over many hooked requests, gateways and reloads.
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { CORES, firstJson, runJson, start, stopAll } from "./processes.mjs";

const ROOT = path.resolve(import.meta.dirname, "..");
const LIBRARY = path.join(ROOT, "dist/index.js");
const { values: options } = parseArgs({
  options: {
    requests: { type: "string", default: "1000000" },
    times: { type: "string", default: "100" },
    limit: { type: "string", default: "600" },
  },
});
const { createGateway, defineHook } = await import(LIBRARY);

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");

/** What is kept, after garbage was collected and threads had time to end. */
async function state() {
  for (let i = 0; i < 3; i++) {
    await sleep(100);
    collect();
  }
  const { heapUsed, external, rss } = process.memoryUsage();
  const count = (folder) => readdirSync(`/proc/self/${folder}`).length;
  return { heap: heapUsed, external, rss, threads: count("task"), descriptors: count("fd") };
}

function line(title, now, first) {
  const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  const grown = first
    ? `  since the first line: heap ${mib(now.heap - first.heap)}, RSS ${mib(now.rss - first.rss)}`
    : "";
  say(
    `  ${title.padEnd(28)} heap ${mib(now.heap)}  external ${mib(now.external)}  RSS ${mib(now.rss)}` +
      `  ${now.threads} threads  ${now.descriptors} descriptors${grown}`,
  );
}

function say(text) {
  process.stdout.write(`${text}\n`);
}

/** One of each kind of call: answered at once, awaited, with the answer's head, with a body read, answering, failing. */
function configuration(port) {
  const reads = { headers: ["x-tenant"] };
  const mark = (ctx) => ctx.request.headers.set("x-marked", `${ctx.request.headers.get("x-tenant")}-1`);
  return {
    server: { host: "127.0.0.1", port: 0, workers: 1 },
    upstreams: [{ name: "origin", pool_size: 128, backends: [{ host: "127.0.0.1", port }] }],
    hooks: {
      sync: defineHook({ reads, onRequest: mark }),
      async: defineHook({
        reads,
        onRequest: async (ctx) => {
          await null;
          mark(ctx);
        },
        onResponse: (ctx) => ctx.response.headers.set("x-seen", "1"),
        onLog() {},
      }),
      answer: defineHook({ reads: {}, onRequest: (ctx) => ctx.json({ hello: "world" }) }),
      failing: defineHook({
        reads: {},
        fail: "open",
        onRequest() {
          throw new Error("on purpose");
        },
      }),
    },
    routes: ["async", "answer", "failing", "sync"].map((name) => ({
      path: name === "sync" ? "/*" : `/${name}`,
      upstream: "origin",
      ...(name !== "sync" && name !== "answer" && { rewrite_path: "/109" }),
      middleware: [name],
    })),
    logging: { log_requests: false },
  };
}

/** Requests in turns of a second for each kind. */
async function requests(load, port) {
  say(`${options.requests} hooked requests, 64 connections (load average ${os.loadavg()[0].toFixed(1)})`);
  const gateway = await createGateway(configuration(port)).start();
  const began = performance.now();
  let done = 0;
  let first;
  let next = 0;
  const step = Number(options.requests) / 5;
  while (done < Number(options.requests) && performance.now() - began < Number(options.limit) * 1000) {
    for (const target of ["/109", "/async", "/answer", "/failing"]) {
      const argv = [load, "load", "--target", `127.0.0.1:${gateway.address().port}`, "--path", target];
      argv.push("--seconds", target === "/failing" ? "0.3" : "2", "--warmup", "0", "--header", "X-Tenant: acme");
      const { ok, failed } = await runJson(CORES.load, argv);
      if (failed > 0 || ok === 0) throw new Error(`${target}: ${failed} of ${ok + failed} requests failed`);
      done += ok;
    }
    if (done >= next) {
      const now = await state();
      line(`after ${done} requests`, now, first);
      first ??= now;
      next = Math.max(next, done) + step;
    }
  }
  line(`after ${done} requests`, await state(), first);
  await gateway.close();
}

async function gateways(port) {
  say(`${options.times} gateways made, asked once and closed (load average ${os.loadavg()[0].toFixed(1)})`);
  await repeat(async () => {
    const gateway = await createGateway(configuration(port)).start();
    await ask(gateway);
    await gateway.close();
  });
}

/** Reloads of an object (hooks in this thread), or of a file (hooks in a worker thread, a new one each time). */
async function reloads(port, dir) {
  say(`${options.times} reloads, hooks in the program's thread (load average ${os.loadavg()[0].toFixed(1)})`);
  const inline = await createGateway(configuration(port)).start();
  await repeat(async () => {
    await inline.reload(configuration(port));
    await ask(inline);
  });
  await inline.close();

  say(`${options.times} reloads, hooks in a worker thread (load average ${os.loadavg()[0].toFixed(1)})`);
  const file = path.join(dir, "titan.config.mjs");
  writeFileSync(
    file,
    `import { defineConfig, defineHook } from ${JSON.stringify(path.join(ROOT, "dist/define.js"))};
export default defineConfig({
  server: { host: "127.0.0.1", port: 0, workers: 1 },
  upstreams: [{ name: "origin", backends: [{ host: "127.0.0.1", port: ${port} }] }],
  hooks: { mark: defineHook({ reads: {}, onRequest: (ctx) => ctx.request.headers.set("x-marked", "1") }) },
  routes: [{ path: "/*", upstream: "origin", middleware: ["mark"] }],
  logging: { log_requests: false },
});
`,
  );
  const threaded = await createGateway({ file }, { hookWorkers: 1 }).start();
  await repeat(async () => {
    await threaded.reload();
    await ask(threaded);
  });
  await threaded.close();
}

/** Not with `fetch`: it keeps a pool for every origin it has met, and each gateway is one. */
function ask(gateway) {
  const { address, port } = gateway.address();
  return new Promise((answered, refused) => {
    http
      .get({ host: address, port, path: "/109", agent: false, headers: { "x-tenant": "acme" } }, (response) => {
        response.resume();
        response.on("end", () =>
          response.statusCode === 200 ? answered() : refused(new Error(`status ${response.statusCode}`)),
        );
      })
      .on("error", refused);
  });
}

/** A tenth goes first, so that what is kept once is not taken for a leak. */
async function repeat(what) {
  const times = Number(options.times);
  for (let i = 0; i < Math.ceil(times / 10); i++) await what();
  const first = await state();
  line(`after ${Math.ceil(times / 10)}`, first);
  for (let i = 0; i < times / 2; i++) await what();
  line(`${times / 2} later`, await state(), first);
  for (let i = 0; i < times / 2; i++) await what();
  line(`${times} later`, await state(), first);
}

const load = path.join(ROOT, "target/release/titan-load");
if (!existsSync(load)) throw new Error("cargo build --release -p titan-load first");
const dir = mkdtempSync(path.join(os.tmpdir(), "titan-leak-"));
try {
  const origin = start(CORES.load, [load, "origin", "--listen", "127.0.0.1:0"]);
  const { port } = await firstJson(origin);
  if (Number(options.requests) > 0) await requests(load, port);
  if (Number(options.times) > 0) {
    await gateways(port);
    await reloads(port, dir);
  }
} finally {
  await stopAll();
  rmSync(dir, { recursive: true, force: true });
}
