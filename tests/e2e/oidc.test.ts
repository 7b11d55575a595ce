// Requirement 33 and figure 16 against a real OpenID provider: discovery, rotation, outage.
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { Provider } from "oidc-provider";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Backend, startBackend } from "../helpers/backend.ts";
import { get } from "../helpers/client.ts";
import { freePort, startTitan, type Titan } from "../helpers/titan.ts";

const AUDIENCE = "https://api.example";
const jwk = (key: KeyObject, kid: string, alg: string) => ({ ...key.export({ format: "jwk" }), kid, alg, use: "sig" });
const first = jwk(generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey, "first", "RS256");
const second = jwk(generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey, "second", "ES256");

let port: number;
let issuer: string;
let server: http.Server | undefined;
let backend: Backend;
let titan: Titan;

/** The provider with these keys, its tokens signed with `alg`. */
async function provide(keys: object[], alg: "RS256" | "ES256"): Promise<void> {
  const provider = new Provider(issuer, {
    jwks: { keys: keys as never },
    clients: [
      {
        client_id: "service",
        client_secret: "service-secret",
        grant_types: ["client_credentials"],
        redirect_uris: [],
        response_types: [],
        id_token_signed_response_alg: alg,
      },
    ],
    scopes: ["read", "write"],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: "read write",
          audience: AUDIENCE,
          accessTokenFormat: "jwt",
          jwt: { sign: { alg } },
        }),
      },
    },
  });
  server = http.createServer(provider.callback());
  await new Promise<void>((resolve) => server?.listen(port, "127.0.0.1", resolve));
}

async function outage(): Promise<void> {
  server?.closeAllConnections();
  await new Promise((resolve) => server?.close(resolve));
  server = undefined;
}

async function token(scope: string): Promise<string> {
  const response = await fetch(`${issuer}/token`, {
    method: "POST",
    headers: {
      authorization: `Basic ${Buffer.from("service:service-secret").toString("base64")}`,
      "content-type": "application/x-www-form-urlencoded",
    },
    body: new URLSearchParams({ grant_type: "client_credentials", resource: AUDIENCE, scope }),
  });
  const body = (await response.json()) as { access_token?: string };
  if (!body.access_token) throw new Error(JSON.stringify(body));
  return body.access_token;
}

const ask = async (bearer: string) => (await get(titan.port, "/orders", { authorization: `Bearer ${bearer}` })).status;

beforeAll(async () => {
  port = await freePort();
  issuer = `http://127.0.0.1:${port}`;
  await provide([first], "RS256");
  backend = await startBackend();
  titan = await startTitan({
    config: {
      upstreams: [{ name: "api", backends: [`127.0.0.1:${backend.port}`] }],
      jwt: { jwks: { issuer, cooldown_seconds: 1 }, allowed_audiences: [AUDIENCE] },
      routes: [{ path: "/*", upstream: "api", auth: ["jwt"], required_scopes: ["read"] }],
    },
  });
});

afterAll(async () => {
  await titan?.stop();
  await backend?.close();
  await outage();
});

test("keys are discovered, rotated and kept through an outage", async () => {
  const old = await token("read");
  expect(await ask(old)).toBe(200);
  expect(await ask(await token("write")), "another scope").toBe(403);
  expect(await ask(`${old.slice(0, -8)}AAAAAAAA`), "another signature").toBe(401);

  await outage();
  await provide([second, first], "ES256");
  await sleep(1100);
  const fresh = await token("read");
  expect(await ask(fresh), "signed with a key that Titan had not seen").toBe(200);
  expect(await ask(old), "the key before is still published").toBe(200);

  const unseen = await token("read");
  await outage();
  await sleep(1100);
  expect(await ask(unseen), "not in the token cache, its key is known").toBe(200);
  expect(await ask(old)).toBe(200);

  const other = jwk(generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey, "other", "ES256");
  await provide([other], "ES256");
  await sleep(1100);
  expect(await ask(await token("read")), "back, with another key").toBe(200);
  expect(await ask(unseen), "a key that was taken back is good for nothing").toBe(401);
});
