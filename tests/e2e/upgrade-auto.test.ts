/** WebSockets to a backend that prefers HTTP/2 and takes no upgrade there: it is asked for HTTP/1.1. */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, createSecureServer, type Http2SecureServer } from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import WebSocket, { WebSocketServer } from "ws";
import { signedBy } from "../helpers/certificate.ts";
import { get } from "../helpers/client.ts";
import { startTitan, type Titan } from "../helpers/titan.ts";

let backend: Http2SecureServer;
let titan: Titan;

beforeAll(async () => {
  const { ca_path, cert_path, key_path } = signedBy("localhost", "127.0.0.1");
  const tls = { cert: readFileSync(cert_path), key: readFileSync(key_path) };
  backend = createSecureServer({ ...tls, allowHTTP1: true }, (request, response) => response.end(request.httpVersion));
  const chat = new WebSocketServer({ noServer: true });
  backend.on("upgrade", (request, socket: Socket, head: Buffer) =>
    chat.handleUpgrade(request, socket, head, (one) => one.on("message", (data) => one.send(`echo ${data}`))),
  );
  await new Promise<void>((done) => backend.listen(0, "127.0.0.1", done));
  const { port } = backend.address() as AddressInfo;
  titan = await startTitan({
    config: {
      upstreams: [
        { name: "both", protocol: "auto", tls: { ca_path }, backends: [{ host: "127.0.0.1", port, tls: true }] },
      ],
      routes: [{ path: "/*", upstream: "both" }],
    },
  });
});
afterAll(async () => {
  await titan?.stop();
  backend?.close();
});

test("from HTTP/1.1", async () => {
  expect((await get(titan.port, "/")).body, "HTTP/2 where it can").toBe("2.0");
  for (let n = 0; n < 3; n++) {
    const socket = new WebSocket(`ws://127.0.0.1:${titan.port}/chat`);
    await once(socket, "open");
    socket.send(`hello ${n}`);
    const [data] = await once(socket, "message");
    expect(String(data)).toBe(`echo hello ${n}`);
    expect((await get(titan.port, "/")).body, "beside it").toBe("2.0");
    socket.close();
    await once(socket, "close");
  }
});

test("from HTTP/2", async () => {
  const session = connect(`http://127.0.0.1:${titan.port}`);
  await once(session, "remoteSettings");
  const head = { ":method": "CONNECT", ":protocol": "websocket", ":scheme": "http", ":path": "/chat" };
  const stream = session.request(
    { ...head, ":authority": "titan.test", "sec-websocket-version": "13" },
    { endStream: false },
  );
  const [answer] = await once(stream, "response");
  expect(answer[":status"]).toBe(200);
  // A text frame, masked with zeros.
  stream.write(Buffer.concat([Buffer.from([0x81, 0x82, 0, 0, 0, 0]), Buffer.from("hi")]));
  const [echo] = await once(stream, "data");
  expect(echo.subarray(2).toString()).toBe("echo hi");
  stream.close();
  session.close();
});
