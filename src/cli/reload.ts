import { Command } from "commander";
import { err, printJson, say } from "./io.ts";
import { jsonOption, pidOption, socketOption } from "./options.ts";

/** `titan reload` */
export function reload(): Command {
  return new Command("reload")
    .description(
      "Make a running Titan read its configuration again; one with an error is refused and the old one stays.",
    )
    .addOption(pidOption())
    .addOption(socketOption())
    .addOption(jsonOption())
    .addHelpText("after", "\nExamples:\n  titan reload\n  titan reload --pid 4711 && titan status --pid 4711")
    .action(async (options: { pid?: number; socket?: string; json?: boolean }) => {
      const { ask } = await import("../admin/client.ts");
      const answer = (await ask(options, "POST", "/_admin/reload")) as { generation: number; file?: string };
      if (options.json) printJson(answer);
      else say(`${err.green("ok")} ${answer.file ?? "the configuration"} is served as generation ${answer.generation}`);
    });
}
