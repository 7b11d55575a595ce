// V6: request framing that two readers could understand in two ways. Each is answered 400, the connection is closed, nothing is forwarded.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { attack, expectAlive, expectRefused, openStage, type Stage } from "./stage.ts";

let stage: Stage;
beforeAll(async () => {
  stage = await openStage();
});
afterAll(async () => {
  await expectAlive(stage);
  await stage.close();
});

const SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: t.test\r\n\r\n";
const post = (fields: string, body: string, version = "HTTP/1.1") =>
  `POST /a ${version}\r\nHost: t.test\r\n${fields}\r\n${body}`;
const CHUNKED = "5\r\nhello\r\n0\r\n\r\n";

describe("V6 refused with 400", () => {
  test.each([
    ["CL.TE", post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", `0\r\n\r\n${SMUGGLED}`)],
    ["TE.CL", post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", `2a\r\n${SMUGGLED}\r\n0\r\n\r\n`)],
    ["CL: 0 beside chunked", post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", CHUNKED)],
    [
      "CL.TE on GET",
      `GET /a HTTP/1.1\r\nHost: t.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n${CHUNKED}`,
    ],
    ["two different lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", `hello${SMUGGLED}`)],
    ["two equal lengths", post("Content-Length: 5\r\nContent-Length: 5\r\n", `hello${SMUGGLED}`)],
    ["two lengths in other case", post("Content-Length: 5\r\nCONTENT-LENGTH: 0\r\n", `hello${SMUGGLED}`)],
    ["a list of equal lengths", post("Content-Length: 5, 5\r\n", `hello${SMUGGLED}`)],
    ["a list of lengths", post("Content-Length: 5, 6\r\n", `hello${SMUGGLED}`)],
    ["length of another kind first", post("Content-Length: ,5\r\n", "hello")],
    ["empty length", post("Content-Length:\r\n", SMUGGLED)],
    ["blank length", post("Content-Length: \t \r\n", SMUGGLED)],
    ["plus sign", post("Content-Length: +5\r\n", "hello")],
    ["minus sign", post("Content-Length: -5\r\n", "hello")],
    ["minus zero", post("Content-Length: -0\r\n", SMUGGLED)],
    ["hexadecimal", post("Content-Length: 0x5\r\n", "hello")],
    ["exponent", post("Content-Length: 5e0\r\n", "hello")],
    ["fraction", post("Content-Length: 5.0\r\n", "hello")],
    ["digits apart", post("Content-Length: 1 0\r\n", "hello")],
    ["underscore", post("Content-Length: 1_0\r\n", "hello")],
    ["parameter", post("Content-Length: 5;x\r\n", "hello")],
    ["quoted", post('Content-Length: "5"\r\n', "hello")],
    ["over 64 bits", post("Content-Length: 18446744073709551621\r\n", "hello")],
    ["far over 64 bits", post(`Content-Length: ${"9".repeat(400)}\r\n`, "hello")],
    ["vertical tab before the number", post("Content-Length: \x0b5\r\n", "hello")],
    ["non-ASCII digits", post("Content-Length: \xd9\xa5\r\n", "hello")],
    ["space before the colon", post("Content-Length : 5\r\n", "hello")],
    ["TE with a space before the colon", post("Transfer-Encoding : chunked\r\n", CHUNKED)],
    ["TE with a tab before the colon", post("Transfer-Encoding\t: chunked\r\n", CHUNKED)],
    ["folded TE", post("Transfer-Encoding:\r\n chunked\r\n", CHUNKED)],
    ["TE behind a fold", post("X: y\r\n Transfer-Encoding: chunked\r\n", CHUNKED)],
    ["TE behind a bare LF", post("X: y\nTransfer-Encoding: chunked\r\n", CHUNKED)],
    ["TE behind a bare CR", post("X: y\rTransfer-Encoding: chunked\r\n", CHUNKED)],
    ["HTTP/1.0 with TE", post("Transfer-Encoding: chunked\r\n", CHUNKED, "HTTP/1.0")],
    ["HTTP/1.0 with both", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", CHUNKED, "HTTP/1.0")],
  ])("%s", async (_, request) => {
    expectRefused(stage, await attack(stage, request));
  });
});

describe("V6 transfer codings other than one chunked are refused", () => {
  // 501 is what RFC 9112 asks for where the coding is well-formed and unknown.
  test.each([
    ["xchunked", "Transfer-Encoding: xchunked\r\n"],
    ["identity", "Transfer-Encoding: identity\r\n"],
    ["gzip", "Transfer-Encoding: gzip\r\n"],
    ["gzip, chunked", "Transfer-Encoding: gzip, chunked\r\n"],
    ["chunked, identity", "Transfer-Encoding: chunked, identity\r\n"],
    ["chunked, chunked", "Transfer-Encoding: chunked, chunked\r\n"],
    ["chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"],
    ["chunked then cow", "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n"],
    ["cow then chunked", "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n"],
    ["a comma before", "Transfer-Encoding: , chunked\r\n"],
    ["a parameter", "Transfer-Encoding: chunked;q=1\r\n"],
    ["quoted", 'Transfer-Encoding: "chunked"\r\n'],
    ["empty", "Transfer-Encoding:\r\n"],
    ["vertical tab", "Transfer-Encoding: \x0bchunked\r\n"],
    ["form feed", "Transfer-Encoding: chunked\x0c\r\n"],
    ["NUL", "Transfer-Encoding: chunked\0\r\n"],
    ["non-breaking space", "Transfer-Encoding: \xa0chunked\r\n"],
  ])("%s", async (_, fields) => {
    expectRefused(stage, await attack(stage, post(fields, CHUNKED)), [400, 501]);
  });
});

describe("V6 what is legal passes with one meaning", () => {
  test.each([
    ["length with spaces and tabs round it", post("Content-Length: \t5 \t\r\n", "hello")],
    ["chunked in capitals", post("TRANSFER-ENCODING: ChunKed\r\n", CHUNKED)],
  ])("%s", async (_, request) => {
    const result = await attack(stage, request);
    expect(result.statuses, result.raw.toString("latin1")).toEqual([200]);
    expect(stage.origin.requests).toHaveLength(1);
    expect(stage.origin.requests[0]?.body.toString()).toBe("hello");
    expect(stage.origin.connections[0]?.rest).toHaveLength(0);
  });

  test("a length spelled with an underscore is no length", async () => {
    const result = await attack(
      stage,
      post("Content_Length: 40\r\nTransfer_Encoding: chunked\r\nContent-Length: 5\r\n", "hello"),
    );
    expect([200, 400]).toContain(result.statuses[0]);
    expect(stage.origin.text).not.toMatch(/(content_length|transfer_encoding)/i);
  });
});
