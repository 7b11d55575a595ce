/** The command line, apart from serving: what it prints, where, and its exit codes. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, expect, test } from "vitest";
import { expired } from "../helpers/certificate.ts";

const MAIN = resolve(import.meta.dirname, "../../dist/cli/main.js");
const directory = mkdtempSync(join(tmpdir(), "titan-cli-"));
afterAll(() => rmSync(directory, { recursive: true }));

function titan(args: string[], options: { cwd?: string; env?: Record<string, string> } = {}) {
  const env = { ...process.env, TITAN_RUNTIME_DIR: join(directory, "run"), ...options.env };
  const done = spawnSync(process.execPath, [MAIN, ...args], { cwd: options.cwd ?? directory, env, encoding: "utf8" });
  return { code: done.status, out: done.stdout, err: done.stderr };
}

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

const good = file(
  "good.yaml",
  `
upstreams:
  - name: api
    backends: [{ host: 127.0.0.1, port: 3000 }, { host: 127.0.0.1, port: 3001, weight: 2 }]
  - name: slow
    backends: [{ host: 127.0.0.1, port: 3002 }]
routes:
  - { name: user, path: "/users/:id", method: GET, upstream: api, rewrite_path: "/v1/people/:id" }
  - { name: users, path: "/users/*", upstream: slow, middleware: [{ type: rate_limit, config: { requests_per_second: 5, burst: 10 } }] }
  - { name: old, path: /old, redirect: { location: /new, status: 301 } }
cors: { allowed_origins: ["https://example.com"] }
`,
);

test("check: every problem at once with line and column, exit code 2", () => {
  const path = file(
    "bad.json",
    `{
  // comments are allowed
  "upstreams": [{ "name": "api", "backends": [{ "host": "127.0.0.1", "port": "many" }] }],
  "routes": [{ "path": "/x", "upstream": "apj" }],
  "rate_limit": { "requests_per_secnd": 5 }
}`,
  );
  const { code, out, err } = titan(["check", path]);
  expect(code).toBe(2);
  expect(out).toBe("");
  expect(err).toContain(`bad.json:3:`);
  expect(err).toContain(`bad.json:4:`);
  expect(err).toMatch(/apj.*[\s\S]*api/);
  expect(err).toContain("requests_per_second");
  const json = JSON.parse(titan(["check", "--json", path]).out);
  expect(json.ok).toBe(false);
  expect(
    json.issues.filter(({ severity }: { severity: string }) => severity === "error").length,
  ).toBeGreaterThanOrEqual(3);
});

test("check: a certificate that has expired is a warning with its place", () => {
  const { cert_path, key_path } = expired("old.test");
  const tls = { enabled: true, cert_path, key_path };
  const config = { server: { https_port: 8443, tls }, routes: [{ path: "/x", redirect: { location: "/y" } }] };
  const path = file("expired.json", JSON.stringify(config, null, 2));
  const { code, err } = titan(["check", path]);
  expect(code, err).toBe(0);
  expect(err).toMatch(/expired\.json:\d+:.*warning.*\n?.*expired on Tue, 01 Jan 2002/);
  const { ok, issues } = JSON.parse(titan(["check", "--json", path]).out);
  expect(ok).toBe(true);
  expect(issues).toMatchObject([{ severity: "warning", message: expect.stringContaining(cert_path) }]);
});

test("check: a good file is ok, in every form", () => {
  expect(titan(["check", good])).toMatchObject({ code: 0, out: "" });
  file(
    "titan.config.ts",
    'import type {} from "node:fs";\nconst port: number = 8081;\nexport default () => ({ server: { port } });\n',
  );
  expect(titan(["check", "--print", "titan.config.ts"]).out).toContain('"port": 8081');
  rmSync(join(directory, "titan.config.ts"));
  expect(titan(["check", "no-such.yaml"]).code).toBe(2);
});

test("check: what only the data plane can see has its place too", () => {
  const path = file(
    "cert.yaml",
    `server:\n  https_port: 8443\n  tls:\n    enabled: true\n    cert_path: ${good}\n    key_path: ${good}\n`,
  );
  const { code, err } = titan(["check", path]);
  expect(code).toBe(2);
  expect(err).toMatch(/cert\.yaml:\d+:\d+/);
});

test("check: the mistakes that the data plane finds in middleware, routes and their files have their places", () => {
  file("users", "bob:plain\n");
  file("networks", "10.0.0.1\nnowhere\n");
  const path = file(
    "native.json",
    `{
  "upstreams": [{ "name": "api", "backends": ["127.0.0.1:1"] }],
  "apikey": { "keys": [{ "id": "a", "key": "0123456789abcdef" },
    { "id": "b", "key": "0123456789abcdef" }] },
  "basic": { "file": "users" },
  "ip_filter": { "deny_file": "networks" },
  "jwt": { "keys": [{ "algorithm": "RS256",
    "public_key_path": "nothing.pem" }] },
  "routes": [
    { "path": "/a", "upstream": "api", "middleware": ["basic", "apikey"], "transform": { "request_headers": [
      { "name": "X", "value": "\${nope}" }] } },
    { "path": "/b", "upstream": "api", "auth": "basic", "auth_required": false,
      "transform": { "path_rewrites": [{ "type": "regex", "pattern": "x", "replacement": "$9" }] } },
    { "path": "/c", "redirect": {
      "location": "/x/:nope" } },
    { "path": "/d", "upstream": "api", "headers": [
      { "name": "X", "regex": "\\\\p{Foo}" }] }
  ],
  "health": { "critical": [
    "upstream:none"] }
}`,
  );
  const { code, out } = titan(["check", "--json", path]);
  expect(code).toBe(2);
  const issues = JSON.parse(out).issues as { path: string; line: number; message: string }[];
  expect(issues.map((issue) => `${issue.line} ${issue.path}`)).toEqual([
    "4 apikey.keys[1]",
    "5 basic.file",
    "6 ip_filter.deny_file",
    "8 jwt.keys[0].public_key_path",
    "11 routes[0].transform.request_headers[0].value",
    "13 routes[1].transform.path_rewrites[0]",
    "15 routes[2].redirect.location",
    "17 routes[3].headers[0].regex",
    "20 health.critical[0]",
  ]);
  expect(issues[2]?.message).toContain(`${join(directory, "networks")}:2: "nowhere"`);
});

test("check: a name without an address is a warning at its place", () => {
  const path = file(
    "names.yaml",
    `dns: { servers: ["127.0.0.1:9"], timeout: 200ms }
upstreams:
  - name: api
    backends:
      - { host: 127.0.0.1, port: 1 }
      - { host: nobody.invalid, port: 1 }
routes: [{ path: "/*", upstream: api }]
`,
  );
  const { code, err } = titan(["check", path]);
  expect(code, err).toBe(0);
  expect(err).toMatch(/names\.yaml:6:\d+: warning: upstreams\[0\]\.backends\[1\]\.host: .*nobody\.invalid/);
});

test("check: a key that is there twice in JSON is an error, as in YAML", () => {
  const path = file("twice.json", '{\n  "server": { "port": 1, // "port":\n    "host": "::1", "port": 2 }\n}\n');
  const { code, err } = titan(["check", path]);
  expect(code).toBe(2);
  expect(err).toContain("twice.json:3:20: error: server.port: the key is there twice");
});

test("explain: what Titan answers by itself", () => {
  const told = (...args: string[]) => titan(["explain", ...args, "--config", good]).out;
  expect(told("GET", "/_health")).toContain("built in health");
  expect(told("POST", "/_ready")).toContain("405 Allow: GET, HEAD");
  expect(told("OPTIONS", "*")).toContain("built in options");
});

test("explain: what is no request is a mistake of usage", () => {
  for (const args of [
    ["G T", "/x"],
    ["GET", "/x", "--ip", "nowhere"],
    ["GET", "/x", "-H", "nothing"],
  ]) {
    const { code, err } = titan(["explain", ...args, "--config", good]);
    expect(code, err).toBe(2);
    expect(err).toContain("TITAN_USAGE");
  }
});

test("explain: the route, why not the others, the order of policies, the forwarded request", () => {
  const { code, out } = titan(["explain", "GET", "http://h/users/../users/7?x=1", "--config", good]);
  expect(code).toBe(0);
  for (const text of [
    "matched as",
    "/users/7",
    "route user",
    "/v1/people/7?x=1",
    "127.0.0.1:3000",
    "cors",
    "users (/users/*)",
  ]) {
    expect(out).toContain(text);
  }
  const json = JSON.parse(titan(["explain", "POST", "/users/7", "--config", good, "--json"]).out);
  expect(json).toMatchObject({ outcome: "route", route: { name: "users", action: { upstream: "slow" } } });
  const user = json.considered.find(({ route }: { route: string }) => route === "user");
  expect(user).toMatchObject({ taken: false, because: expect.stringContaining("POST") });
  expect(json.policies.map(({ type }: { type: string }) => type)).toEqual(["rate_limit", "cors"]);
  expect(titan(["explain", "GET", "/nothing", "--config", good]).out).toContain("404");
  expect(titan(["explain", "GET", "/old", "--config", good]).out).toContain("301 /new");
  expect(titan(["explain", "GET", "nonsense", "--config", good]).code).toBe(2);
});

test("explain: which hooks are called, and which are not", () => {
  const hooked = file(
    "hooked.mjs",
    `import { defineHook } from "@titan-gateway/titan";
export default {
  upstreams: [{ name: "api", backends: ["127.0.0.1:3000"] }],
  hooks: {
    writes: defineHook({ global: true, when: { methods: ["POST"], paths: ["/a/*"] }, onRequest() {}, onLog() {} }),
    all: defineHook({ global: true, onResponse() {} }),
  },
  routes: [{ path: "/*", upstream: "api", onRequest() {} }],
};`,
  );
  const explain = (...args: string[]) => titan(["explain", ...args, "--config", hooked]);
  const post = explain("POST", "/a/b");
  expect(post.code, post.err).toBe(0);
  expect(post.out).toContain(
    "1. hook  writes  onRequest, onLog\n  2. hook  all  onResponse\n  3. hook  /*.hook  onRequest\n",
  );
  expect(explain("GET", "/a/b").out).toContain(
    "1. hook  writes  onRequest, onLog  not called: its `when` does not hold\n",
  );
  expect(JSON.parse(explain("POST", "/x", "--json").out).policies[0]).toEqual({
    name: "writes",
    type: "hook",
    handlers: ["onRequest", "onLog"],
    applies: false,
  });
});

test("routes", () => {
  const { code, out } = titan(["routes", "--config", good]);
  expect(code).toBe(0);
  expect(out.split("\n")[1]).toMatch(/^user\s+GET\s+any\s+\/users\/:id\s+api\s+global\.cors/);
  expect(JSON.parse(titan(["routes", "--config", good, "--json"]).out)).toHaveLength(3);
});

test("usage errors end with 2 and say so on stderr", () => {
  for (const args of [
    ["nonsense"],
    ["serve", "--port", "x"],
    ["serve", "--config", "a", "--upstream", "b"],
    ["serve", "--tls"],
  ]) {
    const { code, out, err } = titan(args);
    expect(code, args.join(" ")).toBe(2);
    expect(out).toBe("");
    expect(err).toContain("error:");
  }
  expect(titan(["chekc"]).err).toContain("check");
});

test("with --json a usage error is data, too", () => {
  const { code, out } = titan(["check", "--json", "one.yaml", "two.yaml"]);
  expect(code).toBe(2);
  expect(JSON.parse(out).error).toMatchObject({ code: "TITAN_USAGE", message: expect.stringContaining("too many") });
});

test("help shows examples and ends with 0, on stdout", () => {
  for (const name of [
    "serve",
    "check",
    "explain",
    "test",
    "routes",
    "reload",
    "status",
    "drain",
    "health",
    "init",
    "schema",
    "completion",
    "version",
  ]) {
    const { code, out } = titan([name, "--help"]);
    expect(code).toBe(0);
    expect(out, name).toContain("Examples:");
  }
});

test("version", () => {
  expect(titan(["--version"]).out).toBe("0.1.0\n");
  expect(JSON.parse(titan(["version", "--json"]).out)).toMatchObject({ titan: "0.1.0", native: "0.1.0" });
});

test("completion scripts are valid shell", () => {
  const script = titan(["completion", "bash"]).out;
  expect(spawnSync("bash", ["-n"], { input: script }).status).toBe(0);
  const words = (...typed: string[]) => {
    const line = `COMP_WORDS=(titan ${typed.map((word) => `"${word}"`).join(" ")}); COMP_CWORD=${typed.length}`;
    const complete = `${script}\n${line}; _titan; echo "\${COMPREPLY[@]}"`;
    return spawnSync("bash", [], { input: complete, encoding: "utf8" }).stdout.trim();
  };
  expect(words("ser")).toBe("serve");
  expect(words("--up")).toBe("--upstream");
  expect(words("serve", "--log-level", "w")).toBe("warn");
  expect(words("completion", "")).toBe("bash zsh fish");
  expect(words("schema", "t")).toBe("test");
  expect(words("explain", "DEL")).toBe("DELETE");
  expect(words("help", "rel")).toBe("reload");
  expect(titan(["completion", "zsh"]).out).toContain("#compdef titan");
  expect(titan(["completion", "fish"]).out).toContain("complete -c titan");
  expect(titan(["completion", "tcsh"]).code).toBe(2);
});

test("init writes what check accepts, and overwrites nothing", () => {
  const where = join(directory, "new");
  expect(titan(["init", "--directory", where]).code).toBe(0);
  const checked = titan(["check"], { cwd: where });
  expect(checked.code, checked.err).toBe(0);
  const text = readFileSync(join(where, "titan.yaml"), "utf8");
  expect(titan(["init", "--directory", where]).code).toBe(2);
  expect(readFileSync(join(where, "titan.yaml"), "utf8")).toBe(text);
  expect(titan(["init", "typescript", "--directory", where]).code).toBe(0);
  expect(existsSync(join(where, "titan.config.ts"))).toBe(true);
  expect(titan(["init", "nonsense"]).err).toContain("embedded");
});

test("schema is a JSON Schema", () => {
  const schema = JSON.parse(titan(["schema"]).out);
  expect(schema.$schema).toContain("json-schema.org");
  expect(schema.properties).toHaveProperty("upstreams");
  expect(JSON.parse(titan(["schema", "test"]).out).properties).toHaveProperty("cases");
});

test("without a running Titan, its commands say so", () => {
  for (const name of ["reload", "status", "drain"]) {
    const { code, err } = titan([name]);
    expect(code).toBe(1);
    expect(err).toContain("TITAN_NOT_RUNNING");
  }
  const json = titan(["status", "--json"]);
  expect(JSON.parse(json.out).error.code).toBe("TITAN_NOT_RUNNING");
  expect(titan(["health", "http://127.0.0.1:1"]).code).toBe(1);
});

test("NO_COLOR and pipes give plain text", () => {
  expect(titan(["routes", "--config", good]).out).not.toContain("\u001b");
  expect(titan(["check", "bad.json"], { env: { FORCE_COLOR: "1", NO_COLOR: "" } }).err).toContain("\u001b");
});
