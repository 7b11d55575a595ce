/** The data plane's one snapshot of a scrape, as `metrics/scrape.rs` writes it. Buckets are not cumulative. */
export interface Scrape extends HookThreads {
  bounds_us: number[];
  routes: (Latency & {
    route: string;
    /** Method, status, count. */
    requests: [method: string, status: number, count: number][];
    bytes_in: number;
    bytes_out: number;
    tunnels_opened: number;
    tunnels_closed: number;
    tunnel_bytes_in: number;
    tunnel_bytes_out: number;
  })[];
  upstreams: (Latency & {
    upstream: string;
    answered: number;
    connect_failed: number;
    reset: number;
    timed_out: number;
    connects: number;
    connect_us: number;
    retries: number;
    retries_denied: number;
  })[];
  policies: { policy: string; rejected: number }[];
  listeners: {
    listener: string;
    accepted: number;
    closed: Record<string, number>;
    refused: Record<string, number>;
    tls: Record<string, number>;
  }[];
  hooks: (Latency & { hook: string; outcomes: Record<string, number> })[];
  hooked_requests: number;
  errors: Record<string, number>;
  access_log: Record<string, number>;
  gauges: {
    generation: number;
    snapshots: number;
    draining: boolean;
    /** For want of file descriptors or memory. */
    accept_pauses: number;
    /** Bodies that are held, and what could not be. */
    buffers: { bytes: number; limit: number; refused: number; forgone: number };
    listeners: { listener: string; open: number }[];
    backends: {
      upstream: string;
      backend: string;
      healthy: boolean;
      breaker: "closed" | "open" | "half_open";
      in_flight: number;
      connections: number;
      idle: number;
      waiting: number;
      requests: number;
      failures: number;
      checks_ok: number;
      checks_failed: number;
      ejections: number;
      circuit_opened: number;
    }[];
    /** What changed with backends; `change` = the log's event. */
    changes: { upstream: string; backend: string; change: string; count: number }[];
    certificates: { path: string; subject: string; serial: string; not_after: number }[];
    stores: { store: string; up: boolean; asked: number; failed: number }[];
    tokens: {
      policy: string;
      cache_hits: number;
      cache_misses: number;
      keys: { healthy: boolean; fetches: number; failures: number } | null;
    }[];
  };
}

/** A histogram of durations. */
export interface Latency {
  /** One count a bucket, the last without a bound. */
  latency: number[];
  latency_sum_us: number;
}

/** What is known of the threads that run hooks: JavaScript's own, so not of the data plane. */
export interface HookThreads {
  hook_stalls: number;
  hook_stalled_ms: number;
}
