import { Command, Option } from "commander";
import { TitanError } from "../errors.ts";
import { configOption, integer, strictOption } from "./options.ts";

/** Options of `titan serve`. */
export interface ServeOptions {
  config?: string;
  upstream?: string;
  host?: string;
  port?: number;
  tls?: boolean;
  watch?: boolean;
  strict?: boolean;
  logLevel?: string;
  logFormat?: "auto" | "json" | "text";
  inspect?: string | true;
}

/** `titan serve` */
export function serve(): Command {
  return new Command("serve")
    .description("Serve a configuration, one upstream, or the built-in demo.")
    .addOption(configOption())
    .addOption(
      new Option("-u, --upstream <url>", "proxy everything to this URL, without a configuration file").conflicts(
        "config",
      ),
    )
    .addOption(new Option("-p, --port <port>", "port, instead of the configuration's").argParser(integer(0, 65_535)))
    .option("--host <address>", "address, instead of the configuration's")
    .addOption(new Option("--tls", "HTTPS with a certificate made for development").conflicts("config"))
    .option("-w, --watch", "reload when a file of the configuration changes")
    .addOption(strictOption())
    .addOption(
      new Option("--log-level <level>", "level, instead of the configuration's").choices([
        "trace",
        "debug",
        "info",
        "warn",
        "error",
      ]),
    )
    .addOption(new Option("--log-format <format>", "form of Titan's own log").choices(["auto", "json", "text"]))
    .option("--inspect [address]", "open Node's inspector for debuggers, on 127.0.0.1:9229 unless said otherwise")
    .addHelpText(
      "after",
      `
Examples:
  titan serve --config titan.yaml --watch
  titan serve --upstream http://127.0.0.1:3000 --port 8080
  titan serve --upstream https://api.example.com --tls --port 8443

Signals: SIGHUP reloads, SIGTERM and SIGINT drain and end, a second one ends at once.`,
    )
    .action(async (options: ServeOptions) => {
      if (options.tls && options.upstream === undefined) {
        throw new TitanError("TITAN_USAGE", "--tls makes a certificate for --upstream; a configuration names its own.");
      }
      // The addon's allocator asks for huge pages, which a gateway's many small objects fill badly: without them an idle connection takes a third less,
      // and a request hardly more CPU. It holds for the whole process, so a program that embeds Titan decides for itself.
      process.env.MIMALLOC_ALLOW_THP ??= "0";
      const { run } = await import("./serve-run.ts");
      await run(options);
    });
}
