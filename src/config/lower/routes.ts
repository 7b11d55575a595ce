/** `routes` → native routes. */
import type { Path } from "../issue.ts";
import type { OutputOf } from "../kit/index.ts";
import type { transform } from "../schema/middleware.ts";
import type { route } from "../schema/route.ts";
import { parseBackend } from "../schema/upstream.ts";
import { compact, type Json, type Lowering, many, ms, seconds } from "./context.ts";
import type { MiddlewareTable, Slots, Use } from "./middleware.ts";

type Route = OutputOf<typeof route>;
type Transform = OutputOf<typeof transform>;
type Conditions = NonNullable<Route["headers"]>;
type Target = NonNullable<Route["upstreams"]>[number];

/** Slots whose policies can be global; in no particular order, the data plane decides when each runs. */
const POLICY_SLOTS = [
  "ip_filter",
  "rate_limit",
  "concurrency",
  "cors",
  "forward_auth",
  "headers",
  "security_headers",
  "transform",
  "compression",
] as const;

export function lowerRoutes(cx: Lowering, table: MiddlewareTable): { routes: Json[]; global: number[] } {
  const upstreams = new Set(cx.config.upstreams.map((item) => item?.name).filter((name) => name !== undefined));
  const names = new Set<string>();
  for (const [i, item] of cx.config.routes.entries()) {
    if (item?.name === undefined) continue;
    if (names.has(item.name))
      cx.error("duplicate_name", ["routes", i, "name"], `two routes are named ${JSON.stringify(item.name)}`);
    names.add(item.name);
  }
  const shapes = new Map<string, number>();
  table.global.hooks = table.hooks.global;
  const global = cx.part(() => chain(cx, table, table.global, undefined, []), []);
  const lowerRoute = (item: Route, i: number): Json => {
    const path = ["routes", i];
    if (cx.broken) item.path ??= "/";
    const methods = [...(item.method === "" ? [] : many(item.method)), ...item.methods]
      .filter((method) => method !== "")
      .map((method) => method.toUpperCase());
    const name = item.name ?? madeName(item, methods, names);
    const conditional = item.headers ?? item.query ?? item.cookies;
    const shape = `${item.path.includes(":") ? item.path.replaceAll(/:[A-Za-z_]\w*/g, ":") : item.path} ${[...methods].sort()} ${item.host} ${item.priority}${conditional ? JSON.stringify([item.headers, item.query, item.cookies]) : ""}`;
    const twin = shapes.get(shape);
    if (twin !== undefined)
      cx.warn(
        "unreachable",
        path,
        `routes[${twin}] has the same path, methods and conditions and comes first: this route is never used`,
      );
    else shapes.set(shape, i);
    // Routes without middleware of their own share the global chain; with ten thousand routes that is what matters.
    const plain =
      item.middleware.length === 0 &&
      !(item.onRequest || item.onResponse || item.onError || item.onLog) &&
      !item.transform &&
      item.compression === undefined &&
      !item.auth &&
      item.surface === undefined &&
      item.auth_required === undefined &&
      item.skip_middleware.length === 0;
    const open = item.required_scopes.length === 0 && item.required_roles.length === 0;
    const slots = plain && open ? table.global : effective(cx, table, item, name, path);
    const policies = slots === table.global ? global : chain(cx, table, slots, item, path);
    const match: Json = { path: item.path };
    const hosts = item.host.filter((host) => host !== "*");
    if (hosts.length > 0) match.hosts = hosts.map((host) => host.toLowerCase());
    if (methods.length > 0) match.methods = [...new Set(methods)];
    if (item.headers) match.headers = conditions(item.headers, true);
    if (item.query) match.query = conditions(item.query, false);
    if (item.cookies) match.cookies = conditions(item.cookies, false);
    // What is left out is the default there too: with ten thousand routes, half of the JSON would say nothing.
    const out: Json = { name, match, action: action(cx, item, slots, path, upstreams), policies };
    if (item.priority !== 0) out.priority = item.priority;
    if (item.timeout !== 0) out.timeout_ms = ms(item.timeout);
    if (item.max_request_size !== undefined) out.max_body = item.max_request_size;
    const tunnels = websocket(cx, item);
    if (tunnels) out.websocket = tunnels;
    return out;
  };
  const routes = cx.config.routes.map((item, i) => cx.part(() => lowerRoute(item, i), {}));
  return { routes, global };
}

function madeName(item: Route, methods: readonly string[], names: Set<string>): string {
  const base = `${methods.length > 0 ? `${methods.join(",")} ` : ""}${item.host[0] ?? ""}${item.path}`;
  let name = base;
  for (let n = 2; names.has(name); n++) name = `${base} #${n}`;
  names.add(name);
  return name;
}

/** The global slots with the route's own put in their place. */
function effective(cx: Lowering, table: MiddlewareTable, item: Route, name: string, path: Path): Slots {
  const own = table.routeSlots(item, name, path);
  const uses = new Map(table.global.uses);
  let auth = table.global.auth;
  let hooks = table.hooks.global;
  const known = [...uses.keys(), ...(auth ? ["auth"] : []), ...hooks.map((hook) => hook.name)];
  for (const [i, type] of item.skip_middleware.entries()) {
    if (type === "auth") auth = undefined;
    else if (hooks.some((hook) => hook.name === type)) hooks = hooks.filter((hook) => hook.name !== type);
    else if (!uses.delete(type as never))
      cx.warn(
        "no_effect",
        [...path, "skip_middleware", i],
        `no global middleware of type ${JSON.stringify(type)} runs here${known.length > 0 ? `; there are ${known.join(", ")}` : ""}`,
      );
  }
  if (item.compression === false) uses.delete("compression");
  for (const [type, use] of own.uses) uses.set(type, use);
  auth = own.auth ?? auth;
  if (auth && item.auth_required === false) auth = { methods: auth.methods, anonymous: true };
  else if (auth && item.auth_required === true) auth = { methods: auth.methods, anonymous: false };
  return { uses, auth, hooks: [...hooks, ...own.hooks.filter((hook) => !hooks.includes(hook))] };
}

/** Indices of the policies in these slots. */
function chain(cx: Lowering, table: MiddlewareTable, slots: Slots, item: Route | undefined, path: Path): number[] {
  const out: number[] = [];
  for (const slot of POLICY_SLOTS) {
    const use = slots.uses.get(slot);
    if (use) out.push(...table.policiesOf(use));
  }
  for (const use of slots.hooks) {
    const index = table.hook(use);
    if (index !== undefined) out.push(index);
  }
  const authenticated = slots.auth !== undefined && slots.auth.methods.length > 0;
  if (slots.auth && (authenticated || slots.auth.anonymous))
    out.push(table.auth(slots.auth.methods, slots.auth.anonymous));
  if (!item) return out;
  const identified = authenticated || slots.uses.has("forward_auth");
  if (item.auth_required === true && !identified) {
    cx.error(
      "missing",
      [...path, "auth_required"],
      'no authentication is in effect here: list one in "middleware" or "auth", or add a top-level "jwt" (or "apikey", "basic", "mtls") block',
    );
  }
  if (item.required_scopes.length > 0 || item.required_roles.length > 0) {
    const key = item.required_scopes.length > 0 ? "required_scopes" : "required_roles";
    if (!identified)
      cx.error("missing", [...path, key], "no authentication is in effect here, so nobody can have scopes or roles");
    else
      out.push(
        table.authorize(
          item.required_scopes,
          item.required_roles,
          slots.auth?.methods[0]?.method.config.realm ?? "titan",
          [...path, key],
        ),
      );
  }
  return out;
}

function conditions(given: Conditions | undefined, lowerCase: boolean): Json[] {
  if (given === undefined) return [];
  const name = (text: string) => (lowerCase ? text.toLowerCase() : text);
  if (Array.isArray(given)) return given.map((item) => compact({ ...item, name: name(item.name) }));
  return Object.entries(given).map(([key, value]) => ({ name: name(key), exact: value }));
}

/** `header:x-user` → what the data plane hashes. */
function splitKey(text: string | undefined): Json | undefined {
  if (text === undefined) return undefined;
  const [from, name] = text.split(":", 2);
  return from === "header" ? { from, name: name?.toLowerCase() } : compact({ from, name });
}

function action(cx: Lowering, item: Route, slots: Slots, path: Path, upstreams: ReadonlySet<string>): Json {
  if (item.redirect) return { type: "redirect", status: item.redirect.status, location: item.redirect.location };
  if (item.respond)
    return {
      type: "fixed",
      status: item.respond.status,
      headers: Object.entries(item.respond.headers).map(([k, v]) => [k.toLowerCase(), v]),
      body: item.respond.body,
    };
  if (item.upstream === undefined && item.upstreams === undefined) {
    cx.error("missing", path, '"upstream" is missing (or "upstreams", "redirect", "respond")');
    return {};
  }
  const targets: Target[] = item.upstreams ?? [{ upstream: item.upstream ?? "", weight: 1 }];
  for (const [i, target] of targets.entries()) {
    if (upstreams.has(target.upstream)) continue;
    const at = [...path, ...(item.upstreams ? ["upstreams", i, "upstream"] : ["upstream"])];
    if (/^https?:\/\//i.test(target.upstream) && parseBackend(target.upstream)) {
      const named = `{ "name": "app", "backends": [${JSON.stringify(target.upstream)}] }`;
      cx.error("unknown_name", at, `a route names its upstream: put ${named} into "upstreams" and write "app" here`);
    } else cx.unknownName("upstream", target.upstream, at, upstreams);
  }
  if (targets.every((target) => target.weight === 0))
    cx.error("out_of_range", [...path, "upstreams"], "every weight is 0: give one of them a share");
  const lowered = targets.map(({ upstream, weight, ...target }: Target) =>
    compact({
      upstream,
      weight,
      headers: target.headers && conditions(target.headers, true),
      cookies: target.cookies && conditions(target.cookies, false),
    }),
  );
  const rewritten = rewrite(cx, item, slots.uses.get("transform"), path);
  return compact({ type: "proxy", targets: lowered, split_by: splitKey(item.split_by), rewrite: rewritten });
}

function rewrite(cx: Lowering, item: Route, use: Use | undefined, path: Path): Json | undefined {
  const steps = use ? (use.config as Transform).path_rewrites : [];
  const own =
    item.rewrite_path !== undefined ||
    item.strip_prefix !== undefined ||
    item.add_prefix !== undefined ||
    item.rewrite_regex.length > 0;
  if (own) {
    if (item.transform && item.transform.path_rewrites.length > 0) {
      cx.error(
        "contradiction",
        [...path, "transform", "path_rewrites"],
        "the route rewrites its path already (rewrite_path, strip_prefix, add_prefix, rewrite_regex); keep one of them",
      );
    }
    checkRewrite(cx, item, path);
    return compact({
      path: item.rewrite_path,
      strip_prefix: item.strip_prefix,
      add_prefix: item.add_prefix,
      regex: item.rewrite_regex.map(({ pattern, replacement }) => [pattern, replacement]),
    });
  }
  if (steps.length === 0) return undefined;
  const [first, ...rest] = steps;
  const regex = (list: typeof steps) =>
    list.map((step) =>
      step.type === "regex"
        ? [step.pattern, step.replacement]
        : [
            `^${escapeRegex(step.pattern.replace(/\/+$/, ""))}(/|$)`,
            `${step.replacement.replaceAll("$", "$$$$").replace(/\/+$/, "")}/`,
          ],
    );
  if (first?.type !== "prefix_strip") return { regex: regex(steps) };
  return compact({
    strip_prefix: first.pattern,
    add_prefix: first.replacement === "" ? undefined : first.replacement,
    regex: regex(rest),
  });
}

function checkRewrite(cx: Lowering, item: Route, path: Path): void {
  const segments = item.path.split("/");
  if (item.rewrite_path !== undefined) {
    const known = segments
      .filter((s) => s.startsWith(":") || (s.startsWith("*") && s.length > 1))
      .map((s) => s.slice(1));
    for (const [, name = ""] of item.rewrite_path.matchAll(/:([A-Za-z_]\w*)/g)) {
      if (!known.includes(name))
        cx.error(
          "unknown_name",
          [...path, "rewrite_path"],
          `the path ${JSON.stringify(item.path)} has no parameter ":${name}"`,
        );
    }
    if (item.rewrite_path.includes("*") && !segments.at(-1)?.startsWith("*"))
      cx.error(
        "contradiction",
        [...path, "rewrite_path"],
        `"*" stands for what "*" matched, and the path ${JSON.stringify(item.path)} has none`,
      );
  }
  if (item.strip_prefix !== undefined) {
    const prefix = item.strip_prefix.split("/").filter((s) => s !== "");
    const pattern = segments.filter((s) => s !== "");
    const fits =
      prefix.every((s, i) => (pattern[i] === undefined ? false : pattern[i] === s || /^[:*]/.test(pattern[i]))) ||
      pattern.some((s, i) => s.startsWith("*") && i <= prefix.length);
    if (!fits)
      cx.warn(
        "no_effect",
        [...path, "strip_prefix"],
        `no path that ${JSON.stringify(item.path)} matches begins with ${JSON.stringify(item.strip_prefix)}`,
      );
  }
}

function escapeRegex(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\/-]/g, "\\$&");
}

function websocket(cx: Lowering, item: Route): Json | undefined {
  if (item.upstream === undefined && item.upstreams === undefined) return undefined;
  if (item.websocket === false || (typeof item.websocket === "object" && !item.websocket.enabled)) return undefined;
  const block = typeof item.websocket === "object" ? item.websocket : undefined;
  return {
    idle_timeout_ms: seconds(block?.idle_timeout ?? 300),
    max_connections: block?.max_connections ?? (block?.max_connections_per_worker ?? 10_000) * cx.workers,
    origins: block?.allowed_origins ?? [],
    subprotocols: block?.subprotocols ?? [],
    max_frame_size: block?.max_frame_size ?? 1_048_576,
    max_message_size: block?.max_message_size ?? 10_485_760,
    max_frames_per_second: block?.max_frames_per_second ?? 1000,
  };
}
