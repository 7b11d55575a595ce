/** `upstreams`. */
import { boolean, duration, either, integer, list, number, object, oneOf, secret, size, string } from "../kit/index.ts";
import { file, headerName, host, name, path } from "./formats.ts";

/** Balancing algorithms in the order of the reference. */
export const ALGORITHMS = [
  "round_robin",
  "weighted_round_robin",
  "least_connections",
  "random",
  "power_of_two",
  "ewma",
  "ip_hash",
  "consistent_hash",
  "sticky",
] as const;

/** Those that need no settings. */
const PLAIN_ALGORITHMS = ALGORITHMS.filter((algorithm) => algorithm !== "sticky");

const SPELLINGS = {
  roundrobin: "round_robin",
  rr: "round_robin",
  wrr: "weighted_round_robin",
  weighted: "weighted_round_robin",
  least_conn: "least_connections",
  p2c: "power_of_two",
  maglev: "consistent_hash",
} as const;

const status = () => integer({ min: 100, max: 599 });

const healthCheck = object(
  {
    enabled: boolean().default(true).doc("`false` keeps the block without using it."),
    type: oneOf(["http", "tcp", "grpc"])
      .default("http")
      .doc("GET over HTTP, a TCP connection, or `grpc.health.v1.Health/Check`."),
    interval_seconds: duration("s", { min: 0.1, max: 86_400 })
      .default(30)
      .doc("Between two probes of one backend, ± 10 % jitter."),
    timeout_seconds: duration("s", { min: 0.05, max: 3600 }).default(5).doc("One probe's time."),
    path: string({
      min: 1,
      max: 2048,
      code: "bad_path",
      check: (text) => (/\s/.test(text) ? "must not hold white space" : undefined),
    })
      .default("/health")
      .doc("Request target of an HTTP probe; service name of a gRPC probe."),
    host: host().optional().doc("Host header of an HTTP probe; default the backend's host."),
    port: integer({ min: 1, max: 65_535 }).optional().doc("Port of the probe; default the backend's."),
    statuses: list(status(), { max: 100, single: true })
      .default([])
      .doc("Statuses that count as healthy. Empty: 200 to 399."),
    body_contains: string({ min: 1, max: 4096 }).optional().doc("Text that the first 64 KiB of the body must contain."),
    healthy_threshold: integer({ min: 1, max: 100 }).default(1).doc("Successes in a row that make a backend healthy."),
    unhealthy_threshold: integer({ min: 1, max: 100 }).default(1).doc("Failures in a row that make it unhealthy."),
  },
  { title: "Health check", aliases: { interval: "interval_seconds", timeout: "timeout_seconds" } },
);

const circuitBreaker = object(
  {
    enabled: boolean().default(true).doc("`false` keeps the block without using it."),
    failure_threshold: integer({ min: 1, max: 1_000_000 })
      .default(5)
      .doc("Failures in the window that open it. 5xx answers and failed connections count, 4xx do not."),
    success_threshold: integer({ min: 1, max: 1000 }).default(2).doc("Successful half-open probes that close it."),
    timeout_ms: duration("ms", { min: 1 }).default(30_000).doc("Time open before a probe is let through."),
    window_ms: duration("ms", { min: 1 })
      .default(10_000)
      .doc("Window in which failures are counted, for the whole process."),
  },
  { title: "Circuit breaker" },
);

const outlier = object(
  {
    enabled: boolean().default(true).doc("`false` keeps the block without using it."),
    consecutive_failures: integer({ min: 0, max: 100_000 })
      .default(5)
      .doc("5xx answers or failed connections in a row. 0 = not used."),
    error_rate: number({ min: 0, max: 1 }).default(0).doc("Share of failures in the window, 0 to 1. 0 = not used."),
    min_requests: integer({ min: 1 }).default(20).doc("Requests in the window below which the rate says nothing."),
    interval: duration("ms", { min: 100 }).default(10_000).doc("Window of the rate."),
    ejection_time: duration("ms", { min: 100 })
      .default(30_000)
      .doc("First ejection; each further one is twice as long, up to ten times this."),
    max_ejected: number({ min: 0, max: 1 }).default(0.5).doc("Share of backends ejected at once, 0 to 1."),
    panic_threshold: number({ min: 0, max: 1 })
      .default(0)
      .doc("Use every backend when fewer than this share are left. 0 = never."),
  },
  { title: "Outlier detection" },
);

const retry = object(
  {
    max: integer({ min: 0, max: 10 }).optional().doc("Tries after the first; default `max_retries`."),
    try_timeout: duration("ms")
      .default(0)
      .doc("Time of one try until the head of its answer arrived. 0 = no own limit."),
    statuses: list(integer({ min: 400, max: 599 }), { max: 50, single: true })
      .default([])
      .doc("Statuses of idempotent requests that are tried again."),
    non_idempotent: boolean()
      .default(false)
      .doc(
        "Also replay methods that are not idempotent after bytes were written. A request may then be executed twice.",
      ),
    max_body: size({ max: 2 ** 26 })
      .default(65_536)
      .doc("Request bodies up to this size are kept for a replay."),
    backoff: duration("ms", { max: 60_000 }).default(25).doc("First pause; doubles with each retry, full jitter."),
    budget_percent: number({ min: 0, max: 100 })
      .default(20)
      .doc("Retries in percent of requests over ten seconds; three a second are always allowed."),
  },
  { title: "Retry", aliases: { max_retries: "max" } },
);

const upstreamTls = object(
  {
    enabled: boolean().default(true).doc("`false` keeps the block without using it."),
    verify: boolean().default(true).doc("Verify chain and name. Only `false` turns it off."),
    ca_path: file().optional().doc("PEM bundle used instead of the system's roots."),
    sni: host().optional().doc("Name sent and verified; default the backend's host."),
    cert_path: file().optional().doc("Client certificate chain."),
    key_path: file().optional().doc("Its key."),
  },
  {
    title: "Upstream TLS",
    guarded: true,
    aliases: { cert_file: "cert_path", key_file: "key_path", ca_file: "ca_path" },
    check: (tls, cx) => {
      if ((tls.cert_path === undefined) !== (tls.key_path === undefined)) {
        cx.report({ code: "missing", message: '"cert_path" and "key_path" belong together: one of them is missing' });
      }
    },
  },
);

const backendUrl = string({
  code: "bad_url",
  noun: "a backend",
  check: (text) =>
    parseBackend(text)
      ? undefined
      : `must be "host:port" or a URL such as "http://127.0.0.1:3000", not ${JSON.stringify(text)}`,
});

/** `http://host:port`, `https://host`, `host:port` or `host`. Without a scheme, TLS and the port that it decides are the upstream's to say. */
export function parseBackend(text: string): { host: string; port?: number; tls?: boolean } | undefined {
  try {
    const schemed = /^[a-z][a-z0-9+.-]*:\/\//i.test(text);
    const url = new URL(schemed ? text : `http://${text}`);
    if ((url.protocol !== "http:" && url.protocol !== "https:") || url.hostname === "") return undefined;
    if (url.username || url.password || url.search || url.hash || (url.pathname !== "/" && url.pathname !== ""))
      return undefined;
    const host = url.hostname.replace(/^\[|\]$/g, "");
    const tls = url.protocol === "https:";
    if (schemed) return { host, port: url.port === "" ? (tls ? 443 : 80) : Number(url.port), tls };
    // Not `url.port`, which is empty for a port of 80.
    const port = /:(\d+)\/?$/.exec(text)?.[1];
    return { host, ...(port !== undefined && { port: Number(port) }) };
  } catch {
    return undefined;
  }
}

const backendObject = object(
  {
    host: host().doc("IP address, or a DNS name: each address that it resolves to is an endpoint."),
    port: integer({ min: 1, max: 65_535 }).optional().doc("Port; default 80, 443 with `tls`."),
    weight: integer({ min: 0, max: 65_535 }).default(1).doc("Share of the traffic; 0 = none."),
    max_connections: integer({ min: 1, max: 1_000_000 })
      .default(1000)
      .doc("Open connections to each of its endpoints, exact for the process."),
    tls: boolean()
      .optional()
      .doc("HTTPS to this backend; all backends of an upstream must agree. `tls` of the upstream has the details."),
    health_check_enabled: boolean().optional().doc("Alias of the upstream's `health_check.enabled`."),
    health_check_interval: duration("s", { min: 0.1, max: 86_400 })
      .optional()
      .doc("Alias of the upstream's `health_check.interval_seconds`."),
    health_check_timeout: duration("s", { min: 0.05, max: 3600 })
      .optional()
      .doc("Alias of the upstream's `health_check.timeout_seconds`."),
    health_check_path: path().optional().doc("Alias of the upstream's `health_check.path`."),
  },
  {
    title: "Backend",
    guarded: ["max_connections", "tls"],
    aliases: { address: "host", connection_limit: "max_connections" },
  },
);

const hashKey = oneOf(["ip", "path", "header", "cookie"], { spellings: { client_ip: "ip" } });

const balance = object(
  {
    algorithm: oneOf(ALGORITHMS, { spellings: { ...SPELLINGS, sticky_cookie: "sticky" } }).doc(
      "How a backend is chosen.",
    ),
    key: hashKey.optional().doc("`consistent_hash`: what is hashed; default `ip`."),
    name: string({ min: 1, max: 256 }).optional().doc("`consistent_hash` by `header` or `cookie`: its name."),
    bound: number({ min: 1, max: 10 })
      .optional()
      .doc("`consistent_hash`: bounded load, 1.25 = at most 125 % of the mean."),
    cookie: headerName().optional().doc("`sticky`: name of the cookie; default `titan_sticky`."),
    secret: secret({ minBytes: 16 }).optional().doc("`sticky`: key of the cookie's signature, at least 16 bytes."),
    ttl_seconds: duration("s").optional().doc("`sticky`: Max-Age of the cookie; default 0 = a session cookie."),
  },
  {
    title: "Load balancing",

    check: (value, cx) => {
      const { algorithm } = value;
      if (
        algorithm === "consistent_hash" &&
        (value.key === "header" || value.key === "cookie") &&
        value.name === undefined
      ) {
        cx.report({ code: "missing", message: `"name" is missing: which ${value.key}?` });
      }
      if (algorithm === "sticky" && value.secret === undefined)
        cx.report({ code: "missing", message: '"secret" is missing: the cookie is signed with it' });
      const used =
        algorithm === "consistent_hash"
          ? ["key", "name", "bound"]
          : algorithm === "sticky"
            ? ["cookie", "secret", "ttl_seconds"]
            : [];
      for (const key of Object.keys(value)) {
        if (key !== "algorithm" && !used.includes(key))
          cx.report({ code: "contradiction", message: `has no effect with the algorithm "${algorithm}"` }, key);
      }
    },
  },
);

export const upstream = object(
  {
    name: name().doc("Name that routes use; unique."),
    load_balancing: either("an algorithm's name or an object", {
      string: oneOf(PLAIN_ALGORITHMS, { spellings: SPELLINGS }),
      object: balance,
    })
      .default("round_robin")
      .doc("How a backend is chosen: a name, or an object where the algorithm has settings."),
    backends: list(
      either('an object with "host" and "port", or "host:port"', { object: backendObject, string: backendUrl }),
      { max: 10_000 },
    ).doc("Where requests go; an object, or `host:port`, or `http(s)://host:port`."),
    protocol: oneOf(["http1", "h2", "h2c", "auto"], {
      spellings: { "http/1.1": "http1", http: "http1", http2: "h2", grpc: "h2c", grpcs: "h2" },
    })
      .default("http1")
      .doc("`http1`, `h2` (over TLS), `h2c` (HTTP/2 in the clear), `auto` (by ALPN over TLS, HTTP/1.1 otherwise)."),
    tls: either("true, false or an object", { boolean: boolean(), object: upstreamTls })
      .optional()
      .doc("TLS towards the backends; verified unless `verify` is false."),
    host_header: string({ min: 1, max: 260 })
      .default("preserve")
      .doc(
        "Host header towards the backends: `preserve` (the client's; of an HTTP/1.0 client that sends none, the backend's), `backend` (the backend's host and port), or a fixed value.",
      )
      .example("api.internal"),
    health_check: healthCheck.optional().doc("Active health checks; none without this block."),
    outlier_detection: outlier.optional().doc("Passive ejection of backends that fail; none without this block."),
    circuit_breaker: circuitBreaker.optional().doc("Circuit breaker for each backend; none without this block."),
    max_retries: integer({ min: 0, max: 10 })
      .default(2)
      .doc("Tries after the first. Only what is safe to repeat is repeated; see `retry`."),
    retry_timeout: duration("ms")
      .default(1000)
      .doc(
        "What a backend may have processed is sent again only within this time of the first try. A failure to connect is always followed " +
          "by another try, and silence (`response_timeout`, `retry.try_timeout`) by one at another backend, where one is left. 0 = no limit.",
      ),
    retry: retry.default({}).doc("What is repeated, and how."),
    pool_size: integer({ min: 0, max: 100_000 })
      .default(100)
      .doc("Idle connections kept for each backend, for the process."),
    pool_idle_timeout: duration("s").default(60).doc("An idle connection is closed after this time."),
    max_waiters: integer({ min: 0, max: 1_000_000 })
      .default(1000)
      .doc("Requests that may wait for a connection of one backend; one more gets 503."),
    queue_timeout: duration("ms").default(1000).doc("How long a request waits for a free connection; then 503."),
    connect_timeout: duration("ms", { min: 1 }).default(5000).doc("TCP connect and TLS handshake: 502 after retries."),
    response_timeout: duration("ms")
      .default(60_000)
      .doc("From the request sent to the first byte of the answer: 504. 0 = none."),
    read_timeout: duration("ms")
      .default(60_000)
      .doc("Between two reads of an answer's body: the client's connection is cut. 0 = none."),
    write_timeout: duration("ms").default(60_000).doc("Between two accepted writes of a request: 504. 0 = none."),
    slow_start: duration("ms")
      .default(0)
      .doc("A backend that comes back grows to its full weight over this time. 0 = at once."),
  },
  {
    title: "Upstream",
    guarded: ["tls"],
    aliases: {
      algorithm: "load_balancing",
      outlier: "outlier_detection",
      first_byte_timeout: "response_timeout",
      servers: "backends",
      slow_start_ms: "slow_start",
    },
  },
);
