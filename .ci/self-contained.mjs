// `npm run bundle`: one folder that runs on a machine with neither Node.js nor npm, and its tarball with checksum and SBOM, in bundle/.
//
//   node .ci/self-contained.mjs [--node FILE] [--addon FILE] [--out DIR] [--no-tarball]
//
// bin/titan          starts lib/node with dist/titan.js
// dist/titan.js      every command in one file, read when it starts: an upgrade under a draining process can't mix versions
// lib/               Node.js' own binary, the addon, and the C++ runtime that Node.js needs
// presets/ schema/   data
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { notices } from "./notices.mjs";
import { manifest, root, thisPlatform } from "./platforms.mjs";
import { bundledPackages, linkedCrates, sbom } from "./sbom.mjs";
import { buildAddon, fail, say } from "./setup.mjs";

const { values } = parseArgs({
  options: {
    node: { type: "string", default: process.execPath },
    addon: { type: "string" },
    out: { type: "string", default: "bundle" },
    tarball: { type: "boolean", default: true },
  },
  allowNegative: true,
});
const platform = thisPlatform();
if (platform?.os !== "linux") fail("the self-contained bundle is made on Linux, for the platform that it is made on.");
const node = realpathSync(values.node);
if (values.addon === undefined) buildAddon("dist");
const addon = resolve(values.addon ?? join(root, platform.file));
if (!existsSync(addon)) fail(`there is no addon ${addon}.`);

const name = `titan-${manifest.version}-${platform.suffix}`;
const out = resolve(root, values.out);
const folder = join(out, name);
rmSync(folder, { recursive: true, force: true });
for (const part of ["bin", "dist", "lib"]) mkdirSync(join(folder, part), { recursive: true });

const { metafile } = await build({
  absWorkingDir: root,
  // A thread of hooks has its own program; `titan.config.ts` gets `defineConfig` and its like from a small one.
  entryPoints: { titan: "src/cli/main.ts", "hooks/worker": "src/hooks/worker.ts", define: "src/config/define.ts" },
  outdir: join(folder, "dist"),
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node20",
  mainFields: ["module", "main"],
  minify: true,
  keepNames: true,
  legalComments: "none",
  metafile: true,
  define: { __TITAN_VERSION__: JSON.stringify(manifest.version) },
  banner: {
    js: 'import{createRequire as __titanRequire}from"node:module";const require=__titanRequire(import.meta.url);',
  },
  plugins: [{ name: "addon", setup: loadAddonFromLib }],
  logLevel: "warning",
});
writeFileSync(join(folder, "dist/package.json"), '{"type":"module"}\n');

copyFileSync(join(root, "deploy/bundle/titan"), join(folder, "bin/titan"));
chmodSync(join(folder, "bin/titan"), 0o755);
copyFileSync(addon, join(folder, "lib/titan.node"));
copyFileSync(node, join(folder, "lib/node"));
chmodSync(join(folder, "lib/node"), 0o755);
const nodeVersion = execFileSync(node, ["--version"], { encoding: "utf8" }).trim().slice(1);
addCxxRuntime();

for (const path of ["presets", "schema", "LICENSE", "README.md", "deploy/systemd"]) {
  if (existsSync(join(root, path))) cpSync(join(root, path), join(folder, path), { recursive: true });
}
writeFileSync(join(folder, "VERSION"), `${manifest.version}\n`);
const npm = bundledPackages(metafile);
writeFileSync(join(folder, "THIRD_PARTY_NOTICES.txt"), notices(npm));
const nodeHash = sha256(node);
writeFileSync(
  join(folder, "sbom.cdx.json"),
  `${JSON.stringify(sbom({ npm, crates: linkedCrates(platform.triple), node: { version: nodeVersion, sha256: nodeHash }, triple: platform.triple }), null, 1)}\n`,
);
say(`made ${folder} (Node.js ${nodeVersion})`);

if (values.tarball) {
  const tarball = join(out, `${name}.tar.gz`);
  const epoch =
    process.env.SOURCE_DATE_EPOCH ?? String(Math.floor(statSync(join(root, "package.json")).mtimeMs / 1000));
  // Sorted, without owners and with one date: the same inputs give the same bytes.
  const tar = [
    "--sort=name",
    "--owner=0",
    "--group=0",
    "--numeric-owner",
    `--mtime=@${epoch}`,
    "-C",
    out,
    "-cf",
    "-",
    name,
  ];
  execFileSync("sh", ["-c", `tar "$@" | gzip -n -6 > "$0"`, tarball, ...tar], { stdio: "inherit" });
  writeFileSync(`${tarball}.sha256`, `${sha256(tarball)}  ${name}.tar.gz\n`);
  copyFileSync(join(folder, "sbom.cdx.json"), join(out, `${name}.cdx.json`));
  say(`made ${tarball} (${(statSync(tarball).size / 1048576).toFixed(1)} MiB)`);
}
process.stdout.write(`${folder}\n`);

/** `#native` is the generated loader, which looks for packages; here there is one place. */
function loadAddonFromLib(plugin) {
  const names = [...readFileSync(join(root, "index.js"), "utf8").matchAll(/^export \{ (\w+) \}/gm)].map(
    ([, name]) => name,
  );
  plugin.onResolve({ filter: /^#native$/ }, () => ({ path: "addon", namespace: "addon" }));
  plugin.onLoad({ filter: /.*/, namespace: "addon" }, () => ({
    resolveDir: root,
    contents: [
      'import { existsSync } from "node:fs";',
      'import { fileURLToPath } from "node:url";',
      // From dist/titan.js or dist/hooks/worker.js.
      'const beside = ["../lib/titan.node", "../../lib/titan.node"].map((path) => fileURLToPath(new URL(path, import.meta.url)));',
      "const file = process.env.NAPI_RS_NATIVE_LIBRARY_PATH || beside.find(existsSync);",
      "const addon = require(file);",
      ...names.map((name) => `export const ${name} = addon.${name};`),
    ].join("\n"),
  }));
}

/**
 * Node.js' official binary needs libstdc++ and libgcc_s, which a minimal system may not have. They are put beside it, and the binary told
 * to look there; without patchelf they stay the system's business, and that is said.
 */
function addCxxRuntime() {
  const told = execFileSync("ldd", [node], { encoding: "utf8" });
  const needed = [...told.matchAll(/(libstdc\+\+\.so\.6|libgcc_s\.so\.1) => (\S+)/g)];
  if (needed.length === 0) return;
  const patched = spawnSync("patchelf", ["--set-rpath", "$ORIGIN", join(folder, "lib/node")], { stdio: "ignore" });
  if (patched.status !== 0) {
    say("patchelf is not installed: the bundle will need libstdc++.so.6 and libgcc_s.so.1 of the system.");
    return;
  }
  for (const [, library, path] of needed) copyFileSync(realpathSync(path), join(folder, "lib", library));
}

function sha256(file) {
  return createHash("sha256").update(readFileSync(file)).digest("hex");
}
