/** Answers of the data plane for people. */
import type { RunningStatus } from "../admin/api.ts";
import { reachable } from "../gateway/target.ts";
import type { ExplainedAction, ExplainRequest, Explanation } from "../gateway/types.ts";
import { count, out, table } from "./io.ts";

/** `titan status` */
export function describeStatus(status: RunningStatus): string {
  const lines = [
    `${out.bold("titan")} ${status.version} (pid ${status.pid}) is ${status.state}, generation ${status.generation}`,
  ];
  if (status.file) lines.push(`configuration  ${status.file}`);
  if (status.admin) lines.push(`admin          http://${reachable(status.admin.address)}:${status.admin.port}`);
  lines.push(
    `up for         ${duration(status.uptime_ms)}, ${count(status.workers, "worker")}, ${count(status.routes, "route")}`,
  );
  if (status.snapshots > 1) {
    lines.push(`held           ${status.snapshots - 1} earlier configurations, by requests that began under them`);
  }
  const listeners = status.listeners.map(({ name, address, connections }) => [name, address, String(connections)]);
  lines.push("", table(["LISTENER", "ADDRESS", "CONNECTIONS"], listeners));
  const shards = status.shards.map(({ shard, connections }) => [String(shard), String(connections)]);
  if (shards.length > 0) lines.push("", table(["SHARD", "CONNECTIONS"], shards));
  const backends = status.upstreams.flatMap((upstream) =>
    upstream.backends.map((one) => [
      upstream.name,
      one.backend,
      one.status,
      String(one.in_flight),
      String(one.connections),
      String(one.waiting),
      `${one.failures} of ${one.requests}`,
      String(one.ejections),
      String(one.circuit_opened),
      one.last_check?.error ?? "",
    ]),
  );
  const heading = [
    "UPSTREAM",
    "BACKEND",
    "STATE",
    "IN FLIGHT",
    "CONNECTIONS",
    "WAITING",
    "FAILED",
    "EJECTED",
    "OPENED",
    "CHECK",
  ];
  if (backends.length > 0) lines.push("", table(heading, backends));
  lines.push("", ...limitLines(status));
  return lines.join("\n");
}

/** What each stage of a refusal is called in a sentence; a stage that is not here keeps its name. */
const REFUSED: Record<string, string> = {
  head_limit: "head too large",
  client_timeout: "too slow",
  body_limit: "body too large",
  circuit_open: "circuit open",
  pool_exhausted: "no free connection to the backend",
  overload: "shed, overloaded",
};

const CONNECTIONS = { limit: "connection limit", address: "limit of one address", shutdown: "shutting down" };

/** Only what was hit: a page of zeroes hides the one that matters. */
function limitLines({ limits, waiting, buffers }: RunningStatus): string[] {
  const rows: [string, string, number][] = [];
  for (const [reason, text] of Object.entries(CONNECTIONS)) {
    rows.push(["connections", text, limits.connections[reason as keyof typeof CONNECTIONS]]);
  }
  for (const [stage, count] of Object.entries(limits.requests)) rows.push(["requests", REFUSED[stage] ?? stage, count]);
  for (const [policy, count] of Object.entries(limits.policies)) rows.push(["requests", `policy ${policy}`, count]);
  rows.push(["retries", "retry budget", limits.retries]);
  rows.push(
    ["requests", "held bodies (part of: shed)", buffers.refused],
    ["held bodies", "done without", buffers.forgone],
  );
  const hit = rows.filter(([, , count]) => count > 0);
  const lines = waiting > 0 ? [`waiting for a connection to a backend: ${waiting}`] : [];
  if (hit.length === 0) return [...lines, "limits: none hit"];
  const cells = hit.map(([what, limit, count]) => [what, limit, String(count)]);
  return [...lines, table(["REFUSED", "BY", "COUNT"], cells)];
}

function duration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ];
  const from = parts.findIndex(([value]) => value > 0);
  return (from < 0 ? parts.slice(3) : parts.slice(from, from + 2)).map(([value, unit]) => `${value} ${unit}`).join(" ");
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
  if (answer.preflight) add("preflight", "answered by Titan's CORS policy");
  if (answer.outcome === "builtin") lines.push(`${out.green("built in")} ${answer.builtin}: Titan answers by itself`);
  if (answer.outcome === "no_route" && !answer.preflight) lines.push(`${out.red("404")} no route matches`);
  if (answer.outcome === "method_not_allowed" && !answer.preflight)
    lines.push(`${out.red("405")} Allow: ${answer.allow}`);
  if (answer.route) {
    const { name, pattern, params, action } = answer.route;
    lines.push(`${out.green("route")} ${out.bold(name)} (${pattern})`);
    for (const [param, value] of params) add(`:${param}`.replace(":*", "*"), value);
    for (const [label, value] of actionLines(action)) add(label, value);
  }
  if (answer.policies.length > 0) {
    lines.push("", "Policies, in the order in which they run:");
    for (const [i, { name, type, handlers, applies }] of answer.policies.entries()) {
      const parts = [`  ${i + 1}. ${type}`];
      if (name !== type) parts.push(out.dim(name));
      if (handlers) parts.push(handlers.join(", "));
      if (applies === false) parts.push(out.yellow("not called: its `when` does not hold"));
      lines.push(parts.join("  "));
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
