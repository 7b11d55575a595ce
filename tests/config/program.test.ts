/** Configurations that are programs: what they may import, in which syntax, and that each load is a fresh one. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { loadConfig } from "../../src/config/index.ts";

let folder: string;
const folders: string[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "titan-program-"));
  folders.push(folder);
});
afterAll(() => {
  for (const made of folders) rmSync(made, { recursive: true, force: true });
});

function write(name: string, text: string): string {
  const file = join(folder, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
  return file;
}

/** A configuration that says `expression` in its description, as JSON. */
const saying = (expression: string) =>
  `export default { description: JSON.stringify(${expression}), routes: [{ path: "/", respond: {} }] };`;

/** What the configuration says, and whether it took Babel to load it. */
async function said(file: string) {
  const result = await loadConfig(file, { env: {} });
  expect(result.issues).toEqual([]);
  if (!result.ok) throw new Error("refused");
  return { value: JSON.parse(result.config.description ?? "null"), babel: !result.code.has(file), files: result.files };
}

async function refusal(file: string) {
  const result = await loadConfig(file, { env: {} });
  expect(result.ok).toBe(false);
  return result.issues[0];
}

/** A package in `node_modules`. */
function install(name: string, manifest: object, files: Record<string, string>): void {
  write(`node_modules/${name}/package.json`, JSON.stringify({ name, version: "1.0.0", ...manifest }));
  for (const [path, text] of Object.entries(files)) write(`node_modules/${name}/${path}`, text);
}

describe("imports", () => {
  it("of the user's files, with the extension, without it, and by the name that they will be compiled to", async () => {
    write("a.ts", "export const a: string = 'a';");
    write("b.mts", "export const b: string = 'b';");
    write("c.mjs", "export const c = 'c';");
    write("d/index.ts", "export { a as d } from '../a';");
    write("e.js", "exports.e = 'e';");
    const file = write(
      "titan.config.ts",
      `import { a } from "./a.ts"; import { a as again } from "./a"; import { a as compiled } from "./a.js";
       import { b } from "./b.mjs"; import { c } from "./c"; import { d } from "./d"; import { e } from "./e.js";
       ${saying("[a, again, compiled, b, c, d, e]")}`,
    );
    const { value, babel, files } = await said(file);
    expect(value).toEqual(["a", "a", "a", "b", "c", "a", "e"]);
    expect(babel).toBe(false);
    expect(files).toEqual(expect.arrayContaining(["a.ts", "b.mts", "c.mjs", "d/index.ts"].map((n) => join(folder, n))));
  });

  it("of JSON, with and without the attribute", async () => {
    write("data.json", '{"x":[1,2]}');
    const file = write(
      "titan.config.ts",
      `import data from "./data.json"; import same from "./data.json" with { type: "json" };
       const later = await import("./data.json", { with: { type: "json" } });
       ${saying("[data.x, same === data, later.default === data]")}`,
    );
    expect(await said(file)).toMatchObject({ value: [[1, 2], true, true], babel: false });
  });

  it("of packages: CommonJS, modules, both, types and their JSON", async () => {
    install("old", { main: "index.js" }, { "index.js": "module.exports = function old() { return 'old' };" });
    install("named", {}, { "index.js": "exports.one = 1; exports.two = 2;" });
    install(
      "esm",
      { type: "module", exports: { import: "./index.js" } },
      { "index.js": "export const kind = 'esm'; export default 5;" },
    );
    install(
      "dual",
      { exports: { import: "./index.mjs", require: "./index.cjs" } },
      { "index.mjs": "export const kind = 'module';", "index.cjs": "exports.kind = 'commonjs';" },
    );
    const file = write(
      "titan.config.ts",
      `import old from "old"; import named, { one } from "named"; import * as space from "named"; import five, { kind } from "esm";
       import { kind as dual } from "dual"; import type { Nothing } from "not-installed"; import { type Other } from "not-installed-either";
       import manifest from "old/package.json" with { type: "json" }; import { basename } from "node:path"; import fs from "fs";
       const empty: Nothing | Other | undefined = undefined;
       ${saying("[old(), named.two, one, space.two, five, kind, dual, manifest.version, basename('/x/y'), typeof fs.readFileSync, empty]")}`,
    );
    expect(await said(file)).toMatchObject({
      value: ["old", 2, 1, 2, 5, "esm", "module", "1.0.0", "y", "function", null],
      babel: false,
    });
  });

  it("of the package's own `imports`, and of a linked package of the same workspace", async () => {
    write("package.json", JSON.stringify({ imports: { "#own": "./lib/own.ts" } }));
    write("lib/own.ts", "export const own: number = 7;");
    const file = write("titan.config.ts", `import { own } from "#own"; ${saying("own")}`);
    expect(await said(file)).toMatchObject({ value: 7, babel: false });
  });

  it("may wait at the top, in what they import too, and may be dynamic", async () => {
    write("slow.ts", "export const slow = await new Promise<string>((done) => setTimeout(done, 5, 'slow'));");
    write("late.ts", "export default 'late' as string;");
    const file = write(
      "titan.config.ts",
      `import { slow } from "./slow.ts"; const name = "late"; const { default: late } = await import(\`./\${name}.ts\`);
       const { sep } = await import("node:path"); ${saying("[slow, late, sep]")}`,
    );
    expect(await said(file)).toMatchObject({ value: ["slow", "late", "/"], babel: false });
  });

  it("are live, hold in cycles, and run once in their order", async () => {
    write("order.ts", "export const order: string[] = [];");
    write(
      "state.ts",
      `import { order } from "./order.ts"; import { seen } from "./cycle.ts"; order.push("state");
       export let count = 0; export function up(): void { count++; } export const later = () => seen;`,
    );
    write(
      "cycle.ts",
      `import { order } from "./order.ts"; order.push("cycle"); export const seen = "seen"; export { up } from "./state.ts";`,
    );
    const file = write(
      "titan.config.ts",
      `import { count, later } from "./state.ts"; import { up } from "./cycle.ts"; import { order } from "./order.ts";
       up(); up(); ${saying("[count, later(), order]")}`,
    );
    expect(await said(file)).toMatchObject({ value: [2, "seen", ["cycle", "state"]], babel: false });
  });

  it("are read afresh at each load, as deep as they go", async () => {
    write("deep.ts", "export const n: number = 1;");
    write("shallow.mjs", "export { n } from './deep.ts';");
    write("common.cjs", "exports.c = 1;");
    write("data.json", "1");
    const file = write(
      "titan.config.ts",
      `import { n } from "./shallow.mjs"; import { c } from "./common.cjs"; import d from "./data.json"; ${saying("[n, c, d]")}`,
    );
    expect((await said(file)).value).toEqual([1, 1, 1]);
    write("deep.ts", "export const n: number = 2;");
    write("common.cjs", "exports.c = 2;");
    write("data.json", "2");
    expect((await said(file)).value).toEqual([2, 2, 2]);
  });

  it("that lead nowhere are said at their place", async () => {
    const file = write(
      "titan.config.ts",
      'import "node:path";\n  import { x } from "./missing.ts";\nexport default { x };\n',
    );
    expect(await refusal(file)).toMatchObject({
      code: "module_failed",
      line: 2,
      column: 21,
      message: expect.stringContaining('Cannot find "./missing.ts"'),
    });
    const named = write("named.config.ts", 'import { x } from "no-such-package";\nexport default { x };\n');
    expect(await refusal(named)).toMatchObject({ message: expect.stringContaining("no-such-package") });
  });
});

describe("syntax", () => {
  it("of a module knows its own place", async () => {
    const file = write(
      "titan.config.mjs",
      `${saying("[import.meta.url, import.meta.dirname, import.meta.resolve('./x.mjs')]")}`,
    );
    write("x.mjs", "");
    expect(await said(file)).toMatchObject({
      value: [`file://${folder}/titan.config.mjs`, folder, `file://${folder}/x.mjs`],
      babel: false,
    });
  });

  it("that only looks like imports is left alone", async () => {
    const file = write(
      "titan.config.ts",
      `#!/usr/bin/env node
       // import { nothing } from "./nothing.ts";
       const text = 'import "./nothing.ts"; import.meta.url; require("./nothing")'; const re = /import "x"/;
       ${saying("[text, re.source]")}`,
    );
    expect(await said(file)).toMatchObject({
      value: ['import "./nothing.ts"; import.meta.url; require("./nothing")', 'import "x"'],
      babel: false,
    });
  });

  it("of TypeScript: enums, parameter properties, generics, satisfies, overloads, assertions", async () => {
    const file = write(
      "titan.config.ts",
      `enum Color { Red = "red", Blue = "blue" } const enum Level { Low = 1, High }
       abstract class Base<T> { constructor(protected readonly value: T, public count = 1) {} abstract get(): T; }
       class Made extends Base<string> { declare extra: number; get(): string { return this.value!; } }
       function over(a: string): string; function over(a: number): number; function over(a: unknown) { return a; }
       const typed = { a: 1 } satisfies Record<string, number>; type Keys = keyof typeof typed; const key = "a" as Keys;
       interface Shape { x?: number } const shape = <T extends Shape,>(value: T): T => value;
       ${saying("[Color.Blue, Level.High, new Made('made').get(), over(3), typed[key], shape({ x: 2 }).x]")}`,
    );
    expect(await said(file)).toMatchObject({ value: ["blue", 2, "made", 3, 1, 2], babel: false });
  });

  it.each([
    ["a namespace", "titan.config.ts", `namespace Inner { export const x = 4; } ${saying("Inner.x")}`, 4],
    [
      "a decorator",
      "titan.config.ts",
      `const add = (c: any) => { c.added = 4; }; @add class C {} ${saying("(C as any).added")}`,
      4,
    ],
    [
      "CommonJS in TypeScript",
      "titan.config.cts",
      `const four: number = 4; module.exports = { description: String(four), routes: [] };`,
      4,
    ],
  ])("that can't be taken out takes Babel: %s", async (_, name, text, expected) => {
    expect(await said(write(name, text))).toMatchObject({ value: expected, babel: true });
  });

  it("takes Babel where a tsconfig.json has paths", async () => {
    write("tsconfig.json", '{ "compilerOptions": { "baseUrl": ".", "paths": { "~/*": ["./lib/*"] } } }');
    write("lib/x.ts", "export const x: number = 3;");
    expect(await said(write("titan.config.ts", `import { x } from "~/x"; ${saying("x")}`))).toMatchObject({
      value: 3,
      babel: true,
    });
  });

  it("of CommonJS is Node's own", async () => {
    write("half.cjs", "module.exports = 21;");
    const file = write(
      "titan.config.cjs",
      `module.exports = { description: String(2 * require("./half.cjs")), routes: [] };`,
    );
    expect((await said(file)).value).toBe(42);
    write("half.cjs", "module.exports = 4;");
    expect((await said(file)).value).toBe(8);
  });
});

it("names line and column of the source where the program fails", async () => {
  const file = write(
    "titan.config.ts",
    `import { basename } from "node:path";
interface Wide { readonly [name: string]: unknown }
const make = <T extends Wide>(value: T, name: string): T => { throw new Error(\`no \${basename(name)}\`); };
export default make({} as Wide, "a/b");
`,
  );
  expect(await refusal(file)).toMatchObject({ line: 3, column: 69, message: expect.stringContaining("no b") });
});
