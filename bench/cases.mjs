// What is measured: each case names the gateways that it compares, pairwise within each round.

const TRIO = ["titan", "nginx", "haproxy"];
const PAIRS = [
  ["titan", "nginx"],
  ["titan", "haproxy"],
];

function saturation(path, connections, tls, extra = {}) {
  return {
    name: `${tls ? "https" : "http"} ${path.slice(1)} × ${connections}`,
    path,
    connections,
    tls,
    gateways: TRIO,
    pairs: PAIRS,
    ...extra,
    groups: ["saturation", tls ? "https" : "http", ...(extra.groups ?? [])],
  };
}

/** HTTP/2 from h2load, HTTP/1.1 to the origin: 16 connections with 10 streams each, as many requests in flight as 160 connections of HTTP/1.1. */
function http2(tls) {
  return {
    name: `${tls ? "h2 over TLS" : "h2c"} 109 × 16 × 10 streams`,
    driver: "h2load",
    path: "/109",
    connections: 16,
    streams: 10,
    tls,
    gateways: [...TRIO, "h2o", "titan-aa", "nginx-full"],
    pairs: [...PAIRS, ["titan", "h2o"], ["titan", "nginx-full"], ["titan-aa", "titan"]],
    targets: { "titan/nginx": 0.9, "titan/h2o": 1 },
    groups: ["h2", tls ? "h2-tls" : "h2c"],
  };
}

/** Messages of 64 bytes that the origin sends back; each connection waits for its echo. */
function echo(extra = {}) {
  return {
    name: "ws echo 64 bytes × 64",
    path: "/ws",
    connections: 64,
    tls: false,
    websocket: 64,
    gateways: ["titan-ws", "haproxy", "nginx-ws", "titan-ws-aa"],
    pairs: [
      ["titan-ws", "haproxy"],
      ["titan-ws", "nginx-ws"],
      ["titan-ws-aa", "titan-ws"],
    ],
    targets: { "titan-ws/haproxy": 1 },
    groups: ["ws"],
    ...extra,
  };
}

/** Unary calls, HTTP/2 on both legs: a message of 64 bytes there and back, `grpc-status` in trailers. */
const GRPC = {
  ...http2(false),
  name: "grpc unary 64 bytes × 16 × 10 streams",
  path: "/grpc/Echo",
  grpc: 64,
  gateways: ["titan-grpc", "nginx-grpc", "haproxy-grpc", "titan-grpc-aa"],
  pairs: [
    ["titan-grpc", "nginx-grpc"],
    ["titan-grpc", "haproxy-grpc"],
    ["titan-grpc-aa", "titan-grpc"],
  ],
  targets: { "titan-grpc/nginx-grpc": 1 },
  groups: ["grpc"],
};

/**
 * Cases in the order they run. `targets` are ratios of CPU a request (first / second of a pair) that the project set itself, `margins` are
 * differences in µs. `headers` go with every request, to every gateway of the case; `{token}` stands for the run's token.
 */
export const CASES = [
  saturation("/109", 64, false, {
    gateways: [...TRIO, "titan-aa", "nginx-aa", "nginx-full", "haproxy-full"],
    pairs: [...PAIRS, ["titan", "nginx-full"], ["titan", "haproxy-full"], ["titan-aa", "titan"], ["nginx-aa", "nginx"]],
    targets: { "titan/nginx": 0.9, "titan/haproxy": 0.85 },
    groups: ["smoke", "short"],
  }),
  saturation("/109", 512, false),
  saturation("/109", 1, false),
  saturation("/16k", 64, false, { groups: ["short"] }),
  saturation("/16k", 512, false),
  saturation("/256k", 64, false, { targets: { "titan/nginx": 1, "titan/haproxy": 1 }, groups: ["short"] }),
  saturation("/256k", 512, false, { targets: { "titan/nginx": 1, "titan/haproxy": 1 } }),
  saturation("/4m", 8, false, { targets: { "titan/nginx": 1, "titan/haproxy": 1 }, groups: ["short"] }),
  saturation("/109", 64, true, { targets: { "titan/nginx": 1 }, groups: ["short"] }),
  saturation("/109", 512, true),
  saturation("/16k", 64, true, { targets: { "titan/nginx": 1 } }),
  saturation("/256k", 64, true, { targets: { "titan/nginx": 1 } }),
  saturation("/4m", 8, true, { targets: { "titan/nginx": 1 } }),
  { ...saturation("/109", 64, false), name: "http 109 × 64 at a fixed rate", rate: true, groups: ["rate", "http"] },
  { ...saturation("/109", 64, true), name: "https 109 × 64 at a fixed rate", rate: true, groups: ["rate", "https"] },
  {
    ...saturation("/16k", 64, false, { groups: ["short"] }),
    name: "http 16k × 64 at a fixed rate",
    rate: true,
    groups: ["rate", "http"],
  },
  {
    ...saturation("/109", 64, false),
    name: "access log on, http 109 × 64",
    gateways: ["titan-log", "nginx-log", "titan"],
    pairs: [
      ["titan-log", "nginx-log"],
      ["titan-log", "titan"],
    ],
    targets: { "titan-log/nginx-log": 1 },
    groups: ["variants", "log", "short"],
  },
  {
    ...saturation("/109", 64, false),
    name: "workers: 2 against 1, http 109 × 64",
    gateways: ["titan-2", "titan"],
    pairs: [["titan-2", "titan"]],
    targets: { "titan-2/titan": 1.08 },
    groups: ["variants", "workers", "short"],
  },
  {
    ...saturation("/109", 64, false),
    name: "10,000 routes against 1, http 109 × 64",
    gateways: ["titan-10k", "titan"],
    pairs: [["titan-10k", "titan"]],
    targets: { "titan-10k/titan": 1.1 },
    groups: ["variants", "routes", "short"],
  },
  http2(false),
  http2(true),
  echo(),
  echo({ name: "ws echo 64 bytes × 64 at a fixed rate", rate: true, targets: {} }),
  GRPC,
  {
    ...saturation("/109", 64, false),
    name: "limit + CORS + JWT on every request, http 109 × 64",
    gateways: ["titan-policy", "titan", "nginx-limit", "nginx"],
    pairs: [
      ["titan-policy", "titan"],
      ["titan-policy", "nginx-limit"],
      ["nginx-limit", "nginx"],
    ],
    headers: ["Authorization: Bearer {token}", "Origin: https://app.bench.test"],
    targets: { "titan-policy/titan": 1.15 },
    margins: { "titan-policy/nginx-limit": 1 },
    groups: ["variants", "policy", "short"],
  },
  compression("gzip level 1", ["titan-gzip-1", "nginx-gzip-1", "titan-zstd-1", "titan-br-1"], ["short"]),
  compression("gzip level 6", ["titan-gzip-6", "nginx-gzip-6", "titan-zstd-5", "titan-br-4"]),
];

/** The first two are compared, the others are shown beside them. What they send is shown, too: less CPU for more bytes would be no gain. */
function compression(name, gateways, groups = []) {
  const [titan, nginx] = gateways;
  return {
    ...saturation("/json", 16, false),
    name: `compression of 16 KiB of JSON, ${name}, http × 16`,
    gateways,
    pairs: gateways.filter((one) => one !== nginx).map((one) => [one, nginx]),
    headers: ["Accept-Encoding: gzip, br, zstd"],
    targets: { [`${titan}/${nginx}`]: 1 },
    sizes: { [`${titan}/${nginx}`]: 1 },
    groups: ["variants", "compression", ...groups],
  };
}
