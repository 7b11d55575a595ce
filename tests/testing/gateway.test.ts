import { createHmac, generateKeyPairSync, sign } from "node:crypto";
import { gzipSync } from "node:zlib";
import { expect, it } from "vitest";
import type { ConfigInput } from "../../src/config/index.ts";
import { defineHook } from "../../src/index.ts";
import { start } from "../helpers/test-gateway.ts";

const api = { name: "api", backends: ["api.internal:3000"] };
const verdicts = (policies: { type: string; verdict: string }[]) =>
  policies.map(({ type, verdict }) => [type, verdict]);

it("limits as the data plane does, and its clock can be moved", async () => {
  const gateway = await start({
    upstreams: [api],
    routes: [{ path: "/*", upstream: "api" }],
    // In real time, requests would come back while the test runs.
    rate_limit: { requests_per_second: 5_000, burst: 2, key: "client_ip" },
  });
  const inject = (clientIp: string) => gateway.inject({ url: "/", clientIp });
  const first = await inject("203.0.113.7");
  expect([first.status, first.headers.get("x-ratelimit-remaining")]).toEqual([200, "1"]);
  expect((await inject("203.0.113.7")).status).toBe(200);
  const refused = await inject("203.0.113.7");
  expect([refused.status, verdicts(refused.policies)]).toEqual([429, [["rate_limit", "answered"]]]);
  expect([refused.stage, refused.forwarded, refused.json()]).toMatchObject([
    "rate_limit",
    undefined,
    { error: expect.any(String) },
  ]);
  expect(refused.headers.get("retry-after")).toBe("1");
  expect((await inject("203.0.113.8")).status).toBe(200);
  await gateway.advance("1ms");
  const again = [];
  for (let i = 0; i < 3; i++) again.push((await inject("203.0.113.7")).status);
  expect(again).toEqual([200, 200, 429]);
  await gateway.advance(2 ** 40);
  expect((await inject("203.0.113.7")).status).toBe(200);
  await expect(gateway.advance("soon")).rejects.toThrow("no time such as");
});

it("answers preflights, and puts CORS and security headers on answers", async () => {
  const gateway = await start({
    upstreams: [api],
    cors: { allowed_origins: ["https://app.example.com"], allow_credentials: true },
    middleware: [{ type: "security_headers", config: { preset: "strict" } }],
    routes: [{ path: "/items", method: "PUT", upstream: "api" }],
  });
  const preflight = await gateway.inject({
    method: "OPTIONS",
    url: "https://api.example.com/items",
    headers: { origin: "https://app.example.com", "access-control-request-method": "PUT" },
  });
  expect([preflight.status, preflight.forwarded, preflight.answeredBy]).toEqual([204, undefined, "global.cors"]);
  expect(preflight.headers.get("access-control-allow-origin")).toBe("https://app.example.com");
  const secure = await gateway.inject({
    method: "PUT",
    url: "https://api.example.com/items",
    headers: { origin: "https://evil.example" },
  });
  expect(secure.headers.get("access-control-allow-origin")).toBeNull();
  expect(secure.headers.get("strict-transport-security")).toContain("max-age=");
  expect(secure.forwarded?.headers.get("x-forwarded-proto")).toBe("https");
  const plain = await gateway.inject({ method: "PUT", url: "http://api.example.com/items" });
  expect(plain.headers.get("strict-transport-security")).toBeNull();
  const wrong = await gateway.inject({ method: "DELETE", url: "/items" });
  expect([wrong.status, wrong.headers.get("allow"), wrong.stage]).toEqual([405, "PUT", "method_not_allowed"]);
});

it("verifies tokens: those that it makes, and those of others", async () => {
  const secret = Buffer.alloc(32, 7);
  const gateway = await start({
    upstreams: [api],
    jwt: {
      keys: [{ algorithm: "HS256", key_id: "own", secret: secret.toString("base64") }],
      allowed_issuers: ["https://idp.example.com"],
      allowed_audiences: ["api"],
      claim_headers: [{ claim: "sub", header: "X-User" }],
    },
    jwt_authz: { roles_claim: "realm_access.roles" },
    routes: [
      { path: "/admin/*", upstream: "api", required_roles: ["admin"] },
      { path: "/open", upstream: "api", auth: "none" },
      { path: "/*", upstream: "api" },
    ],
  });
  const nobody = await gateway.inject("/a");
  expect([nobody.status, nobody.headers.get("www-authenticate")?.slice(0, 6)]).toEqual([401, "Bearer"]);
  const somebody = await gateway.inject({
    url: "/a",
    headers: { "x-user": "root" },
    identity: { subject: "jo" },
  });
  expect([somebody.status, somebody.subject, somebody.forwarded?.headers.get("x-user")]).toEqual([200, "jo", "jo"]);
  const admin = { subject: "jo", claims: { realm_access: { roles: ["admin"] } } };
  expect((await gateway.inject({ url: "/admin/x", identity: admin })).status).toBe(200);
  const user = await gateway.inject({ url: "/admin/x", identity: { subject: "jo" } });
  expect([user.status, user.stage, verdicts(user.policies)]).toEqual([
    403,
    "authorize",
    [
      ["auth", "passed"],
      ["authorize", "answered"],
    ],
  ]);
  // Claims are judged: another issuer, an old token.
  const other = await gateway.inject({ url: "/a", identity: { claims: { iss: "https://evil.example" } } });
  const old = await gateway.inject({ url: "/a", identity: { claims: { exp: 1_000_000_000 } } });
  expect([other.status, old.status]).toEqual([401, 401]);
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + 3_600;
  const text = `${part({ alg: "HS256", kid: "own" })}.${part({ sub: "x", iss: "https://idp.example.com", aud: "api", exp })}`;
  const signed = (key: Buffer) => `Bearer ${text}.${createHmac("sha256", key).update(text).digest("base64url")}`;
  expect((await gateway.inject({ url: "/a", headers: { authorization: signed(secret) } })).subject).toBe("x");
  expect((await gateway.inject({ url: "/a", headers: { authorization: signed(Buffer.alloc(32, 8)) } })).status).toBe(
    401,
  );
  await expect(gateway.inject({ url: "/open", identity: { subject: "jo" } })).rejects.toThrow(
    'the route "/open" has no "jwt" authentication',
  );
});

it("knows API keys, addresses and client certificates", async () => {
  const gateway = await start({
    server: { port: 8080, https_port: 8443, tls: { cert_path: "missing.crt", key_path: "missing.key" } },
    upstreams: [api],
    apikey: { keys: [{ id: "batch", key: "s3cret-s3cret-s3cret", scopes: ["read"] }] },
    mtls: {},
    routes: [
      {
        path: "/inside/*",
        upstream: "api",
        auth: "none",
        middleware: [{ type: "ip_filter", config: { allow: ["10.0.0.0/8"] } }],
      },
      { path: "/cert/*", upstream: "api", auth: "mtls" },
      { path: "/*", upstream: "api", auth: "apikey" },
    ],
  });
  const key = await gateway.inject({ url: "/a", headers: { "x-api-key": "s3cret-s3cret-s3cret" } });
  expect([key.status, key.subject, key.forwarded?.headers.get("x-api-key")]).toEqual([200, "batch", null]);
  expect((await gateway.inject({ url: "/a", headers: { "x-api-key": "wrong" } })).status).toBe(401);
  expect((await gateway.inject({ url: "/inside/x", clientIp: "10.1.2.3" })).status).toBe(200);
  const outside = await gateway.inject({ url: "/inside/x", clientIp: "2001:db8::1" });
  expect([outside.status, outside.stage, outside.clientIp]).toEqual([403, "ip_filter", "2001:db8::1"]);
  // No way round by another spelling of the path.
  expect((await gateway.inject({ url: "/cert/../inside/x" })).status).toBe(403);
  const certificate = { subject: "CN=client,O=Example", commonName: "client", sans: ["client.example.com"] };
  const held = await gateway.inject({ url: "https://a.test/cert/x", clientCertificate: certificate });
  expect([held.status, held.subject]).toEqual([200, "client"]);
  expect((await gateway.inject("https://a.test/cert/x")).status).toBe(401);
  await expect(gateway.inject({ url: "http://a.test/cert/x", clientCertificate: certificate })).rejects.toThrow(
    "https URL",
  );
});

it("shows what is forwarded: path, query, headers, body", async () => {
  const gateway = await start(
    {
      upstreams: [{ ...api, host_header: "backend" }],
      server: { trusted_proxies: ["10.0.0.0/8"] },
      routes: [
        {
          path: "/v1/users/:id",
          upstream: "api",
          max_request_size: 100,
          transform: {
            path_rewrites: [{ type: "prefix_strip", pattern: "/v1" }],
            request_headers: [{ action: "modify", name: "X-Client", value: `\${client_ip} \${param.id}` }],
            response_headers: [{ action: "remove", name: "X-Internal" }],
            query_params: [{ action: "add", name: "tenant", value: "acme" }],
          },
        },
        { path: "/old", redirect: { status: 308, location: "/v1/users/1" } },
        { path: "/fixed", respond: { status: 418, body: "teapot" } },
      ],
    },
    {
      upstreams: {
        api: (request) =>
          Response.json({ got: request.json() }, { headers: { "x-internal": "1", "set-cookie": "a=1", etag: '"x"' } }),
      },
    },
  );
  const result = await gateway.inject({
    method: "POST",
    url: "http://api.example.com/v1/users/7?page=2",
    headers: { "x-forwarded-for": "203.0.113.9", accept: ["text/html", "*/*"] },
    clientIp: "10.0.0.1",
    json: { name: "Jo" },
  });
  expect([result.status, result.json()]).toEqual([200, { got: { name: "Jo" } }]);
  expect([result.route, result.params, result.upstream, result.backend]).toEqual([
    "/v1/users/:id",
    { id: "7" },
    "api",
    "api.internal:3000",
  ]);
  expect(result.forwarded).toMatchObject({ method: "POST", path: "/users/7", query: "page=2&tenant=acme" });
  expect(result.forwarded?.headers.get("host")).toBe("api.internal:3000");
  expect(result.forwarded?.headers.get("x-client")).toBe("203.0.113.9 7");
  expect(result.forwarded?.headers.get("x-forwarded-for")).toBe("203.0.113.9, 10.0.0.1");
  expect(result.forwarded?.headers.get("connection")).not.toBe("close");
  expect([result.headers.get("x-internal"), result.headers.get("etag")]).toEqual([null, '"x"']);
  const large = await gateway.inject({ method: "POST", url: "/v1/users/7", body: "x".repeat(200_000) });
  expect([large.status, large.stage, large.forwarded]).toEqual([413, "body_limit", undefined]);
  const moved = await gateway.inject("/old");
  expect([moved.status, moved.headers.get("location")]).toEqual([308, "/v1/users/1"]);
  expect(await gateway.inject("/fixed")).toMatchObject({ status: 418, body: "teapot", route: "/fixed" });
  const head = await gateway.inject({ url: "/v1/users/7", headers: { "x-large": "x".repeat(20_000) } });
  expect([head.status, head.policies.every(({ verdict }) => verdict === "not_reached")]).toEqual([431, true]);
});

it("retries, breaks circuits and balances as it would", async () => {
  let broken = true;
  const gateway = await start(
    {
      upstreams: [
        {
          name: "api",
          backends: ["one.internal:1", "two.internal:1"],
          max_retries: 1,
          circuit_breaker: { failure_threshold: 2, success_threshold: 1, timeout_ms: 30_000 },
        },
      ],
      routes: [{ path: "/*", upstream: "api" }],
    },
    {
      upstreams: {
        api: ({ backend }) => (broken && backend === "one.internal:1" ? Response.error() : new Response(backend)),
      },
    },
  );
  for (let i = 0; i < 6; i++) {
    const result = await gateway.inject("/");
    expect([result.status, result.body]).toEqual([200, "two.internal:1"]);
    expect(result.attempts.at(-1)?.backend).toBe("two.internal:1");
  }
  const state = () => gateway.status().upstreams[0]?.backends.map(({ status }) => status);
  expect(state()).toEqual(["circuit_open", "up"]);
  broken = false;
  await gateway.advance("31s");
  const seen = new Set<string>();
  for (let i = 0; i < 6; i++) seen.add((await gateway.inject("/")).body);
  expect([...seen].sort()).toEqual(["one.internal:1", "two.internal:1"]);
});

it("compresses, and shows the text all the same", async () => {
  const text = "a line that repeats itself\n".repeat(200);
  const gateway = await start(
    { upstreams: [api], compression: {}, routes: [{ path: "/*", upstream: "api" }] },
    {
      upstreams: {
        api: ({ path }) =>
          path === "/ready"
            ? new Response(gzipSync(text), { headers: { "content-encoding": "gzip", "content-type": "text/plain" } })
            : new Response(text, { headers: { "content-type": "text/plain" } }),
      },
    },
  );
  for (const url of ["/", "/ready"]) {
    const result = await gateway.inject({ url, headers: { "accept-encoding": "gzip" } });
    expect([result.headers.get("content-encoding"), result.body]).toEqual(["gzip", text]);
    expect(result.bytes.length).toBeLessThan(text.length / 2);
  }
});

it("asks fake services: forward-auth and a key set", async () => {
  const config: ConfigInput = {
    upstreams: [api],
    routes: [
      {
        path: "/app/*",
        upstream: "api",
        middleware: [
          {
            type: "forward_auth",
            config: {
              url: "https://sso.internal/verify?app=1",
              upstream_headers: ["Remote-User"],
              subject_header: "Remote-User",
            },
          },
        ],
      },
      { path: "/*", upstream: "api" },
    ],
  };
  const gateway = await start(config, {
    services: {
      "https://sso.internal/verify?app=1": ({ headers, path, query }) =>
        headers.get("cookie") === "sid=1"
          ? new Response(null, { headers: { "remote-user": `jo ${path} ${query} ${headers.get("x-forwarded-uri")}` } })
          : new Response(null, { status: 302, headers: { location: "https://sso.internal/login" } }),
    },
  });
  const known = await gateway.inject({ url: "/app/x", headers: { cookie: "sid=1" } });
  expect([known.status, known.forwarded?.headers.get("remote-user")]).toEqual([200, "jo /verify app=1 /app/x"]);
  const unknown = await gateway.inject("/app/x");
  expect([unknown.status, unknown.headers.get("location"), unknown.stage]).toEqual([
    302,
    "https://sso.internal/login",
    undefined,
  ]);
  const lonely = await start(config);
  await expect(lonely.inject("/app/x")).rejects.toThrow(
    "Titan asked https://sso.internal/verify?app=1, which has no fake",
  );
});

it("verifies a provider's own tokens with the keys of a fake key set", async () => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const issuer = "https://idp.example.com/realms/main";
  const gateway = await start(
    {
      upstreams: [api],
      jwt: { jwks: { issuer }, allowed_audiences: ["api"] },
      routes: [{ path: "/*", upstream: "api" }],
    },
    {
      services: {
        [issuer]: () => Response.json({ keys: [{ ...publicKey.export({ format: "jwk" }), kid: "k1", alg: "ES256" }] }),
      },
    },
  );
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const token = (iss: string) => {
    const exp = Math.floor(Date.now() / 1000) + 3_600;
    const text = `${part({ alg: "ES256", kid: "k1" })}.${part({ iss, aud: "api", sub: "jo", exp })}`;
    const signature = sign("sha256", Buffer.from(text), { key: privateKey, dsaEncoding: "ieee-p1363" });
    return { authorization: `Bearer ${text}.${signature.toString("base64url")}` };
  };
  expect((await gateway.inject({ url: "/", headers: token(issuer) })).subject).toBe("jo");
  expect((await gateway.inject({ url: "/", headers: token("https://evil.example") })).status).toBe(401);
  expect((await gateway.inject({ url: "/", identity: { subject: "kim" } })).subject).toBe("kim");
});

it("speaks HTTP/2 to upstreams that want it, and upgrades WebSockets", async () => {
  const gateway = await start(
    {
      upstreams: [{ name: "h2", protocol: "h2", backends: ["https://h2.internal:443"] }, api],
      routes: [
        { path: "/ws", upstream: "api", websocket: {} },
        { path: "/*", upstream: "h2" },
      ],
    },
    {
      upstreams: {
        h2: ({ path, headers, upstream }) => Response.json({ path, host: headers.get("host"), upstream }),
        api: ({ headers }) =>
          new Response(null, { status: headers.get("origin") === "https://evil.example" ? 403 : 200 }),
      },
    },
  );
  const result = await gateway.inject("https://shop.example.com/x");
  expect([result.status, result.json()]).toEqual([200, { path: "/x", host: "shop.example.com", upstream: "h2" }]);
  const headers = {
    connection: "Upgrade",
    upgrade: "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
  };
  const upgraded = await gateway.inject({ url: "/ws", headers });
  expect([upgraded.status, upgraded.headers.get("sec-websocket-accept"), upgraded.route]).toEqual([
    101,
    "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    "/ws",
  ]);
  const refused = await gateway.inject({ url: "/ws", headers: { ...headers, origin: "https://evil.example" } });
  expect(refused.status).toBe(403);
});

it("says of each hook whether it was called", async () => {
  const gateway = await start({
    upstreams: [api],
    hooks: {
      writes: defineHook({ global: true, when: { methods: ["POST"] }, onRequest: () => undefined }),
      guard: defineHook({
        global: true,
        onRequest: (ctx) => (ctx.request.path === "/no" ? ctx.json({}, 403) : undefined),
      }),
      errors: defineHook({ global: true, onError: (ctx) => ctx.respond(ctx.error.status, "sorry") }),
    },
    routes: [
      { path: "/*", upstream: "api" },
      { path: "/once", method: "PUT", upstream: "api" },
    ],
  });
  const get = await gateway.inject("/");
  expect(get.policies.map(({ name, verdict }) => [name, verdict])).toEqual([
    ["writes", "skipped"],
    ["guard", "passed"],
    ["errors", "skipped"],
  ]);
  const no = await gateway.inject({ method: "POST", url: "/no" });
  expect(no.policies.map(({ verdict }) => verdict)).toEqual(["passed", "answered", "not_reached"]);
  expect([no.answeredBy, no.status]).toEqual(["guard", 403]);
  const bad = await gateway.inject("/%00");
  expect([bad.status, bad.stage]).toEqual([400, "bad_request"]);
});

it("fails where the test is wrong, with words that help", async () => {
  await expect(start({ upstreams: [api], routes: [{ path: "/*", upstream: "apo" }] } as ConfigInput)).rejects.toThrow(
    /routes\[0\]\.upstream.*apo.*did you mean "api"/s,
  );
  const config: ConfigInput = {
    upstreams: [api, { name: "web", backends: ["127.0.0.1:1"] }],
    routes: [
      { path: "/web", upstream: "web" },
      { path: "/*", upstream: "api" },
    ],
  };
  await expect(start(config, { upstreams: { wob: () => new Response() } })).rejects.toThrow('did you mean "web"');
  await expect(start(config, { services: { "https://x.test/": () => new Response() } })).rejects.toThrow("asks none");
  const gateway = await start(config, {
    upstreams: {
      api: ({ path }) => {
        if (path === "/throws") throw new RangeError("the fake is broken");
        return undefined as unknown as Response;
      },
    },
  });
  await expect(gateway.inject("/web")).rejects.toThrow('went to the upstream "web", which has no fake');
  await expect(gateway.inject("/throws")).rejects.toThrow(RangeError);
  await expect(gateway.inject("/nothing")).rejects.toThrow("gave nothing: it must give a Response");
  await expect(gateway.inject("nowhere")).rejects.toThrow("neither a path");
  await expect(gateway.inject("/a b")).rejects.toThrow("%20");
  await expect(gateway.inject({ url: "/", headers: { a: "b\r\nc: d" } })).rejects.toThrow("line break");
  await expect(gateway.inject({ url: "/", listener: "admin" })).rejects.toThrow('no listener "admin"');
  await gateway.close();
  await expect(gateway.inject("/")).rejects.toThrow("closed");
});
