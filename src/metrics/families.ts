import type { Latency, Scrape } from "./scrape.ts";

/** One sample. */
export interface Sample {
  labels: Record<string, string | number>;
  value: number;
  /** Where it differs from the family's: `…_bucket`, `…_sum`, `…_count`. */
  metricName?: string;
}

/** A metric family made from the data plane's snapshot. */
export interface Family {
  name: string;
  type: "counter" | "gauge" | "histogram";
  help: string;
  samples(scrape: Scrape): Iterable<Sample>;
}

const BREAKER = { closed: 0, half_open: 1, open: 2 } as const;

/** What every route or upstream without a name is called: traffic that no route matched. */
const label = (name: string) => name || "none";

const simple = <T>(items: readonly T[], one: (item: T) => [Record<string, string | number>, number]): Sample[] =>
  items.map((item) => {
    const [labels, value] = one(item);
    return { labels, value };
  });

/** One sample for each entry of a record, named by `key`. */
function* spread(labels: Sample["labels"], key: string, record: Record<string, number>): Iterable<Sample> {
  for (const [name, value] of Object.entries(record)) yield { labels: { ...labels, [key]: name }, value };
}

function* histogram(
  name: string,
  scrape: Scrape,
  items: readonly Latency[],
  labels: (index: number) => Sample["labels"],
) {
  for (const [index, item] of items.entries()) {
    const shared = labels(index);
    let count = 0;
    for (const [bucket, n] of item.latency.entries()) {
      count += n;
      const bound = scrape.bounds_us[bucket];
      const le = bound === undefined ? "+Inf" : bound / 1e6;
      yield { labels: { le, ...shared }, value: count, metricName: `${name}_bucket` };
    }
    yield { labels: shared, value: item.latency_sum_us / 1e6, metricName: `${name}_sum` };
    yield { labels: shared, value: count, metricName: `${name}_count` };
  }
}

/** Every family of the data plane. Labels are bounded: routes, upstreams, backends, listeners and policies come from the configuration. */
export const FAMILIES: readonly Family[] = [
  {
    name: "titan_requests_total",
    type: "counter",
    help: "Requests answered, by route, method and status.",
    *samples({ routes }) {
      for (const { route, requests } of routes) {
        for (const [method, status, value] of requests) {
          yield { labels: { route: label(route), method, status }, value };
        }
      }
    },
  },
  {
    name: "titan_request_duration_seconds",
    type: "histogram",
    help: "First byte of a request's head to the last byte of its answer.",
    samples(scrape) {
      return histogram(this.name, scrape, scrape.routes, (i) => ({ route: label(scrape.routes[i]?.route ?? "") }));
    },
  },
  {
    name: "titan_bytes_total",
    type: "counter",
    help: "Body bytes, received from clients (in) and sent to them (out).",
    *samples({ routes }) {
      for (const item of routes) {
        yield { labels: { route: label(item.route), direction: "in" }, value: item.bytes_in };
        yield { labels: { route: label(item.route), direction: "out" }, value: item.bytes_out };
      }
    },
  },
  {
    name: "titan_tunnels_opened_total",
    type: "counter",
    help: "Upgraded connections (WebSocket) that were opened.",
    samples: ({ routes }) => simple(routes, (item) => [{ route: label(item.route) }, item.tunnels_opened]),
  },
  {
    name: "titan_tunnels_open",
    type: "gauge",
    help: "Upgraded connections that are open.",
    samples: ({ routes }) =>
      simple(routes, (item) => [{ route: label(item.route) }, item.tunnels_opened - item.tunnels_closed]),
  },
  {
    name: "titan_tunnel_bytes_total",
    type: "counter",
    help: "Bytes through upgraded connections, from clients (in) and to them (out).",
    *samples({ routes }) {
      for (const item of routes) {
        yield { labels: { route: label(item.route), direction: "in" }, value: item.tunnel_bytes_in };
        yield { labels: { route: label(item.route), direction: "out" }, value: item.tunnel_bytes_out };
      }
    },
  },
  {
    name: "titan_errors_total",
    type: "counter",
    help: "Answers that Titan made because of an error, by the stage that made them.",
    samples: ({ errors }) => spread({}, "stage", errors),
  },
  {
    name: "titan_policy_rejections_total",
    type: "counter",
    help: "Requests that a policy refused: rate limits, address lists, CORS.",
    samples: ({ policies }) => simple(policies, (item) => [{ policy: item.policy }, item.rejected]),
  },
  {
    name: "titan_hook_calls_total",
    type: "counter",
    help: "Calls of hooks, by how they ended; told = onLog, which answers nothing.",
    *samples({ hooks }) {
      for (const { hook, outcomes } of hooks) yield* spread({ hook }, "outcome", outcomes);
    },
  },
  {
    name: "titan_hook_duration_seconds",
    type: "histogram",
    help: "From the call of a hook to its reply, the way there and back included.",
    samples(scrape) {
      return histogram(this.name, scrape, scrape.hooks, (i) => ({ hook: scrape.hooks[i]?.hook ?? "" }));
    },
  },
  {
    name: "titan_hooked_requests_total",
    type: "counter",
    help: "Requests that entered JavaScript; all others never left the data plane.",
    samples: ({ hooked_requests }) => [{ labels: {}, value: hooked_requests }],
  },
  {
    name: "titan_hook_stalls_total",
    type: "counter",
    help: "Times that a thread of hooks was found blocked for more than a second; the log has hooks_stalled.",
    samples: ({ hook_stalls }) => [{ labels: {}, value: hook_stalls }],
  },
  {
    name: "titan_hook_stalled_seconds",
    type: "gauge",
    help: "How long calls wait for a thread of hooks that does not take them, at this moment; of the thread that is worst.",
    samples: ({ hook_stalled_ms }) => [{ labels: {}, value: hook_stalled_ms / 1_000 }],
  },
  {
    name: "titan_connections",
    type: "gauge",
    help: "Open client connections.",
    samples: ({ gauges }) => simple(gauges.listeners, (item) => [{ listener: item.listener }, item.open]),
  },
  {
    name: "titan_connections_accepted_total",
    type: "counter",
    help: "Client connections accepted.",
    samples: ({ listeners }) => simple(listeners, (item) => [{ listener: item.listener }, item.accepted]),
  },
  {
    name: "titan_connections_closed_total",
    type: "counter",
    help: "Client connections closed, by how they ended.",
    *samples({ listeners }) {
      for (const item of listeners) yield* spread({ listener: item.listener }, "reason", item.closed);
    },
  },
  {
    name: "titan_connections_refused_total",
    type: "counter",
    help: "Client connections refused, by the limit that did.",
    *samples({ listeners }) {
      for (const item of listeners) yield* spread({ listener: item.listener }, "reason", item.refused);
    },
  },
  {
    name: "titan_accept_pauses_total",
    type: "counter",
    help: "Pauses of 100 ms in which nothing was accepted, for want of file descriptors or memory.",
    samples: ({ gauges }) => [{ labels: {}, value: gauges.accept_pauses }],
  },
  {
    name: "titan_tls_handshakes_total",
    type: "counter",
    help: "TLS handshakes with clients.",
    *samples({ listeners }) {
      for (const item of listeners) yield* spread({ listener: item.listener }, "result", item.tls);
    },
  },
  {
    name: "titan_upstream_requests_total",
    type: "counter",
    help: "Tries at an upstream, by outcome.",
    *samples({ upstreams }) {
      for (const { upstream, answered, connect_failed, reset, timed_out } of upstreams) {
        yield* spread({ upstream: label(upstream) }, "outcome", { answered, connect_failed, reset, timed_out });
      }
    },
  },
  {
    name: "titan_upstream_duration_seconds",
    type: "histogram",
    help: "Request sent to the first byte of the upstream's answer, or until it was given up for lost.",
    samples(scrape) {
      const { upstreams } = scrape;
      return histogram(this.name, scrape, upstreams, (i) => ({ upstream: label(upstreams[i]?.upstream ?? "") }));
    },
  },
  {
    name: "titan_upstream_retries_total",
    type: "counter",
    help: "Tries after the first.",
    samples: ({ upstreams }) => simple(upstreams, (item) => [{ upstream: label(item.upstream) }, item.retries]),
  },
  {
    name: "titan_upstream_retries_denied_total",
    type: "counter",
    help: "Retries that the budget did not allow.",
    samples: ({ upstreams }) => simple(upstreams, (item) => [{ upstream: label(item.upstream) }, item.retries_denied]),
  },
  {
    name: "titan_pool_connects_total",
    type: "counter",
    help: "Connections made to backends; the others were reused.",
    samples: ({ upstreams }) => simple(upstreams, (item) => [{ upstream: label(item.upstream) }, item.connects]),
  },
  {
    name: "titan_pool_connect_seconds_total",
    type: "counter",
    help: "Time spent in making them, TLS included.",
    samples: ({ upstreams }) =>
      simple(upstreams, (item) => [{ upstream: label(item.upstream) }, item.connect_us / 1e6]),
  },
  {
    name: "titan_pool_connections",
    type: "gauge",
    help: "Open connections to a backend.",
    *samples({ gauges }) {
      for (const { upstream, backend, connections, idle } of gauges.backends) {
        yield { labels: { upstream, backend, state: "active" }, value: Math.max(0, connections - idle) };
        yield { labels: { upstream, backend, state: "idle" }, value: idle };
      }
    },
  },
  {
    name: "titan_pool_waiting",
    type: "gauge",
    help: "Requests that wait for a connection to a backend.",
    samples: ({ gauges }) =>
      simple(gauges.backends, (item) => [{ upstream: item.upstream, backend: item.backend }, item.waiting]),
  },
  {
    name: "titan_backend_in_flight",
    type: "gauge",
    help: "Requests that a backend is working on.",
    samples: ({ gauges }) =>
      simple(gauges.backends, (item) => [{ upstream: item.upstream, backend: item.backend }, item.in_flight]),
  },
  {
    name: "titan_backend_healthy",
    type: "gauge",
    help: "1 where a backend takes traffic as far as health checks and ejection go.",
    samples: ({ gauges }) =>
      simple(gauges.backends, (item) => [{ upstream: item.upstream, backend: item.backend }, item.healthy ? 1 : 0]),
  },
  {
    name: "titan_backend_requests_total",
    type: "counter",
    help: "Requests sent to a backend, tries included, by whether they count as failed for its circuit and ejection.",
    *samples({ gauges }) {
      for (const { upstream, backend, requests, failures } of gauges.backends) {
        // The two are read one after the other while requests end.
        yield* spread({ upstream, backend }, "result", { ok: Math.max(0, requests - failures), failed: failures });
      }
    },
  },
  {
    name: "titan_backend_checks_total",
    type: "counter",
    help: "Active health checks of a backend, by result.",
    *samples({ gauges }) {
      for (const { upstream, backend, checks_ok, checks_failed } of gauges.backends) {
        yield* spread({ upstream, backend }, "result", { ok: checks_ok, failed: checks_failed });
      }
    },
  },
  {
    name: "titan_backend_changes_total",
    type: "counter",
    help: "Changes of a backend's state, by the event that the log names; backend = as configured, none = the whole upstream.",
    samples: ({ gauges }) =>
      simple(gauges.changes, ({ upstream, backend, change, count }) => [
        { upstream, backend: label(backend), change },
        count,
      ]),
  },
  {
    name: "titan_backend_ejections_total",
    type: "counter",
    help: "Times that a backend was ejected because its requests failed.",
    samples: ({ gauges }) =>
      simple(gauges.backends, (item) => [{ upstream: item.upstream, backend: item.backend }, item.ejections]),
  },
  {
    name: "titan_circuit_breaker_opened_total",
    type: "counter",
    help: "Times that the circuit breaker of a backend opened.",
    samples: ({ gauges }) =>
      simple(gauges.backends, (item) => [{ backend: item.backend, upstream: item.upstream }, item.circuit_opened]),
  },
  {
    name: "titan_circuit_breaker_state",
    type: "gauge",
    help: "Circuit breaker of a backend: 0 closed, 1 half open, 2 open.",
    samples: ({ gauges }) =>
      simple(gauges.backends, (item) => [{ backend: item.backend, upstream: item.upstream }, BREAKER[item.breaker]]),
  },
  {
    name: "titan_certificate_not_after_seconds",
    type: "gauge",
    help: "When a certificate in use expires, Unix time.",
    samples: ({ gauges }) =>
      simple(gauges.certificates, ({ path, serial, not_after }) => [{ path, serial }, not_after]),
  },
  {
    name: "titan_jwt_cache_total",
    type: "counter",
    help: "Tokens, by whether they had been verified before.",
    *samples({ gauges }) {
      for (const { policy, cache_hits, cache_misses } of gauges.tokens) {
        yield { labels: { policy, result: "hit" }, value: cache_hits };
        yield { labels: { policy, result: "miss" }, value: cache_misses };
      }
    },
  },
  {
    name: "titan_jwks_healthy",
    type: "gauge",
    help: "Whether a key set's last fetch was good.",
    *samples({ gauges }) {
      for (const { policy, keys } of gauges.tokens) {
        if (keys) yield { labels: { policy }, value: Number(keys.healthy) };
      }
    },
  },
  {
    name: "titan_jwks_fetches_total",
    type: "counter",
    help: "Fetches of a key set, by how they ended.",
    *samples({ gauges }) {
      for (const { policy, keys } of gauges.tokens) {
        if (!keys) continue;
        yield { labels: { policy, result: "ok" }, value: keys.fetches - keys.failures };
        yield { labels: { policy, result: "failed" }, value: keys.failures };
      }
    },
  },
  {
    name: "titan_store_up",
    type: "gauge",
    help: "Whether a Redis server is in use.",
    samples: ({ gauges }) => simple(gauges.stores, ({ store, up }) => [{ store }, Number(up)]),
  },
  {
    name: "titan_store_requests_total",
    type: "counter",
    help: "Questions to a Redis server, by whether they were answered in time.",
    *samples({ gauges }) {
      for (const { store, asked, failed } of gauges.stores) {
        yield { labels: { store, result: "ok" }, value: asked - failed };
        yield { labels: { store, result: "failed" }, value: failed };
      }
    },
  },
  {
    name: "titan_access_log_lines_total",
    type: "counter",
    help: "Access log lines, by what became of them.",
    samples: ({ access_log }) => spread({}, "result", access_log),
  },
  {
    name: "titan_buffered_bytes",
    type: "gauge",
    help: "Bytes of bodies held for another try, hooks, changes of a whole body, and compression.",
    samples: ({ gauges }) => [{ labels: {}, value: gauges.buffers.bytes }],
  },
  {
    name: "titan_buffered_limit_bytes",
    type: "gauge",
    help: "Their limit, server.max_buffered_size; 0 = none.",
    samples: ({ gauges }) => [{ labels: {}, value: gauges.buffers.limit }],
  },
  {
    name: "titan_buffered_denied_total",
    type: "counter",
    help: "Bodies that the limit let nobody hold: refused = the request got 503, forgone = it did without another try or compression.",
    *samples({ gauges }) {
      const { refused, forgone } = gauges.buffers;
      yield* spread({}, "outcome", { refused, forgone });
    },
  },
  {
    name: "titan_config_generation",
    type: "gauge",
    help: "Generation of the configuration that is served; counts up with each one applied.",
    samples: ({ gauges }) => [{ labels: {}, value: gauges.generation }],
  },
  {
    name: "titan_config_snapshots",
    type: "gauge",
    help: "Configurations in memory: the one that is served, and those of requests that began under an earlier one.",
    samples: ({ gauges }) => [{ labels: {}, value: gauges.snapshots }],
  },
  {
    name: "titan_draining",
    type: "gauge",
    help: "1 while Titan drains.",
    samples: ({ gauges }) => [{ labels: {}, value: gauges.draining ? 1 : 0 }],
  },
];
