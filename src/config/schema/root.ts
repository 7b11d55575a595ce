/** The whole configuration. */
import { type InputOf, isObject, list, map, type OutputOf, object, raw, string } from "../kit/index.ts";
import { apikey, basic, jwt, jwtAuthz, mtls, redis } from "./auth.ts";
import { file, name } from "./formats.ts";
import { hooks, hookWorkers } from "./hooks.ts";
import { anyMiddleware, compression, cors, ipFilter, middleware, rateLimit, surface, transform } from "./middleware.ts";
import { admin, dns, health, logging, metrics } from "./observability.ts";
import { route } from "./route.ts";
import { listener, server } from "./server.ts";
import { upstream } from "./upstream.ts";

const named = { max: 100, key: name() };

const anyObject = raw<Readonly<Record<string, unknown>>>("an object", isObject, { type: "object" });

/** Only described here: `variants.ts` puts them in before the rest is read. */
const variant = object(
  {
    if: anyObject
      .doc('Variables → value, list of values, `true` (set), `false` (not set), or `{"not": …}`; all must hold.')
      .example({ MODE: "prod" }),
    set: anyObject.optional().doc("Part of a configuration that is put over the rest."),
    require: anyObject
      .optional()
      .doc("Path of a setting → the value that it must have, or `true` for one that must not be empty."),
    message: string({ max: 1024 })
      .optional()
      .doc("Why a configuration without what is required is refused; alone: the conditions themselves are refused."),
  },
  { title: "Variant" },
);

/** Blocks that protect: a misspelt one would silently protect nothing. */
const GUARDED = [
  "middleware",
  "rate_limit",
  "cors",
  "jwt",
  "apikey",
  "basic",
  "mtls",
  "ip_filter",
  "rate_limits",
  "surfaces",
  "cors_configs",
  "jwt_authz",
  "admin",
];

export const root = object(
  {
    $schema: string().optional().doc("URL or path of this schema, for editors."),
    version: string({ max: 32 }).optional().doc("Version of the configuration's form; `1.0`."),
    description: string({ max: 4096 }).optional().doc("For people."),
    extends: raw<string | readonly string[]>(
      "the name of a preset or a list of names",
      (value) => typeof value === "string" || (Array.isArray(value) && value.every((item) => typeof item === "string")),
      { anyOf: [{ type: "string" }, { type: "array", items: { type: "string" } }] },
    )
      .optional()
      .doc('Presets or files this one builds on: `"titan:talos"`, `"./base.json"`. What stands here wins.'),
    variants: list(variant, { max: 100 })
      .optional()
      .doc("Parts that depend on the environment, and what must then be there; later ones win."),
    server: server.default({}).doc("Ports, limits and time limits of the gateway itself."),
    listeners: list(listener, { max: 1000 })
      .default([])
      .doc("Further ports, or all of them: without `server.port` and `server.https_port` there are only these."),
    upstreams: list(upstream, { max: 100_000 }).default([]).doc("Named sets of backends."),
    routes: list(route, { max: 1_000_000 }).default([]).doc("What is done with which requests."),
    middleware: list(anyMiddleware, { max: 20 })
      .default([])
      .doc("Global middleware: runs on every route and on Titan's own answers."),
    named_middleware: map(middleware, named).default({}).doc("Middleware by name, for routes to list."),
    hooks: hooks
      .default({})
      .doc("Hooks by name, for routes to list in `middleware`. Functions, so in `titan.config.ts` only."),
    hook_workers: hookWorkers
      .default(1)
      .doc(
        "Threads that run the hooks of `titan serve`; 0 = the main thread. A program's own gateway runs them where it was made.",
      ),
    rate_limit: rateLimit.optional().doc("Global middleware of this type."),
    cors: cors.optional().doc("Global middleware of this type."),
    jwt: jwt.optional().doc("Global authentication by JWT."),
    apikey: apikey.optional().doc("Global authentication by API key."),
    basic: basic.optional().doc("Global basic authentication."),
    mtls: mtls.optional().doc("Global authentication by client certificate."),
    transform: transform.optional().doc("Global middleware of this type."),
    compression: compression.optional().doc("Global middleware of this type."),
    ip_filter: ipFilter.optional().doc("Global middleware of this type."),
    rate_limits: map(rateLimit, named).default({}).doc("Rate limits by name, for routes to list."),
    surfaces: list(surface, { max: 10_000, single: true })
      .default([])
      .doc("Limits by API surface. One takes the place of the global rate limit on the routes of its `surface`."),
    surfaces_file: file()
      .optional()
      .doc(
        "JSON file with more surfaces, one object or a list; read again by each reload. Other keys in it are ignored.",
      ),
    cors_configs: map(cors, named).default({}).doc("CORS settings by name, for routes to list."),
    transform_configs: map(transform, named).default({}).doc("Transforms by name, for routes to list."),
    compression_configs: map(compression, named).default({}).doc("Compression settings by name, for routes to list."),
    jwt_authz: jwtAuthz.default({}).doc("How `required_scopes` and `required_roles` are looked up."),
    redis: redis.optional().doc("Server shared by what counts or remembers in Redis."),
    logging: logging.default({}).doc("Log and access log."),
    metrics: metrics.default({}).doc("Metrics and the admin listener."),
    admin: admin.default({}).doc("Access to the admin listener and the control socket."),
    health: health.default({}).doc("Health paths."),
    dns: dns.default({}).doc("Name resolution of backends."),
  },
  {
    title: "Titan configuration",
    guarded: GUARDED,
    aliases: { middlewares: "middleware", api_key: "apikey", authorization: "jwt_authz", log: "logging" },
  },
);

/** What a configuration may say, in either form. */
export type ConfigInput = InputOf<typeof root>;
/** A resolved configuration: the guide's form, defaults filled in. */
export type Config = OutputOf<typeof root>;
