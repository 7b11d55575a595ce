/** Answers of the data plane for people. */
import type { ExplainedAction, ExplainRequest, Explanation } from "../gateway/types.ts";
import { out, table } from "./io.ts";

type Json = Record<string, unknown>;

/** `titan status` */
export function describeStatus(status: Json): string {
  const lines = [
    `${out.bold("titan")} ${status.version} (pid ${status.pid}) is ${status.state}, generation ${status.generation}`,
  ];
  if (status.file) lines.push(`configuration  ${status.file}`);
  lines.push(`uptime         ${status.uptime_seconds} s`);
  const listeners = (status.listeners ?? []) as Json[];
  if (listeners.length > 0) {
    lines.push(
      "",
      table(
        ["LISTENER", "ADDRESS", "OPEN"],
        listeners.map((one) => [text(one.name), text(one.address), text(one.open)]),
      ),
    );
  }
  const backends = ((status.upstreams ?? []) as Json[]).flatMap((upstream) =>
    ((upstream.backends ?? upstream.endpoints ?? []) as Json[]).map((backend): string[] => [
      text(upstream.name),
      text(backend.backend ?? backend.address),
      text(backend.state ?? (backend.healthy ? "healthy" : "unhealthy")),
      text(backend.in_flight),
      text(backend.connections),
    ]),
  );
  if (backends.length > 0)
    lines.push("", table(["UPSTREAM", "BACKEND", "STATE", "IN FLIGHT", "CONNECTIONS"], backends));
  return lines.join("\n");
}

/** `titan explain` */
export function describe(answer: Explanation, request: ExplainRequest): string {
  const lines = [`${out.bold(`${request.method} ${request.target}`)} for ${request.host}`];
  const add = (name: string, value: string) => lines.push(`  ${name.padEnd(11)}${value}`);
  if (answer.outcome === "refused") {
    lines.push(`${out.red("400")} ${answer.message}`);
    return lines.join("\n");
  }
  if (answer.path !== request.target.split("?", 1)[0]) add("matched as", answer.path);
  if (answer.preflight) add("preflight", "matched on the method that it asks about; answered by Titan");
  if (answer.outcome === "no_route") lines.push(`${out.red("404")} no route matches`);
  if (answer.outcome === "method_not_allowed") lines.push(`${out.red("405")} Allow: ${answer.allow}`);
  if (answer.route) {
    const { name, pattern, params, action } = answer.route;
    lines.push(`${out.green("route")} ${out.bold(name)} (${pattern})`);
    for (const [param, value] of params) add(`:${param}`.replace(":*", "*"), value);
    for (const [label, value] of actionLines(action)) add(label, value);
  }
  if (answer.policies.length > 0) {
    lines.push("", "Policies, in the order in which they run:");
    for (const [i, { name, type }] of answer.policies.entries()) {
      lines.push(`  ${i + 1}. ${type}${name === type ? "" : `  ${out.dim(name)}`}`);
    }
  }
  const others = answer.considered.filter(({ taken }) => !taken);
  if (others.length > 0) {
    lines.push("", "Other routes with this host and path:");
    for (const { route, pattern, because } of others) lines.push(`  ${route} (${pattern}): ${because}`);
  }
  return lines.join("\n");
}

function actionLines(action: ExplainedAction): [string, string][] {
  switch (action.type) {
    case "redirect":
      return [["redirects", `${action.status} ${action.location}`]];
    case "fixed":
      return [["answers", String(action.status)]];
    case "refused":
      return [["refused", action.message]];
    case "proxy":
      return [
        ["upstream", action.upstream],
        ...action.split.map(([upstream, weight]): [string, string] => ["  share", `${upstream}: ${weight}`]),
        ["forwards", action.target],
        ...action.backends.map(({ backend, weight, host, state }): [string, string] => [
          "backend",
          `${backend}  weight ${weight}  Host: ${host}${state === "up" || state === "unresolved" ? "" : `  ${out.yellow(state)}`}`,
        ]),
      ];
  }
}

function text(value: unknown): string {
  if (value === undefined || value === null) return "-";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
