// Requirements 27 to 35 and 37 of the gateway, a test each, over real sockets.
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { writeFileSync } from "node:fs";
import http from "node:http";
import { join } from "node:path";
import { brotliDecompressSync, gunzipSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type Backend, startBackend } from "../helpers/backend.ts";
import { exchange, get } from "../helpers/client.ts";
import { startTitan, type Titan, type TitanOptions } from "../helpers/titan.ts";
import { jwt, now } from "../helpers/tokens.ts";

const SECRET = "a secret of more than thirty-two bytes, of course";
const KEYS = { keys: [{ algorithm: "HS256", secret: { value: SECRET, encoding: "utf8" } }] };
const LONG = JSON.stringify({ lines: Array.from({ length: 300 }, (_, i) => `line ${i % 7}`) });
const TAGGED = { "content-type": "application/json", etag: '"v1"' };

/** Answers by path; anything else describes the request. */
const ANSWERS: Record<string, { headers: http.OutgoingHttpHeaders; status?: number; body?: string }> = {
  "/long": { headers: { ...TAGGED, vary: "origin" } },
  "/account/me": { headers: TAGGED },
  "/cookie": { headers: { ...TAGGED, "set-cookie": "a=b" } },
  "/fixed": { headers: { ...TAGGED, "cache-control": "no-transform" } },
  "/packed": { headers: { ...TAGGED, "content-encoding": "gzip" }, body: "not really gzip, and so all the better" },
  "/part": { headers: { ...TAGGED, "content-range": "bytes 0-1999/9999" }, status: 206 },
  "/image": { headers: { "content-type": "image/png" } },
  "/short": { headers: TAGGED, body: '{"short":true}' },
};

let backend: Backend;
let titan: Titan | undefined;

beforeAll(async () => {
  backend = await startBackend({
    answer: (request, response) => {
      const answer = ANSWERS[request.url ?? ""];
      if (answer) {
        const body = answer.body ?? LONG;
        response.writeHead(answer.status ?? 200, { ...answer.headers, "content-length": Buffer.byteLength(body) });
        response.end(request.method === "HEAD" ? undefined : body);
        return;
      }
      let body = "";
      request.on("data", (chunk) => {
        body += chunk;
      });
      request.on("end", () => {
        const delay = Number(/[?&]wait=(\d+)/.exec(request.url ?? "")?.[1] ?? 0);
        const { method, url, headers } = request;
        response.setHeader("content-type", "application/json");
        setTimeout(() => response.end(JSON.stringify({ method, url, headers, body, secret: "s" })), delay);
      });
    },
  });
});
afterEach(async () => {
  await titan?.stop();
  titan = undefined;
});
afterAll(() => backend.close());

/** Starts Titan before the backend `up`; resolves with its port. */
async function start(config: TitanOptions["config"]): Promise<number> {
  titan = await startTitan({
    config: { upstreams: [{ name: "up", backends: [`127.0.0.1:${backend.port}`] }], ...config },
  });
  return titan.port;
}

const statuses = async (port: number, path: string, count: number, headers: Record<string, string> = {}) => {
  const list: number[] = [];
  for (let i = 0; i < count; i++) list.push((await get(port, path, headers)).status);
  return list;
};
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const seen = (answer: { body: string }) =>
  JSON.parse(answer.body) as { url: string; body: string; headers: Record<string, string> };

test("requirement 27: a limit counts by its key, by plan and by cost, exactly for the process, and says so", async () => {
  const slow = { requests_per_second: 0.001 };
  const port = await start({
    server: { workers: 2 },
    apikey: {
      keys: [
        { id: "a", key: "key-of-a-paying-client", tier: "gold" },
        { id: "b", key: "key-of-another-client" },
      ],
    },
    rate_limits: {
      address: { ...slow, burst: 5 },
      tenant: { ...slow, burst: 2, key: "header:X-Tenant" },
      window: { requests: 3, window: "1h", algorithm: "sliding_window" },
      dear: { ...slow, burst: 10, cost: 4 },
      plan: { ...slow, burst: 1, key: "api_key", tiers: { limits: { gold: { ...slow, burst: 3, key: "api_key" } } } },
      person: { ...slow, burst: 1, key: "claim:sub" },
      both: {
        limits: [
          { ...slow, burst: 3 },
          { ...slow, burst: 1, key: "header:X-Tenant" },
        ],
        draft_headers: true,
      },
    },
    jwt: KEYS,
    routes: [
      ...["address", "tenant", "window", "dear", "both"].map((name) => ({
        path: `/${name}`,
        upstream: "up",
        middleware: name,
        auth: "none",
      })),
      { path: "/plan", upstream: "up", middleware: "plan", auth: "apikey" },
      { path: "/person", upstream: "up", middleware: "person", auth: "jwt" },
    ],
  });
  expect(await statuses(port, "/address", 7)).toEqual([200, 200, 200, 200, 200, 429, 429]);
  const refused = await get(port, "/address");
  expect(JSON.parse(refused.body)).toMatchObject({ error: "rate_limit_exceeded", request_id: expect.any(String) });
  expect(Number(refused.header("retry-after"))).toBeGreaterThan(0);
  expect([refused.header("x-ratelimit-limit"), refused.header("x-ratelimit-remaining")]).toEqual(["5", "0"]);
  expect(Number(refused.header("x-ratelimit-reset"))).toBeGreaterThan(0);
  expect(await statuses(port, "/tenant", 3, { "x-tenant": "a" })).toEqual([200, 200, 429]);
  expect(await statuses(port, "/tenant", 1, { "x-tenant": "b" })).toEqual([200]);
  expect(await statuses(port, "/window", 4)).toEqual([200, 200, 200, 429]);
  expect(await statuses(port, "/dear", 3), "four of ten each").toEqual([200, 200, 429]);
  expect(await statuses(port, "/plan", 4, { "x-api-key": "key-of-a-paying-client" })).toEqual([200, 200, 200, 429]);
  expect(await statuses(port, "/plan", 2, { "x-api-key": "key-of-another-client" })).toEqual([200, 429]);
  expect(await statuses(port, "/person", 2, bearer(jwt({ sub: "ada" }, SECRET)))).toEqual([200, 429]);
  expect(await statuses(port, "/person", 1, bearer(jwt({ sub: "bob" }, SECRET)))).toEqual([200]);
  const first = await get(port, "/both", { "x-tenant": "a" });
  expect([first.status, first.header("ratelimit-policy")?.split(",").length]).toEqual([200, 2]);
  expect(await statuses(port, "/both", 1, { "x-tenant": "a" })).toEqual([429]);
  expect(await statuses(port, "/both", 2, { "x-tenant": "b" }), "the refused one took nothing").toEqual([200, 429]);
});

test("requirement 28: only allowed origins are reflected, and Titan answers preflights", async () => {
  const port = await start({
    cors: {
      allowed_origins: ["https://app.example", "https://*.preview.example", "/https://pr-[0-9]+\\.example/"],
      allowed_methods: ["GET", "PUT"],
      allowed_headers: ["X-Token"],
      exposed_headers: ["X-Total"],
      allow_credentials: true,
      max_age: 600,
    },
    routes: [{ path: "/a", upstream: "up" }],
  });
  const allowed = async (origin: string, path = "/a") =>
    (await get(port, path, { origin })).header("access-control-allow-origin");
  for (const origin of ["https://app.example", "https://x.preview.example", "https://pr-17.example"]) {
    expect(await allowed(origin)).toBe(origin);
    expect(await allowed(origin, "/nothing"), "on Titan's own 404").toBe(origin);
  }
  for (const origin of ["https://evil.example", "https://preview.example", "https://pr-17.example.evil", "null"])
    expect(await allowed(origin), origin).toBeUndefined();
  const answer = await get(port, "/a", { origin: "https://app.example" });
  expect(answer.header("access-control-allow-credentials")).toBe("true");
  expect(answer.header("access-control-expose-headers")?.toLowerCase()).toBe("x-total");
  expect(answer.header("vary")?.toLowerCase()).toContain("origin");
  const preflight = async (method: string, header = "x-token", origin = "https://app.example") => {
    const fields = `Origin: ${origin}\r\nAccess-Control-Request-Method: ${method}\r\nAccess-Control-Request-Headers: ${header}\r\n`;
    const result = await exchange(port, `OPTIONS /a HTTP/1.1\r\nHost: t.test\r\n${fields}\r\n`);
    return { status: result.statuses[0], text: result.raw.toString() };
  };
  backend.hits = 0;
  const good = await preflight("PUT");
  expect(good.status).toBe(204);
  expect(good.text).toMatch(/access-control-max-age: 600/i);
  expect(good.text).toMatch(/access-control-allow-methods: .*PUT/i);
  expect((await preflight("DELETE")).status).toBe(403);
  expect((await preflight("PUT", "x-other")).status).toBe(403);
  expect((await preflight("PUT", "x-token", "https://evil.example")).status).toBe(403);
  expect(backend.hits, "no preflight reaches a backend").toBe(0);
});

test("requirement 29: path, headers, query and JSON fields are changed by rules", async () => {
  const variable = (name: string) => `\${${name}}`;
  const rule = (action: string, name: string, value?: string) => ({ action, name, ...(value && { value }) });
  const port = await start({
    routes: [
      {
        path: "/api/users/:id",
        upstream: "up",
        transform: {
          path_rewrites: [
            { type: "prefix_strip", pattern: "/api" },
            { type: "regex", pattern: "^/users/(.*)$", replacement: "/people/$1" },
          ],
          request_headers: [
            rule("add", "X-Added", variable("param.id")),
            rule("modify", "X-Given", "by titan"),
            rule("remove", "X-Debug"),
          ],
          response_headers: [rule("add", "X-Route", variable("method")), rule("remove", "Content-Language")],
          query_params: [rule("add", "from", "gateway"), rule("modify", "tenant", "t 1"), rule("remove", "debug")],
          request_body: [
            { action: "remove", field: "password" },
            { action: "add", field: "via.gateway", value: true },
          ],
          response_body: [{ action: "remove", field: "secret" }],
        },
      },
    ],
  });
  const body = '{"name":"ada","password":"p"}';
  const result = await exchange(
    port,
    "POST /api/users/7?tenant=evil&debug=1&x=y HTTP/1.1\r\nHost: t.test\r\nX-Given: by client\r\nX-Debug: 1\r\n" +
      `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  const answer = result.answers[0];
  const got = JSON.parse(answer?.body.toString() ?? "");
  const url = new URL(got.url, "http://t");
  expect(url.pathname).toBe("/people/7");
  expect(Object.fromEntries(url.searchParams)).toEqual({ tenant: "t 1", x: "y", from: "gateway" });
  expect(got.headers).toMatchObject({ "x-added": "7", "x-given": "by titan" });
  expect(got.headers).not.toHaveProperty("x-debug");
  expect(JSON.parse(got.body)).toEqual({ name: "ada", via: { gateway: true } });
  expect(got).not.toHaveProperty("secret");
  expect(result.raw.toString()).toMatch(/^x-route: POST\r$/im);
});

test("requirement 30: answers are compressed where that is right, and untouched elsewhere", async () => {
  const port = await start({
    compression: { algorithms: ["zstd", "brotli", "gzip"], disable_for_paths: ["/account/*"] },
    routes: [
      {
        path: "/own",
        respond: { headers: { "content-type": "text/plain", etag: '"o"' }, body: "own words ".repeat(200) },
      },
      { path: "/*", upstream: "up" },
    ],
  });
  const ask = (path: string, accept: string) => get(port, path, { "accept-encoding": accept });
  const body = (answer: { answers: { body: Buffer }[] }) => answer.answers[0]?.body ?? Buffer.alloc(0);
  const gzip = await ask("/long", "gzip");
  expect([gzip.header("content-encoding"), gzip.header("etag")]).toEqual(["gzip", 'W/"v1"']);
  expect(gunzipSync(body(gzip)).toString()).toBe(LONG);
  expect(gzip.raw.toString("latin1")).toMatch(/^vary: .*origin/im);
  expect(gzip.raw.toString("latin1")).toMatch(/^vary: .*accept-encoding/im);
  const br = await ask("/long", "br, gzip;q=0.5");
  expect(br.header("content-encoding")).toBe("br");
  expect(brotliDecompressSync(body(br)).toString()).toBe(LONG);
  const zstd = await ask("/long", "gzip, br, zstd");
  expect(zstd.header("content-encoding")).toBe("zstd");
  expect(body(zstd).subarray(0, 4).toString("hex"), "zstd's magic number").toBe("28b52ffd");
  const plain = await ask("/long", "identity");
  expect([plain.header("content-encoding"), plain.header("etag"), plain.body]).toEqual([undefined, '"v1"', LONG]);
  expect(plain.raw.toString("latin1")).toMatch(/^vary: .*accept-encoding/im);
  const own = await ask("/own", "gzip");
  expect([own.header("content-encoding"), own.header("etag")]).toEqual(["gzip", 'W/"o"']);
  expect(gunzipSync(body(own)).toString()).toBe("own words ".repeat(200));
  const untouched = {
    "/packed": "gzip",
    "/account/me": undefined,
    "/cookie": undefined,
    "/fixed": undefined,
    "/part": undefined,
    "/image": undefined,
    "/short": undefined,
  };
  for (const [path, coding] of Object.entries(untouched)) {
    const answer = await ask(path, "gzip");
    expect([answer.header("content-encoding"), answer.body], path).toEqual([coding, ANSWERS[path]?.body ?? LONG]);
    if (path !== "/image") expect(answer.header("etag"), path).toBe('"v1"');
  }
  const head = await exchange(port, "HEAD /long HTTP/1.1\r\nHost: t.test\r\nAccept-Encoding: gzip\r\n\r\n", {
    methods: ["HEAD"],
  });
  expect(head.raw.toString()).toMatch(new RegExp(`^content-length: ${LONG.length}\r$`, "im"));
  expect(head.raw.toString()).not.toMatch(/content-encoding/i);
});

test("requirement 31: security headers, addresses, body and concurrency limits, ids, timing", async () => {
  const port = await start({
    server: {
      forwarding: { correlation_id_header: "X-Correlation-Id", id_pattern: "[a-z]+-[0-9]+", server_timing: true },
    },
    logging: { level: "info", log_requests: true, format: "json", fields: ["request_id", "correlation_id", "path"] },
    middleware: [{ type: "security_headers", config: { preset: "strict" } }],
    routes: [
      { path: "/denied", upstream: "up", middleware: [{ type: "ip_filter", config: { deny: ["127.0.0.0/8"] } }] },
      { path: "/inside", upstream: "up", middleware: [{ type: "ip_filter", config: { allow: ["127.0.0.1"] } }] },
      { path: "/small", upstream: "up", max_request_size: 10 },
      { path: "/one", upstream: "up", middleware: [{ type: "concurrency", config: { max: 1 } }] },
      { path: "/*", upstream: "up" },
    ],
  });
  const answer = await get(port, "/a");
  expect(answer.header("x-frame-options")).toBe("DENY");
  expect(answer.header("x-content-type-options")).toBe("nosniff");
  expect((await get(port, "/denied")).status).toBe(403);
  expect((await get(port, "/inside")).status).toBe(200);
  const post = (path: string, size: number) =>
    exchange(port, `POST ${path} HTTP/1.1\r\nHost: t.test\r\nContent-Length: ${size}\r\n\r\n${"x".repeat(size)}`);
  expect([(await post("/small", 10)).statuses[0], (await post("/small", 11)).statuses[0]]).toEqual([200, 413]);
  const before = backend.hits;
  const slow = get(port, "/one?wait=3000", {}, { timeout: 20_000 });
  await expect.poll(() => backend.hits, { timeout: 10_000 }).toBe(before + 1);
  expect((await get(port, "/one")).status).toBe(503);
  expect((await slow).status).toBe(200);
  expect((await get(port, "/one")).status).toBe(200);

  // Ids: made, kept where they have the pattern, replaced where not; to the backend, to the client, into the log.
  const made = answer.header("x-request-id") ?? "";
  expect(made).toMatch(/^[0-9a-f]{32}$/);
  expect(seen(answer).headers["x-request-id"]).toBe(made);
  expect([answer.header("x-correlation-id"), seen(answer).headers["x-correlation-id"]]).toEqual([made, made]);
  const kept = await get(port, "/kept", { "x-request-id": "req-1", "x-correlation-id": "job-77" });
  expect([kept.header("x-request-id"), kept.header("x-correlation-id")]).toEqual(["req-1", "job-77"]);
  expect(seen(kept).headers).toMatchObject({ "x-request-id": "req-1", "x-correlation-id": "job-77" });
  const forged = await get(port, "/forged", { "x-request-id": "<script>", "x-correlation-id": "JOB" });
  expect(forged.header("x-request-id")).toMatch(/^[0-9a-f]{32}$/);
  expect(forged.header("x-correlation-id")).toBe(forged.header("x-request-id"));
  expect(forged.raw.toString() + forged.body).not.toContain("JOB");
  await expect
    .poll(() => titan?.output(), { timeout: 10_000 })
    .toContain('"request_id":"req-1","correlation_id":"job-77","path":"/kept"');
  expect(answer.header("server-timing")).toMatch(/^total;dur=[\d.]+, backend;dur=[\d.]+$/);
  const timed = await get(port, "/a?wait=300");
  const [total, behind] = [...(timed.header("server-timing") ?? "").matchAll(/dur=([\d.]+)/g)].map((m) => Number(m[1]));
  expect(behind).toBeGreaterThan(250);
  expect(total).toBeGreaterThanOrEqual(behind ?? Number.POSITIVE_INFINITY);
});

test("requirement 32: a surface has its own limit, from the configuration or a mounted file", async () => {
  const config = {
    rate_limit: { requests_per_second: 0.001, burst: 1 },
    surfaces: { surface_id: "llm.chat.completions", rate_limit_rps: 0.001, rate_limit_burst: 3 },
    routes: [
      { path: "/v1/chat/completions", upstream: "up", surface: "llm.chat.completions" },
      { path: "/chat", upstream: "up", surface: "llm.chat.completions" },
      { path: "/embed", upstream: "up", surface: "llm.embeddings" },
      { path: "/*", upstream: "up" },
    ],
  };
  const dir = join(import.meta.dirname, "../../.cache");
  const file = join(dir, `surfaces-${process.pid}.json`);
  const { mkdirSync, rmSync } = await import("node:fs");
  mkdirSync(dir, { recursive: true });
  writeFileSync(file, '{ "surface_id": "llm.embeddings", "rate_limit_rps": 0.001, "rate_limit_burst": 2 }');
  try {
    const port = await start({ ...config, surfaces_file: file });
    expect(await statuses(port, "/v1/chat/completions", 2)).toEqual([200, 200]);
    expect(await statuses(port, "/chat", 2), "its routes count together").toEqual([200, 429]);
    expect(await statuses(port, "/embed", 3)).toEqual([200, 200, 429]);
    expect(await statuses(port, "/else", 2), "the global limit is apart").toEqual([200, 429]);
  } finally {
    rmSync(file);
  }
});

test("requirement 33: every way to authenticate, every algorithm, and key sets by discovery", async () => {
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const curves = { ES256: "P-256", ES384: "P-384", ES512: "P-521" } as const;
  const pairs: Record<string, { publicKey: KeyObject; privateKey: KeyObject }> = {
    ...Object.fromEntries(["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"].map((alg) => [alg, rsa])),
    ...Object.fromEntries(
      Object.entries(curves).map(([alg, namedCurve]) => [alg, generateKeyPairSync("ec", { namedCurve })]),
    ),
    EdDSA: generateKeyPairSync("ed25519"),
  };
  const idp = generateKeyPairSync("rsa", { modulusLength: 2048 });
  let issuer = "";
  const provider = http.createServer((request, response) => {
    const keys = [{ ...idp.publicKey.export({ format: "jwk" }), kid: "idp", alg: "RS256", use: "sig" }];
    const discovery = request.url === "/.well-known/openid-configuration";
    response.end(JSON.stringify(discovery ? { issuer, jwks_uri: `${issuer}/keys` } : { keys }));
  });
  await new Promise<void>((done) => provider.listen(0, "127.0.0.1", done));
  issuer = `http://127.0.0.1:${(provider.address() as { port: number }).port}`;
  try {
    const port = await start({
      jwt: {
        keys: [
          ...KEYS.keys.map((key) => ({ ...key, key_id: "HS256" })),
          ...Object.entries(pairs).map(([algorithm, { publicKey }]) => ({
            algorithm,
            key_id: algorithm,
            public_key: publicKey.export({ type: "spki", format: "pem" }).toString(),
          })),
        ],
        allowed_audiences: ["api"],
        clock_skew_seconds: 60,
      },
      apikey: { keys: [{ id: "k", key: "an-api-key-of-some-length" }] },
      // "password", by bcrypt.
      basic: { users: [{ name: "joe", hash: "$2y$04$FbIFutoSexikLeutz9SxnuSuNOYChHWhJ0gFjXbwDyqH4ASaZG2Ym" }] },
      routes: [
        ...["none", "jwt", "apikey", "both", "basic", "anonymous"].map((auth) => ({
          path: `/${auth}`,
          upstream: "up",
          auth,
        })),
        {
          path: "/oidc",
          upstream: "up",
          middleware: [{ type: "jwt", config: { jwks: { issuer }, allowed_audiences: ["api"] } }],
        },
      ],
    });
    const ask = async (path: string, headers: Record<string, string> = {}) => (await get(port, path, headers)).status;
    for (const [alg, { privateKey }] of Object.entries(pairs))
      expect(await ask("/jwt", bearer(jwt({ aud: "api" }, privateKey, alg, alg))), alg).toBe(200);
    const hs = (claims: object) => bearer(jwt({ aud: "api", ...claims }, SECRET, "HS256", "HS256"));
    const key = { "x-api-key": "an-api-key-of-some-length" };
    expect(await ask("/jwt", hs({}))).toBe(200);
    const challenge = await get(port, "/jwt");
    expect([challenge.status, challenge.header("www-authenticate")]).toEqual([401, 'Bearer realm="titan"']);
    expect([await ask("/none"), await ask("/anonymous"), await ask("/both"), await ask("/apikey")]).toEqual([
      200, 200, 401, 401,
    ]);
    expect([await ask("/both", key), await ask("/both", hs({})), await ask("/apikey", key)]).toEqual([200, 200, 200]);
    expect(await ask("/apikey", { "x-api-key": "an-api-key-of-some-lengtH" })).toBe(401);
    expect(await ask("/anonymous", hs({ aud: "other" })), "a bad credential is no absent one").toBe(401);
    const basic = (text: string) => ({ authorization: `Basic ${Buffer.from(text).toString("base64")}` });
    expect([
      await ask("/basic", basic("joe:password")),
      await ask("/basic", basic("joe:wrong")),
      await ask("/basic"),
    ]).toEqual([200, 401, 401]);

    // Claims: an audience in a string or a list; times with 60 s of skew.
    expect(await ask("/jwt", hs({ aud: ["x", "api"] }))).toBe(200);
    expect(await ask("/jwt", hs({ aud: ["x"] }))).toBe(401);
    expect([await ask("/jwt", hs({ exp: now() - 30 })), await ask("/jwt", hs({ exp: now() - 90 }))]).toEqual([
      200, 401,
    ]);
    expect([await ask("/jwt", hs({ nbf: now() + 30 })), await ask("/jwt", hs({ nbf: now() + 120 }))]).toEqual([
      200, 401,
    ]);
    const confused = pairs.RS256?.publicKey.export({ type: "spki", format: "pem" }).toString() ?? "";
    expect(
      await ask("/jwt", bearer(jwt({ aud: "api" }, confused, "HS256", "RS256"))),
      "a public key is no secret",
    ).toBe(401);
    const [, body] = jwt({ aud: "api" }, SECRET).split(".");
    const none = Buffer.from('{"alg":"none"}').toString("base64url");
    expect(await ask("/jwt", bearer(`${none}.${body}.`))).toBe(401);

    // Discovery; then the provider goes away, and its keys are used on.
    const token = bearer(jwt({ aud: "api", iss: issuer }, idp.privateKey, "RS256", "idp"));
    await expect.poll(() => ask("/oidc", token), { timeout: 10_000 }).toBe(200);
    expect(await ask("/oidc", bearer(jwt({ aud: "api", iss: "http://else" }, idp.privateKey, "RS256", "idp")))).toBe(
      401,
    );
    provider.closeAllConnections();
    await new Promise((done) => provider.close(done));
    expect(await ask("/oidc", bearer(jwt({ aud: "api", iss: issuer, n: 1 }, idp.privateKey, "RS256", "idp")))).toBe(
      200,
    );
  } finally {
    provider.closeAllConnections();
    provider.close();
  }
});

test("requirement 34: scopes and roles, from strings, lists and nested claims, any or all", async () => {
  const authz = { scope_claim: "scope", roles_claim: "realm_access.roles" };
  const config = (more: object) => ({
    jwt: KEYS,
    jwt_authz: { ...authz, ...more },
    routes: [
      { path: "/scopes", upstream: "up", auth: "jwt", required_scopes: ["read", "write"] },
      { path: "/roles", upstream: "up", auth: "jwt", required_roles: ["admin", "owner"] },
    ],
  });
  const ask = async (port: number, path: string, claims: object) =>
    (await get(port, path, bearer(jwt(claims, SECRET)))).status;
  const any = await start(config({}));
  expect(await ask(any, "/scopes", { scope: "other read" })).toBe(200);
  expect(await ask(any, "/scopes", { scope: ["write"] })).toBe(200);
  expect(await ask(any, "/scopes", { scope: "reader" })).toBe(403);
  expect(await ask(any, "/scopes", {})).toBe(403);
  expect(await ask(any, "/roles", { realm_access: { roles: ["owner"] } })).toBe(200);
  expect(await ask(any, "/roles", { realm_access: { roles: "admin" } })).toBe(200);
  expect(await ask(any, "/roles", { roles: ["admin"] })).toBe(403);
  const refused = await get(any, "/roles", bearer(jwt({}, SECRET)));
  expect(JSON.parse(refused.body)).toMatchObject({ error: "forbidden", message: "Insufficient permissions" });
  const nobody = await get(any, "/roles");
  expect(nobody.status).toBe(401);
  expect(nobody.header("www-authenticate")).toBe('Bearer realm="titan"');
  expect(JSON.parse(nobody.body)).toMatchObject({ error: "unauthorized", message: "Authentication required" });
  await titan?.stop();
  const all = await start(config({ require_all_scopes: true, require_all_roles: true }));
  expect([
    await ask(all, "/scopes", { scope: "read" }),
    await ask(all, "/scopes", { scope: "write read" }),
    await ask(all, "/roles", { realm_access: { roles: ["admin"] } }),
    await ask(all, "/roles", { realm_access: { roles: ["owner", "admin"] } }),
  ]).toEqual([403, 200, 403, 200]);
});

test("requirement 35: a revoked token is refused at once, on every worker", async () => {
  const port = await start({
    server: { workers: 4 },
    jwt: KEYS,
    routes: [{ path: "/*", upstream: "up", auth: "jwt" }],
  });
  const [gone, stays] = [bearer(jwt({ jti: "t-1" }, SECRET)), bearer(jwt({ jti: "t-2" }, SECRET))];
  expect(new Set(await statuses(port, "/", 20, gone)), "remembered by the workers").toEqual(new Set([200]));
  const told = await fetch(`http://127.0.0.1:${titan?.adminPort}/_admin/jwt/revoke`, {
    method: "POST",
    headers: { "x-titan-admin": "1" },
    body: JSON.stringify({ jti: "t-1", exp: now() + 600 }),
  });
  expect(told.status).toBe(200);
  expect(new Set(await statuses(port, "/", 40, gone)), "each on a connection of its own").toEqual(new Set([401]));
  expect(new Set(await statuses(port, "/", 10, stays))).toEqual(new Set([200]));
});

test("requirement 37: verified claims go upstream as headers, and a client can't write them itself", async () => {
  const claim_headers = [
    { claim: "sub", header: "X-User-Id" },
    { claim: "realm_access.roles", header: "X-Roles" },
  ];
  const port = await start({
    jwt: { ...KEYS, claim_headers },
    routes: [
      { path: "/me", upstream: "up", auth: "jwt" },
      { path: "/maybe", upstream: "up", auth: "anonymous" },
    ],
  });
  const forged = { "X-User-Id": "root", "x-roles": "admin", X_User_Id: "root", x_roles: "admin" };
  const token = jwt({ sub: "ada", realm_access: { roles: ["user", "editor"] } }, SECRET);
  const { headers } = seen(await get(port, "/me", { ...forged, ...bearer(token) }));
  expect(headers["x-user-id"]).toBe("ada");
  expect(headers["x-roles"]).toMatch(/^user[, ]+editor$/);
  for (const answer of [await get(port, "/maybe", forged), await get(port, "/me", { ...forged, ...bearer(token) })]) {
    expect(answer.status).toBe(200);
    const text = JSON.stringify(seen(answer).headers);
    expect(text).not.toContain("root");
    expect(text).not.toContain('"admin"');
  }
  expect(seen(await get(port, "/maybe", forged)).headers).not.toHaveProperty("x-user-id");
});
