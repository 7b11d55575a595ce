import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { apiReference } from "../../.ci/api-reference.mjs";
import { generatedFiles } from "../../src/config/generate.ts";
import { jsonSchema } from "../../src/config/json-schema.ts";
import { referenceTables } from "../../src/config/reference.ts";
import { root } from "../../src/config/schema/root.ts";

const repository = join(dirname(fileURLToPath(import.meta.url)), "../..");

describe("generated files", () => {
  it.each(Object.entries(generatedFiles(repository)))("%s is up to date (npm run generate)", (path, content) => {
    expect(readFileSync(join(repository, path), "utf8")).toBe(content);
  });

  it("docs/api.md is up to date (npm run generate), and no public item of the package is without a description", () => {
    const { files, missing } = apiReference();
    for (const [path, content] of Object.entries(files))
      expect(readFileSync(join(repository, path), "utf8")).toBe(content);
    expect(missing).toEqual([]);
  }, 300_000);

  it("hold every key of the root, and refer only to what they define", () => {
    const schema = jsonSchema() as { properties: object; definitions: object };
    expect(Object.keys(schema.properties)).toEqual(expect.arrayContaining(Object.keys(root.fields)));
    for (const [, name] of JSON.stringify(schema).matchAll(/"#\/definitions\/([^"]+)"/g))
      expect(Object.keys(schema.definitions)).toContain(name);
  });

  it("describe every key", () => {
    const blank = referenceTables()
      .split("\n")
      .filter((line) => /^\| `.*\|\s*\|$/.test(line));
    expect(blank).toEqual([]);
  });
});
