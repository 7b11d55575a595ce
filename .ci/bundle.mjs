// Bundles src/ into dist/: one file to read at start instead of a few hundred from node_modules. Types come from tsc (`npm run build`).
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { notices } from "./notices.mjs";
import { bundledPackages } from "./sbom.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

const { metafile, outputFiles } = await build({
  absWorkingDir: root,
  entryPoints: {
    index: "src/index.ts",
    define: "src/config/define.ts",
    "cli/main": "src/cli/main.ts",
    "hooks/worker": "src/hooks/worker.ts",
    "testing/index": "src/testing/index.ts",
  },
  outdir: "dist",
  chunkNames: "chunks/[name]-[hash]",
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node20",
  // A package's ESM build can be taken apart; a UMD one cannot.
  mainFields: ["module", "main"],
  external: ["#native"],
  sourcemap: "linked",
  sourcesContent: false,
  minifySyntax: true,
  legalComments: "linked",
  define: { __TITAN_VERSION__: JSON.stringify(version) },
  // Bundled CommonJS packages call require() for Node's own modules.
  banner: {
    js: 'import{createRequire as __titanRequire}from"node:module";const require=__titanRequire(import.meta.url);',
  },
  metafile: true,
  write: false,
  logLevel: "warning",
});

// Each file takes its place at once, and what is left over goes last: a Titan that runs from dist/ imports its chunks when it needs them.
const dist = join(root, "dist");
const written = new Set();
function place(path, contents, mode = 0o644) {
  mkdirSync(dirname(path), { recursive: true });
  const fresh = `${path}.new-${process.pid}`;
  writeFileSync(fresh, contents);
  chmodSync(fresh, mode);
  renameSync(fresh, path);
  written.add(path);
}
for (const { path, contents } of outputFiles) place(path, contents, path === join(dist, "cli/main.js") ? 0o755 : 0o644);
place(join(dist, "THIRD_PARTY_NOTICES.txt"), notices(bundledPackages(metafile)));
for (const name of readdirSync(dist, { recursive: true })) {
  const path = join(dist, name);
  // Declarations are tsc's.
  if (/\.(js|js\.map|txt)$/.test(name) && !written.has(path) && existsSync(path)) rmSync(path);
}
