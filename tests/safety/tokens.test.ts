// V17 and V18: forged tokens, and key sets that would be fetched from where an attacker says or as often as he likes.
import { createHmac, createSign, generateKeyPairSync, type KeyObject, sign as signWith } from "node:crypto";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { exchange, get } from "../helpers/client.ts";
import { expectAlive, openStage, type Stage } from "./stage.ts";

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const ec = generateKeyPairSync("ec", { namedCurve: "P-256" });
const attacker = generateKeyPairSync("rsa", { modulusLength: 2048 });
const SECRET = Buffer.from("a secret of more than thirty-two bytes, of course");
const spki = rsa.publicKey.export({ type: "spki", format: "pem" }).toString();

type Json = Record<string, unknown>;
const encode = (value: string | Buffer) => Buffer.from(value as string).toString("base64url");
const now = () => Math.floor(Date.now() / 1000);
const claims = (more: Json = {}): Json => ({ sub: "u1", iss: "https://idp", aud: "api", exp: now() + 600, ...more });

const rs256 = (key: KeyObject) => (input: string) => createSign("RSA-SHA256").update(input).sign(key);
const hs256 = (secret: string | Buffer) => (input: string) => createHmac("sha256", secret).update(input).digest();
const es256 = (input: string) =>
  signWith("sha256", Buffer.from(input), { key: ec.privateKey, dsaEncoding: "ieee-p1363" });

/** A token of any header and payload, either as objects or as the JSON text itself. */
function token(header: Json | string, payload: Json | string, sign: (input: string) => Buffer): string {
  const text = (part: Json | string) => encode(typeof part === "string" ? part : JSON.stringify(part));
  const input = `${text(header)}.${text(payload)}`;
  return `${input}.${encode(sign(input))}`;
}

const RS = { alg: "RS256", kid: "rsa", typ: "JWT" };
const good = (payload: Json = claims(), header: Json = RS) => token(header, payload, rs256(rsa.privateKey));

let foreign: http.Server;
let foreignHits = 0;
let foreignUrl = "";
let stage: Stage;

beforeAll(async () => {
  foreign = http.createServer((_, response) => {
    foreignHits++;
    response.end(
      JSON.stringify({ keys: [{ ...attacker.publicKey.export({ format: "jwk" }), kid: "evil", alg: "RS256" }] }),
    );
  });
  await new Promise<void>((resolve) => foreign.listen(0, "127.0.0.1", resolve));
  foreignUrl = `http://127.0.0.1:${(foreign.address() as AddressInfo).port}/keys`;
  stage = await openStage({
    config: () => ({
      jwt: {
        keys: [
          { algorithm: "RS256", key_id: "rsa", public_key: spki },
          {
            algorithm: "ES256",
            key_id: "ec",
            public_key: ec.publicKey.export({ type: "spki", format: "pem" }).toString(),
          },
          { algorithm: "HS256", key_id: "mac", secret: SECRET.toString("base64") },
        ],
        allowed_issuers: ["https://idp"],
        allowed_audiences: ["api"],
      },
      routes: [
        { path: "/alive", upstream: "origin", auth: "none" },
        { path: "/*", upstream: "origin", auth: "jwt", auth_required: true },
      ],
    }),
  });
});
afterAll(async () => {
  await expectAlive(stage);
  await stage.close();
  foreign.close();
});

async function verdict(bearer: string): Promise<number> {
  stage.origin.reset();
  await sleep(5);
  const answer = await get(stage.titan.port, "/secure", { Authorization: `Bearer ${bearer}` });
  if (answer.status !== 200) expect(stage.origin.bytes, "refused, yet forwarded").toBe(0);
  return answer.status;
}

describe("V17 good tokens pass", () => {
  test.each([
    ["RS256", () => good()],
    ["ES256", () => token({ alg: "ES256", kid: "ec" }, claims(), es256)],
    ["HS256", () => token({ alg: "HS256", kid: "mac" }, claims(), hs256(SECRET))],
    ["a list of audiences", () => good(claims({ aud: ["other", "api"] }))],
    ["expired within the clock skew", () => good(claims({ exp: now() - 20 }))],
    ["not yet valid within the clock skew", () => good(claims({ nbf: now() + 20 }))],
  ])("%s", async (_, make) => {
    expect(await verdict(make())).toBe(200);
  });
});

describe("V17 forged tokens are refused", () => {
  const none = () => Buffer.alloc(0);
  const jwk = () => attacker.publicKey.export({ format: "jwk" });
  const p1363 = (value: string) => () => Buffer.from(value.repeat(64), "latin1");
  const cases: [string, () => string][] = [
    ["none", () => token({ alg: "none", typ: "JWT" }, claims(), none)],
    ["None", () => token({ alg: "None" }, claims(), none)],
    ["NONE with a kid", () => token({ alg: "NONE", kid: "rsa" }, claims(), none)],
    ["nOnE with a signature", () => token({ alg: "nOnE", kid: "rsa" }, claims(), rs256(rsa.privateKey))],
    ["none without the last dot", () => token({ alg: "none" }, claims(), none).slice(0, -1)],
    ["no alg", () => token({ kid: "rsa" }, claims(), rs256(rsa.privateKey))],
    ["empty alg", () => token({ alg: "", kid: "rsa" }, claims(), rs256(rsa.privateKey))],
    ["alg as a list", () => token({ alg: ["RS256"], kid: "rsa" } as Json, claims(), rs256(rsa.privateKey))],
    ["alg null", () => token({ alg: null, kid: "rsa" } as Json, claims(), rs256(rsa.privateKey))],
    ["HS256 with the public key's PEM as secret", () => token({ alg: "HS256", kid: "rsa" }, claims(), hs256(spki))],
    ["the same without its last newline", () => token({ alg: "HS256", kid: "rsa" }, claims(), hs256(spki.trim()))],
    ["the same without a kid", () => token({ alg: "HS256" }, claims(), hs256(spki))],
    [
      "HS256 with the public key's DER",
      () => token({ alg: "HS256", kid: "rsa" }, claims(), hs256(rsa.publicKey.export({ type: "spki", format: "der" }))),
    ],
    [
      "HS512 with the public key",
      () => token({ alg: "HS512", kid: "rsa" }, claims(), (input) => createHmac("sha512", spki).update(input).digest()),
    ],
    ["RS256 header on the HMAC key", () => token({ alg: "RS256", kid: "mac" }, claims(), hs256(SECRET))],
    [
      "HS384 with the right secret for HS256",
      () =>
        token({ alg: "HS384", kid: "mac" }, claims(), (input) => createHmac("sha384", SECRET).update(input).digest()),
    ],
    ["HMAC with an empty key", () => token({ alg: "HS256", kid: "mac" }, claims(), hs256(""))],
    ["HMAC with an empty key and kid", () => token({ alg: "HS256", kid: "" }, claims(), hs256(""))],
    ["HMAC with a NUL key", () => token({ alg: "HS256", kid: "mac" }, claims(), hs256("\0"))],
    [
      "HMAC with the secret still in base64",
      () => token({ alg: "HS256", kid: "mac" }, claims(), hs256(SECRET.toString("base64"))),
    ],
    ["kid as a path", () => token({ alg: "HS256", kid: "../../../../dev/null" }, claims(), hs256(""))],
    ["kid as SQL", () => token({ alg: "HS256", kid: "' UNION SELECT 'x" }, claims(), hs256("x"))],
    ["kid as a number", () => token({ alg: "RS256", kid: 1 }, claims(), rs256(attacker.privateKey))],
    ["ES256 of zeros", () => token({ alg: "ES256", kid: "ec" }, claims(), p1363("\0"))],
    ["ES256 of ones", () => token({ alg: "ES256", kid: "ec" }, claims(), p1363("\xff"))],
    [
      "ES256 in DER",
      () =>
        token({ alg: "ES256", kid: "ec" }, claims(), (input) => signWith("sha256", Buffer.from(input), ec.privateKey)),
    ],
    ["another key", () => token(RS, claims(), rs256(attacker.privateKey))],
    ["another key in jwk", () => token({ ...RS, jwk: jwk() }, claims(), rs256(attacker.privateKey))],
    ["another key in jwk, no kid", () => token({ alg: "RS256", jwk: jwk() }, claims(), rs256(attacker.privateKey))],
    ["jku", () => token({ alg: "RS256", kid: "evil", jku: foreignUrl }, claims(), rs256(attacker.privateKey))],
    ["x5u", () => token({ alg: "RS256", kid: "evil", x5u: foreignUrl }, claims(), rs256(attacker.privateKey))],
    [
      "x5c",
      () =>
        token(
          { ...RS, x5c: [attacker.publicKey.export({ type: "spki", format: "der" }).toString("base64")] },
          claims(),
          rs256(attacker.privateKey),
        ),
    ],
    ["two kids, the good one first", () => token('{"alg":"RS256","kid":"rsa","kid":"mac"}', claims(), hs256(SECRET))],
    ["two algs, none last", () => token('{"alg":"RS256","kid":"rsa","alg":"none"}', claims(), none)],
    ["two algs, HS256 last", () => token('{"alg":"RS256","kid":"rsa","alg":"HS256"}', claims(), hs256(spki))],
    ["unknown crit", () => good(claims(), { ...RS, crit: ["x"], x: 1 })],
    ["empty crit", () => good(claims(), { ...RS, crit: [] })],
    ["b64 false", () => good(claims(), { ...RS, b64: false, crit: ["b64"] })],
    ["exp as a string", () => good(claims({ exp: String(now() + 600) }))],
    ["exp null", () => good(claims({ exp: null }))],
    ["exp as a list", () => good(claims({ exp: [now() + 600] }))],
    ["exp negative", () => good(claims({ exp: -1 }))],
    ["no exp", () => good({ ...claims(), exp: undefined })],
    ["expired", () => good(claims({ exp: now() - 3600 }))],
    [
      "two exps, the late one first",
      () =>
        token(RS, `{"sub":"u1","iss":"https://idp","aud":"api","exp":${now() + 600},"exp":1}`, rs256(rsa.privateKey)),
    ],
    ["not yet valid", () => good(claims({ nbf: now() + 3600 }))],
    ["nbf as a string", () => good(claims({ nbf: String(now() + 3600) }))],
    ["another audience", () => good(claims({ aud: "other" }))],
    ["audience in another case", () => good(claims({ aud: "API" }))],
    ["a list without the audience", () => good(claims({ aud: ["other"] }))],
    ["an empty list of audiences", () => good(claims({ aud: [] }))],
    ["no audience", () => good({ ...claims(), aud: undefined })],
    ["audience as an object", () => good(claims({ aud: { api: true } }))],
    ["another issuer", () => good(claims({ iss: "https://evil" }))],
    ["issuer with more behind it", () => good(claims({ iss: "https://idp.evil" }))],
    ["issuer as a list", () => good(claims({ iss: ["https://idp", "https://evil"] }))],
    ["no issuer", () => good({ ...claims(), iss: undefined })],
    [
      "payload changed",
      () => {
        const [header, , signature] = good().split(".");
        return `${header}.${encode(JSON.stringify(claims({ sub: "admin" })))}.${signature}`;
      },
    ],
    ["signature cut", () => good().slice(0, -8)],
    ["signature gone", () => good().split(".").slice(0, 2).join(".")],
    ["signature empty", () => `${good().split(".").slice(0, 2).join(".")}.`],
    ["signature with more behind it", () => `${good()}AAAA`],
    ["four parts", () => `${good()}.x`],
    ["five parts", () => `${good()}.x.y`],
    ["padding", () => `${good()}==`],
    ["a payload that is no JSON", () => token(RS, "nonsense", rs256(rsa.privateKey))],
    ["a payload that is a list", () => token(RS, "[]", rs256(rsa.privateKey))],
    ["a payload of deep brackets", () => token(RS, "[".repeat(3000), rs256(rsa.privateKey))],
    ["nothing", () => "x"],
    ["three dots", () => "..."],
    ["empty parts", () => ".."],
  ];
  test.each(cases)("%s", async (_, make) => {
    expect(await verdict(make())).toBe(401);
  });

  test("a forged token beside a good one is refused", async () => {
    const forged = token(RS, claims({ sub: "admin" }), rs256(attacker.privateKey));
    for (const pair of [
      [forged, good()],
      [good(), forged],
    ]) {
      stage.origin.reset();
      const lines = pair.map((one) => `Authorization: Bearer ${one}\r\n`).join("");
      const result = await exchange(stage.titan.port, `GET /secure HTTP/1.1\r\nHost: t.test\r\n${lines}\r\n`);
      expect([400, 401]).toContain(result.statuses[0]);
      expect(stage.origin.bytes).toBe(0);
    }
  });

  test("a token that was good stays out once it is changed, although the good one is cached", async () => {
    const valid = good();
    expect(await verdict(valid)).toBe(200);
    expect(await verdict(`${valid.slice(0, -4)}AAAA`)).toBe(401);
    expect(await verdict(valid)).toBe(200);
  });

  test("no key was fetched from where a token said", () => {
    expect(foreignHits).toBe(0);
  });
});

describe("V18 key sets by URL", () => {
  async function withKeySet(
    answer: (request: http.IncomingMessage, response: http.ServerResponse) => void,
    jwks: object,
    check: (stage: Stage, hits: () => number) => Promise<void>,
  ) {
    let hits = 0;
    const provider = http.createServer((request, response) => {
      hits++;
      answer(request, response);
    });
    await new Promise<void>((resolve) => provider.listen(0, "127.0.0.1", resolve));
    const base = `http://127.0.0.1:${(provider.address() as AddressInfo).port}`;
    const set = Object.fromEntries(
      Object.entries(jwks).map(([key, value]) => [key, typeof value === "string" ? base + value : value]),
    );
    const config = () => ({
      jwt: { jwks: { cooldown_seconds: 30, ...set }, allowed_audiences: ["api"] },
      routes: [
        { path: "/alive", upstream: "origin", auth: "none" },
        { path: "/*", upstream: "origin", auth: "jwt" },
      ],
    });
    const opened = await openStage({ config });
    try {
      await check(opened, () => hits);
      await expectAlive(opened);
    } finally {
      await opened.close();
      provider.close();
      provider.closeAllConnections();
    }
  }

  const keySet = JSON.stringify({
    keys: [{ ...rsa.publicKey.export({ format: "jwk" }), kid: "rsa", alg: "RS256", use: "sig" }],
  });
  const ask = (to: Stage, bearer: string) => get(to.titan.port, "/secure", { Authorization: `Bearer ${bearer}` });

  test("a stampede of unknown kids causes one refresh a cooldown", async () => {
    await withKeySet(
      (_, response) => response.end(keySet),
      { url: "/keys" },
      async (opened, hits) => {
        await expect.poll(async () => (await ask(opened, good())).status, { timeout: 5000 }).toBe(200);
        const before = hits();
        const forged = (n: number) =>
          token({ alg: "RS256", kid: `unknown-${n}` }, claims(), rs256(attacker.privateKey));
        for (let round = 0; round < 5; round++) {
          const answers = await Promise.all(Array.from({ length: 40 }, (_, n) => ask(opened, forged(round * 40 + n))));
          expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([401]));
        }
        expect(hits() - before).toBeLessThanOrEqual(1);
        expect((await ask(opened, good())).status).toBe(200);
      },
    );
  });

  test("a redirect to another host is not followed", async () => {
    const hits = foreignHits;
    await withKeySet(
      (_, response) => response.writeHead(302, { Location: foreignUrl.replace("127.0.0.1", "localhost") }).end(),
      { url: "/keys" },
      async (opened) => {
        const forged = token({ alg: "RS256", kid: "evil" }, claims(), rs256(attacker.privateKey));
        for (let n = 0; n < 5; n++) {
          expect([401, 503]).toContain((await ask(opened, forged)).status);
          await sleep(50);
        }
      },
    );
    expect(foreignHits).toBe(hits);
  });

  test("a discovery document can't send Titan to another host", async () => {
    const hits = foreignHits;
    const document = (request: http.IncomingMessage, response: http.ServerResponse) =>
      void response.end(
        JSON.stringify({
          issuer: `http://${request.headers.host}`,
          jwks_uri: foreignUrl.replace("127.0.0.1", "localhost"),
        }),
      );
    await withKeySet(document, { issuer: "" }, async (opened) => {
      const forged = token({ alg: "RS256", kid: "evil" }, claims(), rs256(attacker.privateKey));
      for (let n = 0; n < 5; n++) {
        expect([401, 503]).toContain((await ask(opened, forged)).status);
        await sleep(50);
      }
    });
    expect(foreignHits).toBe(hits);
  });

  test("an endless key set is cut off", async () => {
    const endless = (_: http.IncomingMessage, response: http.ServerResponse) => {
      response.write('{"keys":[');
      const more = () => {
        while (!response.destroyed && response.write(" ".repeat(65_536)));
      };
      response.on("drain", more);
      response.on("error", () => {});
      more();
    };
    await withKeySet(endless, { url: "/keys" }, async (opened) => {
      const before = opened.titan.memory();
      await ask(opened, good());
      await sleep(1500);
      expect(opened.titan.memory() - before).toBeLessThan(48 << 20);
    });
  });
});
