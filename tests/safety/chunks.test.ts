// V7: chunked bodies. Refused, or framed anew without extensions and unlisted trailers; never half understood.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { field } from "../helpers/message.ts";
import { attack, expectAlive, openStage, type Stage } from "./stage.ts";

let stage: Stage;
beforeAll(async () => {
  stage = await openStage({ config: () => ({ server: { read_timeout: 1500 } }) });
});
afterAll(async () => {
  await expectAlive(stage);
  await stage.close();
});

const HEAD = "POST /a HTTP/1.1\r\nHost: t.test\r\nTransfer-Encoding: chunked\r\n\r\n";
const SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: t.test\r\n\r\n";

describe("V7 malformed: 400, closed, and no whole request at the origin", () => {
  test.each([
    ["bare LF after the size", `5\nhello\r\n0\r\n\r\n${SMUGGLED}`],
    ["bare LF after the data", `5\r\nhello\n0\r\n\r\n${SMUGGLED}`],
    ["bare CR after the size", `5\rhello\r\n0\r\n\r\n${SMUGGLED}`],
    ["bare LF in an extension", `5;a\nb\r\nhello\r\n0\r\n\r\n${SMUGGLED}`],
    ["bare CR in an extension", `5;a\rb\r\nhello\r\n0\r\n\r\n${SMUGGLED}`],
    ["NUL in an extension", `5;a\0b\r\nhello\r\n0\r\n\r\n${SMUGGLED}`],
    ["plus sign", `+5\r\nhello\r\n0\r\n\r\n${SMUGGLED}`],
    ["minus sign", `-5\r\nhello\r\n0\r\n\r\n${SMUGGLED}`],
    ["0x", `0x5\r\nhello\r\n0\r\n\r\n${SMUGGLED}`],
    ["underscore", `1_0\r\nhello\r\n0\r\n\r\n${SMUGGLED}`],
    ["space before the size", ` 5\r\nhello\r\n0\r\n\r\n${SMUGGLED}`],
    ["empty size", `\r\nhello\r\n0\r\n\r\n${SMUGGLED}`],
    ["only an extension", `;a\r\nhello\r\n0\r\n\r\n${SMUGGLED}`],
    ["not hexadecimal", `g\r\nhello\r\n0\r\n\r\n${SMUGGLED}`],
    ["over 64 bits", `10000000000000005\r\nhello\r\n0\r\n\r\n${SMUGGLED}`],
    ["far over 64 bits", `${"f".repeat(40)}\r\nhello\r\n0\r\n\r\n${SMUGGLED}`],
    ["data longer than the size", `4\r\nhello\r\n0\r\n\r\n${SMUGGLED}`],
    ["no CRLF after the data", `5\r\nhello0\r\n\r\n${SMUGGLED}`],
    ["a long extension", `5;${"a".repeat(100_000)}\r\nhello\r\n0\r\n\r\n`],
    ["a trailer without a colon", `5\r\nhello\r\n0\r\nnonsense\r\n\r\n${SMUGGLED}`],
    ["a folded trailer", `5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n${SMUGGLED}`],
    ["a trailer with a bare LF", `5\r\nhello\r\n0\r\nX: a\nY: b\r\n\r\n${SMUGGLED}`],
    ["a trailer with a space before the colon", `5\r\nhello\r\n0\r\nX : a\r\n\r\n${SMUGGLED}`],
    ["endless trailers", `5\r\nhello\r\n0\r\n${"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(4000)}\r\n`],
  ])("%s", async (_, body) => {
    const result = await attack(stage, HEAD + body);
    const seen = `client got:\n${result.raw.toString("latin1")}\norigin got:\n${stage.origin.text}`;
    expect(result.statuses, seen).toHaveLength(1);
    expect([400, 413, 431], seen).toContain(result.statuses[0]);
    expect(result.closed, seen).toBe(true);
    expect(stage.origin.requests, seen).toHaveLength(0);
    expect(stage.origin.text, seen).not.toContain("smuggled");
  });

  test("each malformed body also when it comes in a later packet", async () => {
    const result = await attack(stage, [HEAD, 30, "5\r\nhel", 30, "lo\r\n4", 30, "\nabcd\r\n0\r\n\r\n", SMUGGLED]);
    expect(result.statuses).toEqual([400]);
    expect(result.closed).toBe(true);
    expect(stage.origin.requests).toHaveLength(0);
    expect(stage.origin.text).not.toContain("smuggled");
  });

  test("a size that wraps at 32 bits waits for its bytes and times out", async () => {
    const result = await attack(stage, `${HEAD}100000005\r\nhello\r\n0\r\n\r\n${SMUGGLED}`, { timeout: 6000 });
    expect([408, 413], result.raw.toString("latin1")).toContain(result.statuses[0]);
    expect(stage.origin.requests).toHaveLength(0);
  });
});

describe("V7 legal: framed anew", () => {
  test.each([
    ["an extension", "5;name=value\r\nhello\r\n0;last\r\n\r\n"],
    ["a quoted extension", '5;name="a;b"\r\nhello\r\n0\r\n\r\n'],
    ["leading zeros", "0005\r\nhello\r\n000\r\n\r\n"],
    ["an extension in every chunk", "1;a\r\nh\r\n1;b\r\ne\r\n3;c\r\nllo\r\n0\r\n\r\n"],
    ["trailers that were not announced", "5\r\nhello\r\n0\r\nX-Late: 1\r\n\r\n"],
    [
      "trailers that would change the request",
      "5\r\nhello\r\n0\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nAuthorization: evil\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
    ],
  ])("%s", async (_, body) => {
    const result = await attack(stage, HEAD + body);
    const seen = `client got:\n${result.raw.toString("latin1")}\norigin got:\n${stage.origin.text}`;
    // The origin's reader breaks on an extension.
    expect(stage.origin.connections[0]?.broken, seen).toBeUndefined();
    if (result.statuses[0] === 400) {
      expect(stage.origin.requests, seen).toHaveLength(0);
      return;
    }
    expect(result.statuses, seen).toEqual([200]);
    const [request] = stage.origin.requests;
    expect(request?.body.toString(), seen).toBe("hello");
    expect(request?.trailers, seen).toHaveLength(0);
    expect(field(request ?? { fields: [] }, "authorization"), seen).toBeUndefined();
    expect(stage.origin.text, seen).not.toContain("6.6.6.6");
  });

  test("forbidden trailers stay out even when they are announced", async () => {
    const head =
      "POST /a HTTP/1.1\r\nHost: t.test\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nTrailer: Host, Content-Length, Authorization\r\n\r\n";
    const result = await attack(
      stage,
      `${head}5\r\nhello\r\n0\r\nHost: evil\r\nContent-Length: 9\r\nAuthorization: evil\r\n\r\n`,
    );
    expect([200, 400]).toContain(result.statuses[0]);
    expect(stage.origin.text).not.toContain("evil");
  });

  test("every split of a chunked body gives the same body", async () => {
    const body = '3;x="y"\r\nabc\r\n0a\r\n0123456789\r\n1\r\n!\r\n0\r\n\r\n';
    for (let at = 1; at < body.length; at += 2) {
      const result = await attack(stage, [HEAD + body.slice(0, at), 4, body.slice(at)], { linger: 0 });
      expect(result.statuses, `split at ${at}`).toEqual([200]);
      expect(stage.origin.requests[0]?.body.toString(), `split at ${at}`).toBe("abc0123456789!");
    }
  });
});
