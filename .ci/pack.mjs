// `npm run pack`: the packages as they are published, as tarballs in out/: the main one and one for each platform whose addon is there.
//
//   node .ci/pack.mjs [--addons DIR] [--out DIR] [--all]
//
// Addons are looked for in DIR and in the repository (this machine's own build). `--all` fails where one is missing (releases).
// The main package is staged apart from the repository, because what is published differs: exact optional dependencies instead of an addon
// of this machine, and nothing that only development needs.
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { manifest, platforms, root } from "./platforms.mjs";
import { buildTypes } from "./setup.mjs";

const { values } = parseArgs({
  options: {
    addons: { type: "string" },
    out: { type: "string", default: "out" },
    all: { type: "boolean", default: false },
  },
});
const out = resolve(root, values.out);
mkdirSync(out, { recursive: true });
buildTypes();

const staging = mkdtempSync(join(tmpdir(), "titan-pack-"));
try {
  const packed = [pack(stageMain())];
  const missing = [];
  for (const platform of platforms) {
    const addon = [values.addons && join(resolve(values.addons), platform.file), join(root, platform.file)].find(
      (file) => file && existsSync(file),
    );
    if (!addon) missing.push(platform.suffix);
    else packed.push(pack(stagePlatform(platform, addon)));
  }
  if (missing.length > 0) {
    process.stderr.write(`no addon for ${missing.join(", ")}${values.all ? "" : ": their packages are left out"}\n`);
    if (values.all) process.exitCode = 1;
  }
  for (const file of packed) process.stdout.write(`${join(out, file)}\n`);
} finally {
  rmSync(staging, { recursive: true, force: true });
}

function stageMain() {
  const folder = join(staging, "titan");
  for (const path of manifest.files.filter((path) => !/[*!]/.test(path))) {
    if (existsSync(join(root, path)))
      cpSync(join(root, path), join(folder, path), {
        recursive: true,
        filter: (file) => !/\.map$|\.test\.d\.ts$/.test(file),
      });
  }
  const { scripts: _scripts, devDependencies: _dev, napi: _napi, ...published } = manifest;
  published.files = manifest.files.filter((path) => !path.endsWith(".node"));
  published.optionalDependencies = Object.fromEntries(
    platforms.map((platform) => [platform.package, manifest.version]),
  );
  published.publishConfig = { access: "public", provenance: true };
  writeFileSync(join(folder, "package.json"), `${JSON.stringify(published, null, 2)}\n`);
  return folder;
}

function stagePlatform(platform, addon) {
  const folder = join(staging, platform.suffix);
  cpSync(join(root, "npm", platform.suffix), folder, { recursive: true });
  cpSync(addon, join(folder, platform.file));
  cpSync(join(root, "LICENSE"), join(folder, "LICENSE"));
  const found = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).version;
  if (found !== manifest.version)
    throw new Error(`npm/${platform.suffix} has version ${found}, not ${manifest.version}: run npm run generate`);
  return folder;
}

function pack(folder) {
  const told = execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", out], {
    cwd: folder,
    encoding: "utf8",
    shell: process.platform === "win32",
  });
  return Object.values(JSON.parse(told))[0].filename;
}
