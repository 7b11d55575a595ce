/** Settings of one middleware → one native policy. */

import type { Path } from "../issue.ts";
import type { OutputOf } from "../kit/index.ts";
import { type MIDDLEWARE, parseKey, type rateLimit } from "../schema/middleware.ts";
import { lowerForwardAuth, lowerRedis } from "./auth.ts";
import { compact, type Json, type Lowering, ms } from "./context.ts";

/** Types that become policies of their own; authentication is put together for each route. */
export type PolicyType =
  | "ip_filter"
  | "rate_limit"
  | "concurrency"
  | "cors"
  | "forward_auth"
  | "headers"
  | "security_headers"
  | "transform"
  | "compression";

type Settings = { [T in keyof typeof MIDDLEWARE]: OutputOf<(typeof MIDDLEWARE)[T]> };
type Rate = Settings["rate_limit"];
type LimitFields = Pick<
  Rate,
  "requests_per_second" | "requests" | "window" | "burst" | "algorithm" | "key" | "max_keys"
>;
type Rules = Settings["headers"]["request"];

/** A native policy without its name. */
export interface Lowered {
  type: string;
  config: Json;
}

/** The native types and settings; none where the settings ask for nothing. */
export function lowerPolicy<T extends PolicyType>(cx: Lowering, type: T, config: Settings[T], path: Path): Lowered[] {
  switch (type) {
    case "ip_filter": {
      const { allow, deny, allow_file, deny_file } = config as Settings["ip_filter"];
      const files = { allow_file: cx.optionalFile(allow_file), deny_file: cx.optionalFile(deny_file) };
      return [{ type, config: compact({ allow, deny, ...files }) }];
    }
    case "rate_limit":
      return [{ type, config: lowerRateLimit(cx, config as Rate, path) }];
    case "concurrency": {
      const { max, key } = config as Settings["concurrency"];
      return [{ type, config: { max, key: lowerKeys(key) } }];
    }
    case "cors":
      return [{ type, config: lowerCors(config as Settings["cors"]) }];
    case "forward_auth":
      return [{ type, config: lowerForwardAuth(cx, config as Settings["forward_auth"]) }];
    case "headers": {
      const { request, response } = config as Settings["headers"];
      return lowerHeaders(request, response);
    }
    case "security_headers":
      return [{ type: "headers", config: { security: (config as Settings["security_headers"]).preset } }];
    case "transform": {
      // Its path rewrites are put into the route, see `routes.ts`.
      const block = config as Settings["transform"];
      return [
        ...lowerHeaders(block.request_headers, block.response_headers, block.query_params),
        ...lowerJsonBody(block),
      ];
    }
    case "compression":
      return [{ type, config: lowerCompression(config as Settings["compression"]) }];
    default:
      throw new TypeError(`no policy of type ${type}`);
  }
}

function lowerCors(block: Settings["cors"]): Json {
  return {
    allowed_origins: block.allowed_origins,
    allowed_methods: block.allowed_methods.map((method) => method.toUpperCase()),
    allowed_headers: block.allowed_headers,
    exposed_headers: block.exposed_headers,
    allow_credentials: block.allow_credentials,
    max_age: Math.round(block.max_age),
  };
}

function lowerCompression(block: Settings["compression"]): Json {
  return {
    algorithms: block.algorithms.map((name) => (name === "brotli" ? "br" : name)),
    min_size: block.min_size,
    gzip_level: block.levels.gzip,
    zstd_level: block.levels.zstd,
    brotli_level: block.levels.brotli,
    content_types: block.content_types.map((type) => type.toLowerCase()),
    excluded_content_types: block.excluded_content_types.map((type) => type.toLowerCase()),
    disable_for_paths: block.disable_for_paths,
    disable_when_setting_cookies: block.disable_when_setting_cookies,
  };
}

function lowerJsonBody(block: Settings["transform"]): Lowered[] {
  if (block.request_body.length + block.response_body.length === 0) return [];
  const lower = (rules: Settings["transform"]["request_body"]) =>
    rules.map(({ action, field, value }) => (action === "remove" ? { action, field } : { action, field, value }));
  return [
    {
      type: "json_body",
      config: {
        request: lower(block.request_body),
        response: lower(block.response_body),
        max_body: block.max_body_size,
      },
    },
  ];
}

function lowerHeaders(request: Rules, response: Rules, query: Settings["transform"]["query_params"] = []): Lowered[] {
  if (request.length + response.length + query.length === 0) return [];
  const lower = (rules: Rules) =>
    rules.map(({ action, name, value }) => ({
      action: action === "modify" ? "set" : action,
      name: name.toLowerCase(),
      ...(action === "remove" ? {} : { value }),
    }));
  const params = query.map(({ action, name, value }) => ({
    action: action === "modify" ? "set" : action,
    name,
    ...(action === "remove" ? {} : { value }),
  }));
  return [
    {
      type: "headers",
      config: {
        request: lower(request),
        response: lower(response),
        ...(params.length > 0 ? { query: params } : {}),
      },
    },
  ];
}

function lowerRateLimit(cx: Lowering, block: OutputOf<typeof rateLimit>, path: Path): Json {
  const tiers = block.tiers && {
    ...(block.tiers.claim === undefined ? {} : { claim: block.tiers.claim }),
    limits: Object.fromEntries(
      Object.entries(block.tiers.limits).map(([tier, limits]) => [tier, limits.map(lowerLimit)]),
    ),
  };
  const stated = block.requests_per_second !== undefined || block.requests !== undefined || block.burst !== undefined;
  const limits = block.limits.length > 0 ? block.limits.map(lowerLimit) : tiers && !stated ? [] : [lowerLimit(block)];
  const server = block.redis?.url === undefined ? cx.redis : block.redis;
  if (block.backend === "redis" && server === undefined)
    cx.error("missing", [...path, "backend"], '"redis" is missing here and at the top level: where is it?');
  return compact({
    limits,
    tiers,
    cost: block.cost,
    group: block.group,
    headers: block.headers,
    draft_headers: block.draft_headers,
    redis: block.backend === "redis" && server ? lowerRedis(cx, server) : undefined,
  });
}

/** Whole requests in a window of whole milliseconds, which a rate such as 0.5 a second needs to be told as. */
function lowerLimit(limit: LimitFields): Json {
  let requests = limit.requests;
  let window = limit.window ?? 1000;
  if (requests === undefined) {
    const rate = limit.requests_per_second ?? 100;
    if (Number.isInteger(rate)) requests = rate;
    else if (rate < 1) {
      requests = 1;
      window = Math.round(1000 / rate);
    } else {
      requests = Math.round(rate * 1000);
      window = 1_000_000;
    }
  }
  const perSecond = limit.requests_per_second ?? (limit.requests === undefined ? 100 : limit.requests);
  return {
    requests,
    window_ms: ms(window),
    algorithm: limit.algorithm,
    burst: limit.algorithm === "sliding_window" ? 0 : (limit.burst ?? Math.max(1, Math.ceil(perSecond * 2))),
    key: lowerKeys(limit.key),
    max_keys: limit.max_keys,
  };
}

function lowerKeys(keys: readonly string[]): Json[] {
  const out: Json[] = [];
  for (const text of keys) {
    const key = parseKey(text);
    if (typeof key === "string" || key.from === "global") continue;
    if (key.from === "client_ip") out.push({ from: "ip" });
    else if (key.from === "header") out.push({ from: "header", name: key.name?.toLowerCase() });
    else out.push(key.name === undefined ? { from: key.from } : { from: key.from, name: key.name });
  }
  return out;
}
