import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { defineHook, defineRoute } from "../../src/index.ts";
import { createTestGateway } from "../../src/testing/index.ts";

const examples = join(dirname(fileURLToPath(import.meta.url)), "../../examples/hooks");

it("shows route, policies, hooks, the rewritten request and the answer", async () => {
  const told: unknown[] = [];
  await using gateway = await createTestGateway(
    {
      upstreams: [
        { name: "api", backends: [{ host: "127.0.0.1", port: 1 }] },
        { name: "blue", backends: [{ host: "127.0.0.1", port: 1 }] },
      ],
      hooks: {
        all: defineHook({
          global: true,
          onRequest(ctx) {
            ctx.state.path = ctx.request.path;
            ctx.request.headers.set("x-seen", String(ctx.identity?.subject));
          },
          onResponse: (ctx) => ctx.response.headers.set("x-path", `${ctx.state.path} ${ctx.response.status}`),
          onError: (ctx) => ctx.response.headers.set("x-stage", ctx.error.stage),
          onLog: (ctx) => void told.push([ctx.status, ctx.state.path]),
        }),
      },
      rate_limit: { requests_per_second: 50 },
      jwt: { keys: [{ algorithm: "HS256", key_id: "k1", secret: "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTAwMDE=" }] },
      routes: [
        defineRoute({
          path: "/users/:id",
          auth: ["jwt", "anonymous"],
          upstream: "api",
          strip_prefix: "/users",
          onRequest(ctx) {
            if (ctx.params.id === "0") return ctx.json({ error: "nobody" }, 404);
            if (ctx.params.id === "9") throw new Error("nine");
            if (ctx.request.searchParams.has("blue")) ctx.forward({ upstream: "blue" });
            return undefined;
          },
        }),
        { path: "/gone", redirect: { status: 301, location: "/users/1" }, auth: "none" },
      ],
    },
    { upstreams: { api: ({ path }) => Response.json({ path }), blue: () => new Response("blue", { status: 201 }) } },
  );
  const one = await gateway.inject({ url: "/users/1", headers: { a: "b" }, identity: { subject: "jo" } });
  expect([one.status, one.json(), one.headers.get("x-path")]).toEqual([200, { path: "/1" }, "/users/1 200"]);
  expect(one.params).toEqual({ id: "1" });
  expect(one.policies.map(({ type }) => type)).toEqual(["rate_limit", "auth", "hook", "hook"]);
  expect(one.hooks.map(({ hook, handler, outcome }) => [hook, handler, outcome])).toEqual([
    ["all", "onRequest", "continued"],
    ["/users/:id.hook", "onRequest", "continued"],
    ["all", "onResponse", "continued"],
    ["all", "onLog", "continued"],
  ]);
  expect(one.forwarded).toMatchObject({ upstream: "api", path: "/1", method: "GET" });
  expect([one.forwarded?.headers.get("x-seen"), one.forwarded?.headers.get("a")]).toEqual(["jo", "b"]);
  const blue = await gateway.inject("https://any.test/users/2?blue");
  expect([blue.status, blue.body, blue.forwarded?.upstream]).toEqual([201, "blue", "blue"]);
  const nobody = await gateway.inject("/users/0");
  expect([nobody.status, nobody.forwarded, nobody.answeredBy]).toEqual([404, undefined, "/users/:id.hook"]);
  const nine = await gateway.inject("/users/9");
  expect([nine.status, nine.hooks.find(({ outcome }) => outcome === "failed")?.hook]).toEqual([500, "/users/:id.hook"]);
  expect(gateway.logs[0]?.fields.stack).toContain("testing.test.ts");
  const gone = await gateway.inject("/gone");
  expect([gone.status, gone.headers.get("location")]).toEqual([301, "/users/1"]);
  // Global authentication holds where no route is, too.
  expect((await gateway.inject("/nowhere")).status).toBe(401);
  const lost = await gateway.inject({ url: "/nowhere", identity: {} });
  expect([lost.status, lost.route]).toEqual([404, undefined]);
  expect(told).toContainEqual([200, "/users/1"]);
});

it("tests the examples' real configurations", async () => {
  await using tenants = await createTestGateway(join(examples, "tenant-routing.ts"));
  const acme = await tenants.inject({ url: "/a", identity: { claims: { tenant: "globex" } } });
  expect([acme.status, acme.forwarded?.upstream, acme.forwarded?.headers.get("x-tenant")]).toEqual([
    200,
    "globex",
    "globex",
  ]);
  expect((await tenants.inject({ url: "/a", identity: { claims: {} } })).status).toBe(403);

  await using redaction = await createTestGateway(join(examples, "response-redaction.ts"), {
    upstreams: { api: () => Response.json({ name: "n", ssn: "123" }, { headers: { "x-kept": "1" } }) },
  });
  const redacted = await redaction.inject("/people");
  expect([redacted.json(), redacted.headers.get("x-kept")]).toEqual([{ name: "n", ssn: "[redacted]" }, "1"]);
});
