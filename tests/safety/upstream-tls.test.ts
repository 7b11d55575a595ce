// V23: who sits between Titan and a TLS backend, or pretends to be it, can neither put an answer in nor read the request.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Exchange, exchange, status } from "../helpers/client.ts";
import { expectAlive, openStage, type Stage } from "./stage.ts";

const dir = mkdtempSync(join(tmpdir(), "titan-upstream-tls-"));
const at = (name: string) => join(dir, name);
const openssl = (...argv: string[]) => execFileSync("openssl", argv, { cwd: dir, stdio: "ignore" });
const EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/** A server certificate signed by `ca`. */
function issue(name: string, ca: string, alternative: string, use = "serverAuth", days = ["-days", "2"]): void {
  openssl("req", ...EC, "-subj", `/CN=${name}`, "-keyout", `${name}.key`, "-out", `${name}.csr`);
  const extensions = [`subjectAltName=${alternative}`, `extendedKeyUsage=${use}`, "basicConstraints=CA:FALSE", ""];
  writeFileSync(at(`${name}.ext`), extensions.join("\n"));
  const signed = ["-CA", `${ca}.pem`, "-CAkey", `${ca}.key`, "-CAcreateserial", "-extfile", `${name}.ext`];
  openssl("x509", "-req", "-in", `${name}.csr`, ...signed, ...days, "-out", `${name}.pem`);
}

const INJECTED = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\ninjected";
const REAL = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nreal";
const SECRET = "a-secret-of-the-request";

/** What somebody on the way does to one connection; default: nothing. */
interface Tampering {
  /** Sent to Titan as soon as it connects, before anything of the backend. */
  first?: string | Buffer;
  /** Sent instead of the first bytes of the backend. */
  instead?: string | Buffer;
  /** Sent in front of the backend's answer, outside the records. */
  beforeAnswer?: string | Buffer;
}

/** A TLS backend with somebody in front who sees and changes the bytes on the wire. */
class Tapped {
  /** What Titan sent, as it is on the wire. */
  wire = Buffer.alloc(0);
  /** What the backend read inside TLS. */
  inside = "";
  connections = 0;
  tampering: Tampering = {};
  answer = REAL;
  /** How the connection ends behind the answer: not at all, with close_notify, or without. */
  end: "no" | "told" | "cut" = "no";
  port = 0;
  readonly #servers: net.Server[] = [];
  readonly #sockets = new Set<net.Socket>();

  static async start(cert: string, version?: tls.SecureVersion): Promise<Tapped> {
    const tapped = new Tapped();
    const listen = async (server: net.Server): Promise<number> => {
      tapped.#servers.push(server);
      await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
      return (server.address() as net.AddressInfo).port;
    };
    const identity = { cert: readFileSync(at(`${cert}.pem`)), key: readFileSync(at(`${cert}.key`)) };
    const pinned = version ? { minVersion: version, maxVersion: version } : {};
    let front: net.Socket | undefined;
    const backend = tls.createServer({ ...identity, ...pinned }, (socket) => {
      socket.on("error", () => {});
      socket.on("data", (data) => {
        tapped.inside += data.toString("latin1");
        if (!tapped.inside.endsWith("\r\n\r\n")) return;
        const { beforeAnswer } = tapped.tampering;
        if (beforeAnswer) front?.write(beforeAnswer);
        socket.write(tapped.answer);
        // The answer is on its way before the end is.
        if (tapped.end === "cut") setTimeout(() => front?.end(), 50);
        if (tapped.end === "told") socket.end();
      });
    });
    backend.on("tlsClientError", () => {});
    const inner = await listen(backend);
    tapped.port = await listen(
      net.createServer((client) => {
        front = client;
        tapped.connections++;
        const { first, instead } = tapped.tampering;
        if (first) client.write(first);
        let replaced = instead === undefined;
        const back = net.connect(inner, "127.0.0.1");
        for (const socket of [client, back]) {
          tapped.#sockets.add(socket);
          socket.on("error", () => {});
        }
        client.on("data", (data) => {
          tapped.wire = Buffer.concat([tapped.wire, data]);
          back.write(data);
        });
        back.on("data", (data) => {
          if (client.writableEnded) return;
          client.write(replaced ? data : (instead ?? ""));
          replaced = true;
        });
        client.on("close", () => back.destroy());
        back.on("close", () => client.destroy());
      }),
    );
    return tapped;
  }

  reset(tampering: Tampering = {}): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
    this.wire = Buffer.alloc(0);
    this.inside = "";
    this.connections = 0;
    this.tampering = tampering;
    this.end = "no";
    this.answer = REAL;
  }

  async close(): Promise<void> {
    this.reset();
    await Promise.all(this.#servers.map((server) => new Promise((done) => server.close(done))));
  }
}

/** Certificates that are not the backend's, and how each is wrong. */
const WRONG = {
  "self-made": () =>
    openssl(
      "req",
      "-x509",
      ...EC,
      "-days",
      "2",
      "-subj",
      "/CN=backend.test",
      "-addext",
      "subjectAltName=DNS:backend.test",
      "-keyout",
      "self-made.key",
      "-out",
      "self-made.pem",
    ),
  "of another authority": () => issue("of another authority", "other-ca", "DNS:backend.test"),
  "for another name": () => issue("for another name", "ca", "DNS:other.test"),
  "for a name below": () => issue("for a name below", "ca", "DNS:*.backend.test"),
  "for clients": () => issue("for clients", "ca", "DNS:backend.test", "clientAuth"),
  expired: () => issue("expired", "ca", "DNS:backend.test", "serverAuth", ["-days", "-1"]),
};
type Wrong = keyof typeof WRONG;
const VERSIONS = ["TLSv1.2", "TLSv1.3"] as const;

let stage: Stage;
const good = {} as Record<(typeof VERSIONS)[number], Tapped>;
const wrong = {} as Record<Wrong, Tapped>;

beforeAll(async () => {
  for (const ca of ["ca", "other-ca"])
    openssl("req", "-x509", ...EC, "-days", "2", "-subj", `/CN=${ca}`, "-keyout", `${ca}.key`, "-out", `${ca}.pem`);
  issue("good", "ca", "DNS:backend.test");
  for (const version of VERSIONS) good[version] = await Tapped.start("good", version);
  for (const [name, make] of Object.entries(WRONG) as [Wrong, () => void][]) {
    make();
    wrong[name] = await Tapped.start(name);
  }
  const secure = [...Object.values(good), ...Object.values(wrong)].map(({ port }) => ({
    name: `tls-${port}`,
    max_retries: 0,
    // What says nothing more in the middle of a handshake is waited for this long.
    connect_timeout: 2000,
    tls: { ca_path: at("ca.pem"), sni: "backend.test" },
    backends: [{ host: "127.0.0.1", port }],
  }));
  stage = await openStage({
    config: (origin) => ({
      upstreams: [origin, ...secure],
      routes: [...secure.map(({ name }) => ({ path: `/${name}`, upstream: name })), { path: "/*", upstream: "origin" }],
    }),
  });
});
afterAll(async () => {
  await expectAlive(stage);
  await stage.close();
  await Promise.all([...Object.values(good), ...Object.values(wrong)].map((backend) => backend.close()));
  rmSync(dir, { recursive: true, force: true });
});

const ask = ({ port }: Tapped, count = 1): Promise<Exchange> => {
  const request = `GET /tls-${port} HTTP/1.1\r\nHost: a\r\nX-Secret: ${SECRET}\r\n\r\n`;
  return exchange(stage.titan.port, Array(count).fill(request), { answers: count, timeout: 15_000 });
};

/** 502, and nothing of what was put in; what Titan sent can't be read on the way. */
function expectNothingPassed(backend: Tapped, result: Exchange): void {
  const text = result.raw.toString("latin1");
  expect(result.statuses, text).toEqual([502]);
  expect(text).not.toContain("injected");
  expect(text).not.toContain("real");
  expect(backend.wire.includes(SECRET), "the request went out in the clear").toBe(false);
  expect(backend.connections, "it was tried").toBeGreaterThan(0);
}

describe.each(VERSIONS)("V23 %s", (version) => {
  test("the honest backend is served, on one connection", async () => {
    good[version].reset();
    const result = await ask(good[version], 2);
    expect(result.statuses).toEqual([200, 200]);
    expect(good[version].inside).toContain(SECRET);
    expect(good[version].wire.includes(SECRET)).toBe(false);
    expect(good[version].connections).toBe(1);
  });

  const ALERT = Buffer.from([21, 3, 3, 0, 2, 1, 0]);
  const plainRecord = Buffer.concat([Buffer.from([23, 3, 3, 0, INJECTED.length]), Buffer.from(INJECTED)]);
  test.each<[string, Tampering]>([
    ["an answer in the clear as soon as it connects", { first: INJECTED }],
    ["an answer in the clear instead of the handshake", { instead: INJECTED }],
    ["application data in front of the handshake", { first: plainRecord }],
    ["application data instead of the handshake", { instead: plainRecord }],
    ["an end of the session instead of the handshake", { instead: ALERT }],
    ["an answer in the clear behind the handshake", { beforeAnswer: INJECTED }],
    ["application data that is not encrypted behind the handshake", { beforeAnswer: plainRecord }],
  ])("%s: 502, nothing passed", async (_, tampering) => {
    good[version].reset(tampering);
    expectNothingPassed(good[version], await ask(good[version]));
    const seen = tampering.beforeAnswer ? SECRET : "";
    expect(good[version].inside).toContain(seen);
    if (!seen) expect(good[version].inside, "no request without a handshake").toBe("");
    good[version].reset();
    expect((await ask(good[version])).statuses, "the next connection is another one").toEqual([200]);
  });

  test("an answer that ends with its connection is whole only with close_notify", async () => {
    const backend = good[version];
    for (const end of ["told", "cut"] as const) {
      backend.reset();
      backend.end = end;
      backend.answer = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it";
      const result = await ask(backend);
      const whole = result.answers.filter((answer) => status(answer) === 200).map(({ body }) => body.toString());
      expect(whole, result.raw.toString("latin1")).toEqual(end === "told" ? ["half of it"] : []);
    }
  });
});

describe("V23", () => {
  test.each(Object.keys(WRONG) as Wrong[])("a certificate %s: 502, no request is sent", async (name) => {
    expectNothingPassed(wrong[name], await ask(wrong[name]));
    expect(wrong[name].inside).toBe("");
  });
});
