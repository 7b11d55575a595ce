import { createHash, createHmac } from "node:crypto";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createGateway, type Gateway, type LoadResult, loadConfig } from "../../src/index.ts";
import { type Backend, startBackend } from "../helpers/backend.ts";

const examples = join(dirname(fileURLToPath(import.meta.url)), "../../examples/hooks");
let one: Backend;
let two: Backend;

beforeAll(async () => {
  const answer = async (
    request: import("node:http").IncomingMessage,
    response: import("node:http").ServerResponse,
    { name }: Backend,
  ) => {
    const body = await text(request);
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ backend: name, headers: request.headers, body, user: { token: "t", name: "n" } }));
  };
  one = await startBackend({ name: "one", answer });
  two = await startBackend({ name: "two", answer });
});
afterAll(async () => {
  await one.close();
  await two.close();
});

/** Runs an example as it stands, but for ports. */
async function withExample(name: string, use: (base: string) => Promise<void>): Promise<void> {
  const loaded: LoadResult = await loadConfig(join(examples, name));
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.issues));
  // The same hooks under a configuration with ports of this test.
  const folder = mkdtempSync(join(tmpdir(), "titan-example-"));
  const file = join(folder, "titan.config.ts");
  writeFileSync(
    file,
    `import example from ${JSON.stringify(join(examples, name))};
     const ports = [${one.port}, ${two.port}];
     export default { ...example, server: { host: "127.0.0.1", port: 0, workers: 1 }, logging: { log_requests: false },
       upstreams: example.upstreams.map((upstream, i) => ({ ...upstream, backends: [{ host: "127.0.0.1", port: ports[i] }] })) };`,
  );
  const gateway: Gateway = createGateway({ file });
  await gateway.start();
  try {
    await use(gateway.address()?.url as string);
  } finally {
    await gateway.close({ force: true });
  }
}

const get = async (url: string, init?: RequestInit) => {
  const response = await fetch(url, init);
  return { status: response.status, headers: response.headers, body: (await response.json()) as never as Echo };
};
type Echo = { backend: string; headers: Record<string, string>; body: string; user: object; error?: string };

const base64 = (value: string | object) =>
  Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

it("tenant-routing sends tenants to their upstreams", async () => {
  const token = (claims: object) => {
    const head = `${base64({ alg: "HS256", typ: "JWT", kid: "k1" })}.${base64({ exp: 4_000_000_000, sub: "u", ...claims })}`;
    return `Bearer ${head}.${createHmac("sha256", "secret-secret-secret-secret-0001").update(head).digest("base64url")}`;
  };
  await withExample("tenant-routing.ts", async (base) => {
    const as = (claims: object) => get(`${base}/a`, { headers: { authorization: token(claims) } });
    expect((await as({ tenant: "acme" })).body).toMatchObject({ backend: "one", headers: { "x-tenant": "acme" } });
    expect((await as({ tenant: "globex" })).body.backend).toBe("two");
    expect((await as({ tenant: "other" })).status).toBe(403);
    expect((await as({})).status).toBe(403);
    expect((await get(`${base}/a`)).status).toBe(401);
  });
});

it("request-signing signs what the backend gets", async () => {
  await withExample("request-signing.ts", async (base) => {
    const { body } = await get(`${base}/orders?x=1`, { method: "POST", body: "hello" });
    const digest = createHash("sha256").update("hello").digest("base64");
    const signed = ["POST", "/orders", "x=1", body.headers["x-date"], digest].join("\n");
    expect(body.headers["x-signature"]).toBe(createHmac("sha256", "development").update(signed).digest("base64"));
    expect(body.body).toBe("hello");
  });
});

it("ab-by-cookie keeps a visitor in a group", async () => {
  await withExample("ab-by-cookie.ts", async (base) => {
    const first = await get(`${base}/a`);
    expect(first.headers.get("set-cookie")).toMatch(/^group=[ab]; /);
    const known = await get(`${base}/a`, { headers: { cookie: "x=1; group=b" } });
    expect([known.body.backend, known.headers.get("set-cookie")]).toEqual(["two", null]);
  });
});

it("response-redaction hides what must not be seen", async () => {
  await withExample("response-redaction.ts", async (base) => {
    expect((await get(`${base}/a`)).body.user).toEqual({ token: "[redacted]", name: "n" });
  });
});

it("feature-flags tells backends and closes routes", async () => {
  const folder = mkdtempSync(join(tmpdir(), "titan-flags-"));
  writeFileSync(join(folder, "flags.json"), JSON.stringify({ search: true, chat: false }));
  process.env.FLAGS_URL = join(folder, "flags.json");
  await withExample("feature-flags.ts", async (base) => {
    expect((await get(`${base}/a`)).body.headers["x-flags"]).toBe("search");
    expect((await get(`${base}/beta/search`)).status).toBe(200);
    expect((await get(`${base}/beta/chat`)).status).toBe(404);
  });
});
