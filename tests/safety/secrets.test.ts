// Secrets are put everywhere a secret can be, then everything that Titan says is searched for them.
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { get } from "../helpers/client.ts";
import { RawOrigin } from "../helpers/origin.ts";
import { freePort, startTitan, type Titan } from "../helpers/titan.ts";
import { jwt } from "../helpers/tokens.ts";

/** Each is found by its mark, whatever surrounds it. */
const SECRETS = {
  hmac: "MARK-hmac-secret-of-more-than-thirty-two-bytes",
  apiKey: "MARK-api-key-of-a-client",
  wrongKey: "MARK-api-key-that-nobody-has",
  password: "MARK-password-of-joe",
  redis: "MARK-password-of-redis",
  sticky: "MARK-secret-of-the-sticky-cookie",
  admin: "MARK-token-of-the-admin",
  forwarded: "MARK-cookie-for-forward-auth",
  session: "MARK-session-in-a-header",
  query: "MARK-token-in-a-query",
  body: "MARK-fixed-header-towards-the-backend",
};
const TOKEN = jwt({ sub: "ada", jti: "j1" }, SECRETS.hmac);
const FORGED = jwt({ sub: "ada" }, "MARK-another-hmac-secret-of-more-than-32-bytes");

/** What must be nowhere: the marks, in every encoding that may be printed, and the signatures and bodies of tokens. */
const HIDDEN = [
  "MARK-",
  ...Object.values(SECRETS).flatMap((secret) => {
    const bytes = Buffer.from(secret);
    return [bytes.toString("base64").replace(/=+$/, ""), bytes.toString("base64url"), bytes.toString("hex")];
  }),
  ...[TOKEN, FORGED].flatMap((token) => token.split(".").slice(1)),
  Buffer.from(`joe:${SECRETS.password}`).toString("base64").slice(0, 24),
];

const MAIN = resolve(import.meta.dirname, "../../dist/cli/main.js");
const dir = mkdtempSync(join(tmpdir(), "titan-secrets-"));
const env = { TITAN_RUNTIME_DIR: join(dir, "run"), MARKED_ADMIN: SECRETS.admin };
let origin: RawOrigin;
let titan: Titan;

beforeAll(async () => {
  origin = await RawOrigin.start();
  const nobody = await freePort();
  writeFileSync(join(dir, "hmac"), SECRETS.hmac);
  const backends = [`127.0.0.1:${origin.port}`];
  const limit = { requests: 1, window: "1h", burst: 1, backend: "redis" };
  titan = await startTitan({
    env,
    config: {
      logging: {
        level: "trace",
        log_requests: true,
        format: "json",
        // biome-ignore format: one list
        fields: ["time", "request_id", "client_ip", "method", "path", "query", "target", "status", "error", "user", "referer", "user_agent", "header.x-plain"],
      },
      // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of the configuration
      admin: { token: "${MARKED_ADMIN}" },
      redis: { url: `redis://titan:${SECRETS.redis}@127.0.0.1:${nobody}/1`, fail_mode: "closed", timeout: "100ms" },
      jwt: {
        keys: [{ algorithm: "HS256", secret: { value: `file:${join(dir, "hmac")}`, encoding: "utf8" } }],
        query: "access",
      },
      apikey: { keys: [{ id: "client", key: SECRETS.apiKey }], query: "key" },
      basic: { users: [{ name: "joe", hash: "$2y$04$FbIFutoSexikLeutz9SxnuSuNOYChHWhJ0gFjXbwDyqH4ASaZG2Ym" }] },
      upstreams: [
        { name: "up", backends },
        { name: "sticky", backends, load_balancing: { algorithm: "sticky", secret: SECRETS.sticky } },
        { name: "dead", backends: [`127.0.0.1:${nobody}`], max_retries: 0 },
      ],
      routes: [
        { path: "/jwt", upstream: "up", auth: "jwt", required_scopes: ["never"] },
        { path: "/both", upstream: "up", auth: ["both", "basic"] },
        { path: "/sticky", upstream: "sticky", auth: "none" },
        { path: "/dead", upstream: "dead", auth: "jwt" },
        {
          path: "/limited",
          upstream: "up",
          auth: "none",
          middleware: [{ type: "rate_limit", config: { ...limit, key: "cookie:session" } }],
        },
        {
          path: "/asked",
          upstream: "up",
          auth: "none",
          middleware: [
            { type: "forward_auth", config: { url: `http://127.0.0.1:${nobody}/verify`, timeout: "200ms" } },
          ],
        },
        {
          path: "/written",
          upstream: "up",
          auth: "none",
          middleware: [
            {
              type: "headers",
              config: { request: [{ action: "modify", name: "Authorization", value: `Bearer ${SECRETS.body}` }] },
            },
          ],
        },
      ],
    },
  }).catch((error) => {
    // A configuration that is refused must not tell either.
    expectClean("the refusal", String(error));
    throw error;
  });
});
afterAll(async () => {
  await titan?.stop();
  await origin?.close();
  rmSync(dir, { recursive: true });
});

function expectClean(where: string, text: string): void {
  for (const hidden of HIDDEN)
    expect(text.includes(hidden), `${where} has ${hidden}:\n${around(text, hidden)}`).toBe(false);
}

const around = (text: string, part: string) =>
  text.slice(Math.max(0, text.indexOf(part) - 200), text.indexOf(part) + 100);

/** Runs the command; everything that it printed, whatever its exit code. */
async function cli(...args: string[]): Promise<string> {
  const run = promisify(execFile)(process.execPath, [MAIN, ...args], {
    cwd: titan.dir,
    env: { ...process.env, ...env },
  });
  const { stdout, stderr } = await run.catch((error: { stdout: string; stderr: string }) => error);
  return stdout + stderr;
}

test("no answer, log, metric, command or process title has a secret", async () => {
  const { port, adminPort } = titan;
  const basic = (text: string) => ({ authorization: `Basic ${Buffer.from(text).toString("base64")}` });
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
  const cookie = { cookie: `session=${SECRETS.forwarded}` };
  const requests: [path: string, headers: Record<string, string>, status: number][] = [
    ["/jwt", bearer(TOKEN), 403],
    ["/jwt", bearer(FORGED), 401],
    [`/jwt?access=${FORGED}`, {}, 401],
    [`/jwt?token=${SECRETS.query}&access_token=${SECRETS.query}&x=1`, {}, 401],
    ["/both", { "x-api-key": SECRETS.apiKey }, 200],
    ["/both", { "x-api-key": SECRETS.wrongKey }, 401],
    [`/both?key=${SECRETS.wrongKey}`, {}, 401],
    ["/both", basic(`joe:${SECRETS.password}`), 401],
    ["/sticky", { referer: `https://x.test/?password=${SECRETS.query}` }, 200],
    ["/dead", bearer(TOKEN), 502],
    ["/limited", cookie, 503],
    ["/asked", { ...cookie, ...bearer(SECRETS.session) }, 503],
    ["/written", {}, 200],
    ["/nothing", { "x-auth-token": SECRETS.session, ...cookie }, 401],
  ];
  for (const [path, headers, status] of requests) {
    const answer = await get(port, path, headers);
    expect(answer.status, path).toBe(status);
    // The raw origin repeats the request line, which is its own affair.
    expectClean(
      `the answer of ${path}`,
      status === 200 ? (answer.raw.toString().split("\r\n\r\n")[0] ?? "") : answer.raw.toString(),
    );
  }
  expect(origin.text, "the secrets were really under way").toContain(SECRETS.body);

  const metrics = [
    `http://127.0.0.1:${port}/_metrics`,
    `http://127.0.0.1:${port}/services/health`,
    `http://127.0.0.1:${port}/_ready`,
  ];
  for (const url of metrics) {
    const answer = await fetch(url);
    const text = await answer.text();
    expect(text.length, url).toBeGreaterThan(10);
    expectClean(url, text);
  }
  for (const path of ["/", "/metrics", "/_admin/status", "/_admin/routes", "/_admin/config"]) {
    const headers = { authorization: `Bearer ${SECRETS.admin}` };
    for (const one of [{ headers }, {}])
      expectClean(path, await (await fetch(`http://127.0.0.1:${adminPort}${path}`, one)).text());
  }

  const commands = [
    ["check", "--json", titan.file],
    ["check", titan.file],
    ["routes", "--config", titan.file],
    ["routes", "--json", "--config", titan.file],
    ["status"],
    ["status", "--json"],
    ["explain", "GET", "/written", "--config", titan.file],
    ["explain", "GET", "/both", "--json", "--config", titan.file, "-H", `X-API-Key: ${SECRETS.apiKey}`],
    ["explain", "GET", "/jwt", "--config", titan.file, "-H", `Authorization: Bearer ${TOKEN}`],
    ["explain", "GET", "/asked", "--live", "--json", "-H", `Cookie: session=${SECRETS.forwarded}`],
  ];
  for (const args of commands) {
    const text = await cli(...args);
    expect(text.length, args.join(" ")).toBeGreaterThan(5);
    expectClean(`titan ${args[0]} ${args[1] ?? ""}`, text);
  }
  expect(await cli("status"), "it was asked, not missed").toMatch(/running/i);

  const task = `/proc/${titan.child.pid}/task`;
  for (const file of [`/proc/${titan.child.pid}/cmdline`, ...readdirSync(task).map((id) => `${task}/${id}/comm`)])
    expectClean(file, readFileSync(file, "latin1"));

  // The log last, so that it has all of it.
  await expect.poll(() => titan.output(), { timeout: 10_000 }).toContain('"path":"/nothing"');
  expect(titan.output()).toContain("store_lost");
  expectClean("the log", titan.output());
}, 240_000);

test("a secret in a wrong encoding is refused with the reason and without the secret", async () => {
  const keys = [
    { value: "MARK-not base64!", encoding: "base64" },
    { value: "MARK-not-hex", encoding: "hex" },
    { value: "MARK-of-some-length-or-other-for-a-key", encoding: "rot13" },
  ].map((secret) => ({ algorithm: "HS256", secret }));
  const broken = {
    jwt: { keys },
    redis: { url: "redis//titan:MARK-password@host" },
    apikey: { keys: [{ id: "a", key: "MARK-1" }] },
    routes: [{ path: "/", respond: {} }],
  };
  const short = {
    jwt: { keys: [{ algorithm: "HS256", secret: { value: "MARK-short", encoding: "utf8" } }] },
    routes: broken.routes,
  };
  const file = join(dir, "wrong.json");
  for (const [config, reasons] of [
    [broken, [/base64/, /hex/, /encoding/, /redis:\/\//, /apikey/]],
    [short, [/32 bytes/]],
  ] as const) {
    writeFileSync(file, JSON.stringify(config));
    for (const args of [
      ["check", file],
      ["check", "--json", file],
    ]) {
      const text = await cli(...args);
      for (const reason of reasons) expect(text).toMatch(reason);
      expectClean("the refusal", text);
    }
  }
}, 120_000);
