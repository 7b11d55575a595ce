import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { formatIssues, type LoadResult, resolveConfig } from "../../src/config/index.ts";

const fixtures = join(dirname(fileURLToPath(import.meta.url)), "fixtures");

interface Policy {
  name: string;
  type: string;
  config: Record<string, unknown>;
}

const upstreams = [{ name: "api", backends: ["127.0.0.1:3000"] }];

async function lowered(input: object) {
  const result: LoadResult = await resolveConfig({ upstreams, ...input }, { env: {}, cwd: "/etc/titan" });
  if (!result.ok) throw new Error(formatIssues(result.issues));
  const native = result.native as {
    policies: Policy[];
    global: number[];
    routes: { name: string; policies: number[]; action: object; websocket?: object }[];
  };
  const of = (route: number) => (native.routes[route]?.policies ?? []).map((index) => native.policies[index] as Policy);
  return { native, of, issues: result.issues, warnings: result.issues.map((issue) => issue.code) };
}

describe("lowering", () => {
  it("turns every block into the native form that the data plane reads", async () => {
    const input = parse(readFileSync(join(fixtures, "everything.yaml"), "utf8"));
    const { native, issues } = await lowered(input);
    expect(issues).toEqual([]);
    await expect(`${JSON.stringify(native, null, 1)}\n`).toMatchFileSnapshot("fixtures/native.json");
  });

  it("leaves TLS and the port to the upstream where a backend's text says neither", async () => {
    const of = async (tls: boolean | undefined, ...backends: string[]) => {
      const result = await lowered({ upstreams: [{ name: "api", backends, ...(tls !== undefined && { tls }) }] });
      const [upstream] = (result.native as unknown as { upstreams: { backends: { port: number }[]; tls?: object }[] })
        .upstreams;
      return [upstream?.tls !== undefined, ...(upstream?.backends ?? []).map(({ port }) => port)];
    };
    expect(await of(true, "a.test:8443", "b.test", "c.test:80")).toEqual([true, 8443, 443, 80]);
    expect(await of(undefined, "a.test:8443", "b.test", "[::1]:81", "http://c.test")).toEqual([
      false,
      8443,
      80,
      81,
      80,
    ]);
    expect(await of(undefined, "https://a.test", "https://b.test:80")).toEqual([true, 443, 80]);
    await expect(of(true, "http://a.test")).rejects.toThrow("no TLS");
  });

  it("gives a split its conditions and its key", async () => {
    const canary = { upstream: "api", weight: 0, headers: { "X-Beta": "1" }, cookies: { beta: "yes" } };
    const route = { path: "/*", upstreams: [{ upstream: "api" }, canary], split_by: "header:X-User" };
    const { native, issues } = await lowered({ routes: [route] });
    expect(issues).toEqual([]);
    expect(native.routes[0]?.action).toEqual({
      type: "proxy",
      targets: [
        { upstream: "api", weight: 1 },
        {
          upstream: "api",
          weight: 0,
          headers: [{ name: "x-beta", exact: "1" }],
          cookies: [{ name: "beta", exact: "yes" }],
        },
      ],
      split_by: { from: "header", name: "x-user" },
    });
    const bad = await resolveConfig({ upstreams, routes: [{ ...route, split_by: "path" }] }, { env: {} });
    expect(bad.ok).toBe(false);
  });

  it("is not changed by resolving twice: the resolved form can be read again", async () => {
    const input = parse(readFileSync(join(fixtures, "everything.yaml"), "utf8"));
    const once = await resolveConfig(input, { env: {}, cwd: "/etc/titan" });
    if (!once.ok) throw new Error(formatIssues(once.issues));
    const twice = await resolveConfig(once.config, { env: {}, cwd: "/etc/titan" });
    if (!twice.ok) throw new Error(formatIssues(twice.issues));
    expect(twice.native).toEqual(once.native);
  });
});

describe("middleware", () => {
  const limit = (rps: number) => ({ type: "rate_limit", config: { requests_per_second: rps } });
  const ruling = (policies: Policy[]) => policies.map((policy) => policy.name);

  it("of a route replaces the global one of its type, and only that", async () => {
    const { of, native } = await lowered({
      rate_limit: {},
      cors: {},
      routes: [
        { path: "/a", upstream: "api" },
        { name: "b", path: "/b", upstream: "api", middleware: [limit(1)] },
      ],
    });
    expect(ruling(of(0))).toEqual(["global.rate_limit", "global.cors"]);
    expect(ruling(of(1))).toEqual(["b.rate_limit", "global.cors"]);
    expect(native.global.map((index) => native.policies[index]?.name)).toEqual(["global.rate_limit", "global.cors"]);
  });

  it("of one type twice: the first runs, with a warning", async () => {
    const { of, issues } = await lowered({
      routes: [{ name: "r", path: "/", upstream: "api", middleware: [limit(1), limit(2)] }],
    });
    expect(of(0)).toMatchObject([{ config: { limits: [{ requests: 1 }] } }]);
    expect(issues).toMatchObject([
      { severity: "warning", code: "second_of_type", path: "routes[0].middleware[1].config" },
    ]);
  });

  it("by name shares one policy, and so one set of counters", async () => {
    const { of, native } = await lowered({
      rate_limits: { strict: { requests_per_second: 5 } },
      routes: [
        { path: "/a", upstream: "api", middleware: "strict" },
        { path: "/b", upstream: "api", middleware: ["strict"] },
      ],
    });
    expect(of(0)).toEqual(of(1));
    expect(native.policies).toHaveLength(1);
  });

  it("of a surface takes the place of the global limit, counted where and how that is", async () => {
    const surfaces = [{ surface_id: "chat", rate_limit_rps: 10, rate_limit_burst: 20 }];
    const routes = [
      { path: "/chat", upstream: "api", surface: "chat" },
      { path: "/v1/chat", upstream: "api", surface: "chat" },
      { path: "/else", upstream: "api" },
    ];
    const config = { rate_limit: { requests_per_second: 1, key: "header:X-Tenant" }, surfaces, routes };
    const { of } = await lowered(config);
    const limit = { requests: 10, burst: 20, key: [{ from: "header", name: "x-tenant" }] };
    expect(of(0)).toMatchObject([{ name: "surface.chat", config: { limits: [limit] } }]);
    expect(of(1), "one policy, so one set of counters").toEqual(of(0));
    expect(ruling(of(2))).toEqual(["global.rate_limit"]);
    expect((await lowered({ ...config, rate_limit: { enabled: false } })).of(0), "limits are off").toEqual([]);
  });

  it("of surfaces from a file: what stands in the configuration wins, what is wrong in the file is refused", async () => {
    const dir = mkdtempSync(join(tmpdir(), "titan-surfaces-"));
    const file = join(dir, "gateway_surface.json");
    const routes = [
      { path: "/a", upstream: "api", surface: "a" },
      { path: "/b", upstream: "api", surface: "b" },
    ];
    const base = { surfaces_file: file, surfaces: { surface_id: "a", rate_limit_rps: 1 }, routes };
    const write = (value: unknown) => writeFileSync(file, JSON.stringify(value));
    write([
      { surface_id: "a", rate_limit_rps: 50 },
      { surface_id: "b", rate_limit_rps: 60, rate_limit_burst: 70, owner: "team" },
    ]);
    const { of } = await lowered(base);
    expect([of(0), of(1)]).toMatchObject([
      [{ config: { limits: [{ requests: 1, burst: 2 }] } }],
      [{ config: { limits: [{ requests: 60, burst: 70 }] } }],
    ]);
    const codes = async (config: object) =>
      (await resolveConfig({ upstreams, ...config }, { env: {} })).issues.map(({ code, path }) => `${code} ${path}`);
    write({ surface_id: "b", rate_limit_rps: -1 });
    expect(await codes(base)).toEqual(["wrong_type surfaces_file", "unknown_name routes[1].surface"]);
    writeFileSync(file, "{");
    expect(await codes({ ...base, routes: [] })).toEqual(["not_readable surfaces_file"]);
    const twice = [{ ...routes[0], middleware: [limit(1)] }];
    expect(await codes({ surfaces: base.surfaces, routes: twice })).toEqual(["contradiction routes[0].surface"]);
    rmSync(dir, { recursive: true });
  });

  it("that is switched off is not there", async () => {
    const { native } = await lowered({
      cors: { enabled: false },
      middleware: [{ type: "rate_limit", enabled: false }],
      routes: [{ path: "/", upstream: "api" }],
    });
    expect(native.policies).toEqual([]);
  });

  it("bursts to twice the rate unless it says otherwise, and takes rates below one", async () => {
    const { native } = await lowered({
      rate_limit: {
        limits: [{}, { requests_per_second: 5 }, { requests_per_second: 0.1 }, { requests_per_second: 1.5 }],
      },
    });
    expect(native.policies[0]?.config.limits).toMatchObject([
      { requests: 100, window_ms: 1000, burst: 200 },
      { requests: 5, window_ms: 1000, burst: 10 },
      { requests: 1, window_ms: 10_000, burst: 1 },
      { requests: 1500, window_ms: 1_000_000, burst: 3 },
    ]);
  });
});

describe("authentication", () => {
  const jwt = { keys: [{ algorithm: "HS256", secret: "c2VjcmV0c2VjcmV0" }] };
  const apikey = { keys: [{ id: "a", key: "12345678" }] };
  const auth = (policies: Policy[]) =>
    policies
      .filter((policy) => policy.type === "auth")
      .map(({ config }) => ({
        methods: (config.methods as { method: string }[]).map((m) => m.method),
        anonymous: config.anonymous,
      }));
  const route = (extra: object) => ({ path: `/${Math.random()}`, upstream: "api", ...extra });

  it("that is global holds on every route unless the route says otherwise", async () => {
    const { of } = await lowered({
      jwt,
      apikey,
      routes: [
        route({}),
        route({ auth_required: false }),
        route({ auth: "none" }),
        route({ auth: "apikey" }),
        route({ auth: "anonymous" }),
        route({ middleware: ["jwt"] }),
      ],
    });
    expect([0, 1, 2, 3, 4, 5].map((i) => auth(of(i)))).toEqual([
      [{ methods: ["jwt", "api_key"], anonymous: false }],
      [{ methods: ["jwt", "api_key"], anonymous: true }],
      [],
      [{ methods: ["api_key"], anonymous: false }],
      [{ methods: ["jwt", "api_key"], anonymous: true }],
      [{ methods: ["jwt"], anonymous: false }],
    ]);
  });

  it("is never lost: auth_required with anonymous requires, scopes without identity are refused", async () => {
    const { of } = await lowered({ jwt, routes: [route({ auth: "anonymous", auth_required: true })] });
    expect(auth(of(0))).toEqual([{ methods: ["jwt"], anonymous: false }]);
    const refused = await resolveConfig({ upstreams, routes: [route({ required_roles: ["admin"] })] }, { env: {} });
    expect(refused).toMatchObject({ ok: false, issues: [{ path: "routes[0].required_roles" }] });
    const none = await resolveConfig(
      { upstreams, jwt, routes: [route({ auth: "none", required_scopes: ["a"] })] },
      { env: {} },
    );
    expect(none.ok).toBe(false);
  });

  it("puts scopes and roles into an authorize policy with the claims of jwt_authz", async () => {
    const { of } = await lowered({
      jwt,
      jwt_authz: { roles_claim: "realm_access.roles" },
      routes: [route({ required_roles: "admin" })],
    });
    expect(of(0).at(-1)).toMatchObject({
      type: "authorize",
      config: { roles: ["admin"], scopes: [], roles_claim: "realm_access.roles", all_roles: false },
    });
  });

  it("modes need their blocks", async () => {
    const result = await resolveConfig({ upstreams, jwt, routes: [route({ auth: "both" })] }, { env: {} });
    expect(result).toMatchObject({ ok: false, issues: [{ code: "missing", path: "routes[0].auth" }] });
  });

  it("keeps secrets out of what is printed", async () => {
    const result = await resolveConfig({ upstreams, jwt, admin: { token: "averysecrettoken" } }, { env: {} });
    expect(JSON.stringify(result.ok && result.config)).not.toMatch(/c2VjcmV0|averysecret/);
  });
});

describe("listeners", () => {
  const ports = async (input: object) =>
    (
      (await lowered(input)).native as unknown as { listeners: { name: string; port: number; tls?: object }[] }
    ).listeners.map(({ name, port, tls }) => [name, port, tls !== undefined]);
  const tls = { cert_path: "a", key_path: "b" };
  it("come from the sugar of server, or from the list alone", async () => {
    expect(await ports({})).toEqual([["http", 8080, false]]);
    expect(await ports({ server: { tls } })).toEqual([
      ["http", 8080, false],
      ["https", 8443, true],
    ]);
    expect(await ports({ server: { tls: { ...tls, enabled: false } } })).toEqual([["http", 8080, false]]);
    expect(await ports({ listeners: [{ port: 1 }] })).toEqual([["http-1", 1, false]]);
    expect(await ports({ server: { port: 2 }, listeners: [{ port: 1, tls }] })).toEqual([
      ["http", 2, false],
      ["https-1", 1, true],
    ]);
    expect(
      await ports({
        server: { listen_port: 3, tls_enabled: true, tls_certificate_path: "a", tls_private_key_path: "b" },
      }),
    ).toEqual([
      ["http", 3, false],
      ["https", 8443, true],
    ]);
  });
});
