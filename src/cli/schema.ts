import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { Command } from "commander";
import { packageRoot } from "../config/root.ts";
import { print } from "./io.ts";
import { jsonOption } from "./options.ts";

/** `titan schema` */
export function schema(): Command {
  return new Command("schema")
    .description("Print the JSON Schema of the configuration, for editors and other tools.")
    .addOption(jsonOption())
    .addHelpText("after", '\nExamples:\n  titan schema > titan.schema.json   # then "$schema": "./titan.schema.json"')
    .action(async () => {
      const path = resolve(packageRoot(), "schema/titan.schema.json");
      print(await readFile(path, "utf8"));
    });
}
