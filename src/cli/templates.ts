import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { messageOf, TitanError } from "../errors.ts";

interface Template {
  [file: string]: { text: string; next?: string };
}

/** Test cases for the configuration of a template. */
const CASES = `# yaml-language-server: $schema=./node_modules/@titan-gateway/titan/schema/titan-test.schema.json
config: CONFIG

# What the application answers; nothing is connected to.
upstreams:
  app: { json: { hello: world } }

cases:
  - name: every path goes to the application, and its answer comes back
    request: GET https://example.com/hello?name=titan
    expect:
      status: 200
      upstream: app
      json: { hello: world }
      forwarded: { path: /hello, query: name=titan, headers: { x-forwarded-host: example.com } }

  - name: who asks too often has to wait
    request: GET /
    repeat: 201 # time stands still for limits: the burst is 200
    expect: { status: 429, policies: { rate_limit: answered }, forwarded: null }
`;

const TEMPLATES: Record<string, Template> = {
  minimal: {
    "titan.yaml": {
      next: "titan serve --watch",
      text: `# yaml-language-server: $schema=./node_modules/@titan-gateway/titan/schema/titan.schema.json
server:
  host: 127.0.0.1
  port: 8080

upstreams:
  - name: app
    backends:
      - host: 127.0.0.1
        port: 3000

routes:
  - path: /*
    upstream: app

middleware:
  - type: rate_limit
    config:
      requests_per_second: 100
      burst: 200
`,
    },
    "titan.test.yaml": { next: "titan test", text: CASES.replace("CONFIG", "titan.yaml") },
  },
  typescript: {
    "titan.config.ts": {
      next: "titan serve --watch",
      text: `import { defineConfig } from "@titan-gateway/titan";

export default defineConfig({
  server: { host: "127.0.0.1", port: 8080 },
  upstreams: [
    {
      name: "app",
      load_balancing: "least_connections",
      health_check: { enabled: true, interval_seconds: 10, timeout_seconds: 2, path: "/health" },
      backends: [{ host: "127.0.0.1", port: 3000 }],
    },
  ],
  routes: [
    // A hook in place: called for these requests only, with the types of the path.
    { path: "/greet/:name", upstream: "app", onRequest: (ctx) => ctx.json({ hello: ctx.params.name }) },
    { path: "/*", upstream: "app" },
  ],
  middleware: [{ type: "rate_limit", config: { requests_per_second: 100, burst: 200 } }],
});
`,
    },
    "titan.config.test.yaml": {
      next: "titan test",
      text: `${CASES.replace("CONFIG", "titan.config.ts")}
  - name: a hook greets by itself
    request: GET /greet/jo
    expect: { status: 200, json: { hello: jo }, answered_by: /greet/:name.hook, forwarded: null }
`,
    },
  },
  embedded: {
    "gateway.config.mjs": {
      text: `import { defineConfig } from "@titan-gateway/titan";

/** The gateway before an application that listens on \`port\`. */
export const config = (port) =>
  defineConfig({
    server: { host: "127.0.0.1", port: 8080 },
    upstreams: [{ name: "app", backends: [{ host: "127.0.0.1", port }] }],
    routes: [{ path: "/*", upstream: "app" }],
    middleware: [{ type: "rate_limit", config: { requests_per_second: 100, burst: 200 } }],
  });
`,
    },
    "gateway.mjs": {
      next: "node gateway.mjs",
      text: `import { createServer } from "node:http";
import { createGateway } from "@titan-gateway/titan";
import { config } from "./gateway.config.mjs";

// Your program…
const app = createServer((request, response) => response.end(\`hello from \${request.url}\\n\`));
await new Promise((resolve) => app.listen(0, "127.0.0.1", resolve));

// …and a gateway before it, in the same process.
const gateway = createGateway(config(app.address().port));
await gateway.start();
console.log(\`gateway: \${gateway.address().url}\`);

process.once("SIGTERM", async () => {
  await gateway.close();
  app.close();
});
`,
    },
    "gateway.test.mjs": {
      next: "node --test",
      text: `// The real configuration in the real data plane, without a port: with node:test here, and the same in Vitest.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createTestGateway } from "@titan-gateway/titan/testing";
import { config } from "./gateway.config.mjs";

// What the application answers; nothing is connected to.
const gateway = await createTestGateway(config(3000), {
  upstreams: { app: ({ path }) => Response.json({ path }) },
});
after(() => gateway.close());

test("every path goes to the application, and its answer comes back", async () => {
  const result = await gateway.inject("https://example.com/hello?name=titan");
  assert.equal(result.status, 200);
  assert.deepEqual(result.json(), { path: "/hello" });
  assert.equal(result.forwarded.query, "name=titan");
  assert.equal(result.forwarded.headers.get("x-forwarded-host"), "example.com");
});

test("who asks too often has to wait", async () => {
  // Time stands still for limits: the burst is 200.
  const ask = () => gateway.inject({ url: "/", clientIp: "203.0.113.7" });
  for (let i = 0; i < 200; i++) await ask();
  const result = await ask();
  assert.equal(result.status, 429);
  assert.equal(result.stage, "rate_limit");
  await gateway.advance("1s");
  assert.equal((await ask()).status, 200);
});
`,
    },
  },
};

/** Writes a template's files; none where one of them exists. */
export function write(template: string, directory: string): { path: string; next?: string }[] {
  const files = TEMPLATES[template];
  if (!files) {
    const names = Object.keys(TEMPLATES).join(", ");
    throw new TitanError("TITAN_USAGE", `There is no template "${template}"; the templates are ${names}.`);
  }
  const entries = Object.entries(files).map(([name, file]) => ({ ...file, path: join(directory, name) }));
  for (const { path } of entries) {
    if (existsSync(path)) throw new TitanError("TITAN_USAGE", `${path} exists already and is left as it is.`);
  }
  try {
    mkdirSync(directory, { recursive: true });
    for (const { path, text } of entries) writeFileSync(path, text, { flag: "wx" });
  } catch (cause) {
    throw new TitanError("TITAN_USAGE", messageOf(cause), { cause });
  }
  return entries.map(({ path, next }) => ({ path, ...(next !== undefined && { next }) }));
}
