/** From a place in the native configuration back to the place in the configuration that it was made from. */
import { type Path, parsePath } from "../issue.ts";
import type { Config } from "../schema/root.ts";

/** Where a native policy comes from. */
export interface PolicyOrigin {
  /** Place of the settings. */
  path: Path;
  /** Native type. */
  type: string;
  /** Of authentication: the place of each method. */
  methods?: readonly Path[];
}

/** Native settings of the whole gateway → where they stand. */
const ROOTS: Readonly<Record<string, Path>> = {
  trusted_proxies: ["server", "trusted_proxies"],
  forwarding: ["server", "forwarding"],
  access_log: ["logging"],
  "builtin.critical": ["health", "critical"],
  "builtin.health_paths": ["health", "paths"],
  "builtin.internal_cidrs": ["metrics", "allow"],
};

/** Lists of a `transform`, by type and field of the policy that they become. */
const TRANSFORM: Readonly<Record<string, string>> = {
  "headers.request": "request_headers",
  "headers.response": "response_headers",
  "headers.query": "query_params",
  "json_body.request": "request_body",
  "json_body.response": "response_body",
  "json_body.max_body": "max_body_size",
};

/** The place of `text`, as far down as the configuration has it. */
export function originOf(
  text: string,
  config: Config,
  listeners: readonly Path[],
  policies: readonly PolicyOrigin[],
): Path {
  const path = parsePath(text).map((part) => (typeof part === "string" ? part.replace(/_ms$/, "") : part));
  const [head, index, ...rest] = path;
  if (typeof index === "number") {
    if (head === "listeners") return listenerOrigin(listeners[index] ?? ["listeners", index], rest, config);
    if (head === "policies") return policyOrigin(policies[index], rest[0] === "config" ? rest.slice(1) : rest, config);
    if (head === "routes") return ["routes", index, ...inRoute(rest, config.routes[index])];
    if (head === "upstreams") return ["upstreams", index, ...inUpstream(rest)];
  }
  for (const length of [2, 1]) {
    const root = ROOTS[path.slice(0, length).join(".")];
    if (root) return [...root, ...path.slice(length)];
  }
  return path;
}

function policyOrigin(origin: PolicyOrigin | undefined, rest: Path, config: Config): Path {
  if (!origin) return [];
  const [field, index, ...inner] = rest;
  if (field === "methods" && typeof index === "number" && origin.methods?.[index])
    return [...origin.methods[index], ...inner];
  const list = TRANSFORM[`${origin.type}.${field}`];
  return list && valueAt(config, [...origin.path, list]) !== undefined
    ? [...origin.path, list, ...rest.slice(1)]
    : [...origin.path, ...rest];
}

function inRoute(rest: Path, route: Config["routes"][number] | undefined): Path {
  const [part, field, ...inner] = rest;
  if (part === "match") {
    if (field === "hosts") return ["host", ...inner];
    if (field === "methods") return route?.methods.length ? ["methods", ...inner] : ["method"];
    return field === undefined ? [] : [field, ...inner];
  }
  if (part !== "action" || field === undefined) return rest;
  if (route?.redirect) return ["redirect", field, ...inner];
  if (route?.respond) return ["respond", field, ...inner];
  if (field === "targets") return route?.upstreams ? ["upstreams", ...inner] : ["upstream"];
  if (field !== "rewrite") return [field, ...inner];
  const [step, index] = inner;
  const own = { path: "rewrite_path", regex: "rewrite_regex" }[String(step)] ?? String(step);
  if (route && valueAt(route, [own]) !== undefined && (step !== "regex" || route.rewrite_regex.length > 0))
    return index === undefined ? [own] : [own, index];
  const steps = route?.transform?.path_rewrites ?? [];
  if (steps.length === 0) return [];
  // A prefix that is taken off first is no regular expression of the route.
  const at = typeof index === "number" ? index + (steps[0]?.type === "prefix_strip" ? 1 : 0) : 0;
  return ["transform", "path_rewrites", at];
}

function inUpstream(rest: Path): Path {
  const [field, ...inner] = rest;
  if (field === "balance") return ["load_balancing", ...inner];
  if (field === "outlier") return ["outlier_detection", ...inner];
  return rest;
}

/** Within a listener, whose certificate may be that of the sugar `cert_path` and `key_path`. */
function listenerOrigin(origin: Path, rest: Path, config: Config): Path {
  const sugar = origin[0] === "server";
  const [field, list, at, ...inner] = rest;
  if (field === "address") return sugar ? ["server", "host"] : [...origin, "address"];
  if (field !== "tls") return sugar ? origin : [...origin, ...rest];
  const place: Path = sugar ? ["server", "tls"] : [...origin, "tls"];
  if (list !== "certificates" || typeof at !== "number") return [...place, ...rest.slice(1)];
  const tls = sugar ? config.server.tls : config.listeners[Number(origin[1])]?.tls;
  const own = tls?.cert_path === undefined ? 0 : 1;
  return at < own ? [...place, ...inner] : [...place, "certificates", at - own, ...inner];
}

function valueAt(value: unknown, path: Path): unknown {
  let found = value;
  for (const part of path) {
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, part)) return undefined;
    found = (found as Record<string | number, unknown>)[part];
  }
  return found;
}
