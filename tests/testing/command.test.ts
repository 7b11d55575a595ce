/** `titan test` as a user runs it. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { afterAll, expect, it, vi } from "vitest";

// Each starts the command several times, beside whatever else the machine does.
vi.setConfig({ testTimeout: 120_000 });

const ROOT = resolve(import.meta.dirname, "../..");
const MAIN = join(ROOT, "dist/cli/main.js");
const top = mkdtempSync(join(tmpdir(), "titan-cases-"));
afterAll(() => rmSync(top, { recursive: true }));

let folders = 0;

/** A folder with these files. */
function folder(files: Record<string, string>): string {
  const path = join(top, String(++folders));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(path, name)), { recursive: true });
    writeFileSync(join(path, name), text);
  }
  return path;
}

function titan(cwd: string, ...args: string[]) {
  const env = { ...process.env, NO_COLOR: "1", FORCE_COLOR: undefined };
  const done = spawnSync(process.execPath, [MAIN, "test", ...args], { cwd, env, encoding: "utf8", timeout: 60_000 });
  return { code: done.status, out: done.stdout, err: done.stderr };
}

const CONFIG = `
upstreams:
  - { name: api, backends: ["10.0.0.1:80"] }
routes:
  - { name: users, path: "/users/:id", upstream: api, rewrite_path: "/v2/users/:id" }
  - { name: tea, path: /tea, respond: { status: 418, body: '{"a": [1, 2], "b": {"c": 1}}' } }
`;

it("the example passes, from whichever folder", () => {
  const inside = titan(join(ROOT, "examples/testing"));
  expect([inside.code, inside.err]).toEqual([0, ""]);
  expect(inside.out).toMatch(/^titan\.test\.yaml {2}\(titan\.config\.ts\)\n {2}✓ anybody may look/);
  expect(inside.out).toContain("\n8 passed, 0 failed\n");
  const json = JSON.parse(titan(ROOT, "examples/testing", "--json", "--filter", "token").out);
  expect(json).toMatchObject({ ok: true, passed: 1, failed: 0, skipped: 0 });
  expect(json.files[0].cases).toMatchObject([{ name: "orders want a token", status: "passed", failures: [] }]);
});

it("what the other examples promise is kept", () => {
  const { code, out, err } = titan(ROOT, "examples");
  expect([code, err], out).toEqual([0, ""]);
  expect(out).toMatch(/\n2\d passed, 0 failed, 1 skipped\n4 files/);
});

it("a failure names the expectation, its place, what came instead and why", () => {
  const where = folder({
    "titan.yaml": CONFIG,
    "api.titan-test.yaml": `cases:
  - name: wrong
    request: GET /users/7
    expect:
      status: [404, 5xx]
      params: { id: 8 }
      headers: { via: null, x-a: { contains: b } }
      forwarded: { path: /users/7 }
  - name: json
    request: /tea
    expect: { status: 4xx, json: { a: [1], b: { c: 1, d: 2 } } }
  - { name: later, request: /tea, skip: true }
  - name: right
    request: /tea
    expect: { status: 418, upstream: null, json: { b: { c: 1 } } }
`,
  });
  const { code, out } = titan(where);
  expect(code).toBe(1);
  for (const part of [
    "cases[0].expect.status api.titan-test.yaml:5:15\n        expected  404 or 5xx\n        received  200",
    'cases[0].expect.params.id api.titan-test.yaml:6:21\n        expected  "8"\n        received  "7"',
    'cases[0].expect.headers.via api.titan-test.yaml:7:23\n        expected  nothing\n        received  "1.1 titan"',
    'cases[0].expect.headers.x-a api.titan-test.yaml:7:34\n        expected  contains "b"\n        received  nothing',
    'cases[0].expect.forwarded.path api.titan-test.yaml:8:26\n        expected  "/users/7"\n        received  "/v2/users/7"',
    "GET /users/7: 200, route users, upstream api (10.0.0.1:80)",
    "cases[1].expect.json.a api.titan-test.yaml:11:39\n        expected  a list of 1\n        received  a list of 2: [1,2]",
    "cases[1].expect.json.b.d api.titan-test.yaml:11:58",
    "  - later (skipped)\n  ✓ right\n",
    "\n1 passed, 2 failed, 1 skipped\n",
  ])
    expect(out).toContain(part);
  const json = JSON.parse(titan(where, "--json").out);
  expect(json).toMatchObject({ ok: false, passed: 1, failed: 2, skipped: 1 });
  expect(json.files[0].cases[0].failures[0]).toEqual({
    path: "cases[0].expect.status",
    line: 5,
    column: 15,
    expected: "404 or 5xx",
    received: "200",
  });
  const bail = titan(where, "--bail");
  expect([bail.code, bail.out.includes("json"), bail.out.includes("0 passed, 1 failed")]).toEqual([1, false, true]);
});

it("limits act, steps share a gateway and cases do not", () => {
  const where = folder({
    "titan.yaml": `${CONFIG}rate_limit: { requests_per_second: 100, burst: 2 }\n`,
    "titan.test.json": JSON.stringify({
      cases: [
        { name: "third", request: "/tea", repeat: 3, expect: { status: 429, answered_by: { contains: "rate_limit" } } },
        {
          name: "steps",
          steps: [
            { request: "/tea", repeat: 2, expect: { status: 418 } },
            { request: "/tea", expect: { status: 429, headers: { "retry-after": { matches: "^\\d+$" } } } },
            { advance: "2h", request: "/tea", expect: { status: 418 } },
          ],
        },
        { name: "too many", request: "/tea", repeat: 3, expect: { status: 418 } },
      ],
    }),
  });
  const { code, out } = titan(where);
  expect(code).toBe(1);
  expect(out).toContain("2 passed, 1 failed");
  expect(out).toMatch(/received {2}429 \(global\.rate_limit: Rate limit exceeded; try again in \d+ s\)/);
  expect(out).toMatch(/cases\[2\]\.expect\.status titan\.test\.json:1:\d+/);
});

it("deadlines pass in real time", () => {
  const where = folder({
    "titan.yaml": CONFIG.replace('rewrite_path: "/v2/users/:id"', "timeout: 2s"),
    "titan.test.yaml": `upstreams: { api: [{ delay: 60s }, { delay: 1ms, body: soon }] }
cases:
  - name: late, then not
    steps:
      - { request: /users/7, expect: { status: 504, stage: upstream_timeout } }
      - { request: /users/7, expect: { status: 200, body: soon } }
`,
  });
  const { code, out } = titan(where);
  expect([code, out]).toEqual([0, expect.stringContaining("1 passed")]);
});

it("what a test leaves out or gets wrong is said at its place", () => {
  const where = folder({
    "titan.yaml": CONFIG,
    "titan.test.yaml": `upstreams: { api: 200 }
cases:
  - { name: nobody, request: { url: /users/7, identity: { subject: jo } } }
`,
  });
  const nobody = titan(where);
  expect(nobody.code).toBe(1);
  expect(nobody.out).toMatch(
    /cases\[0\]\.request titan\.test\.yaml:3:30\n {8}The request has an `identity`, and the route "users"/,
  );
  writeFileSync(
    join(where, "titan.test.yaml"),
    `upstreams: { apy: 200 }
cases:
  - { name: a, request: /tea }
`,
  );
  const upstream = titan(where);
  expect([upstream.code, upstream.err]).toEqual([
    2,
    'titan.test.yaml:1:14: error: upstreams.apy: the configuration has no upstream "apy": it has api; did you mean "api"?\n',
  ]);
  writeFileSync(
    join(where, "titan.test.yaml"),
    `cases:
  - { name: a, request: tea, expext: { status: 200 } }
  - { name: b, request: /tea, expect: { status: 7xx, body: { matches: "(" } } }
  - { name: c }
`,
  );
  const bad = titan(where);
  expect(bad.code).toBe(2);
  expect(bad.err).toContain(
    'titan.test.yaml:2:30: error: cases[0].expext: unknown key "expext"; did you mean "expect"?',
  );
  expect(bad.err).toContain("titan.test.yaml:2:25: error: cases[0].request: must be a method and a URL or path");
  expect(bad.err).toContain("cases[1].expect.status: must be a status such as 200");
  expect(bad.err).toContain("cases[1].expect.body.matches: Invalid regular expression");
  expect(bad.err).toContain("titan.test.yaml:4:5: error: cases[2]: has either a `request` or `steps`");
  expect(bad.out).toContain("1 file could not be run");
});

it("a bad configuration, no file and no case are errors of their own", () => {
  const where = folder({
    "titan.yaml": CONFIG.replace("upstream: api", "upstream: apo"),
    "a.titan-test.yaml": "cases: [{ name: a, request: /tea }]\n",
    "node_modules/x/titan.test.yaml": "cases: []\n",
    "good/titan.yaml": CONFIG,
    "good/titan.test.yaml": "cases: [{ name: a, request: /tea, expect: { status: 418 } }]\n",
  });
  const some = titan(where);
  expect(some.code).toBe(2);
  expect(some.err).toMatch(/titan\.yaml:5:\d+: error: routes\[0\]\.upstream.*did you mean "api"/);
  expect(some.out).toContain("1 passed, 0 failed, 1 file could not be run\n2 files");
  expect(titan(where, "a.titan-test.yaml", "--config", "good/titan.yaml").code).toBe(0);
  const empty = folder({ "titan.yaml": CONFIG });
  expect(titan(empty)).toMatchObject({ code: 2, err: expect.stringContaining("There is no file of test cases here") });
  expect(titan(empty, "x.yaml")).toMatchObject({ code: 2, err: expect.stringContaining('"x.yaml" does not exist') });
  expect(titan(where, "good", "--filter", "zzz")).toMatchObject({ code: 2, err: expect.stringContaining("No case") });
  expect(JSON.parse(titan(empty, "--json").out)).toMatchObject({ error: { code: "TITAN_USAGE" } });
});

it("hooks run, what they throw is shown, and what they leave open does not keep it alive", () => {
  const where = folder({
    "titan.config.mjs": `
      export default {
        upstreams: [{ name: "api", backends: ["10.0.0.1:80"] }],
        routes: [{ path: "/*", upstream: "api", onRequest(ctx) {
          setInterval(() => {}, 1000);
          if (ctx.request.path === "/bad") throw new Error("out of order");
          ctx.request.headers.set("x-env", process.env.PLACE ?? "none");
        } }],
      };`,
    "titan.test.yaml": `cases:
  - { name: good, request: /, expect: { status: 200, hooks: ["/*.hook"], forwarded: { headers: { x-env: none } } } }
  - { name: bad, request: /bad, expect: { status: 200 } }
`,
  });
  const { code, out } = titan(where);
  expect(code).toBe(1);
  expect(out).toMatch(/received {2}500 \(.*hook.*\)/);
  expect(out).toContain('onRequest of the hook "/*.hook" failed: out of order');
  expect(out).toMatch(/titan\.config\.mjs:6:/);
});

it.each(["minimal", "typescript"])("what `titan init %s` writes passes", (template) => {
  const where = join(top, template);
  const done = spawnSync(process.execPath, [MAIN, "init", template, "--directory", where], { encoding: "utf8" });
  expect([done.status, done.stderr]).toEqual([0, expect.stringMatching(/titan(\.config)?\.test\.yaml {2}titan test/)]);
  const { code, out } = titan(where);
  expect([code, out]).toEqual([0, expect.stringMatching(/\d passed, 0 failed/)]);
});

it("what `titan init embedded` writes passes, with Node's own test runner, and runs", async () => {
  const where = join(top, "embedded");
  const done = spawnSync(process.execPath, [MAIN, "init", "embedded", "--directory", where], { encoding: "utf8" });
  expect([done.status, done.stderr]).toEqual([0, expect.stringMatching(/gateway\.test\.mjs {2}node --test/)]);
  mkdirSync(join(where, "node_modules/@titan-gateway"), { recursive: true });
  symlinkSync(ROOT, join(where, "node_modules/@titan-gateway/titan"), "dir");
  const tests = spawnSync(process.execPath, ["--test", "--test-reporter", "tap"], { cwd: where, encoding: "utf8" });
  expect(tests.status, tests.stdout + tests.stderr).toBe(0);
  expect(tests.stdout).toMatch(/^# pass 2$/m);
  // The port of the template may be somebody's here.
  const config = readFileSync(join(where, "gateway.config.mjs"), "utf8");
  writeFileSync(join(where, "gateway.config.mjs"), config.replace("port: 8080", "port: 0"));
  const program = spawn(process.execPath, ["gateway.mjs"], { cwd: where, stdio: ["ignore", "pipe", "inherit"] });
  try {
    const [said] = (await once(program.stdout, "data")) as [Buffer];
    const url = /http:\S+/.exec(String(said))?.[0];
    expect(await (await fetch(`${url}/there`)).text()).toBe("hello from /there\n");
    program.kill("SIGTERM");
    expect(await once(program, "exit")).toEqual([0, null]);
  } finally {
    program.kill("SIGKILL");
  }
});

it("plays gRPC over HTTP/2, trailers and upgrades", () => {
  const where = folder({
    "titan.yaml": `
upstreams:
  - { name: calls, protocol: h2c, backends: ["10.0.0.1:80"] }
  - { name: ws, backends: ["10.0.0.2:80"] }
routes:
  - { path: "/shop.Orders/*", upstream: calls }
  - { path: /chat, upstream: ws, websocket: { allowed_origins: ["https://a.test"] } }
`,
    "titan.test.yaml": `
upstreams:
  calls: { headers: { content-type: application/grpc }, trailers: { grpc-status: "5", grpc-message: none } }
  ws: 200
cases:
  - name: call
    request: &call { method: POST, url: /shop.Orders/Get, http2: true, headers: { content-type: application/grpc, te: trailers } }
    expect: { status: 200, grpc_status: 5, trailers: { grpc-message: none, other: null }, upgraded: false }
  - name: unknown call
    request: { <<: *call, url: /shop.Users/Get }
    expect: { status: 200, grpc_status: 12, stage: no_route }
  - name: wrong
    request: *call
    expect: { grpc_status: 0, trailers: { grpc-message: { contains: x } }, upgraded: true }
  - name: chat
    steps:
      - { request: { url: /chat, websocket: true, headers: { origin: "https://a.test" } }, expect: { status: 101, upgraded: true } }
      - { request: { url: /chat, http2: true, websocket: [a], headers: { origin: "https://a.test" } }, expect: { status: 200, upgraded: true } }
      - { request: { url: /chat, websocket: true }, expect: { status: 403, upgraded: false } }
`,
  });
  const { code, out } = titan(where);
  expect(code, out).toBe(1);
  expect(out).toContain("\n3 passed, 1 failed");
  expect(out).toMatch(/grpc_status .*\n +expected {2}0\n +received {2}5\n/);
  expect(out).toMatch(/trailers\.grpc-message /);
  expect(out).toMatch(/upgraded .*\n +expected {2}a tunnel is opened\n +received {2}none was\n/);
});

it("explains itself", () => {
  const { code, out } = titan(top, "--help");
  expect(code).toBe(0);
  for (const part of ["--filter", "--bail", "--json", "Examples:", "Exit codes: 0 every case passed"])
    expect(out).toContain(part);
});
