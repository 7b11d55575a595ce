/** `logging`, `metrics`, `admin`, `health`, `dns`. */
import { boolean, duration, integer, list, map, number, object, oneOf, secret, string } from "../kit/index.ts";
import { bindAddress, cidr, path, pathPrefix } from "./formats.ts";
import { logLevel } from "./server.ts";

/** Fields that an access log line can have; `header.NAME` beside them. */
export const LOG_FIELDS = [
  "time",
  "request_id",
  "correlation_id",
  "trace_id",
  "client_ip",
  "peer",
  "protocol",
  "scheme",
  "tls_version",
  "sni",
  "listener",
  "method",
  "host",
  "path",
  "query",
  "target",
  "route",
  "upstream",
  "backend",
  "status",
  "bytes_in",
  "bytes_out",
  "duration_ms",
  "upstream_connect_ms",
  "upstream_first_byte_ms",
  "tries",
  "error",
  "error_detail",
  "user_agent",
  "referer",
  "user",
] as const;

const DEFAULT_FIELDS = [
  "time",
  "request_id",
  "client_ip",
  "method",
  "host",
  "target",
  "protocol",
  "status",
  "bytes_in",
  "bytes_out",
  "duration_ms",
  "route",
  "upstream",
  "backend",
  "upstream_first_byte_ms",
  "tries",
  "error",
  "error_detail",
  "user_agent",
];

const logField = string({
  code: "bad_value",
  noun: "the name of a field",
  check: (text) =>
    (LOG_FIELDS as readonly string[]).includes(text) || /^header\.[A-Za-z0-9_-]+$/.test(text)
      ? undefined
      : `there is no field ${JSON.stringify(text)}; there are ${LOG_FIELDS.join(", ")} and header.NAME`,
});

const rotation = object(
  {
    max_size_mb: number({ min: 0.01, max: 1_000_000 }).default(100).doc("Size at which the file is rotated, MiB."),
    max_files: integer({ min: 1, max: 10_000 }).default(10).doc("Rotated files kept."),
  },
  { title: "Log rotation" },
);

export const logging = object(
  {
    level: logLevel()
      .default("info")
      .doc("Lowest level that is logged: trace, debug, info, warn, error. Override: `TITAN_LOG_LEVEL`."),
    format: oneOf(["auto", "json", "text"], { spellings: { pretty: "text" } })
      .default("auto")
      .doc("`auto` = text on a terminal, JSON elsewhere."),
    output: string({ min: 1, max: 4096 }).default("stdout").doc("Access log: `stdout`, or a file."),
    log_requests: boolean().default(true).doc("Write the access log."),
    fields: list(logField, { min: 1, max: 100 })
      .default(DEFAULT_FIELDS)
      .doc(`Fields of an access log line in order: ${LOG_FIELDS.join(", ")}, header.NAME.`),
    exclude_paths: list(pathPrefix(), { max: 1000, single: true })
      .default([])
      .doc("Paths that are not logged; exact, or a prefix that ends in `*`."),
    sample: number({ min: 0, max: 1 })
      .default(1)
      .doc("Share of requests logged, 0 to 1; answers of 500 and above always are."),
    rotation: rotation.optional().doc("Rotation of an access log file; none without this block."),
  },
  { title: "Logging", aliases: { access_log: "log_requests", sample_rate: "sample" } },
);

export const metrics = object(
  {
    enabled: boolean().default(true).doc("`false`: no metrics, and no admin listener."),
    host: bindAddress()
      .default("127.0.0.1")
      .doc("Address of the admin listener; another than loopback needs `admin.token`."),
    port: integer({ min: 0, max: 65_535 }).default(9090).doc("Port of the admin listener; 0 = chosen by the system."),
    path: path()
      .default("/metrics")
      .doc("Path of the metrics on the admin listener. On the gateway's own ports they are at `/_metrics`."),
    format: oneOf(["prometheus"]).default("prometheus").doc("Text format."),
    allow: list(cidr(), { max: 1000, single: true })
      .default([])
      .doc("Networks beside loopback that may read `/_metrics` and `/services/health`; others get 404."),
  },
  { title: "Metrics", guarded: ["allow"], aliases: { address: "host", listen_address: "host", allow_cidrs: "allow" } },
);

export const admin = object(
  {
    token: secret({ minBytes: 16 })
      .optional()
      .doc("Bearer token of the admin listener, at least 16 bytes. Override: `TITAN_ADMIN_TOKEN`."),
    control_socket: string({ min: 1, max: 100 })
      .optional()
      .doc("Path of the local control socket (`titan reload`); default in the runtime folder."),
  },
  { title: "Admin", guarded: true },
);

export const health = object(
  {
    paths: map(oneOf(["health", "live", "ready"]), { max: 50, key: path() })
      .default({})
      .doc(
        "More health paths beside `/_health`, `/_live` and `/_ready`: path → `health`, `live` or `ready`. A configured route wins over them.",
      )
      .example({ "/healthz": "live", "/readyz": "ready" }),
    critical: list(
      string({
        max: 73,
        code: "bad_value",
        check: (text) =>
          /^(redis|jwks|upstreams|upstream:[A-Za-z0-9_-]{1,64})$/.test(text)
            ? undefined
            : `must be "redis", "jwks", "upstreams" or "upstream:NAME", not ${JSON.stringify(text)}`,
      }),
      { max: 100 },
    )
      .default([])
      .doc(
        "Dependencies that readiness cannot do without: `redis`, `jwks`, `upstreams` (each of them) or `upstream:NAME`. While one has no usable server, `/_ready` answers 503 `unhealthy`; the loss of any other leaves it at 200 `degraded`.",
      )
      .example(["redis", "upstream:users"]),
  },
  { title: "Health" },
);

const server = string({
  code: "bad_address",
  check: (text) =>
    /^(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-fA-F:]+\])(:\d{1,5})?$/.test(text)
      ? undefined
      : `must be "address:port", not ${JSON.stringify(text)}`,
});

export const dns = object(
  {
    servers: list(server, { max: 10, single: true })
      .default([])
      .doc("Resolvers as `address:port`; empty = the system's."),
    min_ttl: duration("ms").default(1000).doc("Answers are used at least this long."),
    max_ttl: duration("ms").default(300_000).doc("Answers are used at most this long."),
    timeout: duration("ms", { min: 1 }).default(2000).doc("One query."),
  },
  { title: "DNS" },
);
