// Ways to a real Redis: TLS with a CA of its own, users and passwords, and what is not possible.
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { signedBy } from "../helpers/certificate.ts";
import { get } from "../helpers/client.ts";
import { type Redis, redisInstalled, startRedis } from "../helpers/redis.ts";
import { freePort, startTitan, type Titan } from "../helpers/titan.ts";

const certificate = signedBy("127.0.0.1", "localhost");
const other = signedBy("127.0.0.1", "localhost");
let redis: Redis | undefined;
let titan: Titan | undefined;

afterEach(async () => {
  await titan?.stop();
  await redis?.stop();
  titan = redis = undefined;
});
afterAll(() => {
  for (const { dir } of [certificate, other]) rmSync(dir, { recursive: true });
});

async function startTls(): Promise<number> {
  const port = await freePort();
  const { ca_path, cert_path, key_path } = certificate;
  const files = ["--tls-cert-file", cert_path, "--tls-key-file", key_path, "--tls-ca-cert-file", ca_path];
  redis = await startRedis(["--port", "0", "--tls-port", String(port), ...files, "--tls-auth-clients", "no"], port);
  return port;
}

/** Statuses of three requests under a limit of two, which is counted in Redis or (503) not at all. */
async function limited(settings: object): Promise<number[]> {
  titan = await startTitan({
    config: {
      logging: { level: "info" },
      redis: { timeout: "5s", fail_mode: "closed", ...settings },
      rate_limit: { requests: 2, window: "1h", burst: 2, backend: "redis", key: "global" },
      routes: [{ path: "/", respond: { body: "here" } }],
    },
  });
  const list = [];
  for (let i = 0; i < 3; i++) list.push((await get(titan.port, "/", {}, { timeout: 10_000 })).status);
  return list;
}

const why = async (pattern: RegExp) => {
  await expect.poll(() => titan?.output(), { timeout: 15_000 }).toMatch(pattern);
  expect(titan?.output()).toContain("store_lost");
};

describe.skipIf(!redisInstalled)("a way to Redis", () => {
  test("by TLS, with the CA that the configuration names", async () => {
    const url = `rediss://127.0.0.1:${await startTls()}`;
    expect(await limited({ url, ca_path: certificate.ca_path })).toEqual([200, 200, 429]);
  });

  test("not by TLS where the certificate is another's", async () => {
    const url = `rediss://127.0.0.1:${await startTls()}`;
    expect(await limited({ url, ca_path: other.ca_path })).toEqual([503, 503, 503]);
    await why(/invalid peer certificate/);
  });

  test("not by TLS under a name that the certificate does not have", async () => {
    const url = `rediss://ip6-localhost.invalid:${await startTls()}`;
    expect(await limited({ url, ca_path: certificate.ca_path })).toEqual([503, 503, 503]);
  });

  test("not without TLS where there is only TLS", async () => {
    expect(await limited({ url: `redis://127.0.0.1:${await startTls()}` })).toEqual([503, 503, 503]);
  });

  test("as a user of its access list, with no more rights than the documentation names", async () => {
    // As docs/middleware/rate-limit.md has it.
    const rules = "~titan:* +@read +@write +@scripting +@connection +time -@dangerous".split(" ");
    redis = await startRedis(["--user", "titan", "on", ">the-password-of-titan", ...rules, "--user", "default", "off"]);
    const url = (user: string) => `redis://${user}@127.0.0.1:${redis?.port}`;
    expect(await limited({ url: url("titan:the-password-of-titan") })).toEqual([200, 200, 429]);
    await titan?.stop();
    expect(await limited({ url: url("titan:a-wrong-password-here") })).toEqual([503, 503, 503]);
    await why(/store_lost/);
    expect(titan?.output(), "a password is not repeated").not.toContain("a-wrong-password-here");
  });

  test("with the server's own password", async () => {
    redis = await startRedis(["--requirepass", "the-password-of-all"]);
    expect(await limited({ url: `redis://:the-password-of-all@127.0.0.1:${redis.port}` })).toEqual([200, 200, 429]);
  });

  test("not to a node of a cluster, and says why", async () => {
    const nodes = join(certificate.dir, "nodes.conf");
    redis = await startRedis(["--cluster-enabled", "yes", "--cluster-config-file", nodes]);
    expect(await limited({ url: `redis://127.0.0.1:${redis.port}` })).toEqual([503, 503, 503]);
    await why(/node of a cluster/);
  });
});

test("a CA that is none, or that nothing asks for, is an error of the configuration", async () => {
  const file = join(certificate.dir, "none.pem");
  writeFileSync(file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  await expect(limited({ url: "rediss://127.0.0.1:1", ca_path: file })).rejects.toThrow(/ca_path/);
  await expect(limited({ url: "redis://127.0.0.1:1", ca_path: certificate.ca_path })).rejects.toThrow(/rediss:/);
  await expect(limited({ url: "rediss://127.0.0.1:1", ca_path: "/no/such/file" })).rejects.toThrow(/can't be read/);
});
