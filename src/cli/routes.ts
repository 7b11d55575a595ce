import { Command } from "commander";
import type { RouteRow } from "../gateway/types.ts";
import { print, printJson, table } from "./io.ts";
import { configOption, jsonOption, pidOption, socketOption } from "./options.ts";

/** `titan routes` */
export function routes(): Command {
  return new Command("routes")
    .description("Print the routing table, in the order of the file.")
    .addOption(configOption())
    .option("--live", "ask a running Titan instead of a file")
    .addOption(pidOption())
    .addOption(socketOption())
    .addOption(jsonOption())
    .addHelpText(
      "after",
      "\nExamples:\n  titan routes --config titan.yaml\n  titan routes --live --json | jq '.[].name'",
    )
    .action(async (options: RoutesOptions) => {
      const rows = await rowsOf(options);
      if (options.json) printJson(rows);
      else {
        const cells = rows.map((row) => [
          row.name,
          row.methods.join(",") || "any",
          row.hosts.join(",") || "any",
          row.path,
          row.to,
          row.policies.join(",") || "-",
        ]);
        print(table(["ROUTE", "METHODS", "HOSTS", "PATH", "TO", "POLICIES"], cells));
      }
    });
}

interface RoutesOptions {
  config?: string;
  live?: boolean;
  pid?: number;
  socket?: string;
  json?: boolean;
}

async function rowsOf(options: RoutesOptions): Promise<RouteRow[]> {
  if (options.live || options.pid !== undefined || options.socket !== undefined) {
    const { ask } = await import("../admin/client.ts");
    return (await ask(options, "GET", "/_admin/routes")) as RouteRow[];
  }
  const { load } = await import("./load.ts");
  const { routeRows } = await import("../gateway/routes.ts");
  return routeRows((await load(options.config)).native);
}
