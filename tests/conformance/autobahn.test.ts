// The cases of the Autobahn test suite, driven by kosoku: the same verdicts through Titan as directly.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { connect } from "node:http2";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocketServer } from "ws";
import { startTitan, type Titan } from "../helpers/titan.ts";
import { pythonTool } from "../helpers/tools.ts";

const run = promisify(execFile);
const kosoku = pythonTool("kosoku", "kosoku==0.1.0");

/**
 * Framing, pings, reserved bits, opcodes, fragmentation, UTF-8, closing; of sizes and compression the first, because the others take minutes:
 * `TITAN_AUTOBAHN=all`, or some of them as `TITAN_AUTOBAHN=9.*,12.1.*`.
 */
const QUICK = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.1.1", "9.2.1", "9.3.1", "10.*", "12.1.1", "13.1.1"];
const asked = process.env.TITAN_AUTOBAHN?.split(",");
const CASES = asked ? asked.filter((one) => one !== "all") : QUICK;
const LONG = asked ? 1_800_000 : 120_000;

const PASSED = /^(OK|NON-STRICT|INFORMATIONAL), close (OK|INFORMATIONAL)$/;

type Verdicts = Record<string, string>;

/** Runs the cases against a port; the verdict on the messages and that on the close, by case. */
async function verdicts(port: number, cases: string[], parallel = 6): Promise<Verdicts> {
  const out = mkdtempSync(join(tmpdir(), "titan-autobahn-"));
  try {
    const chosen = cases.flatMap((one) => ["-i", one]);
    const args = [...chosen, "-p", String(parallel), "-o", out, `ws://127.0.0.1:${port}`];
    // It ends with 1 where a case failed: the report says which.
    const done = await run(kosoku as string, args, { timeout: LONG }).catch((error) => error);
    const report = (() => {
      try {
        return JSON.parse(readFileSync(join(out, "index.json"), "utf8"));
      } catch {
        throw new Error(`kosoku wrote no report: ${done.stdout}\n${done.stderr}`);
      }
    })();
    const results = Object.values(report)[0] as Record<string, { behavior: string; behaviorClose: string }>;
    return Object.fromEntries(
      Object.entries(results).map(([id, { behavior, behaviorClose }]) => [id, `${behavior}, close ${behaviorClose}`]),
    );
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

/** Speaks RFC 8441 for kosoku, which has no HTTP/2: one connection to `port`, a stream for each of its WebSockets. */
async function bridge(port: number): Promise<Server> {
  const session = connect(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  await once(session, "remoteSettings");
  expect(session.remoteSettings?.enableConnectProtocol).toBe(true);
  const server = createServer();
  server.on("upgrade", (request, socket, head) => {
    const { connection: _c, upgrade: _u, host: _h, "sec-websocket-key": key, ...rest } = request.headers;
    const pseudo = { ":method": "CONNECT", ":protocol": "websocket", ":path": request.url, ":scheme": "http" };
    const stream = session.request({ ...pseudo, ":authority": "t.test", ...rest }, { endStream: false });
    socket.on("error", () => stream.close());
    socket.on("close", () => stream.close());
    stream.on("error", () => socket.destroy());
    stream.once("response", (answer) => {
      if (answer[":status"] !== 200) return socket.end(`HTTP/1.1 ${answer[":status"]} No\r\nContent-Length: 0\r\n\r\n`);
      const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
      const fields = Object.entries(answer).filter(([name]) => name.startsWith("sec-websocket-"));
      const lines = [...fields, ["sec-websocket-accept", accept]].map(([name, value]) => `${name}: ${value}\r\n`);
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n${lines.join("")}\r\n`,
      );
      if (head.length > 0) stream.write(head);
      socket.pipe(stream).pipe(socket);
    });
  });
  server.on("close", () => session.close());
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return server;
}

describe.skipIf(kosoku === undefined)("Autobahn", () => {
  let origin: WebSocketServer;
  let titan: Titan;
  let h2: Server;
  const results: Record<"direct" | "http1" | "http2", Verdicts> = { direct: {}, http1: {}, http2: {} };

  beforeAll(async () => {
    // Case 9.3.1 sends 4 MiB in fragments of 64 bytes.
    const limits = { maxFragments: 1 << 17 };
    origin = new WebSocketServer({ port: 0, host: "127.0.0.1", perMessageDeflate: { threshold: 0 }, ...limits });
    origin.on("connection", (socket) => {
      socket.on("error", () => {});
      socket.on("message", (data, binary) => socket.send(data, { binary }));
    });
    await once(origin, "listening");
    const { port } = origin.address() as AddressInfo;
    titan = await startTitan({
      config: {
        upstreams: [{ name: "echo", backends: [{ host: "127.0.0.1", port }] }],
        // Whole messages of 16 MiB, and tens of thousands of frames at once.
        routes: [
          {
            path: "/*",
            upstream: "echo",
            websocket: { max_frame_size: 0, max_message_size: 0, max_frames_per_second: 0 },
          },
        ],
      },
    });
    h2 = await bridge(titan.port);
    // Side by side: the cases mostly wait.
    const ports = { direct: port, http1: titan.port, http2: (h2.address() as AddressInfo).port };
    const legs = Object.keys(ports) as (keyof typeof ports)[];
    const all = (cases: string[], parallel?: number) =>
      Promise.all(legs.map(async (leg) => Object.assign(results[leg], await verdicts(ports[leg], cases, parallel))));
    await all(CASES);
    // Some verdicts depend on an answer or an end within a second, which a busy machine may miss: those run once more, one by one.
    const differ = Object.entries(results.direct)
      .filter(([id, verdict]) => legs.some((leg) => results[leg][id] !== verdict) || !PASSED.test(verdict))
      .map(([id]) => id);
    if (differ.length > 0) {
      console.warn(`Autobahn cases that run once more: ${differ.join(", ")}`);
      await all(differ, 1);
    }
  }, LONG);

  afterAll(async () => {
    h2?.close();
    h2?.closeAllConnections();
    await titan?.stop();
    origin?.close();
  });

  it("directly, every case passes", () => {
    console.info(`Autobahn cases: ${Object.keys(results.direct).length}`);
    expect(Object.keys(results.direct).length).toBeGreaterThanOrEqual(asked ? 1 : 250);
    expect(Object.entries(results.direct).filter(([, verdict]) => !PASSED.test(verdict))).toEqual([]);
  });

  it("the same verdicts through Titan over HTTP/1.1", () => {
    expect(results.http1).toEqual(results.direct);
  });

  it("the same verdicts through Titan over HTTP/2", () => {
    expect(results.http2).toEqual(results.direct);
  });
});
