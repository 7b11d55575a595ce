// Flags from a service, refreshed beside the requests; a request only looks at memory.
import { readFile } from "node:fs/promises";
import { defineConfig, defineHook, defineRoute } from "@titan-gateway/titan";

let flags: Record<string, boolean> = {};
let timer: NodeJS.Timeout | undefined;

async function refresh(): Promise<void> {
  const source = process.env.FLAGS_URL ?? "./flags.json";
  const text = /^https?:/.test(source) ? await (await fetch(source)).text() : await readFile(source, "utf8");
  flags = JSON.parse(text);
}

export default defineConfig({
  server: { host: "127.0.0.1", port: 8080 },
  upstreams: [{ name: "api", backends: [{ host: "127.0.0.1", port: 3000 }] }],
  hooks: {
    flags: defineHook({
      global: true,
      reads: {},
      async onStart() {
        await refresh();
      },
      async onReload() {
        await refresh();
      },
      onShutdown() {
        clearInterval(timer);
      },
      onRequest(ctx) {
        // The first request starts the clock: `titan check` reads this file too and must not hang on a timer.
        timer ??= setInterval(() => refresh().catch((error) => ctx.log.warn(`flags: ${error}`)), 5_000).unref();
        const on = Object.keys(flags).filter((name) => flags[name]);
        ctx.request.headers.set("x-flags", on.join(","));
      },
    }),
  },
  routes: [
    defineRoute({
      path: "/beta/:page",
      upstream: "api",
      onRequest: (ctx) => (flags[ctx.params.page] ? undefined : ctx.json({ error: "not found" }, 404)),
    }),
    { path: "/*", upstream: "api" },
  ],
});
