import { Command } from "commander";
import { TitanError } from "../errors.ts";
import { count, err, print, printJson, say } from "./io.ts";
import { configOption, jsonOption, strictOption } from "./options.ts";

/** `titan check` */
export function check(): Command {
  return new Command("check")
    .description(
      "Validate a configuration, with its certificates and the names of its backends: every problem at once, each with its place. Nothing is started.",
    )
    .argument("[file]", "configuration file; default: the same search as serve's")
    .addOption(configOption())
    .addOption(strictOption())
    .option("--print", "print the resolved configuration, defaults filled in and secrets hidden")
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
Examples:
  titan check titan.yaml
  titan check --strict --json titan.yaml | jq '.issues[].message'`,
    )
    .action(async (argument: string | undefined, options: CheckOptions) => {
      const { inspect } = await import("./load.ts");
      const result = await inspect(argument ?? options.config, { ...options, thorough: true });
      const errors = result.issues.filter((issue) => issue.severity === "error").length;
      if (errors > 0) process.exitCode = 2;
      const { redact } = await import("../admin/api.ts");
      if (options.json) {
        const { file = null, issues } = result;
        printJson({
          ok: errors === 0,
          file,
          issues,
          ...(options.print && result.ok && { config: redact(result.config) }),
        });
        return;
      }
      const { formatIssues } = await import("../config/index.ts");
      if (result.issues.length > 0) say(formatIssues(result.issues, { color: err.isColorSupported }));
      if (errors > 0) return;
      if (!result.ok) throw new TitanError("TITAN_CONFIG_INVALID", "The configuration was refused without a reason.");
      if (options.print) print(JSON.stringify(redact(result.config), null, 2));
      else {
        const { routes, upstreams } = result.config;
        say(
          `${err.green("ok")} ${result.file ?? "built-in demo"}: ${count(routes.length, "route")}, ${count(upstreams.length, "upstream")}`,
        );
      }
    });
}

interface CheckOptions {
  config?: string;
  strict?: boolean;
  print?: boolean;
  json?: boolean;
}
