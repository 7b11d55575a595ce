// V11: nothing behind an Upgrade reaches the origin before it has agreed to switch; CONNECT is not spoken here.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { get, RawClient, status } from "../helpers/client.ts";
import { field } from "../helpers/message.ts";
import { echo } from "../helpers/origin.ts";
import { attack, expectAlive, expectRefused, openStage, type Stage } from "./stage.ts";

let stage: Stage;
beforeAll(async () => {
  stage = await openStage({
    config: () => ({
      routes: [
        { path: "/ws", upstream: "origin", websocket: { enabled: true } },
        { path: "/plain", upstream: "origin", websocket: { enabled: false } },
        { path: "/*", upstream: "origin" },
      ],
    }),
  });
});
afterAll(async () => {
  await expectAlive(stage);
  await stage.close();
});

const SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: t.test\r\n\r\n";
const upgrade = (target: string, protocol = "websocket", extra = "") =>
  `GET ${target} HTTP/1.1\r\nHost: t.test\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n` +
  `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${extra}\r\n`;
const SWITCH =
  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

describe("V11", () => {
  test("bytes behind the Upgrade are held until 101, and then arrive", async () => {
    let atSwitch = "";
    stage.origin.behave({
      onRequest(request, connection) {
        const switched = connection.requests[0] !== request && connection.requests[0]?.start.includes("/ws");
        if (switched) return;
        if (!request.start.includes("/ws")) return echo(request, connection);
        setTimeout(() => {
          atSwitch = connection.rest.toString();
          connection.socket.write(SWITCH);
        }, 100);
      },
    });
    const client = await RawClient.connect(stage.titan.port);
    client.write(upgrade("/ws") + SMUGGLED);
    await client.until(() => client.answers.length > 0, 3000);
    expect(client.answers.map(status)).toEqual([101]);
    await sleep(100);
    client.destroy();
    expect(atSwitch).toBe("");
    // In the tunnel they are the client's own business, on a connection that serves nobody else.
    const tunnel = stage.origin.connections.find(({ received }) => received.includes("/ws"));
    expect(tunnel?.received.toString("latin1").endsWith(SMUGGLED)).toBe(true);
    await sleep(50);
    expect(tunnel?.ended || tunnel?.closed).toBe(true);
  });

  test("refused by the origin, what follows is an ordinary request or nothing", async () => {
    stage.origin.behave({
      onRequest(request, connection) {
        if (!request.start.includes("/ws")) return echo(request, connection);
        setTimeout(() => connection.socket.write("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno"), 50);
      },
    });
    const result = await attack(stage, upgrade("/ws") + SMUGGLED, { answers: 2, timeout: 1000 });
    expect(result.statuses[0]).toBe(426);
    const followed = stage.origin.requests.filter(({ start }) => start.includes("/smuggled"));
    if (result.statuses.length === 1) expect(followed).toHaveLength(0);
    // Routed by Titan: with its own forwarding headers.
    for (const request of followed) expect(field(request, "x-forwarded-for")).toBe("127.0.0.1");
  });

  test.each([
    ["a route without upgrades", upgrade("/plain")],
    ["h2c", upgrade("/a", "h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n")],
    ["h2c beside websocket", upgrade("/plain", "h2c, websocket", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n")],
    ["TLS", upgrade("/plain", "TLS/1.2")],
  ])("%s: Upgrade and HTTP2-Settings are not passed on", async (_, request) => {
    stage.origin.behave({});
    const result = await attack(stage, request);
    expect(result.statuses).toHaveLength(1);
    expect(result.statuses[0]).not.toBe(101);
    expect(stage.origin.text).not.toMatch(/h2c|http2-settings|^upgrade:/im);
  });

  test("an Upgrade with a body is refused or sent without the Upgrade", async () => {
    stage.origin.behave({});
    const hidden = SMUGGLED;
    const request =
      upgrade("/ws", "websocket", `Content-Length: ${hidden.length}\r\n`).replace("GET ", "POST ") + hidden;
    const result = await attack(stage, request);
    expect(result.statuses).toHaveLength(1);
    expect(result.statuses[0]).not.toBe(101);
    expect(stage.origin.requests.filter(({ start }) => start.includes("/smuggled"))).toHaveLength(0);
  });

  test("an Upgrade from HTTP/1.0 is not passed on", async () => {
    stage.origin.behave({});
    const result = await attack(stage, upgrade("/ws").replace("HTTP/1.1", "HTTP/1.0"));
    expect(result.statuses[0]).not.toBe(101);
    expect(stage.origin.text).not.toMatch(/^upgrade:/im);
  });

  test.each([
    ["authority form", "CONNECT t.test:443 HTTP/1.1\r\nHost: t.test:443\r\n\r\n"],
    ["origin form", "CONNECT /a HTTP/1.1\r\nHost: t.test\r\n\r\n"],
    ["loopback", "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n"],
  ])("CONNECT in %s is refused", async (_, request) => {
    stage.origin.behave({});
    expectRefused(stage, await attack(stage, request + SMUGGLED), request.includes("CONNECT /") ? [400, 405] : [405]);
  });

  test("CONNECT gets 405 with Allow or a clear body", async () => {
    const result = await attack(stage, "CONNECT t.test:443 HTTP/1.1\r\nHost: t.test:443\r\n\r\n");
    expect(result.answers[0]?.body.toString()).toContain("error");
  });

  test("TRACE does not show what Titan adds", async () => {
    stage.origin.behave({});
    const answer = await get(stage.titan.port, "/alive");
    expect(answer.status).toBe(200);
    const result = await attack(stage, "TRACE /a HTTP/1.1\r\nHost: t.test\r\nCookie: secret\r\n\r\n");
    expect(result.raw.toString()).not.toContain("secret");
  });
});
