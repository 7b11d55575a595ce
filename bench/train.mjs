#!/usr/bin/env node
// Puts a Titan whose addon counts (`.ci/profile-guided.mjs`) through what gateways do all day, so that the compiler learns which way is the
// usual one: each variant is started, loaded and stopped in order, which is when the counts are written. Figures mean nothing here.
//
//   node bench/train.mjs LOAD     LOAD = the load generator, target/release/titan-load
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { certificate, identity, startGateway } from "./gateways.mjs";
import { h2load } from "./h2load.mjs";
import { CORES, firstJson, runJson, start, stop, stopAll } from "./processes.mjs";

/** Requests by the load generator: path, connections, more arguments, for so many seconds. */
const own = (target, connections, ...more) => ({ target, connections, more });
const TLS = ["--tls", "bench.test"];
/** The other half of the work: HTTP/2 with many streams. */
const streams = (path, more = {}) => ({ path, connections: 16, streams: 10, name: "training", ...more });

const WORK = {
  titan: {
    own: [
      own("/109", 64),
      own("/109", 512),
      own("/109", 1),
      own("/16k", 64),
      own("/256k", 16),
      own("/4m", 4),
      own("/109", 64, ...TLS),
      own("/16k", 64, ...TLS),
      own("/256k", 16, ...TLS),
      own("/109", 64, "--rate", "4000"),
    ],
    h2: [streams("/109"), streams("/109", { tls: true }), streams("/16k")],
  },
  "titan-log": { own: [own("/109", 64)] },
  "titan-10k": { own: [own("/109", 64)] },
  "titan-policy": {
    own: [own("/109", 64, "--header", "Origin: https://app.bench.test", "--header", "{authorization}")],
  },
  "titan-gzip-1": { own: [own("/json", 16, "--header", "Accept-Encoding: gzip")] },
  "titan-ws": { own: [own("/ws", 64, "--websocket", "64")] },
  "titan-grpc": { h2: [streams("/grpc/Echo", { grpc: 64 })] },
};

const load = process.argv[2];
const dir = mkdtempSync(path.join(os.tmpdir(), "titan-train-"));
try {
  const context = { dir, form: "cli", ...certificate(dir), ...identity(dir) };
  context.origin = (await firstJson(start(CORES.load, [load, "origin", "--listen", "127.0.0.1:0"]))).port;
  context.grpcOrigin = (await firstJson(start(CORES.load, [load, "grpc-origin", "--listen", "127.0.0.1:0"]))).port;
  for (const [variant, work] of Object.entries(WORK)) {
    const gateway = await startGateway(variant, context);
    for (const { target, connections, more } of work.own ?? []) {
      const port = more.includes("--tls") ? gateway.ports.https : gateway.ports.http;
      const argv = [load, "load", "--target", `127.0.0.1:${port}`, "--path", gateway.prefix + target];
      argv.push("--connections", String(connections), "--seconds", "1.5", "--warmup", "0.1");
      argv.push(...more.map((word) => word.replace("{authorization}", `Authorization: Bearer ${context.token}`)));
      const result = await runJson(CORES.load, argv);
      const bad = result.failed + Object.values(result.statuses).reduce((sum, count) => sum + count, 0);
      if (bad > 0 || result.ok === 0) throw new Error(`${variant} ${target}: ${JSON.stringify(result)}`);
    }
    for (const one of work.h2 ?? []) await h2load(gateway, one, load, 20_000);
    // Long enough for counts of some megabytes to be written.
    await stop(gateway.child, 20_000);
    process.stderr.write(`titan: trained ${variant}\n`);
  }
} finally {
  await stopAll();
  rmSync(dir, { recursive: true, force: true });
}
