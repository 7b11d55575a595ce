// V14: a rule on a path holds for every spelling of it, and the path that policy saw is the one that is forwarded.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { field } from "../helpers/message.ts";
import { attack, expectAlive, openStage, type Stage } from "./stage.ts";

let stage: Stage;
beforeAll(async () => {
  stage = await openStage({
    config: () => ({
      routes: [
        { path: "/admin", upstream: "origin", middleware: [{ type: "ip_filter", config: { deny: ["0.0.0.0/0"] } }] },
        { path: "/admin/*", upstream: "origin", middleware: [{ type: "ip_filter", config: { deny: ["0.0.0.0/0"] } }] },
        {
          path: "/inner/*",
          host: "inner.test",
          upstream: "origin",
          middleware: [{ type: "ip_filter", config: { deny: ["0.0.0.0/0"] } }],
        },
        { path: "/*", upstream: "origin" },
      ],
    }),
  });
});
afterAll(async () => {
  await expectAlive(stage);
  await stage.close();
});

/** The path as the most obliging backend would read it: parameters off, decoded, `\` as `/`, dots resolved, empty segments gone. */
function obliging(target: string): string {
  const path = (target.split("?")[0] ?? "").replace(/^https?:\/\/[^/]*/, "");
  // Literal parameters only: servers that know them cut them off before they decode.
  const bare = path.replace(/;[^/]*/g, "");
  const decoded = bare.replace(/%([0-9A-Fa-f]{2})/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)));
  const segments: string[] = [];
  for (const segment of decoded.replaceAll("\\", "/").split("/")) {
    if (segment === "..") segments.pop();
    else if (segment !== "" && segment !== ".") segments.push(segment);
  }
  return `/${segments.join("/")}`;
}

const SPELLINGS = [
  "/admin",
  "/admin/",
  "/admin/users",
  "/admin?x",
  "/admin/?x",
  "//admin",
  "///admin//users",
  "/./admin",
  "/././admin/.",
  "/public/../admin",
  "/public/../admin/users",
  "/public/./../admin",
  "/public/x/../../admin",
  "/../admin",
  "/../../admin",
  "/public/..//admin",
  "/%61dmin",
  "/%61%64%6d%69%6e",
  "/admi%6E",
  "/admi%6e/users",
  "/%2e/admin",
  "/public/%2e%2e/admin",
  "/public/%2E%2e/admin",
  "/public/.%2e/admin",
  "/public/%2e./admin",
  "/public%2f..%2fadmin",
  "/public/..%2fadmin",
  "/public/..%2Fadmin%2fusers",
  "/public%2f%2e%2e%2fadmin",
  "/%2fadmin",
  "/%2Fadmin/users",
  "/admin%2fusers",
  "/admin%2Fusers",
  "/admin%5cusers",
  "/admin\\users",
  "\\admin",
  "/\\admin",
  "/public\\..\\admin",
  "/public/..\\admin",
  "/public%5c..%5cadmin",
  "/%5cadmin",
  "/admin;x",
  "/admin;/users",
  "/admin;x=y/users",
  "/;x/admin",
  "/;/admin",
  "/public/..;/admin",
  "/public/..;x=1/admin/users",
  "/public/%2e%2e;/admin",
  "/admin%3bx",
  "/public/..%3b/admin",
  "/admin/../admin",
  "/admin/./users",
  "/admin//users",
  "/admin/users/..",
  "/public/../admin;x?y",
  "/.;/admin",
  "/public/...//../admin",
  "/%2e%2e/admin",
  "/public/../../../../admin",
  "/public/%2e%2e%2fadmin",
  "/public/..%00/admin",
  "/admin%00",
  "/admin%20",
  "/admin.",
  "http://t.test/admin",
  "http://t.test//admin",
  "http://t.test/public/../admin",
  "http://t.test/%61dmin",
  "HTTP://T.TEST/admin",
  "http://t.test:80/admin",
];

describe("V14 every spelling of a guarded path", () => {
  test.each(SPELLINGS)("%s", async (target) => {
    const result = await attack(stage, `GET ${target} HTTP/1.1\r\nHost: t.test\r\n\r\n`);
    const seen = `client got:\n${result.raw.toString("latin1")}\norigin got:\n${stage.origin.text}`;
    expect(result.answers, seen).toHaveLength(1);
    for (const { start } of stage.origin.requests) {
      const path = obliging(start.split(" ")[1] ?? "");
      expect(path === "/admin" || path.startsWith("/admin/"), `let through as ${start}; ${seen}`).toBe(false);
      // What is forwarded has one spelling: no reader resolves it any further.
      expect(start, seen).not.toMatch(/\/\.{1,2}(\/|\?| )|\/\/|\\|%2e|%2f|%5c/i);
    }
    if (stage.origin.requests.length === 0) expect([400, 403, 404], seen).toContain(result.statuses[0]);
  });

  test("a double encoding is not decoded twice", async () => {
    for (const target of ["/public/%252e%252e/admin", "/%2561dmin", "/public%252f..%252fadmin"]) {
      const result = await attack(stage, `GET ${target} HTTP/1.1\r\nHost: t.test\r\n\r\n`);
      if (result.statuses[0] === 400) continue;
      expect(stage.origin.requests[0]?.start).toContain("%25");
    }
  });
});

describe("V14 the forwarded path is the matched path", () => {
  test.each([
    ["/a/b/../c", "/a/c"],
    ["/a/./b", "/a/b"],
    ["/%61/%62", "/a/b"],
    ["/a%20b", "/a%20b"],
    ["/a?b=../c&d=%2e%2e%2f", "/a?b=../c&d=%2e%2e%2f"],
    ["/a?//b", "/a?//b"],
    ["/%7euser", "/~user"],
    ["/caf%c3%a9", "/caf%C3%A9"],
    ["/a/", "/a/"],
    ["/a/..", "/"],
    ["/", "/"],
  ])("%s → %s", async (target, expected) => {
    const result = await attack(stage, `GET ${target} HTTP/1.1\r\nHost: t.test\r\n\r\n`);
    expect(result.statuses).toEqual([200]);
    expect(stage.origin.requests[0]?.start).toBe(`GET ${expected} HTTP/1.1`);
  });
});

describe("V14 host confusion", () => {
  test.each([
    ["absolute form against Host", "GET http://inner.test/inner/x HTTP/1.1\r\nHost: t.test\r\n\r\n"],
    ["Host in capitals", "GET /inner/x HTTP/1.1\r\nHost: INNER.TEST\r\n\r\n"],
    ["Host with a port", "GET /inner/x HTTP/1.1\r\nHost: inner.test:1234\r\n\r\n"],
    ["Host with a final dot", "GET /inner/x HTTP/1.1\r\nHost: inner.test.\r\n\r\n"],
    ["X-Forwarded-Host", "GET /inner/x HTTP/1.1\r\nHost: inner.test\r\nX-Forwarded-Host: t.test\r\n\r\n"],
    ["absolute form with a port", "GET http://inner.test:80/inner/x HTTP/1.1\r\nHost: inner.test\r\n\r\n"],
  ])("%s can't step round a rule on the host", async (_, request) => {
    const result = await attack(stage, request);
    const seen = `client got:\n${result.raw.toString("latin1")}\norigin got:\n${stage.origin.text}`;
    expect([400, 403], seen).toContain(result.statuses[0]);
    expect(stage.origin.bytes, seen).toBe(0);
  });

  test("the Host that is forwarded is the one that was matched", async () => {
    const result = await attack(stage, "GET http://other.test/inner/x HTTP/1.1\r\nHost: inner.test\r\n\r\n");
    if (result.statuses[0] !== 200) return expect([400, 403]).toContain(result.statuses[0]);
    const [request] = stage.origin.requests;
    expect(request && field(request, "host")).toBe("other.test");
    expect(stage.origin.text).not.toContain("inner.test");
  });
});
