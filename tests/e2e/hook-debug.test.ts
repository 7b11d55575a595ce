/** What a hook's author sees: stacks of the sources, logs of the request, contexts that hold, a debugger that reaches the threads. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { serve as start } from "../helpers/serve.ts";

const folders: string[] = [];
const running: Awaited<ReturnType<typeof start>>[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((titan) => titan.stop()));
});
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** `titan serve` with these files, the first of which is the configuration. */
async function serve(files: Record<string, string>, args: string[] = [], env: Record<string, string> = {}) {
  const cwd = mkdtempSync(join(tmpdir(), "titan-debug-"));
  folders.push(cwd);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(cwd, name, ".."), { recursive: true });
    writeFileSync(join(cwd, name), text);
  }
  const [config] = Object.keys(files) as [string];
  const titan = await start(["--config", config, "--log-format", "json", ...args], { cwd, env });
  running.push(titan);
  return { ...titan, cwd };
}

/** A configuration whose every route goes through `hooks`, the text of an object. */
const config = (hooks: string, top = "") => `import { defineConfig, defineHook, type Hook } from "@titan-gateway/titan";
${top}
const hooks: Record<string, Hook> = ${hooks};
export default defineConfig({
  server: { host: "127.0.0.1", port: 0, workers: 1 },
  metrics: { enabled: false },
  logging: { log_requests: false },
  hooks,
  routes: Object.keys(hooks).map((name) => ({ path: "/" + name, respond: { body: name }, middleware: [name] })),
});
`;

const logged = (err: string, part: string) =>
  err
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter((line) => JSON.stringify(line).includes(part));

describe("an error's stack", () => {
  it("names file, line and column of the TypeScript that threw, in helpers and after an await too", async () => {
    const helper = `export interface Wide { readonly [name: string]: unknown }
export const check = <T extends Wide>(value: T, name: string): T => {
  if (value[name] === undefined) throw new Error(\`no \${name} in helper\`);
  return value;
};
`;
    const main = config(
      `{
  now: defineHook({ deadline: "30s", onRequest(ctx) { const path: string = ctx.request.path; throw new Error("now: " + path); } }),
  later: defineHook({
    deadline: "30s",
    async onRequest(ctx) {
      await new Promise<void>((done) => setTimeout(done, 5));
      const wide = { a: 1 } as Wide; check(wide, ctx.route);
    },
  }),
}`,
      'import { check, type Wide } from "./lib/helper.ts";',
    );
    const titan = await serve({ "titan.config.ts": main, "lib/helper.ts": helper });
    /** `file:line:column` of the place where `text` stands, counted from 1. */
    const place = (name: string, source: string, text: string) => {
      const before = source.slice(0, source.indexOf(text)).split("\n");
      return `${titan.cwd}/${name}:${before.length}:${(before.at(-1) as string).length + 1}`;
    };
    for (const name of ["now", "later"]) {
      const response = await fetch(`${titan.url}/${name}`);
      expect([response.status, ((await response.json()) as { error: string }).error]).toEqual([500, "hook_failed"]);
    }
    const stackOf = async (part: string) => {
      await expect.poll(() => logged(titan.err(), part).length, { timeout: 10_000 }).toBe(1);
      return logged(titan.err(), part)[0]?.stack as string;
    };
    expect(await stackOf("now: /now")).toContain(place("titan.config.ts", main, 'new Error("now'));
    const later = await stackOf("in helper");
    expect(later).toContain(place("lib/helper.ts", helper, "new Error"));
    expect(later).toContain(place("titan.config.ts", main, "check(wide"));
  });
});

describe("AsyncLocalStorage", () => {
  it("holds across awaits and is not seen by other requests, however they are entered", async () => {
    const titan = await serve({
      "titan.config.ts": config(
        `{
  run: defineHook({
    deadline: "30s",
    onRequest: (ctx) => {
      const before = store.getStore() ?? null;
      return store.run(ctx.request.query, async () => {
        for (let i = 0; i < 3; i++) await new Promise((done) => setTimeout(done, Math.random() * 10));
        await new Promise<void>((done) => queueMicrotask(done));
        return ctx.json({ before, after: store.getStore() });
      });
    },
  }),
  enter: defineHook({
    deadline: "30s",
    async onRequest(ctx) {
      const before = store.getStore() ?? null;
      store.enterWith(ctx.request.query);
      await null;
      await new Promise((done) => setTimeout(done, Math.random() * 5));
      return ctx.json({ before, after: store.getStore() });
    },
  }),
  sync: defineHook({
    deadline: "30s",
    onRequest(ctx) {
      const before = store.getStore() ?? null;
      store.enterWith(ctx.request.query);
      return ctx.json({ before, after: store.getStore() });
    },
  }),
}`,
        'import { AsyncLocalStorage } from "node:async_hooks";\nconst store = new AsyncLocalStorage<string>();',
      ),
    });
    const ask = async (name: string, id: string) => (await fetch(`${titan.url}/${name}?${id}`)).json();
    const names = ["run", "enter", "sync"];
    const answers = await Promise.all(Array.from({ length: 120 }, (_, i) => ask(names[i % 3] as string, `id${i}`)));
    expect(answers).toEqual(Array.from({ length: 120 }, (_, i) => ({ before: null, after: `id${i}` })));
  });
});

it("the logger of a request says which request, which hook, and what it is given", async () => {
  const titan = await serve({
    "titan.config.ts": config(`{
  told: defineHook({
    async onRequest(ctx) {
      await null;
      ctx.log.warn("look", { tenant: "acme" });
      return ctx.json({ id: ctx.request.id });
    },
  }),
}`),
  });
  const ids = await Promise.all(
    [1, 2].map(async () => ((await (await fetch(`${titan.url}/told`)).json()) as { id: string }).id),
  );
  expect(new Set(ids).size).toBe(2);
  await expect.poll(() => logged(titan.err(), '"look"').length, { timeout: 10_000 }).toBe(2);
  for (const id of ids)
    expect(logged(titan.err(), id)).toEqual([
      expect.objectContaining({ request_id: id, hook: "told", tenant: "acme", msg: "look" }),
    ]);
});

/** Attaches to the threads of a process as a debugger does, and gives the scripts of the configuration that they have. */
async function scriptsOfThreads(url: string, wanted: string): Promise<string[]> {
  const socket = new WebSocket(url);
  await new Promise((done, refuse) => {
    socket.on("open", done);
    socket.on("error", refuse);
  });
  const scripts: string[] = [];
  const send = (method: string, params: object = {}) => socket.send(JSON.stringify({ id: 1, method, params }));
  socket.on("message", (data) => {
    const { method, params } = JSON.parse(String(data));
    if (method === "NodeWorker.attachedToWorker") {
      const message = JSON.stringify({ id: 2, method: "Debugger.enable" });
      send("NodeWorker.sendMessageToWorker", { sessionId: params.sessionId, message });
    } else if (method === "NodeWorker.receivedMessageFromWorker") {
      const inner = JSON.parse(params.message);
      if (inner.method === "Debugger.scriptParsed" && inner.params.url.includes(wanted)) scripts.push(inner.params.url);
    }
  });
  send("NodeWorker.enable", { waitForDebuggerOnStart: false });
  try {
    await expect.poll(() => scripts.length, { timeout: 10_000 }).toBeGreaterThan(0);
  } finally {
    socket.terminate();
  }
  return scripts;
}

describe("a debugger", () => {
  const files = {
    "titan.config.ts": config("{ hello: defineHook({ onRequest: (ctx) => ctx.respond(200, 'hello') }) }"),
  };

  it.each([
    ["titan serve --inspect", ["--inspect", "127.0.0.1:0"], {}],
    ["NODE_OPTIONS=--inspect", [], { NODE_OPTIONS: "--inspect=127.0.0.1:0" }],
  ])("sees the hooks of the threads: %s", async (_, args, env) => {
    const titan = await serve(files, args, env);
    const url = /Debugger listening on (ws:\S+)/.exec(titan.err())?.[1] as string;
    expect(new URL(url).hostname).toBe("127.0.0.1");
    const scripts = await scriptsOfThreads(url, "titan.config.ts");
    expect(scripts[0]).toBe(`file://${titan.cwd}/titan.config.ts`);
    expect(await (await fetch(`${titan.url}/hello`)).text()).toBe("hello");
  });
});
