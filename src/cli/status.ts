import { Command } from "commander";
import type { RunningStatus } from "../admin/api.ts";
import { print, printJson } from "./io.ts";
import { jsonOption, pidOption, socketOption } from "./options.ts";

/** `titan status` */
export function status(): Command {
  return new Command("status")
    .description("Show a running Titan: state, listeners, upstreams and the health of each backend.")
    .addOption(pidOption())
    .addOption(socketOption())
    .addOption(jsonOption())
    .addHelpText("after", "\nExamples:\n  titan status\n  titan status --json | jq .upstreams")
    .action(async (options: { pid?: number; socket?: string; json?: boolean }) => {
      const { ask } = await import("../admin/client.ts");
      const answer = (await ask(options, "GET", "/_admin/status")) as RunningStatus;
      if (options.json) printJson(answer);
      else {
        const { describeStatus } = await import("./explanation.ts");
        print(describeStatus(answer));
      }
    });
}
