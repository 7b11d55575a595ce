import { Command } from "commander";
import { messageOf } from "../errors.ts";
import { version } from "../version.ts";
import { print, printJson } from "./io.ts";
import { jsonOption } from "./options.ts";

/** `titan version` */
export function versionCommand(): Command {
  return new Command("version")
    .description("Print the versions of Titan, its native part and Node.js.")
    .addOption(jsonOption())
    .addHelpText("after", "\nExamples:\n  titan version --json")
    .action(async (options: { json?: boolean }) => {
      const { loadNative } = await import("../native.ts");
      const native = await loadNative().then((addon) => addon.version(), messageOf);
      const versions = {
        titan: version,
        native,
        node: process.versions.node,
        platform: `${process.platform}-${process.arch}`,
      };
      if (options.json) printJson(versions);
      else print(`titan ${version} (native ${native}, Node.js ${versions.node}, ${versions.platform})`);
    });
}
