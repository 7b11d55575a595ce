import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { thisPlatform } from "../../.ci/platforms.mjs";
import { startBackend } from "../helpers/backend.ts";
import { freePort } from "../helpers/titan.ts";
import { cleanEnvironment, folder, has, must, ROOT, run, serving, VERSION } from "./tools.ts";

const platform = thisPlatform();
const work = folder();
const out = join(work.path, "bundle");
const name = `titan-${VERSION}-${platform?.suffix}`;
const elsewhere = join(work.path, "elsewhere");
const titan = join(elsewhere, name, "bin/titan");
// A machine with neither Node.js nor npm has nothing of ours in its search path either.
const bare = { PATH: "/nonexistent:/bin:/usr/bin" };

describe.skipIf(platform?.os !== "linux")("the self-contained bundle", () => {
  beforeAll(() => {
    must("node", [".ci/self-contained.mjs", "--addon", join(ROOT, platform?.file ?? ""), "--out", out]);
    // Used from where the tarball was unpacked, so that nothing of this repository can help.
    mkdirSync(elsewhere);
    must("tar", ["xzf", join(out, `${name}.tar.gz`), "-C", elsewhere]);
  });
  afterAll(work.remove);

  it("has a checksum that fits and a CycloneDX bill of materials", () => {
    must("sha256sum", ["-c", `${name}.tar.gz.sha256`], { cwd: out });
    const bom = JSON.parse(readFileSync(join(out, `${name}.cdx.json`), "utf8"));
    expect(bom).toMatchObject({ bomFormat: "CycloneDX", specVersion: "1.6" });
    const purls = bom.components.map((item: { purl: string }) => item.purl.replace(/@[^@]*$/, ""));
    expect(purls).toEqual(
      expect.arrayContaining([
        "pkg:npm/pino",
        "pkg:npm/yaml",
        "pkg:cargo/tokio",
        "pkg:cargo/rustls",
        "pkg:generic/node",
      ]),
    );
    expect(new Set(purls.filter((purl: string) => purl.startsWith("pkg:npm"))).size).toBeGreaterThan(5);
    expect(JSON.stringify(bom)).not.toContain(ROOT);
  });

  it("needs no library but the C library's own", () => {
    const lib = join(elsewhere, name, "lib");
    const foreign = readdirSync(lib)
      .filter((file) => /^node$|\.node$|\.so/.test(file))
      .flatMap((file) =>
        [...must("ldd", [join(lib, file)]).matchAll(/^\s*(\S+) => (\S+)/gm)].map(([, library, path]) => [
          library,
          path,
        ]),
      )
      .filter(([library, path]) => !/^lib(c|m|dl|pthread|rt)\.so/.test(library ?? "") && !path?.startsWith(lib));
    // libgcc_s unwinds; the addon finds the one that node has loaded already.
    expect(foreign.filter(([library]) => library !== "libgcc_s.so.1")).toEqual([]);
  });

  it.skipIf(!has("patchelf"))("brings the C++ runtime along", () => {
    expect(existsSync(join(elsewhere, name, "lib/libstdc++.so.6"))).toBe(true);
  });

  it("is one script that is read when it starts", () => {
    expect(readdirSync(join(elsewhere, name, "dist")).sort()).toEqual([
      "define.js",
      "hooks",
      "package.json",
      "titan.js",
    ]);
    expect(readFileSync(join(elsewhere, name, "dist/titan.js"), "utf8")).not.toContain(ROOT);
  });

  it("runs every way of configuration without Node.js on the path, also through a link", () => {
    expect(run("sh", ["-c", "command -v node"], { env: { PATH: "/nonexistent" } }).status).not.toBe(0);
    const link = join(work.path, "titan");
    must("ln", ["-s", titan, link]);
    expect(must(link, ["version"], { env: bare })).toContain(`titan ${VERSION}`);
    const module = join(work.path, "titan.config.ts");
    writeFileSync(
      module,
      'import { defineConfig } from "@titan-gateway/titan";\nexport default defineConfig({ routes: [{ path: "/" as string, respond: {} }] });\n',
    );
    must(link, ["check", "--config", module], { env: bare });
    const yaml = join(work.path, "titan.yaml");
    writeFileSync(yaml, "routes: [{ path: /, respond: { body: hi } }]\n");
    must(link, ["check", "--config", yaml], { env: bare });
    expect(JSON.parse(must(link, ["schema"], { env: bare }))).toMatchObject({ title: "Titan configuration" });
  });

  it("serves a proxied request soon after its start, and drains on SIGTERM", async () => {
    const backend = await startBackend({ name: "behind" });
    const [port, admin] = [await freePort(), await freePort()];
    const config = join(work.path, "serve.json");
    writeFileSync(
      config,
      JSON.stringify({
        server: { host: "127.0.0.1", port },
        metrics: { port: admin },
        upstreams: [{ name: "b", backends: [`127.0.0.1:${backend.port}`] }],
        routes: [{ path: "/*", upstream: "b" }],
      }),
    );
    const times: number[] = [];
    for (let i = 0; i < 3; i++) {
      const code = await serving(
        titan,
        ["serve", "--config", config],
        { url: `http://127.0.0.1:${port}/_health`, env: cleanEnvironment(bare) },
        async ({ milliseconds }) => {
          times.push(milliseconds);
          expect((await fetch(`http://127.0.0.1:${port}/x`)).status).toBe(200);
        },
      );
      expect(code).toBe(0);
    }
    await backend.close();
    // 300 ms is the aim on a quiet machine with a release addon (docs/performance.md); a debug addon on a busy one may take longer.
    process.stdout.write(`bundle: serving after ${times.map(Math.round).join(", ")} ms\n`);
    expect(Math.min(...times)).toBeLessThan(5000);
  });

  it("runs hooks of titan.config.ts in their own thread", async () => {
    const [port, admin] = [await freePort(), await freePort()];
    const config = join(work.path, "hooks.config.ts");
    writeFileSync(
      config,
      `import { defineConfig, defineHook } from "@titan-gateway/titan";
       export default defineConfig({
         server: { host: "127.0.0.1", port: ${port} },
         metrics: { port: ${admin} },
         hooks: { hello: defineHook({ reads: { headers: ["x-name"] }, onRequest: (ctx) => ctx.respond(200, "hello " + ctx.request.headers.get("x-name")) }) },
         routes: [{ path: "/*", respond: {}, middleware: ["hello"] }],
       });`,
    );
    await serving(
      titan,
      ["serve", "--config", config],
      { url: `http://127.0.0.1:${port}/_health`, env: cleanEnvironment(bare) },
      async () => {
        const answer = await fetch(`http://127.0.0.1:${port}/x`, { headers: { "x-name": "you" } });
        expect(await answer.text()).toBe("hello you");
      },
    );
  });

  it("is not larger than it has to be", () => {
    expect(statSync(join(out, `${name}.tar.gz`)).size).toBeLessThan(80 << 20);
  });
});
