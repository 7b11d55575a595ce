/** Traps that earlier gateways of this kind fell into. */
import { createHmac } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import WebSocket, { WebSocketServer } from "ws";
import { type Backend, startBackend } from "../helpers/backend.ts";
import { get } from "../helpers/client.ts";
import { startTitan, type Titan, type TitanOptions } from "../helpers/titan.ts";

let backend: Backend;
let titan: Titan | undefined;

beforeAll(async () => {
  backend = await startBackend({
    answer: (request, response) => {
      if (request.url?.startsWith("/fail")) response.statusCode = 500;
      response.end(request.url);
    },
  });
});
afterEach(async () => {
  await titan?.stop();
  titan = undefined;
});
afterAll(() => backend.close());

const up = (more: object = {}) => [{ name: "up", backends: [{ host: "127.0.0.1", port: backend.port }], ...more }];

async function start(config: TitanOptions["config"]): Promise<number> {
  titan = await startTitan({ config });
  return titan.port;
}

/** Statuses of requests, each on a connection of its own so that every worker gets some. */
async function statuses(port: number, target: string, count: number, headers: Record<string, string> = {}) {
  const list: number[] = [];
  for (let i = 0; i < count; i++) list.push((await get(port, target, headers)).status);
  return list;
}

const count = (list: number[], status: number) => list.filter((one) => one === status).length;

test("a limit is exact for the process, not for each worker", async () => {
  const port = await start({
    server: { workers: 2 },
    upstreams: up(),
    routes: [{ path: "/*", upstream: "up" }],
    rate_limit: { requests_per_second: 0.01, burst: 10 },
  });
  const list = await statuses(port, "/x", 30);
  expect(count(list, 200)).toBe(10);
  expect(count(list, 429)).toBe(20);
  const refused = await get(port, "/x");
  expect(Number(refused.header("retry-after"))).toBeGreaterThan(0);
  expect(refused.header("x-ratelimit-remaining")).toBe("0");
});

test("a circuit breaker counts for the process and opens", async () => {
  const port = await start({
    server: { workers: 2 },
    upstreams: up({
      max_retries: 0,
      circuit_breaker: {
        enabled: true,
        failure_threshold: 5,
        success_threshold: 2,
        timeout_ms: 1000,
        window_ms: 10_000,
      },
    }),
    routes: [{ path: "/*", upstream: "up" }],
  });
  backend.hits = 0;
  const list = await statuses(port, "/fail", 20);
  expect(count(list, 500)).toBe(5);
  expect(count(list, 503)).toBe(15);
  expect(backend.hits).toBe(5);
  await sleep(1200);
  expect(count(await statuses(port, "/fine", 4), 200), "half-open probes close it").toBe(4);
});

test("a reload reaches every worker", async () => {
  const config = (body: string) => ({ routes: [{ path: "/", respond: { status: 200, body } }] });
  const port = await start({ server: { workers: 2 }, ...config("old") });
  const { writeFileSync, readFileSync } = await import("node:fs");
  const file = titan?.file ?? "";
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), ...config("new") }));
  titan?.child.kill("SIGHUP");
  await expect.poll(async () => (await get(port, "/")).body).toBe("new");
  const bodies = new Set<string>();
  for (let i = 0; i < 40; i++) bodies.add((await get(port, "/")).body);
  expect([...bodies]).toEqual(["new"]);
});

test("a WebSocket upgrade meets authentication, limits and Origin like any request", async () => {
  const sockets = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  await new Promise((done) => sockets.once("listening", done));
  const ws = { name: "ws", backends: [{ host: "127.0.0.1", port: (sockets.address() as AddressInfo).port }] };
  const port = await start({
    upstreams: [ws],
    routes: [
      { path: "/guarded", upstream: "ws", websocket: {}, middleware: ["keys"] },
      { path: "/own", upstream: "ws", websocket: { allowed_origins: ["https://good.example"] } },
      { path: "/none", upstream: "ws" },
    ],
    named_middleware: { keys: { type: "apikey", config: { keys: [{ key: "0123456789abcdef", id: "me" }] } } },
  });
  const upgrade = (path: string, headers: Record<string, string>) =>
    new Promise<number>((done) => {
      const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, { headers });
      socket.once("open", () => {
        socket.close();
        done(101);
      });
      socket.once("unexpected-response", (_, response) => {
        response.resume();
        done(response.statusCode ?? 0);
      });
      socket.once("error", () => done(-1));
    });
  expect(await upgrade("/guarded", {})).toBe(401);
  expect(await upgrade("/guarded", { "x-api-key": "wrong-wrong-wrong" })).toBe(401);
  expect(await upgrade("/guarded", { "x-api-key": "0123456789abcdef" })).toBe(101);
  expect(await upgrade("/own", { origin: "https://evil.example" })).toBe(403);
  expect(await upgrade("/own", { origin: "https://good.example" })).toBe(101);
  sockets.close();
});

test("a token in a URL is not in the access log", async () => {
  const port = await start({
    logging: { log_requests: true, format: "json" },
    upstreams: up(),
    routes: [{ path: "/*", upstream: "up" }],
  });
  const answer = await get(port, "/x?token=s3cret-in-url&page=2", { Authorization: "Bearer s3cret-in-head" });
  expect(answer.body, "what goes upstream is whole").toContain("s3cret-in-url");
  await expect.poll(() => titan?.output()).toContain('"page=2'.slice(1));
  expect(titan?.output()).not.toContain("s3cret");
});

test("a revoked token is refused by every worker at once", async () => {
  const secret = "a-secret-of-thirty-two-bytes-long";
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const payload = { sub: "me", jti: "token-1", exp: Math.floor(Date.now() / 1000) + 600 };
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(payload)}`;
  const token = `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
  const port = await start({
    server: { workers: 2 },
    upstreams: up(),
    routes: [{ path: "/*", upstream: "up", middleware: ["tokens"] }],
    named_middleware: {
      tokens: {
        type: "jwt",
        config: { keys: [{ algorithm: "HS256", secret: Buffer.from(secret).toString("base64") }] },
      },
    },
  });
  const headers = { Authorization: `Bearer ${token}` };
  expect(count(await statuses(port, "/x", 10, headers), 200)).toBe(10);
  const revoked = await fetch(`http://127.0.0.1:${titan?.adminPort}/_admin/jwt/revoke`, {
    method: "POST",
    headers: { "x-titan-admin": "1" },
    body: JSON.stringify({ jti: "token-1", exp: payload.exp }),
  });
  expect(revoked.status).toBe(200);
  expect(count(await statuses(port, "/x", 10, headers), 401)).toBe(10);
});

test("an unknown key is said, and is an error where it would fail open", async () => {
  await start({
    upstreams: up({ load_balncing: "random" }),
    routes: [{ path: "/*", upstream: "up" }],
  });
  await expect.poll(() => titan?.output()).toContain("load_balancing");
  await titan?.stop();
  await expect(
    start({ upstreams: up(), routes: [{ path: "/*", upstream: "up" }], rate_limit: { requests_per_secnd: 1 } }),
  ).rejects.toThrow(/requests_per_second/);
});

test("a spelling of a path does not step round a route's policy", async () => {
  const port = await start({
    upstreams: up(),
    routes: [
      { path: "/admin/*", upstream: "up", middleware: ["nobody"] },
      { path: "/*", upstream: "up" },
    ],
    named_middleware: { nobody: { type: "ip_filter", config: { deny: ["0.0.0.0/0", "::/0"] } } },
  });
  expect((await get(port, "/open")).status).toBe(200);
  for (const target of [
    "/admin/x",
    "//admin/x",
    "/./admin/x",
    "/open/../admin/x",
    "/%61dmin/x",
    "/open/%2e%2e/admin/x",
    "/admin;a=b/x",
    "/open/..;/admin/x",
    "/admin%2fx",
    "/admin\\x",
  ]) {
    expect([400, 403], target).toContain((await get(port, target)).status);
  }
});

test("X-Forwarded-For from nobody in particular moves no limit", async () => {
  const port = await start({
    upstreams: up(),
    routes: [{ path: "/*", upstream: "up" }],
    rate_limit: { requests_per_second: 0.01, burst: 3, key: "client_ip" },
  });
  const list: number[] = [];
  for (let i = 0; i < 6; i++) list.push((await get(port, "/", { "X-Forwarded-For": `10.0.0.${i}` })).status);
  expect(list).toEqual([200, 200, 200, 429, 429, 429]);
});

test("a POST is not sent twice when a backend dies", async () => {
  let posts = 0;
  const dying = createServer((request, response) => {
    posts++;
    request.resume();
    request.on("end", () => response.socket?.destroy());
  });
  await new Promise<void>((done) => dying.listen(0, "127.0.0.1", done));
  const { port: target } = dying.address() as AddressInfo;
  const port = await start({
    upstreams: [{ name: "up", max_retries: 3, backends: [{ host: "127.0.0.1", port: target }] }],
    routes: [{ path: "/*", upstream: "up" }],
  });
  const answer = await fetch(`http://127.0.0.1:${port}/`, { method: "POST", body: "once" });
  expect(answer.status).toBe(502);
  expect(posts).toBe(1);
  dying.close();
});
