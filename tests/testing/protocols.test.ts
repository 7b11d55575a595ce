/** What a test gateway plays beside plain HTTP/1.1: HTTP/2 clients, gRPC with its trailers, upgrades. */
import { describe, expect, it } from "vitest";
import type { ConfigInput } from "../../src/config/index.ts";
import { defineHook } from "../../src/index.ts";
import { withTrailers } from "../../src/testing/index.ts";
import { start } from "../helpers/test-gateway.ts";

const api = { name: "api", backends: ["api.internal:3000"] };
const calls = { name: "calls", protocol: "h2c", backends: ["calls.internal:50051"] } as const;
const call = {
  method: "POST",
  url: "/shop.Orders/Get",
  http2: true,
  headers: { "content-type": "application/grpc", te: "trailers" },
  body: new Uint8Array([0, 0, 0, 0, 2, 8, 7]),
};

describe("a client of HTTP/2", () => {
  it("meets the same policies, with and without TLS, and bodies of any size", async () => {
    const gateway = await start(
      {
        listeners: [
          { name: "plain", port: 8080 },
          { name: "closed", port: 8081, h2c: false },
        ],
        upstreams: [api],
        jwt: { keys: [{ algorithm: "HS256", secret: Buffer.alloc(32, 1).toString("base64") }] },
        routes: [{ path: "/users/:id", upstream: "api", max_request_size: "1MiB" }],
      },
      {
        upstreams: {
          api: ({ headers, body }) =>
            new Response(body, { headers: { "x-proto": `${headers.get("x-forwarded-proto")}` } }),
        },
      },
    );
    const big = "a".repeat(300_000);
    for (const scheme of ["http", "https"]) {
      const result = await gateway.inject({
        method: "PUT",
        url: `${scheme}://h.test/users/7?x=1`,
        http2: true,
        identity: { subject: "jo" },
        body: big,
      });
      expect([result.status, result.body === big, result.headers.get("x-proto")]).toEqual([200, true, scheme]);
      expect(result).toMatchObject({ route: "/users/:id", params: { id: "7" }, subject: "jo", upgraded: false });
      expect(result.forwarded).toMatchObject({ method: "PUT", path: "/users/7", query: "x=1" });
      expect([...result.headers.keys()]).not.toContain("transfer-encoding");
      expect([...result.trailers]).toEqual([]);
    }
    expect((await gateway.inject({ url: "/users/7", http2: true })).stage).toBe("auth");
    const head = await gateway.inject({ method: "HEAD", url: "/users/7", http2: true, identity: {} });
    expect([head.status, head.body]).toEqual([200, ""]);
    const none = await gateway.inject({ url: "/elsewhere", http2: true, identity: {} });
    expect([none.status, none.route]).toEqual([404, undefined]);
    const wrong = (request: object) => gateway.inject({ url: "/users/7", http2: true, ...request });
    await expect(wrong({ listener: "closed" })).rejects.toThrow('The listener "closed" speaks no HTTP/2');
    await expect(wrong({ headers: { connection: "close" } })).rejects.toThrow("belongs to HTTP/1.1");
  });
});

describe("gRPC", () => {
  it("has the trailers of the backend", async () => {
    const gateway = await start(
      { upstreams: [calls], routes: [{ path: "/shop.Orders/*", upstream: "calls" }] },
      {
        upstreams: {
          calls: ({ body, headers }) =>
            withTrailers(new Response(body, { headers: { "content-type": headers.get("content-type") as string } }), {
              "grpc-status": "5",
              "grpc-message": "no such order",
            }),
        },
      },
    );
    const result = await gateway.inject(call);
    expect([result.status, result.grpcStatus, result.trailers.get("grpc-message")]).toEqual([200, 5, "no such order"]);
    expect(Buffer.from(result.bytes)).toEqual(Buffer.from(call.body));
    expect(result.forwarded?.headers.get("te")).toBe("trailers");
  });

  it("is told by its own status what refused it", async () => {
    const gateway = await start(
      {
        upstreams: [calls],
        jwt: { keys: [{ algorithm: "HS256", secret: Buffer.alloc(32, 1).toString("base64") }] },
        routes: [
          { path: "/shop.Orders/*", upstream: "calls" },
          { path: "/shop.Admin/*", upstream: "calls", required_roles: ["admin"] },
        ],
      },
      { upstreams: { calls: () => Response.error() } },
    );
    const got = async (request: object) => {
      const { status, grpcStatus, stage } = await gateway.inject({ ...call, ...request });
      return [status, grpcStatus, stage];
    };
    expect(await got({})).toEqual([200, 16, "auth"]);
    expect(await got({ url: "/shop.Admin/Drop", identity: {} })).toEqual([200, 7, "authorize"]);
    expect(await got({ url: "/shop.Nothing/Get", identity: {} })).toEqual([200, 12, "no_route"]);
    expect((await got({ identity: {} })).slice(0, 2)).toEqual([200, 14]);
  });
});

it("passes announced trailers over HTTP/1.1", async () => {
  const gateway = await start(
    { upstreams: [api], routes: [{ path: "/*", upstream: "api" }] },
    { upstreams: { api: () => withTrailers(new Response("text"), { "x-checksum": "abc", "X-More": "d" }) } },
  );
  const one = await gateway.inject({ url: "/", headers: { te: "trailers" } });
  expect([one.body, Object.fromEntries(one.trailers)]).toEqual(["text", { "x-checksum": "abc", "x-more": "d" }]);
  const two = await gateway.inject({ url: "/", http2: true, headers: { te: "trailers" } });
  expect([two.body, Object.fromEntries(two.trailers)]).toEqual(["text", { "x-checksum": "abc", "x-more": "d" }]);
});

describe("a WebSocket", () => {
  const told: unknown[] = [];
  const config: ConfigInput = {
    upstreams: [api, { name: "h2", protocol: "h2c", backends: ["h2.internal:80"] }],
    hooks: {
      tell: defineHook({
        global: true,
        onResponse: (ctx) => void told.push(ctx.response.status),
        onLog: (ctx) => void told.push(ctx.status),
      }),
    },
    routes: [
      { path: "/chat", upstream: "api", websocket: { allowed_origins: ["https://a.test"], subprotocols: ["chat.v1"] } },
      { path: "/h2", upstream: "h2", websocket: {} },
      { path: "/plain", upstream: "api", websocket: false },
    ],
  };
  const upstreams = {
    api: ({ headers }: { headers: Headers }) =>
      new Response(null, { headers: { "sec-websocket-protocol": headers.get("sec-websocket-protocol") ?? "none" } }),
    h2: () => new Response(null, { status: 200 }),
  };

  it.each([
    [false, 101],
    [true, 200],
  ])("is opened or refused as its client would see it (HTTP/2: %s)", async (http2, opened) => {
    const gateway = await start(config, { upstreams });
    told.length = 0;
    const headers = { origin: "https://a.test" };
    const good = await gateway.inject({ url: "/chat", http2, websocket: ["chat.v1", "chat.v2"], headers });
    expect(good).toMatchObject({ status: opened, upgraded: true, route: "/chat", body: "" });
    expect(good.headers.get("sec-websocket-protocol")).toContain("chat.v1");
    expect(good.forwarded?.headers.get("sec-websocket-version")).toBe("13");
    await expect.poll(() => told, { timeout: 20_000 }).toEqual([opened, opened]);
    const origin = await gateway.inject({
      url: "/chat",
      http2,
      websocket: ["chat.v1"],
      headers: { origin: "https://b.test" },
    });
    expect([origin.status, origin.upgraded, origin.forwarded]).toEqual([403, false, undefined]);
    const protocol = await gateway.inject({ url: "/chat", http2, websocket: true, headers });
    expect([protocol.status, protocol.upgraded]).toEqual([400, false]);
    const other = await gateway.inject({ url: "/h2", http2, websocket: true });
    expect([other.status, other.upgraded, other.forwarded?.method]).toEqual([opened, true, "CONNECT"]);
    const off = await gateway.inject({ url: "/plain", http2, websocket: true });
    // Over HTTP/1.1 an upgrade may be left aside; over HTTP/2 any 200 would open it.
    expect([off.status, off.upgraded]).toEqual([http2 ? 403 : 200, false]);
    await expect(gateway.inject({ url: "/chat", http2, websocket: true, json: {} })).rejects.toThrow("without a body");
  });
});
