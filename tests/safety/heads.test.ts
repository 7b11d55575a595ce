// V8: heads that break the grammar. 400 (or the status that names the limit), closed, nothing forwarded.
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

const withFields = (fields: string) => `GET /a HTTP/1.1\r\nHost: t.test\r\n${fields}\r\n\r\n`;
const withLine = (line: string) => `${line}\r\nHost: t.test\r\n\r\n`;

describe("V8 fields", () => {
  test.each([
    ["obs-fold with a space", "X: a\r\n b"],
    ["obs-fold with a tab", "X: a\r\n\tb"],
    ["empty name", ": value"],
    ["only a colon", ":"],
    ["no colon", "nonsense"],
    ["space before the colon", "X : a"],
    ["tab before the colon", "X\t: a"],
    ["space in the name", "X Y: a"],
    ["NUL in the value", "X: a\0b"],
    ["NUL in the name", "X\0: a"],
    ["bare CR in the value", "X: a\rb"],
    ["bare CR at the end of the value", "X: a\r"],
    ["bare LF in the value", "X: a\nY: b"],
    ["control character in the value", "X: a\x01b"],
    ["DEL in the value", "X: a\x7fb"],
    ["colon-less name of another kind", "X=a"],
    ["name in brackets", "(X): a"],
    ["name in quotes", '"X": a'],
    ["slash in the name", "X/Y: a"],
    ["non-ASCII name", "X\xe9: a"],
    ["at sign in the name", "X@Y: a"],
    ["two Host", "Host: evil.test"],
    ["two equal Host", "Host: t.test"],
  ])("%s", async (_, fields) => {
    expectRefused(stage, await attack(stage, withFields(fields)));
  });

  test.each([
    ["a space before the first field", "GET /a HTTP/1.1\r\n Host: t.test\r\n\r\n"],
    ["no Host", "GET /a HTTP/1.1\r\nX: a\r\n\r\n"],
    ["a Host with a space", "GET /a HTTP/1.1\r\nHost: t.test evil\r\n\r\n"],
    ["a Host with a comma", "GET /a HTTP/1.1\r\nHost: t.test,evil\r\n\r\n"],
    ["a Host with user information", "GET /a HTTP/1.1\r\nHost: user@t.test\r\n\r\n"],
    ["a Host with a path", "GET /a HTTP/1.1\r\nHost: t.test/evil\r\n\r\n"],
    ["a Host with a query", "GET /a HTTP/1.1\r\nHost: t.test?evil\r\n\r\n"],
    ["a Host with a fragment", "GET /a HTTP/1.1\r\nHost: t.test#evil\r\n\r\n"],
    ["a Host with a backslash", "GET /a HTTP/1.1\r\nHost: t.test\\evil\r\n\r\n"],
    ["a Host with a bad port", "GET /a HTTP/1.1\r\nHost: t.test:99999\r\n\r\n"],
    ["a Host with a name as port", "GET /a HTTP/1.1\r\nHost: t.test:http\r\n\r\n"],
    ["LF as the only line ending", "GET /a HTTP/1.1\nHost: t.test\n\n"],
    ["LF before the blank line", "GET /a HTTP/1.1\r\nHost: t.test\r\n\n"],
    ["CR CR LF", "GET /a HTTP/1.1\r\nHost: t.test\r\r\n\r\n"],
  ])("%s", async (_, request) => {
    expectRefused(stage, await attack(stage, request));
  });
});

describe("V8 request lines", () => {
  test.each([
    ["two spaces after the method", "GET  /a HTTP/1.1"],
    ["two spaces before the version", "GET /a  HTTP/1.1"],
    ["tabs", "GET\t/a\tHTTP/1.1"],
    ["space at the end", "GET /a HTTP/1.1 "],
    ["space at the start", " GET /a HTTP/1.1"],
    ["space in the target", "GET /a b HTTP/1.1"],
    ["no version", "GET /a"],
    ["lower-case version", "GET /a http/1.1"],
    ["NUL in the target", "GET /a\0b HTTP/1.1"],
    ["control character in the target", "GET /a\x01b HTTP/1.1"],
    ["bare CR in the target", "GET /a\rb HTTP/1.1"],
    ["fragment", "GET /a#b HTTP/1.1"],
    ["no slash", "GET a HTTP/1.1"],
    ["empty target", "GET  HTTP/1.1"],
    ["asterisk with GET", "GET * HTTP/1.1"],
    ["authority with GET", "GET t.test:80 HTTP/1.1"],
    ["another scheme", "GET ftp://t.test/a HTTP/1.1"],
    ["user information in the target", "GET http://user@t.test/a HTTP/1.1"],
    ["NUL in the method", "GE\0T /a HTTP/1.1"],
    ["brackets in the method", "G(E)T /a HTTP/1.1"],
    ["colon in the method", "GET: /a HTTP/1.1"],
    ["bad percent-encoding", "GET /a%zz HTTP/1.1"],
    ["encoded NUL", "GET /a%00b HTTP/1.1"],
    ["version of another protocol", "GET /a ICY/1.1"],
    ["version with a plus", "GET /a HTTP/+1.1"],
    ["version with three digits", "GET /a HTTP/1.10"],
  ])("%s", async (_, line) => {
    expectRefused(stage, await attack(stage, withLine(line)));
  });

  test.each([
    ["HTTP/2.0", "GET /a HTTP/2.0"],
    ["HTTP/0.9", "GET /a HTTP/0.9"],
    ["HTTP/1.2", "GET /a HTTP/1.2"],
  ])("%s is no version that is spoken here", async (_, line) => {
    expectRefused(stage, await attack(stage, withLine(line)), [400, 505]);
  });

  test("the HTTP/2 preface in the middle of HTTP/1.1 is refused", async () => {
    const result = await attack(stage, `GET /a HTTP/1.1\r\nHost: t.test\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`, {
      answers: 2,
    });
    expect(result.statuses[0]).toBe(200);
    expect([400, 505]).toContain(result.statuses[1]);
    expect(result.closed).toBe(true);
  });
});

describe("V8 limits", () => {
  test("a head above the limit gets 431", async () => {
    expectRefused(stage, await attack(stage, withFields(`X: ${"a".repeat(20_000)}`)), [431]);
  });

  test("too many fields get 431", async () => {
    expectRefused(
      stage,
      await attack(stage, withFields(Array.from({ length: 400 }, (_, n) => `X-${n}: a`).join("\r\n"))),
      [431],
    );
  });

  test("a target above the limit gets 414", async () => {
    expectRefused(stage, await attack(stage, withLine(`GET /${"a".repeat(20_000)} HTTP/1.1`)), [414, 431]);
  });

  test("an endless head is cut off at the limit", async () => {
    const result = await attack(stage, [
      withFields("X: a").slice(0, -2),
      ...Array.from({ length: 64 }, () => "Y: aaaaaaaa\r\n".repeat(100)),
    ]);
    expect(result.statuses).toEqual([431]);
    expect(stage.origin.bytes).toBe(0);
  });

  test("what is refused is refused one byte at a time too", async () => {
    for (const request of [withFields("X : a"), withFields("X: a\r\n b"), "GET /a HTTP/1.1\nHost: t.test\r\n\r\n"]) {
      expectRefused(
        stage,
        await attack(
          stage,
          [...request].flatMap((byte) => [byte, 1]),
          { timeout: 8000 },
        ),
      );
    }
  });
});

describe("V8 what is legal passes", () => {
  test.each([
    ["an empty line before the request", `\r\n${withFields("X: a")}`],
    ["an empty value", withFields("X:")],
    ["obs-text in a value", withFields("X: caf\xe9")],
    ["a tab in a value", withFields("X: a\tb")],
    ["odd but legal names", withFields("!#$%&'*+-.^`|~: a")],
    ["a Host with a port", "GET /a HTTP/1.1\r\nHost: t.test:8080\r\n\r\n"],
    ["an IPv6 Host", "GET /a HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"],
    ["an unknown method", "BREW /a HTTP/1.1\r\nHost: t.test\r\n\r\n"],
    ["absolute form", "GET http://t.test/a HTTP/1.1\r\nHost: t.test\r\n\r\n"],
    ["HTTP/1.0 without Host", "GET /a HTTP/1.0\r\n\r\n"],
  ])("%s", async (_, request) => {
    const result = await attack(stage, request);
    expect(result.statuses, result.raw.toString("latin1")).toEqual([200]);
    expect(stage.origin.requests).toHaveLength(1);
    expect(stage.origin.requests[0]?.start).toMatch(/ \/a HTTP\/1\.1$/);
  });
});
