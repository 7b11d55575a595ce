// Writes the committed files that are made: schema/titan.schema.json and docs/configuration.md from the configuration's schema, docs/api.md from TSDoc, npm/ from package.json.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";
import { apiReference } from "./api-reference.mjs";
import { platformFiles } from "./platforms.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const script = join(root, ".cache", `generate-${process.pid}.mjs`);
await build({
  absWorkingDir: root,
  entryPoints: ["src/config/generate.ts"],
  outfile: script,
  bundle: true,
  format: "esm",
  platform: "node",
  packages: "external",
  logLevel: "warning",
});
try {
  const { generatedFiles } = await import(pathToFileURL(script).href);
  for (const [path, content] of Object.entries({
    ...generatedFiles(root),
    ...apiReference().files,
    ...platformFiles(),
  })) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
    process.stdout.write(`${path}\n`);
  }
} finally {
  rmSync(script);
}
