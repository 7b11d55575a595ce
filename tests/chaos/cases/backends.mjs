// Backends that die, stop, fail and move.
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { end, gateway } from "../gateways.mjs";
import { directory, get, load, origin, sleep, stop, until } from "../world.mjs";
import { failures } from "./reload.mjs";

async function three(options = {}) {
  return Promise.all(
    ["a", "b", "c"].map((name) => origin(name, { ...options, ...(options.log && { log: `${options.log}-${name}` }) })),
  );
}

/** Figure 5: one of three is killed; GETs must not notice, a POST must not arrive twice. */
export const killed = {
  name: "kill -9 of one backend of three",
  wants: "0 GETs failed, no POST twice",
  kinds: ["titan", "nginx", "haproxy"],
  async run(kind, { rate }) {
    const log = path.join(directory, `ids-${kind}`);
    const backends = await three({ log });
    const it = await gateway(kind, backends, { health: true });
    const gets = load(it.port, { rate, connections: 32 });
    const posts = load(it.port, { rate: Math.min(200, rate / 4), connections: 8, method: "POST" });
    await sleep(1000);
    backends[0].child.kill("SIGKILL");
    await sleep(3000);
    await backends[0].live();
    await sleep(2000);
    const [get, post] = await Promise.all([gets.end(), posts.end()]);
    await Promise.all([end(it), ...backends.map(({ child }) => stop(child))]);
    const ids = ["a", "b", "c"]
      .map((name) => `${log}-${name}`)
      .filter(existsSync)
      .flatMap((file) => readFileSync(file, "utf8").trim().split("\n"));
    const twice = ids.length - new Set(ids).size;
    return {
      figure: `GET ${failures(get)}; POST ${post.failed} of ${post.requests} failed, ${twice} twice`,
      good: get.failed === 0 && twice === 0,
      p99: get.p99,
    };
  },
};

/** Figure 6: one of three stops answering (its connections stay open, its port accepts). */
export const stopped = {
  name: "SIGSTOP of one backend of three",
  wants: "errors ≤ in flight, out within 2 intervals",
  kinds: ["titan", "nginx", "haproxy"],
  async run(kind, { rate }) {
    const backends = await three();
    const it = await gateway(kind, backends, { health: true, timeout: 1000 });
    const client = load(it.port, { rate, connections: 64 });
    await sleep(1000);
    backends[0].child.kill("SIGSTOP");
    await sleep(5000);
    backends[0].child.kill("SIGCONT");
    const back = await until("the backend is used again", async () => (await get(it.port)).body === "a", 15_000).catch(
      () => undefined,
    );
    const result = await client.end();
    await Promise.all([end(it), ...backends.map(({ child }) => stop(child))]);
    return {
      figure: `${failures(result)}; back after ${back === undefined ? "more than 15" : (back / 1000).toFixed(1)} s`,
      good: result.failed <= 64,
      p99: result.p99,
    };
  },
};

/** Figure 7: everything is down for ten seconds. */
export const allDown = {
  name: "all backends down for 10 s",
  wants: "503 within 50 ms, back ≤ 2 s",
  kinds: ["titan", "nginx", "haproxy"],
  async run(kind) {
    const backends = [await origin("a"), await origin("b")];
    const breaker = { failure_threshold: 3, success_threshold: 1, timeout_ms: 1000 };
    const it = await gateway(kind, backends, { health: true, breaker });
    for (let i = 0; i < 10; i++) await get(it.port);
    for (const { child } of backends) child.kill("SIGKILL");
    await sleep(2000);
    const times = [];
    const statuses = new Set();
    const down = performance.now();
    while (performance.now() - down < 8000) {
      const answer = await get(it.port);
      times.push(answer.ms);
      statuses.add(answer.status ?? answer.error);
      await sleep(50);
    }
    await Promise.all(backends.map((backend) => backend.live()));
    const back = await until("traffic is back", async () => (await get(it.port)).status === 200);
    await Promise.all([end(it), ...backends.map(({ child }) => stop(child))]);
    times.sort((a, b) => a - b);
    const p99 = times[Math.floor(times.length * 0.99)];
    return {
      figure: `${[...statuses].join("/")} in ${p99.toFixed(0)} ms (p99); back after ${(back / 1000).toFixed(1)} s`,
      good: statuses.size === 1 && statuses.has(503) && p99 <= 50 && back <= 2000,
      p99,
    };
  },
};

/** Figure 8: half of all answers fail and failures are tried again. */
export const halfFailing = {
  name: "an origin that fails every second request, retries on",
  wants: "≤ 1.2 × requests",
  kinds: ["titan", "nginx", "haproxy"],
  async run(kind, { rate }) {
    const backends = [await origin("a", { fail: 0.5 }), await origin("b", { fail: 0.5 })];
    const it = await gateway(kind, backends, { statuses: [503] });
    const client = load(it.port, { rate, connections: 32 });
    await sleep(12_000);
    const result = await client.end();
    const sent = await Promise.all(
      backends.map(async ({ port }) => Number((await get(port, "/count")).body.replace(/^[^0-9]*/, "").split(/\s/)[0])),
    );
    await Promise.all([end(it), ...backends.map(({ child }) => stop(child))]);
    const factor = (sent[0] + sent[1]) / result.requests;
    return { figure: `${factor.toFixed(2)} × requests`, good: factor <= 1.22, p99: result.p99 };
  },
};
