import { request } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { afterEach, expect, test, vi } from "vitest";
import type { Config } from "../config/index.ts";
import type { Gateway } from "../gateway/gateway.ts";
import { redact } from "./api.ts";
import { AdminServer } from "./server.ts";

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

const reload = vi.fn(async () => 2);
const revoke = vi.fn();
const gateway = {
  state: "running",
  file: "titan.yaml",
  warnings: [],
  adminAddress: () => undefined,
  settled: async () => undefined,
  status: () => ({ generation: 1 }),
  metrics: async () => ({ contentType: "text/plain", body: "titan_up 1\n" }),
  reload,
  revoke,
} as unknown as Gateway;

async function start(metrics: object = {}, token?: string): Promise<number> {
  const config = {
    metrics: { enabled: true, host: "127.0.0.1", port: 0, path: "/metrics", ...metrics },
    admin: { token: token && { text: token } },
  };
  const server = new AdminServer(gateway, config as unknown as Config);
  await server.listen();
  open.push(server);
  return server.address().port;
}

interface Call {
  method?: string;
  headers?: Record<string, string>;
  body?: string;
}

function ask(port: number, path: string, options: Call = {}) {
  return new Promise<{ status: number; body: string }>((resolve, reject) => {
    const { body: sent, ...head } = options;
    const call = request({ host: "127.0.0.1", port, path, agent: false, ...head }, (response) => {
      let body = "";
      response.on("data", (chunk) => {
        body += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
    });
    call.on("error", reject);
    call.end(sent);
  });
}

test("metrics and status on loopback need no token", async () => {
  const port = await start();
  expect(await ask(port, "/metrics")).toEqual({ status: 200, body: "titan_up 1\n" });
  expect(JSON.parse((await ask(port, "/_admin/status")).body)).toMatchObject({ state: "running", generation: 1 });
  expect((await ask(port, "/nowhere")).status).toBe(404);
});

test("a foreign page cannot change anything, nor read by a rebound name", async () => {
  const port = await start();
  expect((await ask(port, "/_admin/reload", { method: "POST" })).status).toBe(403);
  expect(reload).not.toHaveBeenCalled();
  expect((await ask(port, "/_admin/reload", { method: "POST", headers: { "x-titan-admin": "1" } })).status).toBe(200);
  expect(reload).toHaveBeenCalledOnce();
  expect((await ask(port, "/_admin/status", { headers: { host: "evil.example" } })).status).toBe(403);
  expect((await ask(port, "/_admin/reload")).status, "GET").toBe(405);
});

test("requirement 35: a token is revoked by its jti", async () => {
  const port = await start();
  const post = (body: unknown) =>
    ask(port, "/_admin/jwt/revoke", { method: "POST", headers: { "x-titan-admin": "1" }, body: JSON.stringify(body) });
  expect((await post({ jti: "t1", exp: 1_800_000_000 })).status).toBe(200);
  expect((await post({ jti: "t2" })).status).toBe(200);
  for (const wrong of [{}, { jti: "" }, { jti: 5 }, { jti: "x", exp: "soon" }, { jti: "x", exp: -1 }]) {
    expect((await post(wrong)).status, JSON.stringify(wrong)).toBeGreaterThanOrEqual(400);
  }
  expect(revoke.mock.calls).toEqual([
    ["t1", 1_800_000_000],
    ["t2", undefined],
  ]);
});

test("with a token everything needs it", async () => {
  const port = await start({}, "s3cret");
  expect((await ask(port, "/metrics")).status).toBe(401);
  expect((await ask(port, "/_admin/status")).status).toBe(401);
  const page = await ask(port, "/");
  expect(page.status, "the dashboard holds nothing and asks for the token").toBe(200);
  expect(page.body).toContain("Admin token");
  expect((await ask(port, "/metrics", { headers: { authorization: "Bearer wrong" } })).status).toBe(401);
  expect((await ask(port, "/metrics", { headers: { authorization: "Bearer s3cret" } })).status).toBe(200);
});

test("beyond loopback a token is needed to start at all", async () => {
  await expect(start({ host: "0.0.0.0" })).rejects.toMatchObject({ code: "TITAN_ADMIN_TOKEN" });
});

test("a busy port is an error that names the fix", async () => {
  const holder = createServer();
  await new Promise<void>((resolve) => holder.listen(0, "127.0.0.1", resolve));
  open.push({ close: () => holder.close() });
  const { port } = holder.address() as AddressInfo;
  await expect(start({ port })).rejects.toMatchObject({
    code: "TITAN_ADMIN_LISTEN",
    message: expect.stringContaining(`127.0.0.1:${port}`),
    fix: expect.stringContaining("metrics.port"),
  });
});

test("the configuration that is shown holds no secret", () => {
  const shown = redact({
    admin: { token: "t" },
    jwt: { keys: [{ secret: "s", public_key_path: "k.pem" }] },
    server: { tls: { key_path: "p", private_key: "k" } },
    apikey: { keys: [{ id: "a", key: "k", sha256: "5e88" }], users: [{ name: "u", hash: "$2b$" }] },
    rate_limit: { key: "client_ip", redis: { url: "redis://u:p@h:6379/0" } },
    transform: {
      request_headers: [
        { action: "modify", name: "Authorization", value: "Bearer b" },
        { name: "X-A", value: "a" },
      ],
    },
    routes: [
      {
        headers: { "X-API-Key": "k", "X-Version": "2" },
        respond: { headers: { "Set-Cookie": "a=b" } },
        cookies: [{ name: "session", exact: "s" }],
      },
    ],
  });
  expect(shown).toEqual({
    admin: { token: "[redacted]" },
    jwt: { keys: [{ secret: "[redacted]", public_key_path: "k.pem" }] },
    server: { tls: { key_path: "p", private_key: "[redacted]" } },
    apikey: { keys: [{ id: "a", key: "[redacted]", sha256: "5e88" }], users: [{ name: "u", hash: "[redacted]" }] },
    rate_limit: { key: "client_ip", redis: { url: "redis://[redacted]@h:6379/0" } },
    transform: {
      request_headers: [
        { action: "modify", name: "Authorization", value: "[redacted]" },
        { name: "X-A", value: "a" },
      ],
    },
    routes: [
      {
        headers: { "X-API-Key": "[redacted]", "X-Version": "2" },
        respond: { headers: { "Set-Cookie": "[redacted]" } },
        cookies: [{ name: "session", exact: "[redacted]" }],
      },
    ],
  });
});
