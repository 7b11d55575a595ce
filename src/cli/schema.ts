import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { Argument, Command } from "commander";
import { packageRoot } from "../config/root.ts";
import { print } from "./io.ts";
import { jsonOption } from "./options.ts";

/** `titan schema` */
export function schema(): Command {
  return new Command("schema")
    .description("Print the JSON Schema of the configuration, or of files of test cases, for editors and other tools.")
    .addArgument(new Argument("[of]", "of what").choices(["config", "test"]).default("config"))
    .addOption(jsonOption())
    .addHelpText("after", '\nExamples:\n  titan schema > titan.schema.json   # then "$schema": "./titan.schema.json"')
    .action(async (of: "config" | "test") => {
      const path = resolve(packageRoot(), of === "test" ? "schema/titan-test.schema.json" : "schema/titan.schema.json");
      print(await readFile(path, "utf8"));
    });
}
