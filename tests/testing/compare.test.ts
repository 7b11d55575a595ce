import { expect, it } from "vitest";
import { differences } from "../../src/testing/cases/compare.ts";
import type { Expectation } from "../../src/testing/cases/schema.ts";
import type { InjectResult } from "../../src/testing/types.ts";

const result = {
  status: 204,
  headers: new Headers({ a: "1" }),
  body: "",
  params: {},
  policies: [
    { name: "fair", type: "rate_limit", verdict: "passed" },
    { name: "jwt", type: "auth", verdict: "passed" },
    { name: "fair", type: "rate_limit", verdict: "answered" },
  ],
  hooks: [],
  attempts: [],
} as unknown as InjectResult;

const paths = (wanted: Expectation) => differences(wanted, result).map(({ path }) => path.join("."));

it("a policy that acts at two stages has the verdict of either", () => {
  expect(paths({ policies: { fair: "answered", rate_limit: "passed", auth: "passed" } })).toEqual([]);
  expect(differences({ policies: { fair: "skipped", cors: "passed" } }, result)).toEqual([
    { path: ["policies", "fair"], expected: "skipped", received: "passed, answered" },
    { path: ["policies", "cors"], expected: "passed", received: "no such policy here: there are fair, jwt" },
  ]);
});

it("nothing, something and everything else of a text", () => {
  expect(paths({ headers: { a: 1, b: null, c: { absent: true } }, body: "", route: null })).toEqual([]);
  expect(
    paths({ headers: { a: null, b: { present: true }, c: { not: "x" }, "no name": "x" }, body: { contains: "x" } }),
  ).toEqual(["headers.a", "headers.b", "headers.no name", "body"]);
  expect(paths({ status: "2xx" })).toEqual([]);
  expect(paths({ status: [200, "3xx", "204"] })).toEqual([]);
  expect(paths({ status: ["200", "3xx"], json: {} })).toEqual(["status", "json"]);
});
