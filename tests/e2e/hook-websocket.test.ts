/** What hooks are told of a WebSocket's upgrade: what its client is told, over HTTP/1.1 and HTTP/2. */
import { once } from "node:events";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import WebSocket, { WebSocketServer } from "ws";
import { createGateway, defineHook, type Gateway } from "../../src/index.ts";

const told: string[] = [];
let sockets: WebSocketServer;
let gateway: Gateway;

beforeAll(async () => {
  sockets = new WebSocketServer({
    port: 0,
    host: "127.0.0.1",
    verifyClient: ({ req }, done) => done(req.url !== "/refused", 418),
  });
  await once(sockets, "listening");
  gateway = createGateway({
    server: { host: "127.0.0.1", port: 0, workers: 1 },
    logging: { log_requests: false },
    upstreams: [{ name: "ws", backends: [`127.0.0.1:${(sockets.address() as AddressInfo).port}`] }],
    hooks: {
      tell: defineHook({
        deadline: "30s",
        onResponse: (ctx) => void told.push(`response ${ctx.response.status}`),
        onLog: (ctx) => void told.push(`log ${ctx.status}`),
      }),
    },
    routes: [{ path: "/*", upstream: "ws", middleware: ["tell"] }],
  });
  await gateway.start();
});
beforeEach(() => {
  told.length = 0;
});
afterAll(async () => {
  await gateway?.close({ force: true });
  sockets?.close();
});

/** Its status, over HTTP/1.1; a socket that opens is closed. */
async function upgrade(path: string): Promise<number> {
  const socket = new WebSocket(`ws://127.0.0.1:${gateway.address()?.port}${path}`);
  return new Promise((done, fail) => {
    socket.once("error", fail);
    socket.once("unexpected-response", (_, { statusCode }) => done(statusCode as number));
    socket.once("open", () => {
      socket.once("close", () => done(101));
      socket.close();
    });
  });
}

/** The same as an extended CONNECT (RFC 8441). */
async function connect(path: string): Promise<number> {
  const session = http2.connect(`http://127.0.0.1:${gateway.address()?.port}`);
  try {
    await once(session, "remoteSettings");
    const stream = session.request(
      { ":method": "CONNECT", ":protocol": "websocket", ":path": path, "sec-websocket-version": "13" },
      { endStream: false },
    );
    const [head] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
    stream.close();
    return Number(head[":status"]);
  } finally {
    session.destroy();
  }
}

test.each([
  ["HTTP/1.1", upgrade, "/room", 101],
  ["HTTP/2", connect, "/room", 200],
  ["HTTP/1.1", upgrade, "/refused", 418],
  ["HTTP/2", connect, "/refused", 418],
] as const)("over %s: the status that the client is told (%#)", async (_, ask, path, status) => {
  expect(await ask(path)).toBe(status);
  await expect.poll(() => told, { timeout: 20_000 }).toEqual([`response ${status}`, `log ${status}`]);
});
