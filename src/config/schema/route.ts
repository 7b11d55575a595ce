/** `routes`. */
import { boolean, duration, either, integer, list, map, object, size, string } from "../kit/index.ts";
import { authMode } from "./auth.ts";
import { headerName, headerValue, hostPattern, method, path, pathPattern, regex } from "./formats.ts";
import { routeHandlers } from "./hooks.ts";
import { compression, middlewareUse, transform } from "./middleware.ts";

const valueMatch = object(
  {
    name: string({ min: 1, max: 256 }).doc("Name of the header, query parameter or cookie."),
    exact: string({ max: 8192 }).optional().doc("Exact value."),
    prefix: string({ min: 1, max: 8192 }).optional().doc("Beginning of the value."),
    regex: regex().optional().doc("Linear-time regular expression for the whole value."),
    invert: boolean().default(false).doc("Turn the condition round."),
  },
  {
    title: "Value condition",
    guarded: true,
    aliases: { value: "exact", equals: "exact", not: "invert" },
    check: (value, cx) => {
      if (["exact", "prefix", "regex"].filter((key) => value[key] !== undefined).length > 1) {
        cx.report({
          code: "contradiction",
          message: 'has at most one of "exact", "prefix" and "regex"; with none it asks only that the value is there',
        });
      }
    },
  },
);

const conditions = either("an object or a list", {
  object: map(string({ max: 8192 }), { max: 50 }),
  list: list(valueMatch, { max: 50 }),
});

const target = object(
  {
    upstream: string({ min: 1, max: 64 }).doc("Name of an upstream."),
    weight: integer({ min: 0, max: 65_535 })
      .default(1)
      .doc("Share of the traffic that no target's conditions claim; 0 = only by its conditions."),
    headers: map(string({ max: 8192 }), { max: 50 })
      .optional()
      .doc('The target takes every request with these headers, before weights are looked at: `{"X-Beta": "1"}`.'),
    cookies: map(string({ max: 8192 }), { max: 50 })
      .optional()
      .doc("Likewise for cookies; with both, both must match."),
  },
  { title: "Target" },
);

const redirect = object(
  {
    status: integer({ min: 301, max: 308 }).default(302).doc("301, 302, 303, 307 or 308."),
    location: headerValue(2048).doc(
      "URL or path; `:param` and `*` of the route's path are filled in, `$query` keeps the query.",
    ),
  },
  {
    title: "Redirect",
    aliases: { to: "location", url: "location", code: "status" },
    check: (value, cx) => {
      if (![301, 302, 303, 307, 308].includes(value.status as number))
        cx.report({ code: "bad_value", message: "must be 301, 302, 303, 307 or 308" }, "status");
    },
  },
);

const respond = object(
  {
    status: integer({ min: 200, max: 599 }).default(200).doc("Status."),
    headers: map(headerValue(), { max: 50, key: headerName() }).default({}).doc("Headers."),
    body: string({ max: 1_048_576 }).default("").doc("Body."),
  },
  { title: "Fixed response", aliases: { code: "status" } },
);

const regexRewrite = object(
  {
    pattern: regex().doc("Linear-time regular expression."),
    replacement: string({ max: 1024 }).doc("Replacement, with `$1` for the first group."),
  },
  { title: "Regex rewrite" },
);

const websocket = object(
  {
    enabled: boolean().default(true).doc("`false` refuses upgrades on the route."),
    idle_timeout: duration("s")
      .default(300)
      .doc("No byte in either direction for this long closes the tunnel. 0 = never."),
    max_connections: integer({ min: 0 }).optional().doc("Open tunnels of the route, for the process. 0 = no limit."),
    max_connections_per_worker: integer({ min: 1 })
      .default(10_000)
      .doc("The same, times the number of workers; not used with `max_connections`."),
    max_frame_size: size({ max: 2 ** 40 })
      .default(1_048_576)
      .doc("Payload of one frame, in either direction: the WebSocket is closed with 1009. 0 = no limit."),
    max_message_size: size({ max: 2 ** 40 })
      .default(10_485_760)
      .doc("Payload of one message, of all its frames, in either direction: 1009. 0 = no limit."),
    max_frames_per_second: integer({ min: 0, max: 1_000_000 })
      .default(1000)
      .doc("Frames that a client may send in one second: 1008. 0 = no limit."),
    allowed_origins: list(string({ min: 1, max: 2048 }), { max: 1000, single: true })
      .default([])
      .doc("Accepted `Origin`s, exact or `https://*.example.com`; empty = any."),
    subprotocols: list(string({ min: 1, max: 256 }), { max: 100, single: true })
      .default([])
      .doc("Accepted subprotocols; empty = any."),
  },
  {
    title: "WebSocket",
    guarded: ["allowed_origins", "max_connections", "max_connections_per_worker"],
    aliases: { origins: "allowed_origins", protocols: "subprotocols" },
  },
);

/** What a route does, of which it does exactly one. */
export const ACTIONS = ["upstream", "upstreams", "redirect", "respond"] as const;

export const route = object(
  {
    name: string({
      code: "bad_name",
      noun: "a name",
      pattern: "^[A-Za-z0-9_-]{1,64}$",
      check: (t) =>
        /^[A-Za-z0-9_-]{1,64}$/.test(t)
          ? undefined
          : `a name has 1 to 64 letters, digits, "_" or "-"; ${JSON.stringify(t)} does not fit`,
    })
      .optional()
      .doc("Unique name (metrics label); made from method and path where absent."),
    path: pathPattern().doc(
      "Pattern: literal segments, `:param` for one segment, a last `*` (or `*name`) for the rest. More specific ones win.",
    ),
    method: either("a method or a list of methods", { string: method(), list: list(method(), { max: 30 }) })
      .default("")
      .doc("Method; empty = any. GET includes HEAD."),
    methods: list(method(), { max: 30, single: true }).default([]).doc("Several methods."),
    host: list(hostPattern(), { max: 200, single: true })
      .default([])
      .doc("Hosts, exact or `*.example.com`; empty = any."),
    headers: conditions
      .optional()
      .doc('Conditions on headers: `{"X-Version": "2"}`, or a list with `name` and one of `exact`, `prefix`, `regex`.'),
    query: conditions.optional().doc("Conditions on query parameters, likewise."),
    cookies: conditions.optional().doc("Conditions on cookies, likewise."),
    priority: integer({ min: -1_000_000, max: 1_000_000 })
      .default(0)
      .doc("Decides between routes of equal specificity; higher first."),
    upstream: string({ min: 1, max: 64 }).optional().doc("Name of the upstream to forward to."),
    upstreams: list(target, { min: 1, max: 100 })
      .optional()
      .doc("Several upstreams by weight (canary), instead of `upstream`."),
    split_by: string({
      max: 270,
      check: (text) =>
        text === "ip" || /^(header|cookie):[^\s:]+$/.test(text)
          ? undefined
          : 'must be "ip", "header:NAME" or "cookie:NAME"',
    })
      .optional()
      .doc(
        "With `upstreams`: `ip`, `header:NAME` or `cookie:NAME` binds what has the same address or value to one of them; default " +
          "each request by itself.",
      ),
    redirect: redirect.optional().doc("Answer with a redirect."),
    respond: respond.optional().doc("Answer with a fixed response."),
    rewrite_path: path().optional().doc("Whole new path; `:param` and `*` of the pattern are filled in."),
    strip_prefix: path().optional().doc("Prefix taken off the path."),
    add_prefix: path().optional().doc("Prefix put before the path, after `strip_prefix`."),
    rewrite_regex: list(regexRewrite, { max: 20, single: true })
      .default([])
      .doc("Regular expressions applied to the path in order."),
    timeout: duration("ms")
      .default(0)
      .doc("Whole request, first byte of its head to last byte of the answer: 504. 0 = none. Not for tunnels."),
    max_request_size: size({ max: 2 ** 50 })
      .optional()
      .doc("Bytes of a request body: 413; default the listener's."),
    middleware: list(middlewareUse, { max: 20, single: true })
      .default([])
      .doc(
        "Names of middleware, or middleware in place, at most 20. A type listed here replaces the global middleware of that type.",
      ),
    surface: string({ min: 1, max: 128 })
      .optional()
      .doc("API surface that the route belongs to: its limit in `surfaces` takes the place of the global rate limit."),
    ...routeHandlers,
    skip_middleware: list(string({ min: 1, max: 64 }), { max: 20, single: true })
      .default([])
      .doc("Types of global middleware that do not run on this route."),
    transform: transform.optional().doc("A `transform` middleware in place."),
    compression: either("true, false or an object", { boolean: boolean(), object: compression })
      .optional()
      .doc("A `compression` middleware in place; `false` switches the global one off."),
    auth: list(authMode(), { min: 1, max: 7, single: true })
      .optional()
      .doc(
        "How clients of this route authenticate, by the top-level blocks of those names; `none` switches global authentication off.",
      ),
    auth_required: boolean()
      .optional()
      .doc(
        "`true`: a request without a credential gets 401. `false`: it passes as nobody (a bad credential is still 401). Default: required where authentication is in effect.",
      ),
    required_scopes: list(string({ min: 1, max: 256 }), { max: 50, single: true })
      .default([])
      .doc("Scopes that the identity must have; see `jwt_authz`."),
    required_roles: list(string({ min: 1, max: 256 }), { max: 50, single: true })
      .default([])
      .doc("Roles that the identity must have."),
    websocket: either("true, false or an object", { boolean: boolean(), object: websocket })
      .default(true)
      .doc("Upgrades (WebSocket). They pass the same middleware as any request."),
  },
  {
    title: "Route",
    guarded: ["middleware", "auth", "auth_required", "required_scopes", "required_roles", "max_request_size"],
    aliases: {
      hosts: "host",
      max_body_size: "max_request_size",
      timeout_ms: "timeout",
      scopes: "required_scopes",
      roles: "required_roles",
      targets: "upstreams",
      middlewares: "middleware",
    },
    check: (value, cx) => {
      const actions = ACTIONS.filter((key) => value[key] !== undefined);
      if (actions.length === 0)
        cx.report({ code: "missing", message: '"upstream" is missing (or "upstreams", "redirect", "respond")' });
      if (actions.length > 1)
        cx.report(
          {
            code: "contradiction",
            message: `does one thing: ${actions.map((a) => JSON.stringify(a)).join(" and ")} exclude each other`,
          },
          actions[1] as string,
        );
      if (value.rewrite_path !== undefined && value.strip_prefix !== undefined) {
        cx.report(
          { code: "contradiction", message: '"rewrite_path" and "strip_prefix" exclude each other' },
          "strip_prefix",
        );
      }
      for (const key of ["rewrite_path", "strip_prefix", "add_prefix"] as const) {
        if (value[key] !== undefined && value.upstream === undefined && value.upstreams === undefined) {
          cx.report({ code: "contradiction", message: "has no effect on a route that forwards nothing" }, key);
        }
      }
      if (value.method !== "" && (value.methods as unknown[]).length > 0)
        cx.report({ code: "contradiction", message: 'say "method" or "methods", not both' }, "methods");
    },
  },
);
