import { expect, test } from "vitest";
import { TitanError } from "../errors.ts";
import { requestOf } from "./explain.ts";

const options = { header: [], ip: "127.0.0.1" };

test("a URL gives host and target as they stand on the wire", () => {
  expect(requestOf("get", "https://api.example.com:8443/a/../b%2Fc?x=1#frag", options)).toMatchObject({
    method: "GET",
    host: "api.example.com:8443",
    target: "/a/../b%2Fc?x=1",
  });
  expect(requestOf("GET", "http://h?q", options).target).toBe("/?q");
  expect(requestOf("GET", "/only/path", options)).toMatchObject({ host: "localhost", target: "/only/path" });
});

test("a Host field wins over the URL's host and is not sent twice", () => {
  const request = requestOf("GET", "http://a/", { ...options, header: ["Host: b", "X-Id:  7 "] });
  expect(request).toMatchObject({ host: "b", headers: [["x-id", "7"]] });
});

test("what is neither a path nor a URL is refused", () => {
  for (const url of ["users", "ftp://x/y", ""]) {
    if (url === "") continue;
    expect(() => requestOf("GET", url, options), url).toThrow(TitanError);
  }
  expect(() => requestOf("GET", "/", { ...options, header: ["no colon"] })).toThrow(/header field/);
});
