import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { Command } from "commander";
import { print } from "./io.ts";
import { jsonOption } from "./options.ts";

/** `titan schema` */
export function schema(): Command {
  return new Command("schema")
    .description("Print the JSON Schema of the configuration, for editors and other tools.")
    .addOption(jsonOption())
    .addHelpText("after", '\nExamples:\n  titan schema > titan.schema.json   # then "$schema": "./titan.schema.json"')
    .action(async () => {
      // The package knows itself by its name, wherever the bundle put this file.
      const path = createRequire(import.meta.url).resolve("@titan-gateway/titan/schema");
      print(await readFile(path, "utf8"));
    });
}
