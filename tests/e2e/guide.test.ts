/** The guide's sample configuration, end to end: every behaviour that it states. */
import { execFile } from "node:child_process";
import { rmSync } from "node:fs";
import { request } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Backend, startBackend } from "../helpers/backend.ts";
import { selfSigned } from "../helpers/certificate.ts";
import { startTitan, type Titan } from "../helpers/titan.ts";

/** Not the synchronous one: the backends are in this process. */
const curl = (...args: string[]) => promisify(execFile)("curl", ["--max-time", "10", ...args]);

let one: Backend;
let two: Backend;
const certificate = selfSigned("localhost", "127.0.0.1");

beforeAll(async () => {
  one = await startBackend({ name: "one" });
  two = await startBackend({ name: "two" });
});

afterAll(async () => {
  await Promise.all([one.close(), two.close()]);
  rmSync(certificate.dir, { recursive: true });
});

/** The guide's form, with faster health checks and a wider limit so that one test does not wait for another. */
const guide = () => ({
  config: {
    server: { workers: 2 },
    upstreams: [
      {
        name: "backend",
        load_balancing: "weighted_round_robin",
        health_check: { enabled: true, interval_seconds: 1, timeout_seconds: 1, path: "/health" },
        backends: [
          { host: "127.0.0.1", port: one.port, weight: 3, max_connections: 200 },
          { host: "127.0.0.1", port: two.port, weight: 1, max_connections: 100 },
        ],
      },
    ],
    routes: [{ path: "/api/*", method: "GET", upstream: "backend" }],
    middleware: [
      { type: "rate_limit", config: { requests_per_second: 1000, burst: 2000 } },
      {
        type: "cors",
        config: {
          allowed_origins: ["https://example.com"],
          allowed_methods: ["GET", "POST", "PUT", "DELETE"],
          allowed_headers: ["Content-Type", "Authorization"],
        },
      },
    ],
  },
  tls: { cert_path: certificate.cert_path, key_path: certificate.key_path, min_version: "1.3" },
});

/** The alias form of the same. */
const alias = () => ({
  config: {
    version: "1.0",
    server: { workers: undefined, worker_threads: 2 },
    upstreams: [
      {
        name: "backend",
        load_balancing: "weighted_round_robin",
        backends: [one, two].map(({ port }, i) => ({
          host: "127.0.0.1",
          port,
          weight: i === 0 ? 3 : 1,
          max_connections: i === 0 ? 200 : 100,
          health_check_enabled: true,
          health_check_interval: 1,
          health_check_timeout: 1,
          health_check_path: "/health",
        })),
      },
    ],
    routes: [{ path: "/api/*", method: "GET", upstream: "backend" }],
    rate_limit: { enabled: true, requests_per_second: 1000, burst_size: 2000, key: "client_ip" },
    cors: {
      enabled: true,
      allowed_origins: ["https://example.com"],
      allowed_methods: ["GET", "POST", "PUT", "DELETE"],
      allowed_headers: ["Content-Type", "Authorization"],
    },
  },
  tls: { cert_path: certificate.cert_path, key_path: certificate.key_path, min_version: "1.3" },
});

describe.each([
  ["the guide's form", guide],
  ["the alias form", alias],
])("%s", (_name, options) => {
  let titan: Titan;
  let http: string;
  let https: string;

  beforeAll(async () => {
    titan = await startTitan(options());
    http = `http://127.0.0.1:${titan.port}`;
    https = `https://127.0.0.1:${titan.httpsPort}`;
  });
  afterAll(() => titan.stop());

  test("HTTP and HTTPS serve at once", async () => {
    const plain = await fetch(`${http}/api/x?q=1`);
    expect(plain.status).toBe(200);
    expect(await plain.json()).toMatchObject({ method: "GET", url: "/api/x?q=1" });
    expect(await secureGet(`${https}/api/x`)).toBe(200);
  });

  test("curl speaks HTTP/2 to it", async () => {
    const { stdout } = await curl("-sk", "-o", "/dev/null", "-w", "%{http_version}", "--http2", `${https}/api/x`);
    expect(stdout).toBe("2");
  });

  test("a TLS 1.2 client is refused, a TLS 1.3 client is not", async () => {
    await expect(curl("-sk", "--tls-max", "1.2", `${https}/api/x`)).rejects.toThrow();
    await expect(curl("-sk", "--tlsv1.3", `${https}/api/x`)).resolves.toBeDefined();
  });

  test("traffic is shared 3:1", async () => {
    one.hits = two.hits = 0;
    for (let i = 0; i < 400; i += 20) {
      await Promise.all(Array.from({ length: 20 }, () => fetch(`${http}/api/n`).then((answer) => answer.text())));
    }
    expect(one.hits + two.hits).toBe(400);
    expect(Math.abs(one.hits - 300), `${one.hits}:${two.hits}`).toBeLessThanOrEqual(5);
  });

  test("a backend whose health check fails takes no traffic and comes back by itself", async () => {
    expect(one.probes).toBeGreaterThan(0);
    one.healthy = false;
    await sleep(2500);
    one.hits = two.hits = 0;
    for (let i = 0; i < 20; i++) await fetch(`${http}/api/n`).then((answer) => answer.text());
    expect([one.hits, two.hits]).toEqual([0, 20]);
    one.healthy = true;
    await sleep(2500);
    for (let i = 0; i < 20; i++) await fetch(`${http}/api/n`).then((answer) => answer.text());
    expect(one.hits).toBeGreaterThan(5);
  });

  test("the limit says so", async () => {
    const answer = await fetch(`${http}/api/x`);
    expect(answer.headers.get("x-ratelimit-limit")).toBe("2000");
    expect(Number(answer.headers.get("x-ratelimit-remaining"))).toBeGreaterThan(0);
  });

  test("CORS: a preflight is answered here, only the allowed origin is reflected", async () => {
    const preflight = await fetch(`${http}/api/x`, {
      method: "OPTIONS",
      headers: { origin: "https://example.com", "access-control-request-method": "GET" },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get("access-control-allow-origin")).toBe("https://example.com");
    expect(preflight.headers.get("access-control-allow-methods")).toContain("DELETE");
    const foreign = await fetch(`${http}/api/x`, { headers: { origin: "https://evil.example" } });
    expect(foreign.headers.get("access-control-allow-origin")).toBeNull();
    const missing = await fetch(`${http}/nothing`, { headers: { origin: "https://example.com" } });
    expect(missing.status).toBe(404);
    expect(missing.headers.get("access-control-allow-origin"), "also on Titan's own answers").toBe(
      "https://example.com",
    );
  });

  test("404 without a route, 405 with Allow for the wrong method, both JSON", async () => {
    const missing = await fetch(`${http}/nothing`);
    expect(missing.status).toBe(404);
    expect(await missing.json()).toMatchObject({
      error: expect.any(String),
      message: expect.any(String),
      request_id: expect.any(String),
    });
    const wrong = await fetch(`${http}/api/x`, { method: "POST", body: "x" });
    expect(wrong.status).toBe(405);
    expect(wrong.headers.get("allow")).toContain("GET");
    await wrong.text();
  });

  test("/_health", async () => {
    const answer = await fetch(`${http}/_health`);
    expect(answer.status).toBe(200);
    expect(await answer.text()).toMatch(/^\{"status":"healthy","version":"0\.1\.0"\}\s*$/);
  });

  test("/_metrics and the admin listener show the same families", async () => {
    const page = await fetch(`${http}/_metrics`).then((answer) => answer.text());
    expect(page).toMatch(/^titan_requests_total\{[^}]*method="GET",status="200"\} \d+$/m);
    expect(page).toMatch(/^titan_backend_healthy\{[^}]*\} 1$/m);
    expect(page).toMatch(/^titan_request_duration_seconds_bucket\{/m);
    const admin = await fetch(`http://127.0.0.1:${titan.adminPort}/metrics`).then((answer) => answer.text());
    const families = (text: string) => [...text.matchAll(/^# TYPE (titan_\S+)/gm)].map(([, name]) => name).sort();
    expect(families(admin)).toEqual(families(page));
  });
});

test("max_connections of a backend is never exceeded", async () => {
  const slow = await startBackend({ answer: (_, response) => setTimeout(() => response.end("ok"), 50) });
  const titan = await startTitan({
    config: {
      server: { workers: 2 },
      upstreams: [{ name: "slow", backends: [{ host: "127.0.0.1", port: slow.port, max_connections: 3 }] }],
      routes: [{ path: "/*", upstream: "slow" }],
    },
  });
  const statuses = await Promise.all(
    Array.from({ length: 40 }, () => fetch(`http://127.0.0.1:${titan.port}/`).then((answer) => answer.status)),
  );
  expect(slow.peak).toBeLessThanOrEqual(3);
  expect(statuses.filter((status) => status === 200).length).toBeGreaterThan(10);
  await titan.stop();
  await slow.close();
});

function secureGet(url: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const call = request(url, { rejectUnauthorized: false, agent: false }, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode ?? 0));
    });
    call.on("error", reject);
    call.end();
  });
}
