import { Command } from "commander";
import { err, printJson, say } from "./io.ts";
import { jsonOption, pidOption, socketOption } from "./options.ts";

/** `titan drain` */
export function drain(): Command {
  return new Command("drain")
    .description("Make a running Titan finish what is in flight and end, as SIGTERM does.")
    .addOption(pidOption())
    .addOption(socketOption())
    .addOption(jsonOption())
    .addHelpText("after", "\nExamples:\n  titan drain\n  titan drain --socket /run/titan/4711.sock")
    .action(async (options: { pid?: number; socket?: string; json?: boolean }) => {
      const { ask } = await import("../admin/client.ts");
      const answer = await ask(options, "POST", "/_admin/drain");
      if (options.json) printJson(answer);
      else say(`${err.green("ok")} draining`);
    });
}
