// Configurations that change, and configurations that are wrong.
import { end, gateway } from "../gateways.mjs";
import { openStreams } from "../streams.mjs";
import { children, freePort, get, load, origin, sleep, stop, streamOrigin, until } from "../world.mjs";

/** Figure 1: a hundred reloads under keep-alive load. */
export const reloads = {
  name: "100 reloads under load",
  wants: "0 failed",
  kinds: ["titan", "nginx", "haproxy"],
  async run(kind, { rate }) {
    const backends = [await origin("a"), await origin("b")];
    const it = await gateway(kind, backends);
    const client = load(it.port, { rate, connections: 32 });
    await sleep(500);
    for (let i = 0; i < 100; i++) {
      await it.reload();
      await sleep(50);
    }
    await sleep(500);
    const result = await client.end();
    await Promise.all([end(it), ...backends.map(({ child }) => stop(child))]);
    return { figure: failures(result), good: result.failed === 0, p99: result.p99 };
  },
};

/** Figure 1, with streams: WebSockets, server-sent events and gRPC calls that are open all the time. */
export const streams = {
  name: "100 reloads under open WebSocket, SSE and gRPC streams",
  wants: "0 broken, no old configuration or process left",
  kinds: ["titan", "nginx", "haproxy"],
  async run(kind, { reloads = 100, each = 4 } = {}) {
    const backend = await streamOrigin();
    const h2port = await freePort();
    const it = await gateway(kind, [backend], { streams: { h2: backend.h2, h2port } });
    const client = await openStreams(it.port, h2port, each);
    const before = await children(it.child.pid);
    for (let i = 0; i < reloads; i++) {
      await it.reload();
      await sleep(50);
    }
    const held = kind === "titan" ? await snapshots(it) : (await children(it.child.pid)) - before;
    const broken = await client.end();
    await Promise.all([end(it), stop(backend.child)]);
    const why = Object.entries(broken).map(([what, times]) => `${what} ${times}`);
    const count = Object.values(broken).reduce((sum, times) => sum + times, 0);
    const left = kind === "titan" ? "configurations" : "processes";
    return {
      figure: `${count} of ${client.count} broken${count > 0 ? ` (${why.join(", ")})` : ""}; ${held} old ${left} left`,
      good: count === 0 && held === 0,
    };
  },
};

/** Configurations in memory beside the one that is served. A shard hands what it drops to another thread. */
async function snapshots(it) {
  let old = Number.NaN;
  await until(
    "no old configuration is left",
    async () => {
      const { body = "" } = await get(it.port, "/_metrics");
      old = Number(/^titan_config_snapshots (\d+)$/m.exec(body)?.[1]) - 1;
      return old === 0;
    },
    5000,
  ).catch(() => undefined);
  return old;
}

/** Figure 2: twenty configurations that are wrong. */
export const refusals = {
  name: "20 invalid configurations under load",
  wants: "0 failed, the old one serves",
  kinds: ["titan", "nginx", "haproxy"],
  async run(kind, { rate }) {
    const backend = await origin("a");
    const it = await gateway(kind, [backend]);
    const client = load(it.port, { rate, connections: 32 });
    await sleep(300);
    for (let i = 0; i < 20; i++) {
      await it.breakAndReload();
      await sleep(50);
    }
    const result = await client.end();
    await Promise.all([end(it), stop(backend.child)]);
    return { figure: failures(result), good: result.failed === 0, p99: result.p99 };
  },
};

/** `12 of 3400 failed (closed 12)` */
export function failures({ requests, failed, failures: why }) {
  const reasons = Object.entries(why).map(([reason, times]) => `${reason} ${times}`);
  return `${failed} of ${requests} failed${failed > 0 ? ` (${reasons.join(", ")})` : ""}`;
}
