#!/usr/bin/env node
/** The `titan` command. Each subcommand is one file; what a subcommand needs is imported when it runs, so that starting is quick. */
import { Command, CommanderError } from "commander";
import { TitanError } from "../errors.ts";
import { version } from "../version.ts";
import { check } from "./check.ts";
import { completion } from "./completion.ts";
import { drain } from "./drain.ts";
import { explain } from "./explain.ts";
import { health } from "./health.ts";
import { init } from "./init.ts";
import { fail } from "./io.ts";
import { reload } from "./reload.ts";
import { routes } from "./routes.ts";
import { schema } from "./schema.ts";
import { serve } from "./serve.ts";
import { status } from "./status.ts";
import { test } from "./test.ts";
import { versionCommand } from "./version.ts";

/** The whole command tree. */
export function program(): Command {
  const titan = new Command("titan")
    .description("API gateway: a Rust data plane with TypeScript configuration, hooks and tooling.")
    .version(version, "-V, --version")
    .helpCommand("help [command]", "show help of a command")
    .showSuggestionAfterError()
    .addHelpText(
      "after",
      `
Without a command, titan serves: \`titan --config titan.yaml\` is \`titan serve --config titan.yaml\`.

Examples:
  titan                                        serve ./titan.* or the built-in demo
  titan serve --upstream http://127.0.0.1:3000 put a gateway before one server
  titan check titan.yaml                       every problem of a configuration, each with its place
  titan explain GET https://example.com/api/x  which route a request takes, and why
  titan test                                   run the test cases of a configuration

Exit codes: 0 done, 1 failed at run time, 2 usage or configuration.`,
    );
  const commands = [
    serve(),
    check(),
    explain(),
    test(),
    routes(),
    reload(),
    status(),
    drain(),
    health(),
    init(),
    schema(),
    completion(() => titan),
    versionCommand(),
  ];
  for (const command of commands)
    titan.addCommand(command.showSuggestionAfterError().showHelpAfterError("(--help shows examples)"));
  return titan;
}

/** A first argument that is an option of serve's means serve. */
function withDefault(args: readonly string[]): string[] {
  const first = args[0];
  const own = ["-h", "--help", "-V", "--version"];
  return first === undefined || (first.startsWith("-") && !own.includes(first)) ? ["serve", ...args] : [...args];
}

/** Runs a command line (without `node titan`). */
export async function main(args: readonly string[]): Promise<void> {
  // A reader that went away (`titan routes | head`) is no error of ours.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
    });
  }
  const titan = program();
  for (const command of [titan, ...titan.commands]) command.exitOverride();
  try {
    await titan.parseAsync(withDefault(args), { from: "user" });
  } catch (error) {
    // Commander has said it already; 0 is help or the version.
    const json = args.includes("--json");
    if (!(error instanceof CommanderError)) await fail(error, json);
    else if (error.exitCode !== 0) {
      process.exitCode = 2;
      if (json) await fail(new TitanError("TITAN_USAGE", error.message.replace(/^error: /, "")), json);
    }
  }
}

await main(process.argv.slice(2));
