import { describe, expect, it } from "vitest";
import {
  Context,
  duration,
  type InputOf,
  Interpolated,
  integer,
  list,
  type OutputOf,
  object,
  Secret,
  secret,
  size,
  string,
} from "../../src/config/kit/index.ts";
import { distance, suggest } from "../../src/config/suggest.ts";
import { parseDuration, parseSize } from "../../src/config/units.ts";

describe("units", () => {
  it.each([
    ["30s", 30_000],
    ["500ms", 500],
    ["1m30s", 90_000],
    ["1.5h", 5_400_000],
    ["2 min", 120_000],
    ["1D", 86_400_000],
  ])("reads the duration %s", (text, ms) => expect(parseDuration(text)).toBe(ms));

  it.each(["", "s", "30", "-5s", "5 parsecs", "1s?", "1e3s"])("refuses the duration %j", (text) =>
    expect(parseDuration(text)).toBeUndefined(),
  );

  it.each([
    ["1MiB", 1_048_576],
    ["64kB", 64_000],
    ["64 k", 65_536],
    ["0.5KiB", 512],
    ["10b", 10],
  ])("reads the size %s", (text, bytes) => expect(parseSize(text)).toBe(bytes));

  it.each(["", "1", "MiB", "1 XB", "-1k"])("refuses the size %j", (text) => expect(parseSize(text)).toBeUndefined());
});

describe("suggest", () => {
  it("counts a swap of neighbours as one edit", () => expect(distance("prot", "port", 2)).toBe(1));
  it("finds the nearest within two edits", () => expect(suggest("brsut", ["burst", "bust", "cost"])).toBe("burst"));
  it("stays silent beyond two edits, and for words too short to tell", () => {
    expect(suggest("requests", ["rate_limit"])).toBeUndefined();
    expect(suggest("x", ["y", "z"])).toBeUndefined();
  });
  it("ignores letter case", () => expect(suggest("Port", ["port"])).toBe("port"));
});

describe("schemas", () => {
  const block = object(
    {
      port: integer({ min: 1, max: 10 }),
      wait: duration("s").default(5),
      grace: duration("ms").default(100),
      body: size().default("1KiB"),
      names: list(string(), { single: true }).default([]),
      note: string().optional(),
    },
    { aliases: { listen_port: "port" } },
  );
  // The types are part of the contract: this does not compile where inference breaks.
  const input: InputOf<typeof block> = { port: 1, wait: "3s" };
  const output: OutputOf<typeof block> = { port: 1, wait: 3, grace: 100, body: 1024, names: [] };

  it("fills defaults in and keeps durations in the unit of the key", () => {
    expect(block.parse(input, new Context())).toEqual(output);
    expect(block.parse({ port: 1, wait: "500ms", grace: "2s" }, new Context())).toMatchObject({
      wait: 0.5,
      grace: 2000,
    });
  });

  it("never shares a default between two configurations", () => {
    const a = block.parse({ port: 1 }, new Context());
    const b = block.parse({ port: 1 }, new Context());
    expect(a?.names).not.toBe(b?.names);
  });

  it("reports every problem, with the place as it was written", () => {
    const cx = new Context();
    block.parse({ listen_port: 11, wait: "soon", nmaes: [], body: -1 }, cx);
    expect(cx.findings.map((f) => [f.path.join("."), f.code])).toEqual([
      ["nmaes", "unknown_key"],
      ["wait", "bad_duration"],
      ["body", "out_of_range"],
      ["port", "out_of_range"],
    ]);
    expect(cx.moved.get("port")).toEqual(["listen_port"]);
  });

  it("refuses one thing said twice with two values", () => {
    const cx = new Context();
    block.parse({ port: 1, listen_port: 2 }, cx);
    expect(cx.findings).toMatchObject([{ code: "said_twice", path: ["listen_port"] }]);
    const same = new Context();
    block.parse({ port: 1, listen_port: 1 }, same);
    expect(same.findings).toEqual([]);
  });

  it("reads text from variables as what is wanted", () => {
    const parsed = block.parse(
      { port: new Interpolated("7"), names: new Interpolated("a, b"), wait: new Interpolated("3") },
      new Context(),
    );
    expect(parsed).toMatchObject({ port: 7, names: ["a", "b"], wait: 3 });
  });

  it("ignores x- keys, and keys that JavaScript knows", () => {
    const cx = new Context();
    block.parse({ port: 1, "x-note": 1 }, cx);
    expect(cx.findings).toEqual([]);
    block.parse(JSON.parse('{"port":1,"__proto__":{"wait":9},"constructor":1}'), cx);
    expect(cx.findings.map((f) => f.code)).toEqual(["unknown_key", "unknown_key"]);
  });
});

describe("secrets", () => {
  const parse = (value: unknown, options = {}) => {
    const cx = new Context({ readSecret: () => Buffer.from("from file\n") });
    return { secret: secret(options).parse(value, cx), findings: cx.findings };
  };
  it("are utf8 unless they say otherwise", () => {
    expect(parse("c2VjcmV0").secret?.text).toBe("c2VjcmV0");
    expect(parse("c2VjcmV0", { encoding: "base64" }).secret?.text).toBe("secret");
    expect(parse({ value: "736563726574", encoding: "hex" }).secret?.text).toBe("secret");
    expect(parse({ value: "abc", encoding: "hex" }).findings[0]?.message).toBe("is not valid hex");
  });
  it("come from files without the last newline", () => expect(parse("file:x").secret?.text).toBe("from file"));
  it("are never shown, also not under a wrong type", () => {
    const value = new Secret(Buffer.from("hunter2"));
    expect(`${value} ${JSON.stringify({ value })}`).not.toContain("hunter2");
    expect(JSON.stringify(parse(["hunter2"]).findings)).not.toContain("hunter2");
    expect(JSON.stringify(parse({ value: "hunter2!", encoding: "base64" }).findings)).not.toContain("hunter2");
  });
});
