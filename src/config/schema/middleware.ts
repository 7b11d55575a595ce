/** Middleware: what a request passes before it reaches a backend, and its answer before the client. */
import {
  boolean,
  duration,
  either,
  type InputOf,
  integer,
  list,
  map,
  number,
  type OutputOf,
  object,
  oneOf,
  raw,
  type Schema,
  size,
  string,
  tagged,
} from "../kit/index.ts";
import { apikey, authMode, basic, forwardAuth, jwt, mtls, redis } from "./auth.ts";
import { cidr, file, headerName, headerValue, method, pathPrefix, regexProblem } from "./formats.ts";

const enabled = () => boolean().default(true).doc("`false` keeps the block without using it.");

/** Sources of a key; those with a name are written `header:X-Tenant`. */
const KEY_SOURCES = ["client_ip", "route", "global", "header", "cookie", "claim", "api_key", "subject"] as const;
const KEY_SPELLINGS: Readonly<Record<string, string>> = {
  ip: "client_ip",
  remote_addr: "client_ip",
  jwt_claim: "claim",
  apikey: "api_key",
  none: "global",
  sub: "subject",
  user: "subject",
};
const NAMED = new Set(["header", "cookie", "claim"]);

/** `header:X-Tenant` → its parts; why not, where it is none. */
export function parseKey(text: string): { from: string; name?: string } | string {
  const colon = text.indexOf(":");
  const word = colon < 0 ? text : text.slice(0, colon);
  const from = KEY_SPELLINGS[word] ?? word;
  const name = colon < 0 ? "" : text.slice(colon + 1);
  if (!(KEY_SOURCES as readonly string[]).includes(from))
    return `must be one of client_ip, route, global, header:NAME, cookie:NAME, claim:PATH, api_key, subject, not ${JSON.stringify(text)}`;
  if (NAMED.has(from) && name === "") return `which ${from}? Write "${from}:NAME"`;
  if (!NAMED.has(from) && colon >= 0) return `"${from}" takes no name`;
  return name === "" ? { from } : { from, name };
}

const limitKey = string({
  code: "bad_key",
  noun: "a key",
  check: (text) => {
    const parsed = parseKey(text);
    return typeof parsed === "string" ? parsed : undefined;
  },
});

const limitFields = {
  requests_per_second: number({ min: 0.001, max: 1e9 }).optional().doc("Requests a second that a key may make."),
  requests: integer({ min: 1, max: 1e12 })
    .optional()
    .doc("Requests in one `window`, instead of `requests_per_second`."),
  window: duration("ms", { min: 1 }).optional().doc("Window of `requests`, such as `1m`; default 1 s."),
  burst: integer({ min: 1, max: 1e12 })
    .optional()
    .doc(
      "Requests admitted at once by a key that was quiet; default twice the requests of a second (of the window). Alias `burst_size`.",
    ),
  algorithm: oneOf(["token_bucket", "sliding_window"], {
    spellings: { gcra: "token_bucket", sliding: "sliding_window" },
  })
    .default("token_bucket")
    .doc("`token_bucket` (GCRA) smooths and allows a burst; `sliding_window` counts in a moving window."),
  key: list(limitKey, { max: 8, single: true })
    .default(["client_ip"])
    .doc(
      "What is counted apart: `client_ip` (IPv6 by /64), `route`, `header:NAME`, `cookie:NAME`, `claim:PATH`, `api_key`, `subject`, or `global` for one bucket. A list combines.",
    ),
  max_keys: integer({ min: 1, max: 50_000_000 })
    .default(100_000)
    .doc("Keys remembered; the one unused longest goes first."),
} as const;

const limitAliases = {
  burst_size: "burst",
  requests_per_sec: "requests_per_second",
  rps: "requests_per_second",
  limit: "requests",
  keys: "key",
};

function limitCheck(
  value: Record<string, unknown>,
  cx: { report: (f: { code: string; message: string }, ...below: string[]) => undefined },
): void {
  if (value.requests_per_second !== undefined && value.requests !== undefined) {
    cx.report({ code: "contradiction", message: 'say "requests_per_second", or "requests" with "window", not both' });
  }
  if (value.window !== undefined && value.requests === undefined)
    cx.report({ code: "missing", message: '"requests" is missing: how many in the window?' }, "window");
  if (value.algorithm === "sliding_window" && value.burst !== undefined) {
    cx.report(
      { code: "contradiction", message: 'has no effect with "sliding_window", which allows no burst' },
      "burst",
    );
  }
}

const limit = object(limitFields, { title: "Limit", guarded: true, aliases: limitAliases, check: limitCheck });

export const rateLimit = object(
  {
    enabled: enabled(),
    ...limitFields,
    limits: list(limit, { max: 16 })
      .default([])
      .doc("Several limits, all of which must admit the request; instead of the single one above."),
    tiers: object(
      {
        claim: string({ min: 1, max: 256 })
          .optional()
          .doc("Claim path that names the tier; default the `tier` of the API key or user."),
        limits: map(list(limit, { min: 1, max: 16, single: true }), { max: 100 }).doc("Tier → its limit or limits."),
      },
      { title: "Tiers", guarded: true },
    )
      .optional()
      .doc("Limits by plan."),
    cost: integer({ min: 1, max: 1_000_000 }).default(1).doc("What one request takes."),
    group: string({ min: 1, max: 64 })
      .optional()
      .doc("Middleware of the same group share their counters; default its own name."),
    headers: boolean().default(true).doc("Write `X-RateLimit-Limit`, `-Remaining` and `-Reset`."),
    draft_headers: boolean().default(false).doc("Write `RateLimit-Policy` and `RateLimit` (IETF draft)."),
    backend: oneOf(["local", "redis"], { spellings: { memory: "local" } })
      .default("local")
      .doc("Count in this process (exact), or in Redis for every Titan that uses it (`redis`)."),
    redis: redis.optional().doc("Server for `backend: redis`; default the top-level `redis`."),
  },
  {
    title: "Rate limit",
    guarded: true,
    aliases: limitAliases,
    check: (value, cx) => {
      limitCheck(value, cx);
      const single =
        value.requests_per_second !== undefined || value.requests !== undefined || value.burst !== undefined;
      if (single && (value.limits as unknown[]).length > 0)
        cx.report({ code: "contradiction", message: 'say one limit here or several in "limits", not both' }, "limits");
      if (value.redis !== undefined && value.backend !== "redis")
        cx.report({ code: "contradiction", message: 'has no effect unless "backend" is "redis"' }, "redis");
    },
  },
);

/** An API surface with the limit that it has, as the surface files of Talos say it. */
export const surface = object(
  {
    surface_id: string({ min: 1, max: 128 }).doc("Name of the surface: a route's `surface`."),
    rate_limit_rps: number({ min: 0.001, max: 1e9 }).doc("Requests a second of one key."),
    rate_limit_burst: integer({ min: 1, max: 1e12 })
      .optional()
      .doc("Requests admitted at once by a key that was quiet; default twice the requests of a second."),
  },
  { title: "Surface", guarded: true, aliases: { id: "surface_id", rps: "rate_limit_rps", burst: "rate_limit_burst" } },
);

export const concurrency = object(
  {
    enabled: enabled(),
    max: integer({ min: 1, max: 10_000_000 }).doc(
      "Requests in flight, for the process; one more gets 503 with `Retry-After`.",
    ),
    key: list(limitKey, { max: 8, single: true })
      .default(["global"])
      .doc("What is counted apart; as of a rate limit, identity excepted."),
  },
  { title: "Concurrency limit", guarded: true, aliases: { max_concurrent: "max", max_requests: "max" } },
);

export const ipFilter = object(
  {
    enabled: enabled(),
    allow: list(cidr(), { max: 100_000, single: true })
      .default([])
      .doc("Networks that are let in; with a list, everything else gets 403."),
    deny: list(cidr(), { max: 100_000, single: true })
      .default([])
      .doc("Networks that get 403; `deny` wins over `allow`."),
    allow_file: file().optional().doc("File of more `allow` networks, one a line; read again by each reload."),
    deny_file: file().optional().doc("File of more `deny` networks."),
  },
  {
    title: "IP filter",
    guarded: true,
    aliases: { whitelist: "allow", blacklist: "deny", allowed: "allow", denied: "deny" },
    check: (value, cx) => {
      const empty =
        (value.allow as unknown[]).length + (value.deny as unknown[]).length === 0 &&
        value.allow_file === undefined &&
        value.deny_file === undefined;
      if (empty && value.enabled !== false)
        cx.report({ code: "missing", message: 'filters nothing: give "allow" or "deny"' });
    },
  },
);

const origin = string({
  min: 1,
  max: 2048,
  code: "bad_origin",
  noun: "an origin",
  check: (text) => {
    if (text === "*" || text === "null") return undefined;
    if (text.startsWith("/") && text.endsWith("/") && text.length > 2) return regexProblem(text.slice(1, -1));
    if (/^[a-z][a-z0-9+.-]*:\/\/(\*\.)?[^\s/?#*]+$/i.test(text)) return undefined;
    if (/^[a-z][a-z0-9+.-]*:\/\/[^\s/?#*]+\/+$/i.test(text))
      return `an origin ends after host and port: leave out the last "/" of ${JSON.stringify(text)}`;
    return `must be an origin such as "https://example.com", "https://*.example.com", "*" or "/regex/", not ${JSON.stringify(text)}`;
  },
});

export const cors = object(
  {
    enabled: enabled(),
    allowed_origins: list(origin, { max: 1000, single: true })
      .default(["*"])
      .doc("Exact, `https://*.example.com`, `/regex/`, or `*`. Only an allowed origin is reflected."),
    allowed_methods: list(method(), { max: 50, single: true })
      .default(["GET", "POST", "PUT", "DELETE", "OPTIONS"])
      .doc("Methods, or `*`."),
    allowed_headers: list(string({ min: 1, max: 256 }), { max: 200, single: true })
      .default(["*"])
      .doc("Request headers, or `*`."),
    exposed_headers: list(string({ min: 1, max: 256 }), { max: 200, single: true })
      .default([])
      .doc("Answer headers that scripts may read."),
    allow_credentials: boolean()
      .default(false)
      .doc("Allow cookies and authorization; not possible with the origin `*`."),
    max_age: duration("s").default(86_400).doc("How long a browser may remember a preflight."),
  },
  {
    title: "CORS",
    guarded: true,
    aliases: {
      origins: "allowed_origins",
      methods: "allowed_methods",
      headers: "allowed_headers",
      credentials: "allow_credentials",
      expose_headers: "exposed_headers",
      max_age_seconds: "max_age",
    },
    check: (value, cx) => {
      if (value.allow_credentials === true && (value.allowed_origins as string[]).includes("*")) {
        cx.report(
          {
            code: "contradiction",
            message: 'can\'t be true with the origin "*": every site could act for a logged-in user. Name the origins',
          },
          "allow_credentials",
        );
      }
    },
  },
);

const headerRule = object(
  {
    action: oneOf(["add", "remove", "modify"], {
      spellings: { set: "modify", replace: "modify", delete: "remove", append: "add" },
    })
      .default("modify")
      .doc("`add` one more, `remove` all, `modify` = replace or add (also spelt `set`)."),
    name: headerName().doc("Header name."),
    value: headerValue().default("").doc(
      // biome-ignore lint/suspicious/noTemplateCurlyInString: these are the variables of header values
      "Value; may hold `${client_ip}`, `${request_id}`, `${host}`, `${path}`, `${method}`, `${scheme}`, `${route}`, `${tls_subject}`, `${subject}`, `${param.NAME}`, `${header.NAME}`, `${claim.PATH}`.",
    ),
  },
  { title: "Header rule", aliases: { header: "name", op: "action" } },
);

const queryRule = object(
  {
    action: oneOf(["add", "remove", "modify"], {
      spellings: { set: "modify", replace: "modify", delete: "remove", append: "add" },
    })
      .default("modify")
      .doc("`add` one more, `remove` all, `modify` = replace or add (also spelt `set`)."),
    name: string({ min: 1, max: 256 }).doc("Parameter name, not encoded."),
    value: headerValue().default("").doc("Value, not encoded; may hold the variables of header values."),
  },
  { title: "Query rule", aliases: { param: "name", op: "action" } },
);

const rules = (max = 50) => list(headerRule, { max });

export const headers = object(
  {
    enabled: enabled(),
    request: rules().default([]).doc("Rules for the request towards the backend."),
    response: rules().default([]).doc("Rules for the answer towards the client."),
  },
  { title: "Headers", aliases: { request_headers: "request", response_headers: "response" } },
);

export const securityHeaders = object(
  {
    enabled: enabled(),
    preset: oneOf(["basic", "strict", "api"])
      .default("basic")
      .doc("`basic` is safe for any site; `strict` and `api` suit applications made for them."),
  },
  { title: "Security headers", guarded: true },
);

const pathRewrite = object(
  {
    type: oneOf(["prefix_strip", "regex"], { spellings: { strip_prefix: "prefix_strip" } }).doc(
      "`prefix_strip` takes `pattern` off the front; `regex` replaces what it matches.",
    ),
    pattern: string({ min: 1, max: 1024 }).doc("Prefix or linear-time regular expression."),
    replacement: string({ max: 1024 })
      .default("")
      .doc("Replacement of a `regex`, with `$1`; prefix put in place of a stripped one."),
  },
  {
    title: "Path rewrite",
    check: (value, cx) => {
      const problem =
        value.type === "regex"
          ? regexProblem(String(value.pattern))
          : String(value.pattern).startsWith("/")
            ? undefined
            : 'a prefix begins with "/"';
      if (problem) cx.report({ code: value.type === "regex" ? "bad_regex" : "bad_path", message: problem }, "pattern");
    },
  },
);

const jsonRule = object(
  {
    action: oneOf(["add", "modify", "remove"], { spellings: { set: "modify", delete: "remove" } }).doc(
      "`add` sets where absent (objects on the way are made), `modify` sets where present, `remove` takes off.",
    ),
    field: string({
      min: 1,
      max: 1024,
      check: (text) => (/(^|[^\\])\.\.|^\.|[^\\]\.$/.test(text) ? "has an empty name between dots" : undefined),
    }).doc("Member names and indices joined by dots: `user.roles.0`. A dot in a name is written `\\.`."),
    value: raw<unknown>("any value", () => true)
      .optional()
      .doc("Value of `add` and `modify`."),
  },
  {
    title: "JSON rule",
    check: (rule, cx) => {
      if (rule.action !== "remove" && rule.value === undefined)
        cx.report({ code: "missing", message: '"value" is missing' });
    },
  },
);

const transformShape = object(
  {
    enabled: enabled(),
    path_rewrites: list(pathRewrite, { max: 20 })
      .default([])
      .doc("Path rewriting in order, after policy; not on a route that rewrites its path itself."),
    request_headers: rules().default([]).doc("Rules for the request towards the backend."),
    response_headers: rules().default([]).doc("Rules for the answer towards the client."),
    query_params: list(queryRule, { max: 30 }).default([]).doc("Rules for the query towards the backend, after hooks."),
    request_body: list(jsonRule, { max: 50 })
      .default([])
      .doc("Rules for fields of JSON requests, in order. The body is buffered."),
    response_body: list(jsonRule, { max: 50 })
      .default([])
      .doc("Rules for fields of JSON answers, in order. The body is buffered."),
    max_body_size: size({ min: 1, max: 2 ** 28 })
      .default(1_048_576)
      .doc("Largest body that is buffered for these rules: a larger request gets 413, a larger answer 502."),
  },
  { title: "Transform" },
);

/** Named, because the type of the whole configuration is written out and has a greatest length. */
export interface TransformInput extends InputOf<typeof transformShape> {}
export interface TransformSettings extends OutputOf<typeof transformShape> {}
export const transform: Schema<TransformInput, TransformSettings> = transformShape;

export const compression = object(
  {
    enabled: enabled(),
    min_size: size({ max: 2 ** 30 })
      .default(1024)
      .doc("Smaller answers are left alone."),
    algorithms: list(oneOf(["zstd", "gzip", "brotli"], { spellings: { br: "brotli" } }), {
      min: 1,
      max: 3,
      single: true,
    })
      .default(["zstd", "gzip", "brotli"])
      .doc("In order of preference where a client accepts several equally."),
    levels: object(
      {
        gzip: integer({ min: 1, max: 9 }).default(6).doc("1 fastest, 9 smallest."),
        zstd: integer({ min: 1, max: 19 }).default(5).doc("1 fastest, 19 smallest."),
        brotli: integer({ min: 0, max: 11 }).default(4).doc("0 fastest, 11 smallest."),
      },
      { title: "Compression levels", aliases: { br: "brotli" } },
    )
      .default({})
      .doc("Effort of each algorithm."),
    content_types: list(string({ min: 1, max: 256 }), { max: 200, single: true })
      .default([])
      .doc("Types that are compressed, `text/*` possible; empty = text, JSON, XML, JavaScript, SVG, fonts, WASM."),
    excluded_content_types: list(string({ min: 1, max: 256 }), { max: 200, single: true })
      .default([])
      .doc("Types that are not."),
    disable_for_paths: list(pathPrefix(), { max: 200, single: true })
      .default([])
      .doc("Paths whose answers hold secrets beside text that a client chooses (BREACH)."),
    disable_when_setting_cookies: boolean().default(true).doc("Leave answers with `Set-Cookie` alone (BREACH)."),
  },
  { title: "Compression" },
);

export const auth = object(
  {
    mode: list(authMode(), { min: 1, max: 7, single: true }).doc(
      "`none`, `jwt`, `apikey`, `both`, `basic`, `mtls`, `anonymous`, or a list; each uses the block of its name here or at the top level.",
    ),
    jwt: jwt.optional().doc("Settings of `jwt` for this use; default the top-level block."),
    apikey: apikey.optional().doc("Settings of `apikey`, likewise."),
    basic: basic.optional().doc("Settings of `basic`, likewise."),
    mtls: mtls.optional().doc("Settings of `mtls`, likewise."),
  },
  {
    title: "Authentication",
    guarded: true,
    aliases: { type: "mode", method: "mode", methods: "mode", api_key: "apikey" },
  },
);

/** Every type of middleware with its settings. */
export const MIDDLEWARE = {
  ip_filter: ipFilter,
  rate_limit: rateLimit,
  concurrency,
  cors,
  auth,
  jwt,
  apikey,
  basic,
  mtls,
  forward_auth: forwardAuth,
  headers,
  security_headers: securityHeaders,
  transform,
  compression,
} as const;

/** Other spellings of the types. */
export const TYPE_SPELLINGS: Readonly<Record<string, keyof typeof MIDDLEWARE>> = {
  "rate-limit": "rate_limit",
  ratelimit: "rate_limit",
  api_key: "apikey",
  ip_restriction: "ip_filter",
  "ip-filter": "ip_filter",
  "forward-auth": "forward_auth",
  "security-headers": "security_headers",
  header: "headers",
};

/** How a package or a file with a hook is named: what has `@`, `.`, `/` or `-` at its place can't be a built-in type. */
export type PackageName = `@${string}` | `.${string}` | `${string}/${string}` | `${string}-${string}`;

/** The same for values; a built-in type or a misspelling of one is looked for first. */
export const PACKAGE_NAME = /^[@.]|\/|^[a-z0-9][a-z0-9.]*-[a-z0-9.-]+$/;

/** A hook of a package or a file in place. */
export interface PackageMiddleware {
  /** The package, or a file beside the configuration. */
  type: PackageName;
  /** Options of the hook; checked when the configuration is loaded. */
  config?: unknown;
}

/** A middleware as `{type, config}`. */
export const middleware = tagged(MIDDLEWARE, TYPE_SPELLINGS).doc("A middleware: its type and its settings.");

type BuiltIn = typeof middleware;

/** The same where hooks may stand too: names of loaded ones have taken their place when this reads them. */
export const anyMiddleware = middleware as unknown as Schema<InputOf<BuiltIn> | PackageMiddleware, OutputOf<BuiltIn>>;

/** What a route lists: a name or a middleware in place. */
export const middlewareUse = either('the name of a middleware or an object with "type" and "config"', {
  string: string({ min: 1, max: 64 }),
  object: anyMiddleware,
});
