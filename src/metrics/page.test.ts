import { expect, test } from "vitest";
import { MetricsPage } from "./page.ts";
import type { HookThreads, Scrape } from "./scrape.ts";

const latency = { latency: [2, 1, 0, 1], latency_sum_us: 2_500_000 };

const scrape: Omit<Scrape, keyof HookThreads> = {
  bounds_us: [500, 1000, 1_000_000],
  routes: [
    {
      route: "api",
      requests: [
        ["GET", 200, 3],
        ["POST", 503, 1],
      ],
      ...latency,
      bytes_in: 10,
      bytes_out: 20,
      tunnels_opened: 5,
      tunnels_closed: 3,
      tunnel_bytes_in: 1,
      tunnel_bytes_out: 2,
    },
    {
      route: "",
      requests: [["GET", 404, 7]],
      ...latency,
      bytes_in: 0,
      bytes_out: 0,
      tunnels_opened: 0,
      tunnels_closed: 0,
      tunnel_bytes_in: 0,
      tunnel_bytes_out: 0,
    },
  ],
  upstreams: [],
  policies: [{ policy: 'odd"name', rejected: 2 }],
  listeners: [{ listener: "http", accepted: 4, closed: { clean: 3 }, refused: { limit: 1 }, tls: { full: 0 } }],
  hooks: [],
  hooked_requests: 0,
  errors: { no_route: 7 },
  access_log: { written: 1 },
  gauges: {
    generation: 3,
    snapshots: 2,
    draining: false,
    accept_pauses: 7,
    buffers: { bytes: 4096, limit: 65536, refused: 3, forgone: 1 },
    listeners: [{ listener: "http", open: 1 }],
    backends: [
      {
        upstream: "api",
        backend: "127.0.0.1:1",
        healthy: false,
        breaker: "half_open",
        in_flight: 1,
        connections: 5,
        idle: 4,
        waiting: 0,
        requests: 10,
        failures: 3,
        checks_ok: 8,
        checks_failed: 2,
        ejections: 4,
        circuit_opened: 5,
      },
    ],
    changes: [{ upstream: "api", backend: "", change: "dns_changed", count: 2 }],
    certificates: [],
    stores: [{ store: "127.0.0.1:6379", up: true, asked: 5, failed: 2 }],
    tokens: [
      { policy: "auth", cache_hits: 9, cache_misses: 1, keys: { healthy: false, fetches: 3, failures: 2 } },
      { policy: "static", cache_hits: 0, cache_misses: 0, keys: null },
    ],
  },
};

test("the data plane's snapshot becomes Prometheus text", async () => {
  let reads = 0;
  const read = () => {
    reads++;
    return JSON.stringify(scrape);
  };
  const page = new MetricsPage(read, () => ({ hook_stalls: 2, hook_stalled_ms: 1_500 }));
  const { contentType, body } = await page.render();
  expect(contentType).toMatch(/^text\/plain/);
  expect(reads, "one snapshot a page").toBe(1);
  for (const line of [
    "# TYPE titan_requests_total counter",
    'titan_requests_total{route="api",method="POST",status="503"} 1',
    'titan_requests_total{route="none",method="GET",status="404"} 7',
    'titan_request_duration_seconds_bucket{le="0.0005",route="api"} 2',
    'titan_request_duration_seconds_bucket{le="0.001",route="api"} 3',
    'titan_request_duration_seconds_bucket{le="1",route="api"} 3',
    'titan_request_duration_seconds_bucket{le="+Inf",route="api"} 4',
    'titan_request_duration_seconds_sum{route="api"} 2.5',
    'titan_request_duration_seconds_count{route="api"} 4',
    'titan_tunnels_open{route="api"} 2',
    'titan_policy_rejections_total{policy="odd\\"name"} 2',
    'titan_jwt_cache_total{policy="auth",result="hit"} 9',
    'titan_jwks_healthy{policy="auth"} 0',
    'titan_jwks_fetches_total{policy="auth",result="ok"} 1',
    'titan_store_up{store="127.0.0.1:6379"} 1',
    'titan_store_requests_total{store="127.0.0.1:6379",result="failed"} 2',
    'titan_connections_refused_total{listener="http",reason="limit"} 1',
    'titan_errors_total{stage="no_route"} 7',
    'titan_backend_healthy{upstream="api",backend="127.0.0.1:1"} 0',
    'titan_backend_requests_total{upstream="api",backend="127.0.0.1:1",result="ok"} 7',
    'titan_backend_checks_total{upstream="api",backend="127.0.0.1:1",result="ok"} 8',
    'titan_backend_checks_total{upstream="api",backend="127.0.0.1:1",result="failed"} 2',
    'titan_backend_changes_total{upstream="api",backend="none",change="dns_changed"} 2',
    'titan_backend_ejections_total{upstream="api",backend="127.0.0.1:1"} 4',
    'titan_circuit_breaker_opened_total{backend="127.0.0.1:1",upstream="api"} 5',
    'titan_circuit_breaker_state{backend="127.0.0.1:1",upstream="api"} 1',
    'titan_pool_connections{upstream="api",backend="127.0.0.1:1",state="active"} 1',
    "titan_accept_pauses_total 7",
    "titan_hook_stalls_total 2",
    "titan_hook_stalled_seconds 1.5",
    "titan_buffered_bytes 4096",
    'titan_buffered_denied_total{outcome="refused"} 3',
    "titan_config_generation 3",
    "titan_config_snapshots 2",
  ]) {
    expect(body.split("\n")).toContain(line);
  }
  expect(body, "the process's own").toMatch(/^process_resident_memory_bytes \d+$/m);
  expect(body).toMatch(/^titan_info\{version="\d+\.\d+\.\d+",node="v\d+/m);
});
