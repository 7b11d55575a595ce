// V12 and V13: what a client says about itself, or takes off by naming it in Connection, never replaces what Titan says.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { field, fields } from "../helpers/message.ts";
import { attack, expectAlive, openStage, type Stage } from "./stage.ts";

let stage: Stage;
let behindProxy: Stage;
beforeAll(async () => {
  [stage, behindProxy] = await Promise.all([
    openStage(),
    openStage({ config: () => ({ server: { trusted_proxies: ["127.0.0.0/8", "10.0.0.0/8"] } }) }),
  ]);
});
afterAll(async () => {
  await expectAlive(stage);
  await Promise.all([stage.close(), behindProxy.close()]);
});

async function forwarded(to: Stage, headers: string, rest = "") {
  const result = await attack(to, `GET /a HTTP/1.1\r\nHost: t.test\r\n${headers}\r\n${rest}`);
  expect(result.statuses, result.raw.toString("latin1")).toEqual([200]);
  const [request] = to.origin.requests;
  if (!request) throw new Error("nothing at the origin");
  return request;
}

describe("V12 Connection can't take off what Titan sets", () => {
  const SET = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-request-id",
    "traceparent",
    "via",
    "host",
  ];
  test.each([
    ...SET.map((name): [string, string] => [name, `Connection: ${name}\r\n`]),
    ["all at once", `Connection: close, ${SET.join(", ")}, Authorization\r\n`],
    ["in capitals and twice", "Connection: X-FORWARDED-FOR\r\nConnection: X-Forwarded-Proto , HOST\r\n"],
    ["with a value of its own", "X-Forwarded-For: 6.6.6.6\r\nConnection: X-Forwarded-For\r\n"],
    ["with spaces and empty elements", "Connection: ,, x-forwarded-for ,\t, host\r\n"],
  ])("%s", async (_, headers) => {
    const request = await forwarded(stage, headers);
    expect(fields(request, "x-forwarded-for")).toEqual(["127.0.0.1"]);
    expect(field(request, "x-forwarded-proto")).toBe("http");
    expect(field(request, "x-forwarded-host")).toBe("t.test");
    expect(field(request, "host")).toBe("t.test");
    expect(field(request, "x-request-id")).toMatch(/^\S{8,}$/);
    expect(field(request, "traceparent")).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/);
  });

  test("Connection can't take the framing off", async () => {
    const result = await attack(
      stage,
      "POST /a HTTP/1.1\r\nHost: t.test\r\nConnection: keep-alive, Content-Length\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: t.test\r\n\r\n",
      { answers: 2 },
    );
    if (result.statuses[0] === 400) return expect(stage.origin.bytes).toBe(0);
    expect(result.answers.map(({ body }) => body.toString())).toEqual(["POST /a HTTP/1.1", "GET /b HTTP/1.1"]);
    expect(stage.origin.requests[0]?.body.toString()).toBe("hello");
  });

  test("hop-by-hop fields end at Titan", async () => {
    const hop =
      "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: trailers, deflate\r\nX-Hop: a\r\n";
    const request = await forwarded(stage, `Connection: keep-alive, X-Hop\r\n${hop}X-End: b\r\n`);
    for (const name of ["keep-alive", "proxy-connection", "x-hop", "upgrade"])
      expect(field(request, name), name).toBeUndefined();
    expect(field(request, "te") ?? "trailers").toBe("trailers");
    expect(field(request, "x-end")).toBe("b");
  });

  test("hop-by-hop fields of the answer end at Titan", async () => {
    stage.origin.behave({
      onRequest: (_, connection) =>
        void connection.socket.write(
          "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Hop, Content-Length\r\nX-Hop: a\r\nKeep-Alive: timeout=1\r\nProxy-Connection: x\r\n\r\nok",
        ),
    });
    const result = await attack(stage, "GET /a HTTP/1.1\r\nHost: t.test\r\n\r\n");
    stage.origin.behave({});
    expect(result.statuses).toEqual([200]);
    const [answer] = result.answers;
    for (const name of ["x-hop", "keep-alive", "proxy-connection"])
      expect(answer && field(answer, name), name).toBeUndefined();
    expect(answer?.body.toString()).toBe("ok");
  });
});

describe("V13 forged headers from a peer that is no trusted proxy", () => {
  const FORGED =
    "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Port: 1\r\n" +
    "X-Forwarded-Prefix: /evil\r\nForwarded: for=6.6.6.6;proto=https;host=evil.test\r\nX-Real-IP: 6.6.6.6\r\nX-Request-Id: forged-forged-forged\r\n";

  test("are dropped or overwritten", async () => {
    const request = await forwarded(stage, FORGED);
    expect(fields(request, "x-forwarded-for")).toEqual(["127.0.0.1"]);
    expect(fields(request, "x-forwarded-proto")).toEqual(["http"]);
    expect(fields(request, "x-forwarded-host")).toEqual(["t.test"]);
    const text = stage.origin.text;
    for (const forged of ["6.6.6.6", "7.7.7.7", "evil", "forged-forged"]) expect(text).not.toContain(forged);
  });

  test.each([
    "X_Forwarded_For",
    "X-Forwarded_For",
    "x_forwarded-for",
    "X_Forwarded_Proto",
    "X_Forwarded_Host",
    "X_Request_Id",
    "X_Real_IP",
  ])("%s does not pass for the name with hyphens", async (name) => {
    const result = await attack(stage, `GET /a HTTP/1.1\r\nHost: t.test\r\n${name}: 6.6.6.6\r\n\r\n`);
    expect([200, 400]).toContain(result.statuses[0]);
    expect(stage.origin.text).not.toContain("6.6.6.6");
  });

  test("other names with an underscore are the application's and pass", async () => {
    const request = await forwarded(stage, "my_header: kept\r\n");
    expect(field(request, "my_header")).toBe("kept");
  });
});

describe("V13 the same from a trusted proxy", () => {
  test("is kept and added to", async () => {
    const request = await forwarded(
      behindProxy,
      "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Request-Id: from-the-proxy-1\r\n",
    );
    expect(fields(request, "x-forwarded-for").join(", ")).toBe("203.0.113.9, 127.0.0.1");
    expect(field(request, "x-forwarded-proto")).toBe("https");
    expect(field(request, "x-request-id")).toBe("from-the-proxy-1");
  });

  test("a request id that would forge a log line is replaced", async () => {
    const request = await forwarded(behindProxy, `X-Request-Id: a"b c\r\n`);
    expect(field(request, "x-request-id")).not.toBe('a"b c');
    const long = await forwarded(behindProxy, `X-Request-Id: ${"a".repeat(3000)}\r\n`);
    expect(field(long, "x-request-id")?.length).toBeLessThan(300);
  });
});
