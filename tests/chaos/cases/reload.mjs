// Configurations that change, and configurations that are wrong.
import { end, gateway } from "../gateways.mjs";
import { load, origin, sleep, stop } from "../world.mjs";

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
