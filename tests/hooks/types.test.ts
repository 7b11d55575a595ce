import { expectTypeOf, it } from "vitest";
import {
  createGateway,
  defineConfig,
  defineHook,
  defineHookFactory,
  defineRoute,
  type Identity,
  type PathParams,
} from "../../src/index.ts";

it("names of a path are its parameters", () => {
  expectTypeOf<PathParams<"/users/:id/posts/:post">>().toEqualTypeOf<"id" | "post">();
  expectTypeOf<PathParams<"/files/*rest">>().toEqualTypeOf<"rest">();
  expectTypeOf<PathParams<"/files/*">>().toEqualTypeOf<"*">();
  expectTypeOf<PathParams<"/plain">>().toEqualTypeOf<never>();
  expectTypeOf<PathParams<string>>().toEqualTypeOf<string>();
});

it("functions of a route know its path", () => {
  defineRoute({
    path: "/users/:id",
    upstream: "api",
    onRequest(ctx) {
      expectTypeOf(ctx.params.id).toEqualTypeOf<string>();
      // @ts-expect-error the path has no such parameter
      ctx.params.idd;
      return ctx.respond(204);
    },
    onResponse: (ctx) => {
      ctx.response.headers.set("x-user", ctx.params.id);
    },
  });
});

it("functions of a plain route know its path too, each its own", () => {
  const config = defineConfig({
    server: { port: 1 },
    upstreams: [{ name: "api", backends: [{ host: "127.0.0.1", port: 3000 }] }],
    hooks: { tenant: defineHook({ onRequest: (ctx) => ctx.json({}) }) },
    routes: [
      {
        path: "/users/:id",
        upstream: "api",
        middleware: ["tenant"],
        onRequest(ctx) {
          expectTypeOf(ctx.params).toEqualTypeOf<Readonly<Record<"id", string>>>();
          // @ts-expect-error the path has no such parameter
          ctx.params.idd;
        },
        onLog: (ctx) => void expectTypeOf(ctx.params.id).toEqualTypeOf<string>(),
      },
      {
        path: "/files/:folder/*rest",
        upstream: "api",
        onRequest: async (ctx) => ctx.respond(200, ctx.params.folder + ctx.params.rest),
        onResponse(ctx) {
          // @ts-expect-error a parameter of another route
          ctx.params.id;
        },
      },
      { path: "/plain", upstream: "api", headers: { "x-a": "b" } },
      defineRoute({ path: "/c/:c", upstream: "api", onError: (ctx) => ctx.respond(404, ctx.params.c) }),
    ],
  });
  expectTypeOf(config.server.port).toEqualTypeOf<1>();
  createGateway(config);
});

it("routes made elsewhere, and configurations made by a function, are configurations", () => {
  const many = ["a", "b"].map((name) => ({ path: `/${name}`, upstream: name }));
  defineConfig({ routes: many });
  defineConfig({ routes: [...many, { path: "/x/:y", onRequest: (ctx) => void ctx.params.y }] });
  defineConfig(async ({ mode }) => ({
    description: mode,
    routes: [{ path: "/:id", onRequest: (ctx) => ctx.json(ctx.params.id) }],
  }));
  defineConfig({ extends: "titan:talos", routes: [{ path: "/", upstream: "of-the-preset" }] });
});

it("what a configuration may not say does not compile", () => {
  const upstreams = [{ name: "api", backends: ["127.0.0.1:3000"] }] as const;
  // @ts-expect-error no such upstream
  defineConfig({ upstreams, routes: [{ path: "/", upstream: "apo" }] });
  // @ts-expect-error no such key
  defineConfig({ upstreams, routes: [{ path: "/", upstraem: "api" }] });
  // @ts-expect-error no such key
  defineConfig({ upstreems: [] });
  // @ts-expect-error a hook answers or returns nothing
  defineConfig({ routes: [{ path: "/", onRequest: () => "text" }] });
});

it("what a route may not say does not compile", () => {
  // @ts-expect-error there is no such key
  defineRoute({ path: "/a", upstraem: "api" });
});

it("bodies have the type that was asked for", () => {
  defineHook({ body: "json", onRequest: (ctx) => void expectTypeOf(ctx.request.body).toEqualTypeOf<unknown>() });
  defineHook({ body: "text", onRequest: (ctx) => void expectTypeOf(ctx.request.body).toEqualTypeOf<string>() });
  defineHook({
    body: "bytes",
    responseBody: "text",
    onRequest: (ctx) => void expectTypeOf(ctx.request.body).toEqualTypeOf<Uint8Array>(),
    onResponse: (ctx) => void expectTypeOf(ctx.response.body).toEqualTypeOf<string>(),
  });
  defineHook({ onRequest: (ctx) => void expectTypeOf(ctx.request.body).toEqualTypeOf<undefined>() });
});

it("a new body has the form of the one that is read", () => {
  defineHook({ body: "json", onRequest: (ctx) => ctx.request.setBody({ any: ["json"] }) });
  defineHook({ body: "bytes", onRequest: (ctx) => ctx.request.setBody(new Uint8Array()) });
  // @ts-expect-error text is a string
  defineHook({ body: "text", onRequest: (ctx) => ctx.request.setBody(1) });
  // @ts-expect-error nothing is read
  defineHook({ onRequest: (ctx) => ctx.request.setBody("text") });
});

it("contexts offer what their point can do", () => {
  defineHook({
    onRequest(ctx) {
      expectTypeOf(ctx.identity).toEqualTypeOf<Identity | undefined>();
      expectTypeOf(ctx.claim("sub")).toEqualTypeOf<string | undefined>();
      ctx.rewrite({ path: "/a" });
    },
    onResponse(ctx) {
      // @ts-expect-error the request has gone
      ctx.request.headers.set("a", "b");
      // @ts-expect-error too late
      ctx.rewrite({ path: "/a" });
    },
    onLog(ctx) {
      expectTypeOf(ctx.durationMs).toEqualTypeOf<number>();
      // @ts-expect-error nobody waits for an answer
      ctx.respond(200);
    },
  });
  // @ts-expect-error a hook returns an answer or nothing
  defineHook({ onRequest: () => "text" });
});

it("state has the type that a hook gives it", () => {
  defineHook<string, undefined, undefined, { user: number }>({
    onRequest(ctx) {
      ctx.state.user = 1;
      // @ts-expect-error not a part of it
      ctx.state.other = 1;
    },
  });
});

it("a factory's options come from its schema", () => {
  const schema = { "~standard": { validate: () => ({ value: { limit: 1 } }) } } as const;
  defineHookFactory((options: { limit: number }) => {
    expectTypeOf(options.limit).toEqualTypeOf<number>();
    return defineHook({ onRequest: () => undefined });
  }, schema);
});

it("a configuration with hooks is a configuration", () => {
  const config = defineConfig({
    upstreams: [{ name: "api", backends: [{ host: "127.0.0.1", port: 3000 }] }],
    hooks: { tenant: defineHook({ global: true, onRequest: (ctx) => ctx.json({ ok: true }) }) },
    routes: [
      { path: "/a", upstream: "api", middleware: ["tenant"], onRequest: (ctx) => ctx.redirect("/b") },
      defineRoute({
        path: "/users/:id",
        upstream: "api",
        onRequest: (ctx) => {
          expectTypeOf(ctx.params.id).toEqualTypeOf<string>();
          return ctx.respond(200, ctx.params.id);
        },
      }),
    ],
  });
  expectTypeOf(createGateway).parameter(0).not.toBeNever();
  createGateway(config);
});
