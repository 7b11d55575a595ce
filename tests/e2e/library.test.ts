/** Titan as a library, inside a program that has other things to do. */
import { execFile } from "node:child_process";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createGateway, type Gateway, TitanError } from "../../src/index.ts";
import { type Backend, startBackend } from "../helpers/backend.ts";

let one: Backend;
let two: Backend;

beforeAll(async () => {
  one = await startBackend({ name: "one" });
  two = await startBackend({ name: "two" });
});
afterAll(() => Promise.all([one.close(), two.close()]));

const to = (backend: Backend) => ({
  server: { host: "127.0.0.1", port: 0, workers: 1 },
  logging: { log_requests: false },
  upstreams: [{ name: "up", backends: [{ host: "127.0.0.1", port: backend.port }] }],
  routes: [{ name: "all", path: "/*", upstream: "up" }],
});

async function who(gateway: Gateway): Promise<string> {
  const answer = await fetch(`${gateway.address()?.url}/x`);
  return ((await answer.json()) as { backend: string }).backend;
}

test("start, ask, reload, close; events tell what happens", async () => {
  const gateway = createGateway(to(one));
  const events: string[] = [];
  gateway.on("listening", ([first]) => events.push(`listening ${first?.protocol}`));
  gateway.on("reload", (generation) => events.push(`reload ${generation}`));
  gateway.on("draining", () => events.push("draining"));
  gateway.on("close", () => events.push("close"));
  expect(gateway.state).toBe("new");
  expect(await gateway.start()).toBe(gateway);
  expect(gateway.address()).toMatchObject({ name: "http", address: "127.0.0.1", port: expect.any(Number) });
  expect(await who(gateway)).toBe("one");
  expect(gateway.routes()).toEqual([expect.objectContaining({ name: "all", path: "/*", to: "up" })]);
  expect(gateway.status().upstreams[0]?.backends[0]).toMatchObject({ status: "up" });
  expect(gateway.explain({ method: "GET", host: "h", target: "/a/../b" })).toMatchObject({ path: "/b" });
  expect((await gateway.metrics()).body).toContain('titan_requests_total{route="all",method="GET",status="200"} 1');
  expect(await gateway.reload(to(two))).toBe(2);
  expect(await who(gateway)).toBe("two");
  await gateway.close();
  expect(gateway.state).toBe("closed");
  expect(events).toEqual(["listening http", "reload 2", "draining", "close"]);
});

test("await using closes it", async () => {
  let port = 0;
  {
    await using gateway = createGateway(to(one));
    await gateway.start();
    port = gateway.address()?.port ?? 0;
    expect(await who(gateway)).toBe("one");
  }
  await expect(fetch(`http://127.0.0.1:${port}/`)).rejects.toThrow();
});

test("a bad configuration rejects with every problem and leaves nothing behind", async () => {
  const bad = {
    ...to(one),
    routes: [
      { path: "/x", upstream: "nope" },
      { path: "no-slash", upstream: "up" },
    ],
  };
  const gateway = createGateway(bad);
  const error = await gateway.start().catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(TitanError);
  expect(error).toMatchObject({ code: "TITAN_CONFIG_INVALID" });
  expect((error as TitanError).issues.map(({ path }) => path)).toEqual(
    expect.arrayContaining([expect.stringContaining("routes[0]"), expect.stringContaining("routes[1]")]),
  );
  expect(gateway.state).toBe("closed");
});

test("a refused reload changes nothing and is an event too", async () => {
  await using gateway = await createGateway(to(one)).start();
  const refused: TitanError[] = [];
  gateway.on("reloadRefused", (error) => refused.push(error));
  await expect(gateway.reload({ routes: [{ path: "/", upstream: "nope" }] })).rejects.toMatchObject({
    code: "TITAN_CONFIG_INVALID",
  });
  expect(refused).toHaveLength(1);
  expect(await who(gateway)).toBe("one");
  await Promise.all([gateway.reload(to(two)), gateway.reload(to(one)), gateway.reload(to(two))]);
  expect(gateway.status().generation, "reloads queue").toBe(4);
  expect(await who(gateway)).toBe("two");
});

test("misuse has its own code", async () => {
  const gateway = createGateway(to(one));
  expect(() => gateway.addresses()).toThrow(expect.objectContaining({ code: "TITAN_STATE" }));
  await gateway.start();
  await expect(gateway.start()).rejects.toMatchObject({ code: "TITAN_STATE" });
  await Promise.all([gateway.close(), gateway.close()]);
  await expect(gateway.reload()).rejects.toMatchObject({ code: "TITAN_STATE" });
  await gateway.close();
});

test("a busy port names the port", async () => {
  const holder = createServer();
  await new Promise<void>((done) => holder.listen(0, "127.0.0.1", done));
  const { port } = holder.address() as AddressInfo;
  const config = { ...to(one), server: { host: "127.0.0.1", port, workers: 1 } };
  await expect(createGateway(config).start()).rejects.toMatchObject({
    code: "TITAN_LISTEN",
    message: expect.stringContaining(String(port)),
  });
  holder.close();
});

test("two gateways live side by side; JavaScript that is stuck does not stop them", async () => {
  await using first = await createGateway(to(one)).start();
  await using second = await createGateway(to(two)).start();
  expect(await Promise.all([who(first), who(second)])).toEqual(["one", "two"]);
  const health = `${first.address()?.url}/_health`;
  const outside = promisify(execFile)("curl", ["-s", "-w", "%{time_total}", "--max-time", "5", health]);
  const until = Date.now() + 1500;
  while (Date.now() < until);
  const [, seconds] = /\}(.*)$/.exec((await outside).stdout) ?? [];
  expect(Number(seconds)).toBeLessThan(0.5);
});

describe("a process", () => {
  const run = (body: string) =>
    promisify(execFile)(process.execPath, ["--input-type=module", "--expose-gc", "-e", body], { timeout: 60_000 });
  const index = new URL("../../dist/index.js", import.meta.url).href;

  test("ends by itself after close()", async () => {
    const { stdout } = await run(`
      import { createGateway } from ${JSON.stringify(index)};
      const gateway = await createGateway(${JSON.stringify(to(one))}).start();
      await fetch(gateway.address().url).then((answer) => answer.text());
      await gateway.close();
      process.on("exit", () => console.log("ended", process.getActiveResourcesInfo().join()));
    `);
    expect(stdout).toMatch(/^ended/);
  });

  test("stays alive while a gateway serves, even if its reference was dropped", async () => {
    const { stdout } = await run(`
      import { createGateway } from ${JSON.stringify(index)};
      const url = (await createGateway(${JSON.stringify(to(one))}).start()).address().url;
      for (let i = 0; i < 5; i++) { gc(); await new Promise((r) => setTimeout(r, 20)); }
      const answer = await fetch(url);
      console.log(answer.status);
      process.exit(0);
    `);
    expect(stdout).toBe("200\n");
  });

  test("creates and closes 30 gateways without growing", { timeout: 90_000 }, async () => {
    const { stdout } = await run(`
      import { createGateway } from ${JSON.stringify(index)};
      import { readdirSync } from "node:fs";
      const once = async () => {
        const gateway = await createGateway(${JSON.stringify(to(one))}).start();
        await gateway.reload();
        await gateway.close();
      };
      for (let i = 0; i < 5; i++) await once();
      gc();
      const measure = () => [process.memoryUsage().rss / 2 ** 20, readdirSync("/proc/self/fd").length, readdirSync("/proc/self/task").length];
      const before = measure();
      for (let i = 0; i < 25; i++) await once();
      gc();
      await new Promise((r) => setTimeout(r, 200));
      console.log(JSON.stringify([before, measure()]));
    `);
    const [before, after] = JSON.parse(stdout);
    expect(after[0] - before[0], "MiB").toBeLessThan(16);
    expect(after[1], "descriptors").toBeLessThanOrEqual(before[1] + 2);
    expect(after[2], "threads").toBeLessThanOrEqual(before[2] + 2);
  });

  test("forgets a gateway that was closed, with the hooks of every configuration it had", async () => {
    const { stdout } = await run(`
      import { createGateway } from ${JSON.stringify(index)};
      const references = [];
      const watched = (hook) => {
        references.push(new WeakRef(hook));
        return hook;
      };
      const once = async () => {
        const config = () => ({
          ...${JSON.stringify(to(one))},
          routes: [{ path: "/*", upstream: "up", onRequest: watched((ctx) => ctx.respond(204)) }],
        });
        const gateway = await createGateway(config()).start();
        await gateway.reload(config());
        references.push(new WeakRef(gateway));
        await gateway.close();
      };
      for (let i = 0; i < 3; i++) await once();
      let kept;
      for (let i = 0; i < 50; i++) {
        gc();
        await new Promise((r) => setTimeout(r, 50));
        kept = references.filter((one) => one.deref() !== undefined).length;
        if (kept === 0) break;
      }
      console.log(kept, "of", references.length);
    `);
    expect(stdout).toBe("0 of 9\n");
  });

  test("ends at once by process.exit() with a gateway running", async () => {
    const began = Date.now();
    await run(`
      import { createGateway } from ${JSON.stringify(index)};
      await createGateway(${JSON.stringify(to(one))}).start();
      process.exit(0);
    `);
    expect(Date.now() - began).toBeLessThan(10_000);
  });

  test("a worker thread that is ended takes its gateway with it", async () => {
    const { stdout } = await run(`
      import { Worker } from "node:worker_threads";
      const body = \`
        import { parentPort } from "node:worker_threads";
        import { createGateway } from ${JSON.stringify(index)};
        const gateway = await createGateway(${JSON.stringify(to(one)).replaceAll("\\", "\\\\")}).start();
        parentPort.postMessage(gateway.address().url);
      \`;
      const worker = new Worker(new URL("data:text/javascript," + encodeURIComponent(body)));
      const url = await new Promise((done, failed) => worker.once("message", done).once("error", failed));
      console.log((await fetch(url)).status);
      await worker.terminate();
      await new Promise((r) => setTimeout(r, 300));
      console.log(await fetch(url).then(() => "still there", () => "gone"));
    `);
    expect(stdout).toBe("200\ngone\n");
  });
});
