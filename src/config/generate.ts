/** Generated files with their content: written by `npm run generate`, compared with the committed ones by a test. */
import { readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { testFile } from "../testing/cases/schema.ts";
import { document, jsonSchema } from "./json-schema.ts";
import { referencePage, withOptions } from "./reference.ts";

/** Path in the repository → content. */
export function generatedFiles(repository: string): Record<string, string> {
  const template = readFileSync(resolve(repository, "docs/templates/configuration.md"), "utf8");
  const pages = readdirSync(resolve(repository, "docs/middleware")).map((name) => `docs/middleware/${name}`);
  return {
    ...Object.fromEntries(pages.map((page) => [page, withOptions(readFileSync(resolve(repository, page), "utf8"))])),
    "schema/titan.schema.json": `${JSON.stringify(jsonSchema(), null, 1)}\n`,
    "schema/titan-test.schema.json": `${JSON.stringify(document(testFile, "titan-test.schema.json", "Titan test cases", "Cases for `titan test`. Generated from src/testing/cases/schema.ts."), null, 1)}\n`,
    "docs/configuration.md": referencePage(template),
  };
}
