// The same policies over every protocol: HTTP/1.1, HTTP/2, a WebSocket's upgrade over both, and gRPC with its own status.
import http from "node:http";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import WebSocket, { WebSocketServer } from "ws";
import { type Backend, startBackend } from "../helpers/backend.ts";
import { get } from "../helpers/client.ts";
import { startTitan, type Titan } from "../helpers/titan.ts";
import { jwt } from "../helpers/tokens.ts";

const SECRET = "a secret of more than thirty-two bytes, of course";
const KEY = "an-api-key-of-some-length";

let backend: Backend;
let judge: http.Server;
let calls: http2.Http2Server;
let titan: Titan;

type Ask = (path: string, headers: Record<string, string>) => Promise<string>;

/** Policy → how it is configured, and headers with which it admits and refuses. */
const POLICIES: Record<
  string,
  { route: object; admits?: Record<string, string>; refuses?: Record<string, string>; status: number; grpc: number }
> = {
  limit: {
    route: {
      middleware: [
        { type: "rate_limit", config: { requests: 1, window: "1h", burst: 1, key: ["header:X-Tenant", "route"] } },
      ],
      auth: "none",
    },
    status: 429,
    grpc: 8,
  },
  jwt: {
    route: { auth: "jwt" },
    admits: { authorization: `Bearer ${jwt({ sub: "ada" }, SECRET)}` },
    refuses: { authorization: `Bearer ${jwt({ sub: "ada" }, `${SECRET}!`)}` },
    status: 401,
    grpc: 16,
  },
  scope: {
    route: { auth: "jwt", required_scopes: ["read"] },
    admits: { authorization: `Bearer ${jwt({ scope: "read" }, SECRET)}` },
    refuses: { authorization: `Bearer ${jwt({ scope: "write" }, SECRET)}` },
    status: 403,
    grpc: 7,
  },
  apikey: {
    route: { auth: "apikey" },
    admits: { "x-api-key": KEY },
    refuses: { "x-api-key": `${KEY}!` },
    status: 401,
    grpc: 16,
  },
  ip: {
    route: { middleware: [{ type: "ip_filter", config: { deny: ["203.0.113.0/24"] } }], auth: "none" },
    admits: { "x-forwarded-for": "198.51.100.7" },
    refuses: { "x-forwarded-for": "203.0.113.7" },
    status: 403,
    grpc: 7,
  },
  forward: {
    route: { auth: "none" },
    admits: { cookie: "session=good" },
    refuses: { cookie: "session=bad" },
    status: 403,
    grpc: 7,
  },
};

beforeAll(async () => {
  backend = await startBackend();
  const sockets = new WebSocketServer({ server: backend.server });
  sockets.on("connection", (socket) => socket.on("message", (data) => socket.send(data)));
  judge = http.createServer((request, response) => {
    response.statusCode = request.headers.cookie === "session=good" ? 200 : 403;
    response.end();
  });
  calls = http2.createServer();
  calls.on("stream", (stream: http2.ServerHttp2Stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.resume().end(Buffer.from([0, 0, 0, 0, 0]));
  });
  for (const server of [judge, calls]) await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const port = (server: { address(): unknown }) => (server.address() as AddressInfo).port;
  const asks = [{ type: "forward_auth", config: { url: `http://127.0.0.1:${port(judge)}/verify` } }];
  const routes = Object.entries(POLICIES).flatMap(([name, { route }]) =>
    ["http", "grpc"].map((kind) => ({
      path: `/${kind}/${name}/*`,
      upstream: kind,
      ...(name === "forward" && { middleware: asks }),
      ...route,
    })),
  );
  titan = await startTitan({
    config: {
      server: { trusted_proxies: ["127.0.0.1"] },
      jwt: { keys: [{ algorithm: "HS256", secret: { value: SECRET, encoding: "utf8" } }] },
      apikey: { keys: [{ id: "k", key: KEY }] },
      upstreams: [
        { name: "http", backends: [`127.0.0.1:${backend.port}`] },
        { name: "grpc", protocol: "h2c", backends: [`127.0.0.1:${port(calls)}`] },
      ],
      routes,
    },
  });
});
afterAll(async () => {
  await titan?.stop();
  await backend.close();
  judge.close();
  calls.close();
});

/** One request on an HTTP/2 connection of its own. */
function stream(headers: http2.OutgoingHttpHeaders, body?: Buffer): Promise<http2.IncomingHttpHeaders> {
  return new Promise((done, fail) => {
    const session = http2.connect(`http://127.0.0.1:${titan.port}`);
    session.once("error", fail);
    session.once("remoteSettings", () => {
      const request = session.request(headers, { endStream: body === undefined && headers[":method"] !== "CONNECT" });
      let got: http2.IncomingHttpHeaders = {};
      const end = () => {
        session.destroy();
        done(got);
      };
      request.once("error", fail);
      request.once("response", (head) => {
        got = { ...got, ...head };
        // An open tunnel has no end.
        if (headers[":method"] === "CONNECT") end();
      });
      request.once("trailers", (trailers) => {
        got = { ...got, ...trailers };
      });
      request.once("end", end);
      request.resume();
      if (body) request.end(body);
    });
  });
}

const PROTOCOLS: Record<
  string,
  { ask: Ask; good: string; refused: (policy: { status: number; grpc: number }) => string }
> = {
  "HTTP/1.1": {
    ask: async (path, headers) => String((await get(titan.port, `/http${path}`, headers)).status),
    good: "200",
    refused: ({ status }) => String(status),
  },
  "HTTP/2": {
    ask: async (path, headers) => String((await stream({ ":path": `/http${path}`, ...headers }))[":status"]),
    good: "200",
    refused: ({ status }) => String(status),
  },
  "a WebSocket's upgrade": {
    ask: (path, headers) =>
      new Promise((done, fail) => {
        const socket = new WebSocket(`ws://127.0.0.1:${titan.port}/http${path}`, { headers });
        socket.once("open", () => socket.send("hello"));
        socket.once("message", () => {
          socket.close();
          done("101");
        });
        socket.once("unexpected-response", (_, response) => {
          response.resume();
          done(String(response.statusCode));
        });
        socket.once("error", fail);
      }),
    good: "101",
    refused: ({ status }) => String(status),
  },
  "a WebSocket over HTTP/2": {
    ask: async (path, headers) =>
      String(
        (
          await stream({
            ":method": "CONNECT",
            ":protocol": "websocket",
            ":path": `/http${path}`,
            "sec-websocket-version": "13",
            ...headers,
          })
        )[":status"],
      ),
    good: "200",
    refused: ({ status }) => String(status),
  },
  gRPC: {
    ask: async (path, headers) => {
      const call = { ":method": "POST", ":path": `/grpc${path}`, "content-type": "application/grpc", te: "trailers" };
      const got = await stream({ ...call, ...headers }, Buffer.from([0, 0, 0, 0, 0]));
      return `${got[":status"]} grpc-status ${got["grpc-status"]}`;
    },
    good: "200 grpc-status 0",
    // A call that was refused is an answer of 200 to HTTP, and the reason is in its status.
    refused: ({ grpc }) => `200 grpc-status ${grpc}`,
  },
};

describe.each(Object.entries(PROTOCOLS))("over %s", (protocol, { ask, good, refused }) => {
  test.each(Object.entries(POLICIES))("%s admits and refuses", async (name, policy) => {
    const tenant = { "x-tenant": protocol };
    const before = backend.hits;
    expect(await ask(`/${name}/x`, { ...tenant, ...policy.admits })).toBe(good);
    const reached = backend.hits;
    expect(await ask(`/${name}/x`, { ...tenant, ...policy.refuses })).toBe(refused(policy));
    expect(backend.hits, "what is refused reaches no backend").toBe(reached);
    if (protocol.startsWith("HTTP")) expect(reached).toBe(before + 1);
  });
});
