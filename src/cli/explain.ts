import { isIP } from "node:net";
import { Command } from "commander";
import { TitanError } from "../errors.ts";
import { parseTarget } from "../gateway/target.ts";
import type { ExplainRequest, Explanation } from "../gateway/types.ts";
import { print, printJson } from "./io.ts";
import { configOption, jsonOption, pidOption, socketOption } from "./options.ts";

/** `titan explain` */
export function explain(): Command {
  return new Command("explain")
    .description(
      "Say which route a request takes and why: policies in order, the rewritten request, candidate backends.",
    )
    .argument("<method>", "request method")
    .argument("<url>", "URL, or a path")
    .option("-H, --header <field>", "request header `Name: value`; may be given again", collect, [])
    .option("--ip <address>", "client address", "127.0.0.1")
    .addOption(configOption())
    .option("--live", "ask a running Titan instead of a file")
    .addOption(pidOption())
    .addOption(socketOption())
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
Examples:
  titan explain GET https://api.example.com/users/7
  titan explain POST /orders -H 'Authorization: Bearer x' --config titan.yaml
  titan explain --live GET /orders`,
    )
    .action(async (method: string, url: string, options: ExplainOptions) => {
      const request = requestOf(method, url, options);
      const answer = await answerOf(request, options);
      if (options.json) printJson(answer);
      else {
        const { describe } = await import("./explanation.ts");
        print(describe(answer, request));
      }
    });
}

interface ExplainOptions {
  header: string[];
  ip: string;
  config?: string;
  live?: boolean;
  pid?: number;
  socket?: string;
  json?: boolean;
}

function collect(field: string, all: string[]): string[] {
  return [...all, field];
}

/** The request that a method, a URL and header fields describe. */
export function requestOf(method: string, url: string, options: Pick<ExplainOptions, "header" | "ip">): ExplainRequest {
  const parts = parseTarget(url);
  if (!parts) {
    throw new TitanError(
      "TITAN_USAGE",
      `"${url}" is neither a path such as /users nor a URL such as https://host/users.`,
    );
  }
  const headers = options.header.map((field): [string, string] => {
    const colon = field.indexOf(":");
    if (colon < 1) throw new TitanError("TITAN_USAGE", `"${field}" is not a header field such as "Accept: text/html".`);
    return [field.slice(0, colon).trim().toLowerCase(), field.slice(colon + 1).trim()];
  });
  if (!/^[\w!#$%&'*+.^`|~-]+$/.test(method)) throw new TitanError("TITAN_USAGE", `"${method}" is not a method.`);
  if (isIP(options.ip) === 0) throw new TitanError("TITAN_USAGE", `--ip "${options.ip}" is not an IP address.`);
  const host = headers.find(([name]) => name === "host")?.[1] ?? parts.host ?? "localhost";
  return {
    method: method.toUpperCase(),
    host,
    target: parts.target,
    headers: headers.filter(([name]) => name !== "host"),
    client_ip: options.ip,
  };
}

async function answerOf(request: ExplainRequest, options: ExplainOptions): Promise<Explanation> {
  if (options.live || options.pid !== undefined || options.socket !== undefined) {
    const { ask } = await import("../admin/client.ts");
    return (await ask(options, "POST", "/_admin/explain", request)) as Explanation;
  }
  const { load } = await import("./load.ts");
  const { explainUnder } = await import("../gateway/explain.ts");
  return explainUnder((await load(options.config)).native, request);
}
