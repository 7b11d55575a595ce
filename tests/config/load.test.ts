// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of configurations
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import {
  defineConfig,
  findConfigFile,
  formatIssues,
  type Issue,
  type LoadOptions,
  loadConfig,
  resolveConfig,
  upstreamConfig,
} from "../../src/config/index.ts";

const fixtures = join(dirname(fileURLToPath(import.meta.url)), "fixtures");
const folder = mkdtempSync(join(tmpdir(), "titan-config-"));
afterAll(() => rmSync(folder, { recursive: true }));

const minimal = {
  upstreams: [{ name: "api", backends: ["127.0.0.1:3000"] }],
  routes: [{ path: "/*", upstream: "api" }],
};

function write(name: string, text: string): string {
  const file = join(folder, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
  return file;
}

async function ok(file: string, options: LoadOptions = { env: {} }) {
  const result = await loadConfig(file, options);
  if (!result.ok) throw new Error(formatIssues(result.issues));
  return result;
}

async function issuesOf(input: unknown, options: LoadOptions = { env: {} }): Promise<Issue[]> {
  return (await resolveConfig(input, options)).issues;
}

describe("the guide's sample and the alias form", () => {
  it("are accepted as they stand, without a word", async () => {
    expect((await ok(join(fixtures, "guide.json"))).issues).toEqual([]);
    expect((await ok(join(fixtures, "alias.json"))).issues).toEqual([]);
  });

  it("mean the same", async () => {
    const alias = await ok(join(fixtures, "alias.json"));
    const guide = await resolveConfig(
      {
        server: { workers: 2, host: "127.0.0.1", port: 8080 },
        upstreams: [
          {
            name: "api",
            load_balancing: "least_connections",
            health_check: { enabled: true, interval_seconds: 30, timeout_seconds: 5, path: "/health" },
            circuit_breaker: {},
            backends: [{ host: "127.0.0.1", port: 3000 }],
          },
        ],
        routes: [
          {
            path: "/api/users/:id",
            method: "GET",
            upstream: "api",
            priority: 10,
            timeout: 5000,
            strip_prefix: "/api",
            middleware: ["strict"],
            auth_required: true,
            required_scopes: ["read:users"],
            required_roles: ["admin"],
          },
        ],
        middleware: [
          { type: "rate_limit", config: { requests_per_second: 1000, burst: 2000 } },
          { type: "cors", config: {} },
          {
            type: "jwt",
            config: {
              keys: [{ algorithm: "RS256", key_id: "k1", public_key_path: join(fixtures, "k1.pem") }],
              allowed_issuers: ["https://idp"],
              allowed_audiences: ["api"],
            },
          },
        ],
        named_middleware: { strict: { type: "rate_limit", config: { requests_per_second: 5, burst: 10 } } },
        server_note: undefined,
        logging: { format: "json", exclude_paths: ["/health"] },
      },
      { env: {} },
    );
    if (!guide.ok) throw new Error(formatIssues(guide.issues));
    expect(guide.native).toEqual(alias.native);
  });
});

describe("files", () => {
  it("may be JSON with comments and trailing commas", async () => {
    const { config } = await ok(write("a.json", '\ufeff{ // note\n "server": {"port": 1,}, /* x */ }'));
    expect(config.server.port).toBe(1);
  });

  it("may be YAML, with anchors and a version that YAML reads as a number", async () => {
    const { native } = await ok(
      write(
        "a.yaml",
        "x-limits: &limits {max_connections: 7}\nserver:\n  port: 81\n  tls: {cert_path: a, key_path: b, min_version: 1.3}\nupstreams:\n- name: u\n  backends: [{host: a, <<: *limits}]\nroutes:\n- {path: /*, upstream: u}\n".replace(
          "/*",
          '"/*"',
        ),
      ),
    );
    expect(native.upstreams).toMatchObject([{ backends: [{ max_connections: 7 }] }]);
    expect(native.listeners).toMatchObject([{ port: 81 }, { port: 8443, tls: { min_version: "1.3" } }]);
  });

  it.each([
    ["JSON", "broken.json", '{\n  "server": {\n    "port": 1 2\n  }\n}', 3, 15],
    ["YAML", "broken.yaml", "server:\n  port: 1\n  port: 2\n", 3, 3],
  ])("say where %s is broken", async (_, name, text, line, column) => {
    const result = await loadConfig(write(name, text), { env: {} });
    expect(result.ok).toBe(false);
    expect(result.issues[0]).toMatchObject({ code: "syntax", severity: "error", line, column });
  });

  it("say where YAML has a wrong value, on the key for unknown keys", async () => {
    const result = await loadConfig(
      write(
        "wrong.yaml",
        "server:\n  port: abc\nroutes:\n  - path: /\n    upstream: none\n  - path: nowhere\n    upstraem: x\n",
      ),
      { env: {} },
    );
    expect(result.issues.map(({ path, line, column }) => [path, line, column])).toEqual([
      ["server.port", 2, 9],
      ["routes[0].upstream", 5, 15],
      ["routes[1]", 6, 5],
      ["routes[1].path", 6, 11],
      ["routes[1].upstraem", 7, 5],
    ]);
  });

  it("that do not exist are an issue, not an exception", async () => {
    const result = await loadConfig(join(folder, "nothing.json"), { env: {} });
    expect(result).toMatchObject({ ok: false, issues: [{ code: "not_readable", message: "the file does not exist" }] });
  });

  it("are looked for in the documented order", () => {
    const place = join(folder, "search");
    write("search/titan.yaml", "");
    expect(findConfigFile(place)).toBe(join(place, "titan.yaml"));
    write("search/titan.json", "");
    expect(findConfigFile(place)).toBe(join(place, "titan.json"));
    write("search/titan.config.ts", "");
    expect(findConfigFile(place)).toBe(join(place, "titan.config.ts"));
  });
});

describe("modules", () => {
  it("may be TypeScript with a function, imports and the package's own name, afresh each time", async () => {
    const part = write("mod/part.ts", "export const port: number = 4001;");
    const file = write(
      "mod/titan.config.ts",
      `import { defineConfig } from "@titan-gateway/titan";
       import { port } from "./part.ts";
       interface Unused { a: string }
       export default defineConfig(async ({ mode, env }) => ({
         server: { port },
         description: mode + " " + env.WHO,
         upstreams: [{ name: "api", backends: ["127.0.0.1:3000"] }],
         routes: [{ path: "/*", upstream: "api" }],
       }));`,
    );
    const first = await ok(file, { env: { WHO: "me", TITAN_ENV: "staging" } });
    expect(first.config).toMatchObject({ description: "staging me", server: { port: 4001 } });
    expect(first.files).toContain(part);
    writeFileSync(part, "export const port = 4002;");
    expect((await ok(file)).config.server.port).toBe(4002);
  });

  it("that throw say why and where", async () => {
    const result = await loadConfig(write("mod/bad.config.mjs", '\nthrow new Error("no such thing");\n'), { env: {} });
    expect(result).toMatchObject({
      ok: false,
      issues: [{ code: "module_failed", message: "the configuration module failed: no such thing", line: 2 }],
    });
  });

  it("that do not parse say where", async () => {
    const result = await loadConfig(write("mod/syntax.config.ts", "export default {\n  a: = 1,\n};\n"), { env: {} });
    expect(result).toMatchObject({ ok: false, issues: [{ code: "module_failed", line: 2 }] });
  });
});

describe("variables", () => {
  const env = { PORT: "8123", HOSTS: "https://a.example,https://b.example", EMPTY: "", FLAG: "true" };
  it("are replaced in any string, with defaults", async () => {
    const result = await resolveConfig(
      {
        ...minimal,
        description: "${PORT}-${NONE:-x}-${EMPTY:-y}-$${PORT}",
        server: { port: "${PORT}" },
        cors: { allowed_origins: "${HOSTS}", allow_credentials: "${FLAG}" },
      },
      { env },
    );
    if (!result.ok) throw new Error(formatIssues(result.issues));
    expect(result.config).toMatchObject({
      description: "8123-x-y-${PORT}",
      server: { port: 8123 },
      cors: { allowed_origins: ["https://a.example", "https://b.example"], allow_credentials: true },
    });
  });

  it("leave the data plane's own variables alone", async () => {
    const result = await resolveConfig(
      { ...minimal, middleware: [{ type: "headers", config: { request: [{ name: "x-ip", value: "${client_ip}" }] } }] },
      { env },
    );
    expect(result.ok && JSON.stringify(result.native.policies)).toContain("${client_ip}");
  });

  it("that are not set are errors at their place", async () => {
    const result = await loadConfig(write("env.json", '{"server":\n {"host": "${NOPE}"}}'), { env });
    expect(result.issues).toMatchObject([
      { code: "unset_variable", line: 2, column: 11, severity: "error", path: "server.host" },
    ]);
  });

  it("of Titan win over the file, in either spelling of it", async () => {
    const file = write(
      "over.json",
      JSON.stringify({ ...minimal, server: { worker_threads: 3, listen_port: 1, log_level: "info" } }),
    );
    const { config, native } = await ok(file, {
      env: { TITAN_WORKERS: "5", TITAN_PORT: "99", TITAN_HOST: "127.0.0.1", TITAN_LOG_LEVEL: "WARNING" },
    });
    expect(config).toMatchObject({
      server: { workers: 5, port: 99, host: "127.0.0.1", log_level: "warn" },
      logging: { level: "warn" },
    });
    expect(native).toMatchObject({ workers: 5, listeners: [{ address: "127.0.0.1", port: 99 }] });
  });

  it("of Titan that are wrong name themselves", async () => {
    expect(await issuesOf(minimal, { env: { TITAN_PORT: "http" } })).toMatchObject([
      { path: "server.port", message: 'must be a whole number, not "http" (from the environment variable TITAN_PORT)' },
    ]);
  });
});

describe("extends", () => {
  it("merges blocks, joins routes and points into the right file", async () => {
    write(
      "base.yaml",
      "server: {port: 1, https_port: 2, workers: 1}\nupstreams:\n- {name: api, backends: ['a:1']}\n- {name: other, backends: ['b:1']}\nroutes:\n- {path: /base, upstream: missing}\n",
    );
    const file = write(
      "top.json",
      JSON.stringify({
        extends: "./base.yaml",
        server: { port: 9 },
        upstreams: [{ name: "api", backends: ["c:1"] }],
        routes: [{ path: "/top", upstream: "other" }],
      }),
    );
    const result = await loadConfig(file, { env: {} });
    expect(result.issues).toMatchObject([
      { path: "server.https_port", file: join(folder, "base.yaml"), line: 1 },
      { path: "routes[1].upstream", file: join(folder, "base.yaml"), line: 6 },
    ]);
    expect(result.files.map((path) => path.slice(folder.length + 1)).sort()).toEqual(["base.yaml", "top.json"]);
  });

  it("refuses cycles and unknown presets", async () => {
    const a = write("cycle-a.json", '{"extends": "./cycle-b.json"}');
    write("cycle-b.json", '{"extends": "./cycle-a.json"}');
    expect((await loadConfig(a, { env: {} })).issues).toMatchObject([{ code: "cycle" }]);
    expect(await issuesOf({ extends: "titan:talso" })).toMatchObject([
      { code: "unknown_preset", suggestion: "titan:talos" },
    ]);
  });
});

describe("mistakes", () => {
  it("are all reported at once, each at its place", async () => {
    const result = await loadConfig(join(fixtures, "mistakes.jsonc"), { env: {} });
    expect(result.ok).toBe(false);
    const expected = readFileSync(join(fixtures, "mistakes.txt"), "utf8");
    expect(`${formatIssues(result.issues, { cwd: fixtures })}\n`).toBe(expected);
  });

  it("in a key that protects nothing are warnings, errors with strict", async () => {
    const input = { ...minimal, server: { prot: 1 } };
    expect(await resolveConfig(input, { env: {} })).toMatchObject({
      ok: true,
      issues: [{ severity: "warning", suggestion: "port", path: "server.prot" }],
    });
    expect(await resolveConfig(input, { env: {}, strict: true })).toMatchObject({
      ok: false,
      issues: [{ severity: "error" }],
    });
  });

  it.each([
    [{ routes: [{ path: "/", upstream: "api", auth_requird: true }] }, "routes[0].auth_requird"],
    [{ routes: [{ path: "/", upstream: "api", require_auth: true }] }, "routes[0].require_auth"],
    [{ rate_limt: { requests_per_second: 1 } }, "rate_limt"],
    [{ rate_limit: { request_per_second: 1 } }, "rate_limit.request_per_second"],
    [{ cors: { allow_origin: ["https://a.example"] } }, "cors.allow_origin"],
    [{ server: { max_conections: 1 } }, "server.max_conections"],
    [{ middleware: [{ type: "rate_limit", config: { brust: 1 } }] }, "middleware[0].config.brust"],
  ])("that would fail open are errors: %j", async (part, path) => {
    const issues = await issuesOf({ ...minimal, ...part });
    expect(issues).toMatchObject([{ severity: "error", code: "unknown_key", path }]);
  });

  it.each([
    ["port clash with the admin listener", { server: { port: 9090 } }, "port_clash"],
    ["port clash of listeners", { listeners: [{ port: 1 }, { port: 1, address: "127.0.0.1" }] }, "port_clash"],
    ["https without a certificate", { server: { https_port: 1 } }, "missing"],
    ["a certificate without its key", { server: { tls: { cert_path: "a" } } }, "missing"],
    [
      "client certificates without a CA",
      { server: { tls: { cert_path: "a", key_path: "b", client_auth: "required" } } },
      "missing",
    ],
    ["credentials for every origin", { cors: { allow_credentials: true } }, "contradiction"],
    [
      "a look-around",
      { routes: [{ path: "/", upstream: "api", rewrite_regex: { pattern: "(?=a)", replacement: "" } }] },
      "bad_regex",
    ],
    ["too many middleware", { routes: [{ path: "/", upstream: "api", middleware: Array(21).fill("x") }] }, "too_many"],
    ["authentication without any", { routes: [{ path: "/", upstream: "api", auth_required: true }] }, "missing"],
    [
      "an hmac key of the wrong kind",
      { jwt: { keys: [{ algorithm: "HS256", public_key_path: "a.pem" }] } },
      "contradiction",
    ],
    ["a token scheme without keys", { jwt: {} }, "missing"],
    ["h2 without TLS", { upstreams: [{ name: "api", backends: ["a:1"], protocol: "h2" }] }, "contradiction"],
    ["a mix of TLS and none", { upstreams: [{ name: "api", backends: ["http://a", "https://b"] }] }, "contradiction"],
    ["an unknown parameter", { routes: [{ path: "/a/:id", upstream: "api", rewrite_path: "/b/:di" }] }, "unknown_name"],
    ["a negative duration", { server: { idle_timeout: -1 } }, "out_of_range"],
    ["a duration beyond a year", { server: { idle_timeout: "400d" } }, "out_of_range"],
    ["a list where an object belongs", { server: [] }, "wrong_type"],
    ["null", { routes: null }, "wrong_type"],
    [
      "a disabled guard that a route lists",
      { jwt: { enabled: false }, routes: [{ path: "/", upstream: "api", middleware: ["jwt"] }] },
      "disabled",
    ],
    ["a limit of an unknown key", { rate_limit: { key: "ipp" } }, "bad_key"],
    ["two upstreams of one name", { upstreams: [minimal.upstreams[0], minimal.upstreams[0]] }, "duplicate_name"],
    ["a wildcard inside", { routes: [{ path: "/a*b", upstream: "api" }] }, "bad_path"],
    ["dots in a path", { routes: [{ path: "/a/../b", upstream: "api" }] }, "bad_path"],
    ["a port in a route's host", { routes: [{ path: "/", upstream: "api", host: "a.example:80" }] }, "bad_host"],
  ])("%s", async (_, part, code) => {
    const issues = (await issuesOf({ ...minimal, ...part })).filter((issue) => issue.severity === "error");
    expect(issues.map((issue) => issue.code)).toContain(code);
  });

  it("a URL where a route names its upstream: how to write it", async () => {
    const [issue] = await issuesOf({ routes: [{ path: "/*", upstream: "http://127.0.0.1:3000" }] });
    expect(issue).toMatchObject({ code: "unknown_name", path: "routes[0].upstream" });
    expect(issue?.message).toContain('put { "name": "app", "backends": ["http://127.0.0.1:3000"] } into "upstreams"');
  });

  it("of the data plane find their way back", async () => {
    const file = write(
      "back.json",
      '{\n "upstreams": [{"name": "api",\n  "backends": [{"host": "a", "port": 1}]}],\n "routes": [{"path": "/*", "upstream": "api", "middleware": [\n  {"type": "cors", "config": {"allowed_origins": ["/a/"]}}]}]\n}',
    );
    const result = await ok(file);
    const [host, origin, whole] = result.locate([
      { path: "upstreams[0].backends[0].host", message: "m" },
      { path: "policies[0].config.allowed_origins[0]", message: "m" },
      { path: "listeners[0].address", message: "m" },
    ]);
    expect(host).toMatchObject({ line: 3, path: "upstreams[0].backends[0].host" });
    expect(origin).toMatchObject({ line: 5, path: "routes[0].middleware[0].config.allowed_origins[0]" });
    expect(whole).toMatchObject({ path: "server.host", severity: "error" });
  });
});

describe("--upstream", () => {
  it.each([
    ["http://127.0.0.1:3000", { backends: [{ host: "127.0.0.1", port: 3000 }], host: "preserve" }],
    ["localhost:3000", { backends: [{ host: "localhost", port: 3000 }] }],
    [
      "https://api.example.com",
      { backends: [{ host: "api.example.com", port: 443 }], tls: { verify: true }, host: "backend" },
    ],
    ["http://[::1]:1", { backends: [{ host: "::1", port: 1 }] }],
  ])("%s", async (upstream, expected) => {
    const result = await resolveConfig(upstreamConfig({ upstream }), { env: {} });
    if (!result.ok) throw new Error(formatIssues(result.issues));
    expect(result.native.upstreams).toMatchObject([expected]);
    expect(result.native.listeners).toMatchObject([{ address: "127.0.0.1", port: 8080 }]);
  });

  it("keeps a base path, and serves HTTPS with a certificate", async () => {
    const result = await resolveConfig(
      upstreamConfig({ upstream: "http://a/base/", port: 1, tls: { cert_path: "/c", key_path: "/k" } }),
      { env: {} },
    );
    expect(result).toMatchObject({
      ok: true,
      native: { listeners: [{ port: 1, tls: {} }], routes: [{ action: { rewrite: { add_prefix: "/base" } } }] },
    });
  });

  it.each(["", "ftp://a", "http://u:p@a", "http://a?b", "http://"])("refuses %j with a sentence", (upstream) =>
    expect(() => upstreamConfig({ upstream })).toThrow(/--upstream/),
  );
});

describe("examples", () => {
  const examples = join(fixtures, "../../../examples");
  it.each(readdirSync(examples).filter((name) => /^[^.]+(\.config)?\.(json|jsonc|yaml|ts)$/.test(name)))(
    "%s is accepted without a word",
    async (name) => {
      expect((await ok(join(examples, name), { env: {}, strict: true })).issues).toEqual([]);
    },
  );
});

describe("hooks of packages", () => {
  it("are refused at their place, and take nobody else's", async () => {
    const home = join(folder, "node_modules/titan-strict");
    mkdirSync(home, { recursive: true });
    writeFileSync(join(home, "package.json"), '{"name":"titan-strict","version":"1.0.0","main":"index.cjs"}');
    writeFileSync(
      join(home, "index.cjs"),
      `const validate = (value) => value.bad ? { issues: [{ message: "is bad", path: ["bad"] }] } : { value };
       module.exports = { [Symbol.for("titan.hookFactory")]: true, options: { "~standard": { validate } },
         create: () => ({ [Symbol.for("titan.hook")]: true, onRequest() {} }) };`,
    );
    const file = write(
      "packages.yaml",
      `upstreams:
  - { name: api, backends: ["127.0.0.1:1"] }
middleware:
  - type: titan-strict
  - type: ip_filter
    config: { alow: ["10.0.0.0/8"], deny: ["10.0.0.1/32"] }
routes:
  - path: /*
    upstream: api
    middleware:
      - type: titan-strict
        config:
          bad: true
      - { type: rate-limt, config: { requests: 1 } }
      - { type: rate_limit, config: { requsts: 1, requests: 1 } }
`,
    );
    const { issues } = await loadConfig(file, { env: {} });
    expect(
      formatIssues(issues, { cwd: folder }),
    ).toBe(`packages.yaml:6:15: error: middleware[1].config.alow: unknown key "alow"; did you mean "allow"?
packages.yaml:13:16: error: routes[0].middleware[0].config.bad: is bad
packages.yaml:14:17: error: routes[0].middleware[1].type: there is no middleware type or hook "rate-limt", and no package of that name is installed beside the configuration; did you mean "rate-limit"?
packages.yaml:15:39: error: routes[0].middleware[2].config.requsts: unknown key "requsts"; did you mean "requests"?`);
  });
});

describe("types", () => {
  it("of defineConfig refuse what the schema refuses", () => {
    const upstream = { name: "api", backends: ["a:1"] } as const;
    defineConfig({ upstreams: [upstream], routes: [{ path: "/", upstream: "api" }] });
    // @ts-expect-error: no upstream has this name
    defineConfig({ upstreams: [upstream], routes: [{ path: "/", upstream: "apo" }] });
    // @ts-expect-error: a port is a number
    defineConfig({ server: { port: true } });
    // @ts-expect-error: an unknown middleware type
    defineConfig({ middleware: [{ type: "nothing", config: {} }] });
    defineConfig({
      extends: "titan:talos",
      upstreams: [upstream],
      routes: [{ path: "/", upstream: "from-the-preset" }],
    });
    defineConfig(async ({ mode, env }) => ({ description: `${mode} ${env.X}` }));
  });
});

describe("variants", () => {
  const input = {
    ...minimal,
    variants: [
      { if: { MODE: "prod" }, set: { description: "prod", server: { port: "${P:-1}" } } },
      { if: { MODE: ["prod", "test"], X: { not: "1" } }, set: { server: { workers: 2 } } },
      { if: { MODE: "prod", Y: false }, require: { "rate_limit.backend": "redis" }, message: "needs Redis" },
      { if: { Z: true }, message: "Z is not for this" },
    ],
  };
  it("are put in where their conditions are met, and only then need their variables", async () => {
    expect(await resolveConfig(input, { env: { MODE: "test" } })).toMatchObject({
      ok: true,
      config: { server: { workers: 2 } },
    });
    expect(await resolveConfig(input, { env: { MODE: "prod", Y: "1", X: "1", P: "9" } })).toMatchObject({
      ok: true,
      config: { description: "prod", server: { port: 9, workers: 0 } },
    });
  });
  it("refuse what they forbid and what lacks what they require", async () => {
    expect(await issuesOf(input, { env: { MODE: "prod" } })).toMatchObject([
      { code: "required", message: "needs Redis" },
    ]);
    expect(await issuesOf(input, { env: { Z: "1" } })).toMatchObject([
      { code: "refused", message: "Z is not for this", path: "variants[3]" },
    ]);
    expect(await issuesOf({ ...minimal, variants: [{ when: {} }] })).toMatchObject([{ path: "variants[0]" }]);
  });
  it("read ${NAME:+text}, and an empty variable leaves an optional setting at its default", async () => {
    const value = { ...minimal, description: "${A:+set}${B:+set}", server: { port: "${B:-}", max_headers: "${B:-}" } };
    expect(await resolveConfig(value, { env: { A: "1" } })).toMatchObject({
      ok: true,
      config: { description: "set", server: { port: 8080, max_headers: 100 } },
    });
  });
});
