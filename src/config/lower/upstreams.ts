/** `upstreams` → native upstreams. */
import type { OutputOf } from "../kit/index.ts";
import { parseBackend, type upstream } from "../schema/upstream.ts";
import { compact, type Json, type Lowering, ms, seconds } from "./context.ts";

type Upstream = OutputOf<typeof upstream>;
type Backend = Exclude<Upstream["backends"][number], string>;

export function lowerUpstreams(cx: Lowering): Json[] {
  const names = new Set<string>();
  return cx.config.upstreams.map((item, i) => {
    if (item?.name === undefined) return {};
    if (names.has(item.name))
      cx.error("duplicate_name", ["upstreams", i, "name"], `two upstreams are named ${JSON.stringify(item.name)}`);
    names.add(item.name);
    return cx.part(() => lowerUpstream(cx, item, i), {});
  });
}

function lowerUpstream(cx: Lowering, item: Upstream, index: number): Json {
  const path = ["upstreams", index];
  const backends = item.backends.map((backend) => (typeof backend === "string" ? backendOf(backend) : backend));
  if (backends.length === 0) cx.error("no_backends", [...path, "backends"], "at least one backend is needed");
  else if (backends.every((backend) => backend.weight === 0))
    cx.warn("no_traffic", [...path, "backends"], "every backend has the weight 0: every request gets 503");

  const tls = lowerTls(cx, item, backends, path);
  if (item.protocol === "h2" && tls === undefined)
    cx.error(
      "contradiction",
      [...path, "protocol"],
      '"h2" is HTTP/2 over TLS: add "tls": true, or use "h2c" for HTTP/2 in the clear',
    );
  if (item.protocol === "h2c" && tls !== undefined)
    cx.error("contradiction", [...path, "protocol"], '"h2c" is HTTP/2 in the clear: with TLS use "h2"');
  return compact({
    name: item.name,
    balance: lowerBalance(item),
    backends: backends.map((backend) => ({
      host: bare(backend.host),
      port: backend.port ?? (tls ? 443 : 80),
      weight: backend.weight,
      max_connections: backend.max_connections,
    })),
    protocol: item.protocol,
    tls,
    host:
      item.host_header === "preserve" || item.host_header === "backend"
        ? item.host_header
        : { fixed: item.host_header },
    health_check: lowerHealthCheck(cx, item, backends, path),
    outlier: item.outlier_detection?.enabled
      ? {
          consecutive_failures: item.outlier_detection.consecutive_failures,
          error_rate: item.outlier_detection.error_rate,
          min_requests: item.outlier_detection.min_requests,
          interval_ms: ms(item.outlier_detection.interval),
          ejection_ms: ms(item.outlier_detection.ejection_time),
          max_ejected: item.outlier_detection.max_ejected,
          panic_threshold: item.outlier_detection.panic_threshold,
        }
      : undefined,
    circuit_breaker: item.circuit_breaker?.enabled
      ? {
          failure_threshold: item.circuit_breaker.failure_threshold,
          success_threshold: item.circuit_breaker.success_threshold,
          timeout_ms: ms(item.circuit_breaker.timeout_ms),
          window_ms: ms(item.circuit_breaker.window_ms),
        }
      : undefined,
    retry: {
      max: item.retry.max ?? item.max_retries,
      within_ms: ms(item.retry_timeout),
      try_timeout_ms: ms(item.retry.try_timeout),
      statuses: item.retry.statuses,
      non_idempotent: item.retry.non_idempotent,
      max_body: item.retry.max_body,
      backoff_ms: ms(item.retry.backoff),
      budget_percent: item.retry.budget_percent,
    },
    pool: {
      max_idle: item.pool_size,
      idle_timeout_ms: seconds(item.pool_idle_timeout),
      max_waiters: item.max_waiters,
      wait_timeout_ms: ms(item.queue_timeout),
    },
    timeouts: {
      connect_ms: ms(item.connect_timeout),
      first_byte_ms: ms(item.response_timeout),
      read_ms: ms(item.read_timeout),
      write_ms: ms(item.write_timeout),
    },
    slow_start_ms: ms(item.slow_start),
  });
}

function backendOf(text: string): Backend {
  return { ...(parseBackend(text) ?? { host: text }), weight: 1, max_connections: 1000 };
}

function bare(host: string): string {
  return host.startsWith("[") ? host.slice(1, -1) : host;
}

function lowerTls(
  cx: Lowering,
  item: Upstream,
  backends: readonly Backend[],
  path: (string | number)[],
): Json | undefined {
  const stated = backends.map((backend) => backend.tls).filter((tls) => tls !== undefined);
  const mixed =
    stated.some((tls) => tls !== stated[0]) ||
    (stated.length > 0 && stated.length < backends.length && stated[0] === true && item.tls === undefined);
  if (mixed) {
    const odd = backends.findIndex((backend) => (backend.tls ?? false) !== (backends[0]?.tls ?? false));
    cx.error(
      "contradiction",
      [...path, "backends", Math.max(odd, 0)],
      "all backends of an upstream use TLS, or none: make two upstreams",
    );
    return undefined;
  }
  const block = typeof item.tls === "object" ? item.tls : undefined;
  const wanted = block ? block.enabled : item.tls;
  const byBackend = stated[0];
  if (wanted !== undefined && byBackend !== undefined && wanted !== byBackend) {
    cx.error(
      "contradiction",
      [...path, "tls"],
      `the backends say ${byBackend ? "TLS" : "no TLS"}, the upstream says ${wanted ? "TLS" : "no TLS"}`,
    );
    return undefined;
  }
  if (!(wanted ?? byBackend ?? false)) return undefined;
  return compact({
    verify: block?.verify ?? true,
    ca_path: cx.optionalFile(block?.ca_path),
    sni: block?.sni,
    cert_path: cx.optionalFile(block?.cert_path),
    key_path: cx.optionalFile(block?.key_path),
  });
}

function lowerBalance(item: Upstream): Json {
  const given = item.load_balancing;
  if (typeof given === "string") {
    // Without settings, hashing is by client address; a sticky cookie can't be without its secret, which the schema asks for in the object form.
    return given === "consistent_hash" ? { algorithm: given, key: { from: "ip" } } : { algorithm: given };
  }
  if (given.algorithm === "consistent_hash") {
    const from = given.key ?? "ip";
    const named = from === "header" || from === "cookie";
    const name = from === "header" ? given.name?.toLowerCase() : given.name;
    return compact({ algorithm: given.algorithm, key: named ? { from, name } : { from }, bound: given.bound });
  }
  if (given.algorithm === "sticky") {
    return {
      algorithm: given.algorithm,
      cookie: given.cookie ?? "titan_sticky",
      secret: given.secret?.text,
      ttl_seconds: Math.round(given.ttl_seconds ?? 0),
    };
  }
  return { algorithm: given.algorithm };
}

function lowerHealthCheck(
  cx: Lowering,
  item: Upstream,
  backends: readonly Backend[],
  path: (string | number)[],
): Json | undefined {
  const block = item.health_check;
  // The alias form states health checks for each backend; an upstream has one set of settings, so they must agree.
  const alias = {
    enabled: "health_check_enabled",
    interval: "health_check_interval",
    timeout: "health_check_timeout",
    path: "health_check_path",
  } as const;
  const said = <K extends keyof typeof alias>(key: K) => {
    const field = alias[key];
    const first = backends.findIndex((backend) => backend[field] !== undefined);
    const odd = backends.findIndex(
      (backend) => first >= 0 && backend[field] !== undefined && backend[field] !== backends[first]?.[field],
    );
    if (odd >= 0)
      cx.error(
        "contradiction",
        [...path, "backends", odd, field],
        `differs from backends[${first}]: an upstream checks all its backends alike`,
      );
    return first < 0 ? undefined : backends[first]?.[field];
  };
  const enabled = said("enabled") as boolean | undefined;
  const interval = said("interval") as number | undefined;
  const timeout = said("timeout") as number | undefined;
  const target = said("path") as string | undefined;
  const stated = interval !== undefined || timeout !== undefined || target !== undefined;
  if (!(block ? block.enabled : (enabled ?? stated))) return undefined;
  const type = block?.type ?? "http";
  const probe = block?.path ?? "/health";
  if (type === "http" && !probe.startsWith("/"))
    cx.error(
      "bad_path",
      [...path, "health_check", "path"],
      `a path begins with "/", ${JSON.stringify(probe)} does not`,
    );
  return compact({
    kind: type,
    interval_ms: seconds(block?.interval_seconds ?? interval ?? 30),
    timeout_ms: seconds(block?.timeout_seconds ?? timeout ?? 5),
    path: block ? (type === "grpc" && probe === "/health" ? "" : probe) : (target ?? "/health"),
    host: block?.host,
    port: block?.port,
    statuses: block?.statuses ?? [],
    body_contains: block?.body_contains,
    healthy_threshold: block?.healthy_threshold ?? 1,
    unhealthy_threshold: block?.unhealthy_threshold ?? 1,
  });
}
