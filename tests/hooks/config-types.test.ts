import { execFile, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { afterAll, describe, expect, expectTypeOf, it } from "vitest";
import {
  type ConfigEnvironment,
  type ConfigInput,
  createGateway,
  type DefinedConfig,
  defineConfig,
  defineHook,
  defineHookFactory,
  defineRoute,
} from "../../src/index.ts";

const backends = ["127.0.0.1:3000"] as const;
const upstreams = [
  { name: "api", backends },
  { name: "web", backends },
] as const;
const tenant = defineHook({ onRequest: (ctx) => ctx.json({}) });
const limit = defineHookFactory((options: { max: number }) =>
  defineHook({ onRequest: (ctx) => ctx.json(options.max) }),
);

describe("names of a configuration", () => {
  it("are those that it declares, wherever it may declare them", () => {
    const config = defineConfig({
      upstreams,
      hooks: { tenant, limit },
      middleware: [{ type: "cors", name: "cross" }, { type: "tenant" }, { type: "limit", config: { max: 1 } }],
      named_middleware: { keys: { type: "apikey", config: { keys: [] } } },
      rate_limits: { strict: { requests_per_second: 1 } },
      cors_configs: { open: {} },
      transform_configs: { shape: {} },
      compression_configs: { small: {} },
      jwt: { keys: [] },
      "x-mine": { any: "thing" },
      routes: [
        {
          path: "/a",
          upstream: "api",
          middleware: ["tenant", "cross", "keys", "strict", "open", "shape", "small", "jwt"],
        },
        { path: "/b", upstreams: [{ upstream: "api", weight: 9 }, { upstream: "web" }], middleware: "strict" },
        {
          path: "/c",
          upstream: "web",
          middleware: [
            { type: "rate_limit", config: { requests: 1 } },
            { type: "limit", config: { max: 1 } },
          ],
        },
        {
          path: "/d",
          upstream: "web",
          middleware: [{ type: "a-package", config: { any: 1 } }, { type: "./hook.js" }, { type: "@scope/x" }],
        },
        defineRoute({ path: "/e/:e", upstream: "made-elsewhere", middleware: ["made-elsewhere"] }),
      ],
    });
    expectTypeOf(config).toEqualTypeOf<DefinedConfig<undefined>>();
    createGateway(config);
    // Without defineConfig, names are not looked at.
    createGateway({
      upstreams,
      middleware: [{ type: "@scope/x", config: { any: 1 } }],
      routes: [{ path: "/a", upstream: "any", middleware: ["any", { type: "a-package", config: { any: 1 } }] }],
    });
  });

  it("that are wrong do not compile, at the place where they stand", () => {
    defineConfig({
      upstreams,
      hooks: { tenant, limit },
      rate_limits: { strict: { requests: 1 } },
      routes: [
        {
          path: "/a",
          // @ts-expect-error there is api, and web
          upstream: "apo",
          middleware: [
            "tenant",
            // @ts-expect-error a typing error
            "strikt",
            // @ts-expect-error a type that is neither built in, nor a hook, nor what a package may be called
            { type: "tenat" },
            {
              type: "rate_limit",
              // @ts-expect-error settings of a built-in type
              config: { requests_per_secnd: 1 },
            },
            {
              type: "limit",
              // @ts-expect-error options have the type that the hook gives them
              config: { max: "1" },
            },
            {
              type: "tenant",
              // @ts-expect-error this hook has no options
              config: { max: 1 },
            },
          ],
        },
        {
          path: "/b",
          upstreams: [
            {
              // @ts-expect-error no such upstream
              upstream: "wep",
              weight: 1,
            },
          ],
          // @ts-expect-error no such middleware
          middleware: "tenants",
        },
        // @ts-expect-error options that a hook needs
        { path: "/c", upstream: "api", middleware: [{ type: "limit" }] },
      ],
    });
    // @ts-expect-error nothing has a name here, and a name must be somebody's
    defineConfig({ upstreams, routes: [{ path: "/", upstream: "api", middleware: ["strict"] }] });
    // @ts-expect-error of global middleware too
    defineConfig({ hooks: { tenant }, middleware: [{ type: "tenat" }] });
  });

  it("may be any where something out of sight adds to the configuration", () => {
    defineConfig({
      extends: "titan:talos",
      upstreams,
      routes: [{ path: "/", upstream: "of-the-preset", middleware: ["of-the-preset"] }],
    });
    defineConfig({
      upstreams,
      variants: [{ if: { MODE: "test" }, set: { upstreams: [{ name: "fake", backends }] } }],
      routes: [{ path: "/", upstream: "fake" }],
    });
    const computed = ["a", "b"].map((name) => ({ name, backends }));
    defineConfig({ upstreams: computed, routes: [{ path: "/", upstream: "a" }] });
    const base: ConfigInput = {};
    createGateway(defineConfig(base));
    defineConfig({ ...base, routes: [{ path: "/:id", upstream: "api", middleware: ["any"] }] });
    const many = ["a", "b"].map((name) => ({ path: `/${name}`, upstream: name }));
    defineConfig({ upstreams, routes: many.map((route) => defineRoute(route)) });
    // @ts-expect-error a text that may be anything is no name
    defineConfig({ upstreams, routes: many });
  });

  it("reach what a route's functions may choose", () => {
    defineConfig({
      upstreams,
      routes: [
        {
          path: "/users/:id",
          upstream: "api",
          async onRequest(ctx) {
            expectTypeOf(ctx.params).toEqualTypeOf<Readonly<Record<"id", string>>>();
            ctx.forward({ upstream: "web" });
            // @ts-expect-error no such upstream
            ctx.forward({ upstream: "wep" });
          },
        },
      ],
    });
  });
});

it("keys that do not exist do not compile, however deep", () => {
  // @ts-expect-error no such key
  defineConfig({ server: { port: 1 }, upstreems: [] });
  // @ts-expect-error no such key
  defineConfig({ server: { port: 1, prot: 1 } });
  // @ts-expect-error no such key
  defineConfig({ upstreams: [{ name: "api", backends: [{ host: "a", prot: 1 }] }] });
  // @ts-expect-error no such key
  defineConfig({ upstreams, routes: [{ path: "/", upstream: "api", midleware: [] }] });
  // @ts-expect-error no such key
  defineConfig({ upstreams, routes: [{ path: "/", upstream: "api", websocket: { enabld: true } }] });
});

describe("a function that makes a configuration", () => {
  it("has its names checked, and gives what it gives", () => {
    const sync = defineConfig(({ mode, env }) => ({
      server: { port: mode === "development" ? 3000 : 8080 },
      upstreams: [{ name: "api", backends: [env.API ?? "127.0.0.1:1"] }],
      hooks: { tenant },
      routes: [{ path: "/:id", upstream: "api", middleware: ["tenant"], onRequest: (ctx) => ctx.json(ctx.params.id) }],
    }));
    expectTypeOf(sync).parameter(0).toEqualTypeOf<ConfigEnvironment>();
    expectTypeOf(sync).returns.toHaveProperty("server").toEqualTypeOf<{ port: number }>();
    // @ts-expect-error no such upstream
    defineConfig(() => ({ upstreams: [{ name: "api", backends }], routes: [{ path: "/", upstream: "apo" }] }));
    // @ts-expect-error no such upstream
    defineConfig(async ({ mode }) => {
      const description = await mode;
      return { description, upstreams: [{ name: "api", backends }], routes: [{ path: "/", upstream: "apo" }] };
    });
    // @ts-expect-error no such middleware
    defineConfig(async () => ({ hooks: { tenant }, routes: [{ path: "/", middleware: ["tenat"], respond: {} }] }));
  });

  it("has everything where it gives what defineConfig gives", () => {
    const config = defineConfig(async ({ mode }) => {
      const port = await Promise.resolve(mode === "development" ? 3000 : 8080);
      return defineConfig({
        server: { port },
        upstreams: [{ name: "api", backends }],
        hooks: { tenant },
        routes: [
          {
            path: "/users/:id",
            upstream: "api",
            middleware: ["tenant"],
            onRequest(ctx) {
              expectTypeOf(ctx.params.id).toEqualTypeOf<string>();
              // @ts-expect-error the path has no such parameter
              ctx.params.idd;
              // @ts-expect-error no such upstream
              ctx.forward({ upstream: "apo" });
            },
          },
          {
            path: "/b",
            // @ts-expect-error no such upstream
            upstream: "apo",
            // @ts-expect-error no such middleware
            middleware: ["tenat"],
          },
        ],
      });
    });
    expectTypeOf(config).returns.resolves.toEqualTypeOf<DefinedConfig<{ readonly port: number }>>();
  });
});

it("options have the type that a schema takes, not the one that it gives", () => {
  const schema = {
    "~standard": {
      types: {} as { input: { max?: number }; output: { max: number } },
      validate: () => ({ value: { max: 1 } }),
    },
  };
  const factory = defineHookFactory(
    (options: { max: number }) => defineHook({ onRequest: (ctx) => ctx.json(options) }),
    schema,
  );
  defineConfig({ hooks: { factory }, middleware: [{ type: "factory" }, { type: "factory", config: { max: 1 } }] });
  // @ts-expect-error a number
  defineConfig({ hooks: { factory }, middleware: [{ type: "factory", config: { max: "1" } }] });
});

describe("the compiler", () => {
  const root = join(import.meta.dirname, "../..");
  mkdirSync(join(root, ".cache"), { recursive: true });
  const folder = mkdtempSync(join(root, ".cache", "types-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const compile = async (name: string, text: string) => {
    const head = `import { defineConfig, defineHook } from "../../src/index.ts";\n`;
    writeFileSync(join(folder, name), head + text);
    const tsconfig = {
      extends: join(root, "tsconfig.test.json"),
      include: [name],
      compilerOptions: { rootDir: root, declaration: false },
    };
    writeFileSync(join(folder, `${name}.json`), JSON.stringify(tsconfig));
    const tsc = join(root, "node_modules/typescript/lib/tsc.js");
    const run = promisify(execFile)(
      process.execPath,
      [tsc, "-p", `${name}.json`, "--pretty", "false", "--extendedDiagnostics"],
      { cwd: folder, maxBuffer: 1 << 24 },
    );
    const { stdout } = await run.catch((error: { stdout: string }) => error);
    return { stdout, work: Number(/Instantiations:\s+(\d+)/.exec(stdout)?.[1]) };
  };

  it("says where a name is wrong and which one was meant", { timeout: 300_000 }, async () => {
    const { stdout } = await compile(
      "names.ts",
      `defineConfig({
  upstreams: [{ name: "api", backends: ["a:1"] }],
  hooks: { tenant: defineHook({ onRequest: (ctx) => ctx.json({}) }) },
  routes: [
    { path: "/a", upstream: "apo" },
    { path: "/b", upstream: "api", middleware: ["tenat"] },
  ],
});
defineConfig({ rotes: [] });
`,
    );
    expect(stdout).toMatch(/^names\.ts\(6,19\): .*'"apo"' is not assignable to type '"api"/m);
    expect(stdout).toMatch(/^names\.ts\(7,49\): .*'"tenat"'.* Did you mean '"tenant"'\?$/m);
    expect(stdout).toMatch(/^names\.ts\(10,16\): .*'rotes'/m);
  });

  it("is not kept waiting by 200 routes", { timeout: 300_000 }, async () => {
    const text = (routes: number) => `export default defineConfig({
      upstreams: [${Array.from({ length: 50 }, (_, i) => `{ name: "u${i}", backends: ["a:${i + 1}"] }`)}],
      hooks: {${Array.from({ length: 20 }, (_, i) => `h${i}: defineHook({ onRequest: (ctx) => ctx.json(${i}) })`)}},
      routes: [${Array.from(
        { length: routes },
        (_, i) =>
          `{ path: "/r${i}/:id/x/:p${i}", upstream: "u${i % 50}", middleware: ["h${i % 20}", { type: "cors" }],
             onRequest: (ctx) => ctx.json(ctx.params.id + ctx.params.p${i}) }`,
      )}],
    });\n`;
    const [few, many] = [await compile("few.ts", text(2)), await compile("many.ts", text(200))];
    expect(`${few.stdout}${many.stdout}`).not.toContain("error TS");
    // Not measured in time, which depends on the machine: it is about 500 a route.
    expect(many.work - few.work).toBeGreaterThan(0);
    expect((many.work - few.work) / 198).toBeLessThan(2_000);
  });

  it("completes names in an editor", { timeout: 300_000 }, async () => {
    const text = `import { defineConfig, defineHook } from "../../src/index.ts";
export default defineConfig({
  upstreams: [{ name: "api", backends: ["a:1"] }, { name: "web", backends: ["a:1"] }],
  hooks: { tenant: defineHook({ onRequest: (ctx) => ctx.json({}) }) },
  routes: [{ path: "/users/:id", upstream: "", middleware: [""], onRequest: (ctx) => ctx.params.x }],
});
`;
    writeFileSync(join(folder, "edited.ts"), text);
    const tsconfig = {
      extends: join(root, "tsconfig.test.json"),
      include: ["edited.ts"],
      compilerOptions: { rootDir: root },
    };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(tsconfig));
    const server = languageServer(folder);
    try {
      const uri = pathToFileURL(join(folder, "edited.ts")).href;
      await server.ask("initialize", { processId: process.pid, rootUri: pathToFileURL(folder).href, capabilities: {} });
      server.tell("initialized", {});
      server.tell("textDocument/didOpen", { textDocument: { uri, languageId: "typescript", version: 1, text } });
      const labels = async (before: string) => {
        const lines = text.slice(0, text.indexOf(before) + before.length).split("\n");
        const position = { line: lines.length - 1, character: lines.at(-1)?.length };
        const items = await server.ask("textDocument/completion", { textDocument: { uri }, position });
        return ((items as { items?: object[] }).items ?? (items as object[])).map(
          (item) => (item as { label: string }).label,
        );
      };
      expect(await labels('upstream: "')).toEqual(["api", "web"]);
      expect(await labels('middleware: ["')).toEqual(expect.arrayContaining(["tenant", "jwt"]));
      expect(await labels("ctx.params.")).toEqual(["id"]);
    } finally {
      server.end();
    }
  });

  /** The compiler's own language server. */
  function languageServer(cwd: string) {
    const tsc = join(root, "node_modules/typescript/lib/tsc.js");
    const child = spawn(process.execPath, [tsc, "--lsp", "--stdio"], { cwd, stdio: ["pipe", "pipe", "ignore"] });
    const waiting = new Map<number, (result: unknown) => void>();
    let heard = Buffer.alloc(0);
    const write = (message: object) => {
      const body = JSON.stringify({ jsonrpc: "2.0", ...message });
      child.stdin.write(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
    };
    child.stdout.on("data", (part: Buffer) => {
      heard = Buffer.concat([heard, part]);
      for (;;) {
        const end = heard.indexOf("\r\n\r\n");
        const length = Number(/Content-Length: (\d+)/i.exec(heard.toString("latin1", 0, Math.max(end, 0)))?.[1]);
        if (end < 0 || heard.length < end + 4 + length) return;
        const message = JSON.parse(heard.toString("utf8", end + 4, end + 4 + length));
        heard = heard.subarray(end + 4 + length);
        // What it asks of the editor has no answer here.
        if (message.method !== undefined) {
          if (message.id !== undefined) write({ id: message.id, result: null });
        } else waiting.get(message.id)?.(message.result);
      }
    });
    let last = 0;
    return {
      tell: (method: string, params: object) => write({ method, params }),
      ask: (method: string, params: object) =>
        new Promise<unknown>((resolve) => {
          waiting.set(++last, resolve);
          write({ id: last, method, params });
        }),
      end: () => child.kill(),
    };
  }
});
