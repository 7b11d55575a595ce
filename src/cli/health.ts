import { Command } from "commander";
import { messageOf, TitanError } from "../errors.ts";
import { print, printJson } from "./io.ts";
import { integer, jsonOption } from "./options.ts";

/** `titan health` */
export function health(): Command {
  return new Command("health")
    .description("Ask a gateway for its health: exit code 0 when healthy. For container health checks; needs no curl.")
    .argument("[url]", "base URL", "http://127.0.0.1:8080")
    .option("--path <path>", "health path", "/_health")
    .option("--timeout <ms>", "time to wait, milliseconds", integer(1, 600_000), 3_000)
    .addOption(jsonOption())
    .addHelpText("after", "\nExamples:\n  titan health\n  titan health http://127.0.0.1:9000 --path /_ready")
    .action(async (base: string, options: { path: string; timeout: number; json?: boolean }) => {
      const url = URL.canParse(options.path, base) ? new URL(options.path, base) : undefined;
      if (!url) throw new TitanError("TITAN_USAGE", `"${base}" is not a URL such as http://127.0.0.1:8080.`);
      let response: Response;
      let text: string;
      try {
        response = await fetch(url, { signal: AbortSignal.timeout(options.timeout) });
        text = (await response.text()).trim();
      } catch (cause) {
        const late = cause instanceof DOMException && cause.name === "TimeoutError";
        const why = cause instanceof Error && cause.cause instanceof Error ? cause.cause.message : messageOf(cause);
        throw late
          ? new TitanError("TITAN_TIMEOUT", `${url} did not answer within ${options.timeout} ms.`, { cause })
          : new TitanError("TITAN_NOT_RUNNING", `${url} cannot be reached: ${why}.`, { cause });
      }
      if (!response.ok) process.exitCode = 1;
      if (options.json) printJson({ healthy: response.ok, status: response.status, body: parse(text) });
      else print(text || String(response.status));
    });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
