// V19: a client certificate can't be avoided through another listener's ticket, another name or a certificate of one's own making.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import tls from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { selfSigned } from "../helpers/certificate.ts";
import { freePort } from "../helpers/titan.ts";
import { expectAlive, openStage, type Stage } from "./stage.ts";

const dir = mkdtempSync(join(tmpdir(), "titan-mtls-"));
const at = (name: string) => join(dir, name);
const openssl = (...argv: string[]) => execFileSync("openssl", argv, { cwd: dir, stdio: "ignore" });
const EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/** A client certificate signed by `ca`. */
function issue(name: string, ca: string, days: string[] = ["-days", "2"]): void {
  openssl("req", ...EC, "-subj", `/CN=${name}`, "-keyout", `${name}.key`, "-out", `${name}.csr`);
  writeFileSync(at(`${name}.ext`), "extendedKeyUsage=clientAuth\nbasicConstraints=CA:FALSE\n");
  const signed = ["-CA", `${ca}.pem`, "-CAkey", `${ca}.key`, "-CAcreateserial", "-extfile", `${name}.ext`];
  openssl("x509", "-req", "-in", `${name}.csr`, ...signed, ...days, "-out", `${name}.pem`);
}

let stage: Stage;
let strict = 0;
let open = 0;

beforeAll(async () => {
  for (const ca of ["ca", "other-ca"])
    openssl("req", "-x509", ...EC, "-days", "2", "-subj", `/CN=${ca}`, "-keyout", `${ca}.key`, "-out", `${ca}.pem`);
  issue("client", "ca");
  issue("stranger", "other-ca");
  openssl("req", "-x509", ...EC, "-days", "2", "-subj", "/CN=ca", "-keyout", "self.key", "-out", "self.pem");
  const server = selfSigned("strict.test", "open.test");
  [strict, open] = [await freePort(), await freePort()];
  const block = { cert_path: server.cert_path, key_path: server.key_path, alpn_protocols: ["http/1.1"] };
  stage = await openStage({
    config: () => ({
      listeners: [
        {
          name: "strict",
          address: "127.0.0.1",
          port: strict,
          tls: { ...block, client_auth: "required", client_ca_path: at("ca.pem") },
        },
        { name: "open", address: "127.0.0.1", port: open, tls: block },
      ],
    }),
  });
});
afterAll(async () => {
  await expectAlive(stage);
  await stage.close();
  rmSync(dir, { recursive: true, force: true });
});

interface Outcome {
  text: string;
  session: Buffer | undefined;
  reused: boolean;
  error: string | undefined;
}

/** One request over TLS, and the session that the server gave. */
async function request(port: number, options: tls.ConnectionOptions = {}, host = "strict.test"): Promise<Outcome> {
  return new Promise((resolve) => {
    const outcome: Outcome = { text: "", session: undefined, reused: false, error: undefined };
    const socket = tls.connect({
      port,
      host: "127.0.0.1",
      servername: "strict.test",
      rejectUnauthorized: false,
      ...options,
    });
    const done = () => {
      socket.destroy();
      resolve(outcome);
    };
    socket.setTimeout(3000, done);
    socket.on("session", (session) => {
      outcome.session = session;
    });
    socket.on("secureConnect", () => {
      outcome.reused = socket.isSessionReused();
      socket.write(`GET /a HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    });
    socket.on("data", (data) => {
      outcome.text += data.toString("latin1");
      setTimeout(done, 100);
    });
    socket.on("error", (error) => {
      outcome.error = error.message;
      done();
    });
    socket.on("end", done);
  });
}

const identity = (name: string) => ({ cert: readFileSync(at(`${name}.pem`)), key: readFileSync(at(`${name}.key`)) });
const VERSIONS = ["TLSv1.2", "TLSv1.3"] as const;

describe("V19", () => {
  test.each(VERSIONS)("%s: a good certificate is served", async (version) => {
    const outcome = await request(strict, { ...identity("client"), minVersion: version, maxVersion: version });
    expect(outcome.text, outcome.error).toMatch(/^HTTP\/1\.1 200/);
  });

  test.each(
    VERSIONS.flatMap(
      (version) =>
        [
          [version, "no"],
          [version, "stranger"],
          [version, "self"],
        ] as [typeof version, string][],
    ),
  )("%s: %s certificate gets no answer", async (version, name) => {
    stage.origin.reset();
    const outcome = await request(strict, {
      ...(name === "no" ? {} : identity(name)),
      minVersion: version,
      maxVersion: version,
    });
    expect(outcome.text).toBe("");
    expect(stage.origin.bytes).toBe(0);
  });

  test.each(VERSIONS)(
    "%s: a ticket of the listener without client certificates is worth nothing at the one with",
    async (version) => {
      const first = await request(open, { minVersion: version, maxVersion: version });
      expect(first.text).toMatch(/^HTTP\/1\.1 200/);
      await sleep(50);
      stage.origin.reset();
      const second = await request(strict, {
        minVersion: version,
        maxVersion: version,
        ...(first.session && { session: first.session }),
      });
      expect(second.text).toBe("");
      expect(stage.origin.bytes).toBe(0);
    },
  );

  test.each(VERSIONS)("%s: another name in SNI does not avoid the certificate", async (version) => {
    for (const servername of ["open.test", "nobody.test", "", "STRICT.TEST"]) {
      const outcome = await request(strict, { minVersion: version, maxVersion: version, servername });
      expect(outcome.text, servername).toBe("");
    }
  });

  test("resumption keeps the identity that was verified", async () => {
    const first = await request(strict, { ...identity("client"), maxVersion: "TLSv1.3" });
    const second = await request(strict, { ...identity("client"), ...(first.session && { session: first.session }) });
    expect(second.text).toMatch(/^HTTP\/1\.1 200/);
  });

  test("an HTTP request in plain text on the TLS port is not served", async () => {
    const { exchange } = await import("../helpers/client.ts");
    stage.origin.reset();
    await exchange(strict, "GET /a HTTP/1.1\r\nHost: strict.test\r\n\r\n", { timeout: 1500 });
    expect(stage.origin.bytes).toBe(0);
  });
});
