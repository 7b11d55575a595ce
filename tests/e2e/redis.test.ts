// Requirements 27 and 35, figures 13 and 14: two Titan processes on one real Redis, which is also killed and started again.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createHmac } from "node:crypto";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Backend, startBackend } from "../helpers/backend.ts";
import { freePort, startTitan, type Titan } from "../helpers/titan.ts";

const installed = spawnSync("redis-server", ["--version"]).status === 0;
if (!installed) console.warn("SKIPPED: redis-server is not installed, so nothing was tested against a real Redis");

const SECRET = "a secret of more than thirty-two bytes, of course";
const now = () => Math.floor(Date.now() / 1000);

function token(jti: string): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const input = `${part({ alg: "HS256" })}.${part({ sub: "u", jti, exp: now() + 600 })}`;
  return `${input}.${createHmac("sha256", SECRET).update(input).digest("base64url")}`;
}

describe.skipIf(!installed)("two Titans on one Redis", () => {
  let redisPort: number;
  let redis: ChildProcess;
  let backend: Backend;
  let titans: Titan[] = [];

  async function startRedis(): Promise<void> {
    const args = [
      "--port",
      String(redisPort),
      "--bind",
      "127.0.0.1",
      "--save",
      "",
      "--appendonly",
      "no",
      "--dir",
      "/tmp",
    ];
    redis = spawn("redis-server", args, { stdio: "ignore" });
    for (;;) {
      const up = await new Promise<boolean>((resolve) => {
        const socket = net.connect(redisPort, "127.0.0.1", () => resolve(true)).once("error", () => resolve(false));
        socket.unref();
      });
      if (up) return;
      await sleep(20);
    }
  }

  async function stopRedis(): Promise<void> {
    const gone = new Promise((resolve) => redis.once("close", resolve));
    redis.kill("SIGKILL");
    await gone;
  }

  const ask = async (titan: Titan, path: string, headers: Record<string, string> = {}) =>
    (await fetch(`http://127.0.0.1:${titan.port}${path}`, { headers })).status;

  beforeAll(async () => {
    redisPort = await freePort();
    await startRedis();
    backend = await startBackend();
    const shared = (more: object) => ({ backend: "redis", key: "global", ...more });
    const config = {
      redis: { url: `redis://127.0.0.1:${redisPort}`, timeout: "500ms" },
      upstreams: [{ name: "api", backends: [`127.0.0.1:${backend.port}`] }],
      jwt: { keys: [{ algorithm: "HS256", secret: { value: SECRET, encoding: "utf8" } }] },
      rate_limits: {
        flow: shared({ requests_per_second: 50, burst: 25 }),
        open: shared({
          requests: 1,
          window: "1h",
          burst: 1,
          redis: { url: `redis://127.0.0.1:${redisPort}`, fail_mode: "open" },
        }),
        closed: shared({
          requests: 5,
          window: "1h",
          burst: 5,
          redis: { url: `redis://127.0.0.1:${redisPort}`, fail_mode: "closed" },
        }),
      },
      routes: [
        { path: "/flow", upstream: "api", middleware: ["flow"], auth: ["none"] },
        { path: "/open", upstream: "api", middleware: ["open"], auth: ["none"] },
        { path: "/closed", upstream: "api", middleware: ["closed"], auth: ["none"] },
        { path: "/me", upstream: "api", auth: ["jwt"] },
      ],
    };
    titans = [await startTitan({ config }), await startTitan({ config })];
  });

  afterAll(async () => {
    for (const titan of titans) await titan.stop();
    await backend?.close();
    redis?.kill("SIGKILL");
  });

  test("figure 14: they admit together what one limit says, within 5 %", async () => {
    // A bucket that stands full while connections are made and code is compiled admits less: that is no matter of the limit.
    for (const titan of titans) for (let i = 0; i < 50; i++) await ask(titan, "/me");
    const begin = performance.now();
    const elapsed = () => (performance.now() - begin) / 1000;
    const load = async (titan: Titan) => {
      let admitted = 0;
      while (elapsed() < 4) {
        const status = await ask(titan, "/flow");
        if (status === 200) admitted++;
        else expect(status).toBe(429);
      }
      return admitted;
    };
    const counts = await Promise.all(titans.flatMap((titan) => [load(titan), load(titan)]));
    const total = counts.reduce((sum, count) => sum + count, 0);
    expect(total).toBeLessThanOrEqual((25 + 50 * elapsed()) * 1.05);
    expect(total).toBeGreaterThanOrEqual((25 + 50 * 4) * 0.95);
  });

  test("requirement 35: a revocation told to one holds on the other", async () => {
    const bearer = { authorization: `Bearer ${token("t1")}` };
    const [one, other] = titans as [Titan, Titan];
    expect([await ask(one, "/me", bearer), await ask(other, "/me", bearer)]).toEqual([200, 200]);
    const told = await fetch(`http://127.0.0.1:${one.adminPort}/_admin/jwt/revoke`, {
      method: "POST",
      headers: { "x-titan-admin": "1" },
      body: JSON.stringify({ jti: "t1", exp: now() + 600 }),
    });
    expect(told.status).toBe(200);
    expect(await ask(one, "/me", bearer), "at once").toBe(401);
    const deadline = performance.now() + 5000;
    while ((await ask(other, "/me", bearer)) !== 401) {
      expect(performance.now()).toBeLessThan(deadline);
      await sleep(50);
    }
    expect(await ask(other, "/me", { authorization: `Bearer ${token("t2")}` })).toBe(200);
  });

  test("figure 13: while Redis is away each limit does what it says, and counting goes on when it is back", async () => {
    const [titan] = titans as [Titan];
    expect([await ask(titan, "/open"), await ask(titan, "/open"), await ask(titan, "/closed")]).toEqual([
      200, 429, 200,
    ]);
    await stopRedis();
    await sleep(200);
    expect(await ask(titan, "/open")).toBe(200);
    const begin = performance.now();
    for (let i = 0; i < 20; i++) expect(await ask(titan, "/closed")).toBe(503);
    expect(performance.now() - begin, "nobody waits for what is known to be away").toBeLessThan(2000);
    expect(await ask(titan, "/flow"), "local by default").toBe(200);
    await startRedis();
    const back = performance.now();
    while ((await ask(titan, "/closed")) === 503) {
      expect(performance.now() - back).toBeLessThan(2500);
      await sleep(20);
    }
  });
});
