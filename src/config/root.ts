/** Where the package's data files are. */
import { existsSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** Folder of the package: the one with the published schema, above the sources, the compiled files or the bundle. */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (let up = 0; up < 4; up++) {
    if (existsSync(resolve(folder, "schema/titan.schema.json"))) return folder;
    folder = dirname(folder);
  }
  return folder;
}
