import { Command } from "commander";
import { TitanError } from "../errors.ts";
import { err, printJson, say } from "./io.ts";
import { jsonOption, pidOption, socketOption } from "./options.ts";

/** `titan drain` */
export function drain(): Command {
  return new Command("drain")
    .description(
      "Take one backend of a running Titan out of traffic: no new requests, those in flight end. Without a backend, Titan itself " +
        "finishes what is in flight and ends, as with SIGTERM.",
    )
    .argument("[backend]", "upstream/host:port, as `titan status` shows it")
    .option("--undo", "give the backend traffic again")
    .addOption(pidOption())
    .addOption(socketOption())
    .addOption(jsonOption())
    .addHelpText(
      "after",
      "\nExamples:\n  titan drain api/10.0.0.7:3000\n  titan drain api/10.0.0.7:3000 --undo\n  titan drain\n  titan drain --socket /run/titan/4711.sock",
    )
    .action(async (backend: string | undefined, options: Options) => {
      const { ask } = await import("../admin/client.ts");
      if (options.undo && backend === undefined) {
        throw new TitanError("TITAN_USAGE", "--undo is for a backend: a Titan that ends cannot be called back.");
      }
      const query = new URLSearchParams();
      if (backend !== undefined) query.set("backend", backend);
      if (options.undo) query.set("undo", "");
      const answer = (await ask(options, "POST", `/_admin/drain?${query}`)) as { endpoints?: number };
      if (options.json) printJson(answer);
      else if (backend === undefined) say(`${err.green("ok")} draining`);
      else
        say(
          `${err.green("ok")} ${backend} ${options.undo ? "takes traffic again" : "drains"} (endpoints: ${answer.endpoints})`,
        );
    });
}

interface Options {
  undo?: boolean;
  pid?: number;
  socket?: string;
  json?: boolean;
}
