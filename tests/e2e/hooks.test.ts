import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import {
  type BodyMode,
  createGateway,
  defineHook,
  defineHookFactory,
  type Gateway,
  type GatewayOptions,
  type HookInput,
} from "../../src/index.ts";
import { type Backend, type BackendOptions, startBackend } from "../helpers/backend.ts";

let api: Backend;
let blue: Backend;
const open: Gateway[] = [];
const lines: { level: string; message: string; fields: Record<string, unknown> }[] = [];

const log = (level: string) => (fields: object, message: string) =>
  void lines.push({ level, message, fields: fields as Record<string, unknown> });
const logger = {
  trace: log("trace"),
  debug: log("debug"),
  info: log("info"),
  warn: log("warn"),
  error: log("error"),
} as never;

beforeAll(async () => {
  const answer: NonNullable<BackendOptions["answer"]> = async (request, response, { name }) => {
    const body = await text(request);
    response.writeHead(200, { "content-type": "application/json", "x-backend-name": name });
    response.end(
      JSON.stringify({ backend: name, method: request.method, url: request.url, headers: request.headers, body }),
    );
  };
  api = await startBackend({ name: "api", answer });
  blue = await startBackend({ name: "blue", answer });
});
afterAll(async () => {
  await api.close();
  await blue.close();
});
afterEach(async () => {
  lines.length = 0;
  await Promise.all(open.splice(0).map((gateway) => gateway.close({ force: true })));
});

/** A gateway with one hook on every route, and what it answers to. */
async function serve(hook: AnyHook, more: object = {}, options: GatewayOptions = {}) {
  const gateway = createGateway(
    {
      server: { host: "127.0.0.1", port: 0, workers: 1 },
      logging: { log_requests: false },
      upstreams: [
        { name: "api", backends: [{ host: "127.0.0.1", port: api.port }] },
        { name: "blue", backends: [{ host: "127.0.0.1", port: blue.port }] },
      ],
      hooks: { test: defineHook({ ...hook, global: true } as HookInput) },
      routes: [
        { path: "/users/:id", upstream: "api" },
        { path: "/fixed", respond: { body: "fixed" } },
        { path: "/*", upstream: "api" },
      ],
      ...more,
    } as never,
    { logger, ...options },
  );
  await gateway.start();
  open.push(gateway);
  const base = gateway.address()?.url as string;
  return { gateway, get: (path: string, init?: RequestInit) => fetch(base + path, { redirect: "manual", ...init }) };
}

type AnyHook = HookInput<string, BodyMode | undefined, BodyMode | undefined>;
type Echoed = { backend: string; method: string; url: string; headers: Record<string, string>; body: string };

describe("onRequest", () => {
  it("reads what it declares and changes what is forwarded", async () => {
    const { get } = await serve({
      reads: { headers: ["x-tenant"], params: true, query: true, clientIp: true },
      onRequest(ctx) {
        const { request } = ctx;
        request.headers.set(
          "x-seen",
          [request.method, request.path, request.query, ctx.params.id, request.clientIp].join("|"),
        );
        request.headers.set("x-tenant", `${request.headers.get("X-Tenant")}!`);
        request.headers.delete("cookie");
        ctx.response.headers.set("x-hooked", "1");
        ctx.rewrite({ path: "/v2/./people", query: { q: "ä b" } });
      },
    });
    const response = await get("/users/4%202?a=1", { headers: { "x-tenant": "acme", cookie: "s=1" } });
    const echoed = (await response.json()) as Echoed;
    expect(response.headers.get("x-hooked")).toBe("1");
    expect(echoed.url).toBe("/v2/people?q=%C3%A4+b");
    expect(echoed.headers).toMatchObject({ "x-tenant": "acme!", "x-seen": "GET|/users/4%202|a=1|4 2|127.0.0.1" });
    expect(echoed.headers.cookie).toBeUndefined();
  });

  it("answers: text, JSON, redirects, a Response, bytes", async () => {
    const { get } = await serve({
      async onRequest(ctx) {
        switch (ctx.request.path) {
          case "/json":
            return ctx.json({ ok: "é" }, 418, { "set-cookie": ["a=1", "b=2"] });
          case "/go":
            return ctx.redirect("https://elsewhere.test/", 308);
          case "/web":
            return new Response("web", { status: 201, headers: { "x-a": "1" } });
          case "/bytes":
            return ctx.respond(200, new Uint8Array([0, 255, 10]));
        }
        return undefined;
      },
    });
    const json = await get("/json");
    expect([json.status, await json.json(), json.headers.getSetCookie()]).toEqual([418, { ok: "é" }, ["a=1", "b=2"]]);
    const go = await get("/go");
    expect([go.status, go.headers.get("location")]).toEqual([308, "https://elsewhere.test/"]);
    const web = await get("/web");
    expect([web.status, await web.text(), web.headers.get("x-a")]).toEqual([201, "web", "1"]);
    expect([...new Uint8Array(await (await get("/bytes")).arrayBuffer())]).toEqual([0, 255, 10]);
    expect((await get("/other")).status).toBe(200);
  });

  it("chooses upstream and backend", async () => {
    const { get } = await serve({
      onRequest(ctx) {
        if (ctx.request.headers.has("x-blue")) ctx.forward({ upstream: "blue" });
        if (ctx.request.headers.has("x-nowhere")) ctx.forward({ upstream: "nowhere" });
        if (ctx.request.headers.has("x-backend")) ctx.forward({ backend: `127.0.0.1:${api.port}` });
        if (ctx.request.headers.has("x-lost")) ctx.forward({ backend: "192.0.2.1:80" });
      },
      onError: (ctx) => ctx.response.headers.set("x-why", `${ctx.error.stage}: ${ctx.error.message}`),
    });
    const name = async (header: string) =>
      ((await (await get("/a", { headers: { [header]: "1" } })).json()) as Echoed).backend;
    expect(await name("x-none")).toBe("api");
    expect(await name("x-blue")).toBe("blue");
    expect(await name("x-backend")).toBe("api");
    expect((await get("/a", { headers: { "x-nowhere": "1" } })).status).toBe(500);
    expect(lines.at(-1)).toMatchObject({
      message: expect.stringMatching(/no upstream "nowhere": it has api, blue/),
      fields: { stack: expect.stringContaining("hooks.test.ts") },
    });
    const lost = await get("/a", { headers: { "x-lost": "1" } });
    expect([lost.status, lost.headers.get("x-why")]).toEqual([
      503,
      'no_endpoint: the backend "192.0.2.1:80" that a hook chose is none of the upstream "api" that is usable',
    ]);
  });

  it("reads bodies within its limit", async () => {
    const { get } = await serve({
      body: "json",
      maxBody: 1_000,
      when: { methods: ["POST"] },
      onRequest(ctx) {
        const { name } = (ctx.request.body ?? {}) as { name?: string };
        ctx.request.headers.set("x-name", encodeURIComponent(name ?? "none"));
      },
    });
    const post = (body: NonNullable<RequestInit["body"]>, more: RequestInit = {}) =>
      get("/a", { method: "POST", body, ...more });
    const json = JSON.stringify({ name: "Jürgen" });
    const echoed = (await (await post(json)).json()) as Echoed;
    expect(echoed.headers["x-name"]).toBe("J%C3%BCrgen");
    expect(echoed.body).toBe(json);
    // Chunked, so of unknown length.
    const stream = new Blob([json]).stream();
    const streamed = (await (await post(stream as never, { duplex: "half" } as never)).json()) as Echoed;
    expect([streamed.headers["x-name"], streamed.body]).toEqual(["J%C3%BCrgen", json]);
    // An unknown length that turns out to be none.
    const empty = new ReadableStream({ start: (controller) => controller.close() });
    const nothing = (await (await post(empty as never, { duplex: "half" } as never)).json()) as Echoed;
    expect([nothing.headers["x-name"], nothing.body]).toEqual(["none", ""]);
    expect((await post("{oops")).status).toBe(400);
    expect((await post("x".repeat(2_000))).status).toBe(413);
    expect((await get("/a")).status).toBe(200);
  });
});

describe("other points", () => {
  it("onResponse edits and replaces; state goes along", async () => {
    const seen: unknown[] = [];
    const { get } = await serve({
      onRequest(ctx) {
        ctx.state.began = ctx.request.path;
      },
      onResponse(ctx) {
        ctx.response.headers.set("x-began", String(ctx.state.began));
        ctx.response.headers.delete("content-type");
        seen.push([ctx.response.status, ctx.response.headers.get("x-backend-name")]);
        return ctx.request.path === "/replace" ? ctx.json({ replaced: true }, 203) : undefined;
      },
      onLog(ctx) {
        seen.push([ctx.status, ctx.state.began, ctx.upstream, ctx.bytesOut > 0, ctx.durationMs > 0]);
      },
    });
    const plain = await get("/a");
    await plain.text();
    expect([plain.headers.get("x-began"), plain.headers.get("content-type")]).toEqual(["/a", null]);
    const replaced = await get("/replace");
    expect([replaced.status, await replaced.json()]).toEqual([203, { replaced: true }]);
    expect(await (await get("/fixed")).text()).toBe("fixed");
    await expect.poll(() => seen.length).toBe(6);
    expect(seen).toContainEqual([200, "/a", "api", true, true]);
    expect(seen).toContainEqual([203, "/replace", "api", true, true]);
  });

  it("onResponse reads and replaces bodies", async () => {
    const { get } = await serve({
      responseBody: "json",
      onResponse(ctx) {
        const body = ctx.response.body as Echoed;
        if (ctx.request.path === "/redact") return ctx.json({ ...body, headers: "redacted" }, ctx.response.status);
        return undefined;
      },
    });
    expect(await (await get("/redact")).json()).toMatchObject({ backend: "api", headers: "redacted" });
    expect(await (await get("/whole")).json()).toMatchObject({ backend: "api", url: "/whole" });
  });

  it("onError dresses errors up", async () => {
    const { get } = await serve(
      {
        onError(ctx) {
          ctx.response.headers.set("x-stage", ctx.error.stage);
          return ctx.error.stage === "connect" ? ctx.json({ sorry: ctx.error.status }, 503) : undefined;
        },
      },
      {
        upstreams: [{ name: "api", backends: [{ host: "127.0.0.1", port: 1 }], max_retries: 0 }],
        routes: [{ path: "/a", upstream: "api" }],
      },
    );
    const dead = await get("/a");
    expect([dead.status, await dead.json()]).toEqual([503, { sorry: 502 }]);
    const lost = await get("/nowhere");
    expect([lost.status, lost.headers.get("x-stage")]).toEqual([404, "no_route"]);
  });
});

describe("failures", () => {
  it("cost that request only, with the user's stack in the log", async () => {
    const { get } = await serve({
      onRequest(ctx) {
        if (ctx.request.path === "/throw") throw new Error("oh no");
        if (ctx.request.path === "/reject") return Promise.reject(new Error("later"));
        if (ctx.request.path === "/bad") ctx.request.headers.set("x-a", "line\nbreak");
        if (ctx.request.path === "/framing") ctx.request.headers.set("Content-Length", "1");
        if (ctx.request.path === "/odd") return "text" as never;
        return undefined;
      },
    });
    for (const path of ["/throw", "/reject", "/bad", "/framing", "/odd"]) {
      const response = await get(path);
      expect([path, response.status, ((await response.json()) as { error: string }).error]).toEqual([
        path,
        500,
        "hook_failed",
      ]);
    }
    expect((await get("/fine")).status).toBe(200);
    const thrown = lines.find(({ message }) => message.includes("oh no"));
    expect(thrown?.level).toBe("error");
    expect(thrown?.fields.stack).toContain("hooks.test.ts");
    expect(thrown?.fields.request_id).toBeTruthy();
  });

  it("what was not declared is refused with the reason", async () => {
    const { get } = await serve({
      reads: { headers: ["x-a"] },
      onRequest: (ctx) => void ctx.request.headers.get("x-b"),
    });
    expect((await get("/a")).status).toBe(500);
    expect(lines.map(({ message }) => message).join("\n")).toMatch(
      /the hook "test" reads the header "x-b", which its "reads" does not name/,
    );
  });

  it("time out, open or closed, and a late reply harms nobody", async () => {
    const hang = () => new Promise<void>((done) => setTimeout(done, 300));
    const closed = await serve({ deadline: "50ms", onRequest: hang });
    expect((await closed.get("/a")).status).toBe(504);
    const opened = await serve({ deadline: "50ms", fail: "open", onRequest: hang });
    expect((await opened.get("/a")).status).toBe(200);
    await sleep(300);
    expect((await opened.get("/a")).status).toBe(200);
  });

  it("are bounded in number", async () => {
    const { get } = await serve({ concurrency: 3, onRequest: () => new Promise((done) => setTimeout(done, 200)) });
    const statuses = await Promise.all(Array.from({ length: 8 }, async () => (await get("/a")).status));
    expect(statuses.filter((status) => status === 200)).toHaveLength(3);
    expect(statuses.filter((status) => status === 503)).toHaveLength(5);
  });
});

describe("with options", () => {
  const schema = {
    "~standard": {
      validate: (value: unknown) =>
        typeof (value as { header?: unknown }).header === "string"
          ? { value: value as { header: string } }
          : { issues: [{ message: "must be a header's name", path: ["header"] }] },
    },
  } as const;
  const mark = defineHookFactory(
    ({ header }: { header: string }) =>
      defineHook({ onRequest: (ctx) => void ctx.request.headers.set(header, "marked") }),
    schema,
  );
  const config = (options: object): object => ({
    server: { host: "127.0.0.1", port: 0, workers: 1 },
    logging: { log_requests: false },
    upstreams: [{ name: "api", backends: [{ host: "127.0.0.1", port: api.port }] }],
    hooks: { mark },
    routes: [{ path: "/*", upstream: "api", middleware: [{ type: "mark", config: options }] }],
  });

  it("a factory makes a hook for each use, and its schema refuses at the option's place", async () => {
    const gateway = createGateway(config({ header: "x-mark" }) as never);
    await gateway.start();
    open.push(gateway);
    const echoed = (await (await fetch(`${gateway.address()?.url}/a`)).json()) as Echoed;
    expect(echoed.headers["x-mark"]).toBe("marked");
    await expect(createGateway(config({}) as never).start()).rejects.toMatchObject({
      issues: [{ path: "routes[0].middleware[0].config.header", message: "must be a header's name" }],
    });
  });

  it("a package serves users of JSON", async () => {
    const folder = mkdtempSync(join(tmpdir(), "titan-package-"));
    const home = join(folder, "node_modules/titan-mark");
    mkdirSync(home, { recursive: true });
    writeFileSync(
      join(home, "package.json"),
      '{"name":"titan-mark","version":"1.0.0","type":"module","exports":"./index.js"}',
    );
    writeFileSync(
      join(home, "index.js"),
      `export default { [Symbol.for("titan.hookFactory")]: true, create: ({ header }) => ({ [Symbol.for("titan.hook")]: true,
         onRequest(ctx) { ctx.request.headers.set(header, "package"); } }) };`,
    );
    const file = join(folder, "titan.json");
    const uses = (type: string) =>
      JSON.stringify({
        ...config({}),
        hooks: undefined,
        routes: [{ path: "/*", upstream: "api", middleware: [{ type, config: { header: "x-by" } }] }],
      });
    writeFileSync(file, uses("titan-mark"));
    const gateway = createGateway({ file }, { hookWorkers: 1 });
    await gateway.start();
    open.push(gateway);
    const echoed = (await (await fetch(`${gateway.address()?.url}/a`)).json()) as Echoed;
    expect(echoed.headers["x-by"]).toBe("package");
    writeFileSync(file, uses("titan-missing"));
    await expect(gateway.reload()).rejects.toMatchObject({ issues: [{ path: "routes[0].middleware[0].type" }] });
  });
});

it("who asks for metrics while the gateway starts waits for them", async () => {
  const early: Promise<Response>[] = [];
  const gateway: Gateway = createGateway(
    {
      server: { host: "127.0.0.1", port: 0, workers: 1 },
      metrics: { port: 0 },
      hooks: {
        early: defineHook({
          global: true,
          // The admin listener is there, the data plane is not.
          onStart: () => void early.push(fetch(`http://127.0.0.1:${gateway.adminAddress()?.port}/metrics`)),
          onRequest: () => undefined,
        }),
      },
      routes: [{ path: "/*", respond: { body: "x" } }],
    },
    { logger, admin: true },
  );
  await gateway.start();
  open.push(gateway);
  expect((await early[0])?.status).toBe(200);
});

it("metrics tell calls, failures and the share of requests that entered JavaScript", async () => {
  const { gateway, get } = await serve({
    when: { paths: ["/hooked*"] },
    onRequest(ctx) {
      if (ctx.request.path === "/hooked/bad") throw new Error("bad");
    },
  });
  for (const path of ["/free", "/hooked/a", "/hooked/bad"]) await (await get(path)).text();
  const { body } = await gateway.metrics();
  expect(body).toContain('titan_hook_calls_total{hook="test",outcome="failed"} ');
  expect(body).toMatch(/titan_hook_duration_seconds_count\{hook="test"\} \d/);
  expect(body).toContain("titan_hooked_requests_total 2");
});

it("gateways with hooks come and go without a trace", async () => {
  for (let round = 0; round < 20; round++) {
    const gateway = createGateway({
      server: { host: "127.0.0.1", port: 0, workers: 1 },
      logging: { log_requests: false },
      hooks: { h: defineHook({ global: true, onRequest: (ctx) => ctx.respond(200, String(round)) }) },
      routes: [{ path: "/*", respond: { body: "x" } }],
    });
    await gateway.start();
    expect(await (await fetch(`${gateway.address()?.url}/`, { headers: { connection: "close" } })).text()).toBe(
      String(round),
    );
    await gateway.close();
  }
});

describe("life", () => {
  it("starts, reloads and shuts down generations", async () => {
    const told: string[] = [];
    const hook = (name: string): AnyHook => ({
      onRequest: (ctx) => ctx.respond(200, name),
      onStart: () => void told.push(`start ${name}`),
      onReload: () => void told.push(`reload ${name}`),
      onShutdown: () => void told.push(`end ${name}`),
    });
    const { gateway, get } = await serve(hook("one"));
    expect(await (await get("/a")).text()).toBe("one");
    await gateway.reload({
      server: { host: "127.0.0.1", port: 0, workers: 1 },
      hooks: { two: defineHook({ ...hook("two"), global: true } as HookInput) },
      routes: [{ path: "/*", respond: { body: "x" } }],
    } as never);
    const base = gateway.address()?.url as string;
    expect(await (await fetch(`${base}/a`)).text()).toBe("two");
    await expect.poll(() => told).toEqual(["start one", "reload two", "end one"]);
    await gateway.close();
    expect(told.at(-1)).toBe("end two");
  });

  it("a hook that cannot start refuses the configuration", async () => {
    const failing = serve({
      onRequest: () => undefined,
      onStart: () => {
        throw new Error("no database");
      },
    });
    await expect(failing).rejects.toMatchObject({
      code: "TITAN_HOOK_START",
      message: expect.stringContaining("no database"),
    });
  });

  it("a hook that never comes back stops neither reload nor close", async () => {
    const file = join(mkdtempSync(join(tmpdir(), "titan-stuck-")), "titan.config.mjs");
    const source = (name: string) => `
      import { defineHook } from "@titan-gateway/titan";
      export default {
        server: { host: "127.0.0.1", port: 0, workers: 1 }, logging: { log_requests: false },
        hooks: { stuck: defineHook({ deadline: 100, when: { paths: ["/stuck"] }, onRequest() { for (;;); } }),
                 name: defineHook({ when: { paths: ["/name"] }, onRequest: (ctx) => ctx.respond(200, "${name}") }) },
        routes: [{ path: "/*", respond: { body: "free" }, middleware: ["stuck", "name"] }],
      };`;
    writeFileSync(file, source("one"));
    const gateway = createGateway({ file }, { logger, hookWorkers: 1 });
    await gateway.start();
    open.push(gateway);
    const get = async (path: string) => {
      const response = await fetch(gateway.address()?.url + path);
      return [response.status, await response.text()];
    };
    expect(await get("/name")).toEqual([200, "one"]);
    expect((await get("/stuck"))[0]).toBe(504);
    expect((await get("/name"))[0]).toBe(504);
    expect(await get("/other")).toEqual([200, "free"]);
    writeFileSync(file, source("two"));
    await gateway.reload();
    expect(await get("/name")).toEqual([200, "two"]);
    expect((await get("/stuck"))[0]).toBe(504);
    const said = () => lines.some(({ fields }) => fields.event === "hooks_stalled");
    await expect.poll(said, { timeout: 20_000 }).toBe(true);
    const { body } = await gateway.metrics();
    expect(Number(/^titan_hook_stalls_total (\d+)$/m.exec(body)?.[1])).toBeGreaterThanOrEqual(1);
    expect(Number(/^titan_hook_stalled_seconds ([\d.]+)$/m.exec(body)?.[1])).toBeGreaterThanOrEqual(1);
    const began = performance.now();
    await gateway.close();
    expect(performance.now() - began).toBeLessThan(4_000);
  });

  it("runs a file's hooks in a worker, which may block without harm", async () => {
    const folder = mkdtempSync(join(tmpdir(), "titan-hooks-"));
    const file = join(folder, "titan.config.ts");
    const source = (name: string) => `
      import { defineConfig, defineHook, defineRoute } from "@titan-gateway/titan";
      const wait: number = 700;
      export default defineConfig({
        server: { host: "127.0.0.1", port: 0, workers: 1 },
        upstreams: [{ name: "api", backends: [{ host: "127.0.0.1", port: ${api.port} }] }],
        hooks: {
          block: defineHook({ deadline: 200, onRequest() { const end = Date.now() + wait; while (Date.now() < end); } }),
          fail: defineHook({ onRequest() { throw new Error("typed"); } }),
        },
        routes: [
          { path: "/blocked", upstream: "api", middleware: ["block"] },
          { path: "/failed", upstream: "api", middleware: ["fail"] },
          defineRoute({ path: "/users/:id", upstream: "api", onRequest(ctx) { return ctx.respond(200, "${name} " + ctx.params.id); } }),
          { path: "/*", upstream: "api" },
        ],
      });`;
    writeFileSync(file, source("one"));
    const gateway = createGateway({ file }, { logger, hookWorkers: 1 });
    await gateway.start();
    open.push(gateway);
    const base = gateway.address()?.url as string;
    expect(await (await fetch(`${base}/users/7`)).text()).toBe("one 7");
    const blocked = fetch(`${base}/blocked`);
    await sleep(50);
    const began = performance.now();
    expect((await fetch(`${base}/free`)).status).toBe(200);
    expect(performance.now() - began).toBeLessThan(500);
    expect((await blocked).status).toBe(504);
    expect((await fetch(`${base}/failed`)).status).toBe(500);
    await expect
      .poll(() => lines.find(({ message }) => message.includes("typed"))?.fields.stack)
      .toContain("titan.config.ts:9");
    writeFileSync(file, source("two"));
    await gateway.reload();
    expect(await (await fetch(`${base}/users/8`)).text()).toBe("two 8");
  });
});
