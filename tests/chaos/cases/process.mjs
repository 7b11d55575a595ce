// The gateway's own process: ending, running out of descriptors, a stuck event loop, DNS that fails.
import dgram from "node:dgram";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import { end, gateway } from "../gateways.mjs";
import { cpu, directory, freePort, get, load, origin, sleep, start, stop, until } from "../world.mjs";
import { failures } from "./reload.mjs";

/** Figure 4: a graceful end while fifty requests are under way. */
export const drained = {
  name: "graceful end with 50 requests in flight",
  wants: "50 answered, exit ≤ 1 s after the last",
  kinds: ["titan", "nginx", "haproxy"],
  async run(kind) {
    const backend = await origin("a");
    const it = await gateway(kind, [backend]);
    const began = performance.now();
    const slow = Array.from({ length: 50 }, () => get(it.port, "/slow", 10_000));
    await sleep(500);
    it.child.kill(it.graceful);
    const answers = await Promise.all(slow);
    const answered = answers.filter(({ status }) => status === 200).length;
    const last = performance.now() - began;
    const code = await Promise.race([it.child.ended, sleep(15_000)]);
    const exit = performance.now() - began - last;
    await Promise.all([end(it), stop(backend.child)]);
    return {
      figure: `${answered} of 50 answered; exit ${code ?? "never"} after ${(exit / 1000).toFixed(1)} s`,
      good: answered === 50 && code === 0 && exit <= 1000,
    };
  },
};

/** Figure 3: five times to another process, with the sockets. */
export const handovers = {
  name: "5 handovers to another process under load",
  wants: "0 failed",
  kinds: ["titan"],
  async run(kind, { rate }) {
    const backend = await origin("a");
    const it = await gateway(kind, [backend]);
    const serving = () =>
      [...it.child.output.matchAll(/"pid":(\d+)[^\n]*"msg":"Titan serves/g)].map(([, pid]) => Number(pid));
    const lives = (pid) => existsSync(`/proc/${pid}/stat`) && !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
    await until("it says where it serves", () => serving().length === 1);
    const client = load(it.port, { rate, connections: 32 });
    for (let count = 1; count <= 5; count++) {
      const before = serving().at(-1);
      await sleep(1000);
      process.kill(before, "SIGUSR2");
      await until("another process serves", () => serving().length === count + 1, 60_000);
      await until("the one before has ended", () => !lives(before), 60_000);
    }
    await sleep(500);
    const result = await client.end();
    // The last one is nobody's child any more.
    const last = serving().at(-1);
    process.kill(last, "SIGTERM");
    await until("the last one has ended", () => !lives(last), 30_000).catch(() => process.kill(last, "SIGKILL"));
    await stop(backend.child);
    return { figure: failures(result), good: result.failed === 0, p99: result.p99 };
  },
};

/** Figure 10: 256 file descriptors and 400 clients. */
export const descriptors = {
  name: "256 file descriptors, 400 connections",
  wants: "no spinning, recovers",
  kinds: ["titan", "nginx", "haproxy"],
  async run(kind) {
    const backend = await origin("a");
    const it = await gateway(kind, [backend], { prefix: ["prlimit", "--nofile=256:256"] });
    const sockets = Array.from({ length: 400 }, () => net.connect({ port: it.port, host: "127.0.0.1" }));
    for (const socket of sockets) socket.on("error", () => {});
    await sleep(1000);
    const before = cpu(it.child.pid);
    await sleep(3000);
    const busy = (cpu(it.child.pid) - before) / 3;
    for (const socket of sockets) socket.destroy();
    const recovered = await until("it serves again", async () => (await get(it.port)).status === 200, 10_000).catch(
      () => undefined,
    );
    await Promise.all([end(it), stop(backend.child)]);
    return {
      figure: `${(busy * 100).toFixed(0)} % CPU; ${recovered === undefined ? "does not recover" : `serves ${(recovered / 1000).toFixed(1)} s after they left`}`,
      good: busy < 0.2 && recovered !== undefined,
    };
  },
};

/** Figure 15: DNS that answers, changes, fails and comes back. */
export const flapping = {
  name: "DNS that changes, fails and recovers",
  wants: "0 failed, last good set kept",
  kinds: ["titan"],
  async run(kind, { rate }) {
    const backend = await origin("a");
    let mode = "good";
    const server = dgram.createSocket("udp4");
    server.on("message", (query, from) => {
      const type = query.readUInt16BE(query.length - (query.readUInt16BE(10) > 0 ? 11 : 0) - 4);
      const end = query.indexOf(0, 12) + 5;
      const answers = mode !== "good" || type !== 1 ? [] : [[127, 0, 0, 1]];
      if (mode === "silent") return;
      const head = Buffer.from([
        query[0],
        query[1],
        0x81,
        mode === "servfail" ? 0x82 : 0x80,
        0,
        1,
        0,
        answers.length,
        0,
        0,
        0,
        0,
      ]);
      const records = answers.map((address) => Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, ...address]));
      server.send(Buffer.concat([head, query.subarray(12, end), ...records]), from.port, from.address);
    });
    await new Promise((resolve) => server.bind(0, "127.0.0.1", resolve));
    const dns = { servers: [`127.0.0.1:${server.address().port}`], min_ttl: 100, timeout: 500 };
    const it = await gateway(kind, [{ ...backend, host: "backend.test" }], { dns });
    const client = load(it.port, { rate, connections: 16 });
    for (const next of ["servfail", "good", "empty", "good", "silent", "good", "servfail", "good"]) {
      mode = next;
      await sleep(1500);
    }
    const result = await client.end();
    server.close();
    await Promise.all([end(it), stop(backend.child)]);
    return { figure: failures(result), good: result.failed === 0, p99: result.p99 };
  },
};

/** Figure 17: JavaScript is stuck for five seconds. */
export const stuck = {
  name: "JavaScript event loop blocked for 5 s",
  wants: "0 failed, same p99",
  kinds: ["titan"],
  async run(_kind, { rate }) {
    const [backend, port] = [await origin("a"), await freePort()];
    const script = path.join(directory, "stuck.mjs");
    const index = path.resolve(import.meta.dirname, "../../../dist/index.js");
    const config = {
      server: { host: "127.0.0.1", port, workers: 1 },
      upstreams: [{ name: "api", backends: [{ host: "127.0.0.1", port: backend.port }] }],
      routes: [{ path: "/*", upstream: "api" }],
    };
    writeFileSync(
      script,
      `import { createGateway } from ${JSON.stringify(index)};
const gateway = createGateway(${JSON.stringify(config)});
await gateway.start();
process.stdin.once("data", () => {
  const end = performance.now() + 5000;
  while (performance.now() < end);
  console.log("free again");
});`,
    );
    const child = start([process.execPath, script]);
    await until("it serves", async () => (await get(port)).status === 200);
    const quiet = load(port, { rate, connections: 16 });
    await sleep(4000);
    const before = await quiet.end();
    const client = load(port, { rate, connections: 16 });
    await sleep(200);
    child.stdin.write("block\n");
    await until("it was blocked", () => child.output.includes("free again"), 15_000);
    const result = await client.end();
    await Promise.all([stop(child), stop(backend.child)]);
    return {
      figure: `${failures(result)}; p99 ${result.p99.toFixed(1)} ms, ${before.p99.toFixed(1)} ms before`,
      good: result.failed === 0,
      p99: result.p99,
    };
  },
};
