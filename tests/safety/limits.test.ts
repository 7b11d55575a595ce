// V22 and V24: one client can't have many buckets, and no input costs the gateway more than its length.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { exchange, get, RawClient, status } from "../helpers/client.ts";
import { expectAlive, openStage, type Stage } from "./stage.ts";

const LIMIT = { type: "rate_limit", config: { requests_per_second: 0.001, burst: 3, key: "client_ip" } };
let direct: Stage;
let behind: Stage;
beforeAll(async () => {
  const routes = (upstream: string) => [
    { path: "/alive", upstream },
    { path: "/limited", upstream, middleware: [LIMIT] },
    { path: "/regex", upstream, headers: [{ name: "x-input", regex: "^(a+)+$" }] },
    { path: "/regex", upstream, headers: [{ name: "x-input", regex: "(a|aa)*b(c|cc)*d" }] },
    { path: "/regex", upstream, headers: [{ name: "x-input", regex: "(.*)(.*)(.*)(.*)(.*)x" }] },
    { path: "/*", upstream },
  ];
  [direct, behind] = await Promise.all([
    openStage({ config: () => ({ routes: routes("origin") }) }),
    openStage({
      config: () => ({
        server: { trusted_proxies: ["127.0.0.1"], max_connections: 50, idle_timeout: 1500, header_timeout: 1500 },
        routes: routes("origin"),
      }),
    }),
  ]);
});
afterAll(async () => {
  await expectAlive(direct);
  await Promise.all([direct.close(), behind.close()]);
});

const limited = async (stage: Stage, headers: Record<string, string>) =>
  (await get(stage.titan.port, "/limited", headers)).status;

describe("V22 keys of a limit", () => {
  test("a forged X-Forwarded-For makes no new bucket", async () => {
    const seen = [];
    for (let n = 0; n < 8; n++) {
      const forged = `198.51.100.${n}`;
      seen.push(
        await limited(direct, {
          "X-Forwarded-For": forged,
          "X-Real-IP": forged,
          Forwarded: `for=${forged}`,
          "CF-Connecting-IP": forged,
          X_Forwarded_For: forged,
        }),
      );
    }
    expect(seen).toEqual([200, 200, 200, 429, 429, 429, 429, 429]);
  });

  test("a client behind a trusted proxy can't put addresses before its own", async () => {
    const seen = [];
    for (let n = 0; n < 5; n++)
      seen.push(await limited(behind, { "X-Forwarded-For": `198.51.100.${n}, 203.0.113.50` }));
    expect(seen).toEqual([200, 200, 200, 429, 429]);
  });

  test("one IPv6 /64 is one bucket, another is another", async () => {
    const seen = [];
    for (let n = 1; n <= 5; n++) seen.push(await limited(behind, { "X-Forwarded-For": `2001:db8:1:2:${n}::${n}` }));
    expect(seen).toEqual([200, 200, 200, 429, 429]);
    expect(await limited(behind, { "X-Forwarded-For": "2001:db8:1:3::1" })).toBe(200);
  });

  test("distinct IPv4 addresses are distinct, also when mapped into IPv6", async () => {
    const seen = [];
    for (let n = 0; n < 4; n++)
      seen.push(await limited(behind, { "X-Forwarded-For": n % 2 ? "::ffff:203.0.113.7" : "203.0.113.7" }));
    expect(seen).toEqual([200, 200, 200, 429]);
    expect(await limited(behind, { "X-Forwarded-For": "::ffff:203.0.113.8" })).toBe(200);
    expect(await limited(behind, { "X-Forwarded-For": "203.0.113.9" })).toBe(200);
  });

  test.each([
    ["garbage", "not-an-address"],
    ["an empty list", ""],
    ["a port out of range", "203.0.113.20:99999"],
    ["a list of garbage", "x, y, z"],
  ])("%s in X-Forwarded-For falls back to the peer", async (_, value) => {
    expect([200, 429]).toContain(await limited(behind, { "X-Forwarded-For": value }));
    expect((await get(behind.titan.port, "/alive")).status).toBe(200);
  });
});

describe("V24 inputs made to be expensive", () => {
  /** Milliseconds of the median of five. */
  async function cost(target: string, headers: Record<string, string>): Promise<number> {
    const times: number[] = [];
    for (let n = 0; n < 5; n++) {
      const answer = await get(direct.titan.port, target, headers);
      expect([200, 400, 414, 431]).toContain(answer.status);
      times.push(answer.milliseconds);
    }
    return times.sort((a, b) => a - b)[2] ?? 0;
  }

  test("regular expressions are matched in linear time", async () => {
    const short = await cost("/regex", { "X-Input": "a" });
    for (const input of ["a".repeat(6000), `${"a".repeat(6000)}!`, `${"a".repeat(3000)}b${"c".repeat(3000)}`]) {
      expect(await cost("/regex", { "X-Input": input })).toBeLessThan(short + 25);
    }
  });

  test.each([
    ["query parameters", `/a?${Array.from({ length: 1000 }, (_, n) => `k${n}=`).join("&")}`, {}],
    ["cookies", "/a", { Cookie: Array.from({ length: 1000 }, (_, n) => `c${n}=`).join("; ") }],
    ["elements of Connection", "/a", { Connection: Array.from({ length: 1000 }, (_, n) => `c${n}`).join(",") }],
    [
      "elements of X-Forwarded-For",
      "/a",
      { "X-Forwarded-For": Array.from({ length: 600 }, () => "10.0.0.1").join(",") },
    ],
    ["segments", `/${"a/".repeat(3000)}`, {}],
    ["dots", `/${"../".repeat(2000)}`, {}],
    ["slashes", "/".repeat(6000), {}],
    ["percents", `/${"%61".repeat(2000)}`, {}],
  ])("thousands of %s", async (_, target, headers) => {
    const short = await cost("/a", {});
    expect(await cost(target, headers)).toBeLessThan(short + 25);
  });

  test("connections beyond the limit are told so, and the limit frees itself", async () => {
    const clients: RawClient[] = [];
    for (let n = 0; n < 50; n++) clients.push(await RawClient.connect(behind.titan.port));
    await sleep(100);
    const refused = await exchange(behind.titan.port, "GET /a HTTP/1.1\r\nHost: t.test\r\n\r\n", {
      timeout: 2000,
      linger: 200,
    });
    expect(refused.statuses).toEqual([503]);
    expect(refused.closed).toBe(true);
    expect(refused.raw.toString()).toMatch(/connection/i);
    // Idle ones go by themselves.
    await expect
      .poll(async () => (await exchange(behind.titan.port, "GET /a HTTP/1.1\r\nHost: t.test\r\n\r\n")).statuses[0], {
        timeout: 8000,
      })
      .toBe(200);
    expect(clients.flatMap(({ finals }) => finals.map(status)).filter((code) => code === 200)).toEqual([]);
    for (const client of clients) client.destroy();
  });
});
