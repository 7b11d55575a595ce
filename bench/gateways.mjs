// The gateways under test. Each variant says in `adds` what it writes beyond the bare proxying, because headers cost.
import { execFileSync } from "node:child_process";
import { generateKeyPairSync, sign } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { CORES, freePort, start, untilServing } from "./processes.mjs";

const ROOT = path.resolve(import.meta.dirname, "..");

/** Variants by name. `adds` is printed with the results. */
export const VARIANTS = {
  titan: {
    kind: "titan",
    adds: "X-Forwarded-For/-Proto/-Host, X-Request-Id, traceparent, Via (both ways); metrics on",
  },
  "titan-aa": { kind: "titan", adds: "the same again: control" },
  "titan-2": { kind: "titan", workers: 2, adds: "as titan, workers: 2" },
  "titan-log": { kind: "titan", log: true, adds: "as titan, access log to a file" },
  "titan-10k": { kind: "titan", routes: 10_000, adds: "as titan, 10,000 routes" },
  "titan-ws": { kind: "titan", websocket: true, adds: "as titan; frame and message sizes and frames a second limited" },
  "titan-ws-aa": { kind: "titan", websocket: true, adds: "the same again: control" },
  "titan-grpc": { kind: "titan", grpc: true, adds: "as titan" },
  "titan-grpc-aa": { kind: "titan", grpc: true, adds: "the same again: control" },
  "titan-policy": {
    kind: "titan",
    policy: true,
    adds: "as titan, with a rate limit by address, CORS and JWT (RS256, issuer and audience checked) on every request",
  },
  "titan-gzip-1": { kind: "titan", compression: { gzip: 1 }, adds: "as titan, gzip level 1" },
  "titan-gzip-6": { kind: "titan", compression: { gzip: 6 }, adds: "as titan, gzip level 6 (its default)" },
  "titan-zstd-1": { kind: "titan", compression: { zstd: 1 }, adds: "as titan, zstd level 1" },
  "titan-zstd-5": { kind: "titan", compression: { zstd: 5 }, adds: "as titan, zstd level 5 (its default)" },
  "titan-br-1": { kind: "titan", compression: { brotli: 1 }, adds: "as titan, br level 1" },
  "titan-br-4": { kind: "titan", compression: { brotli: 4 }, adds: "as titan, br level 4 (its default)" },
  "nginx-limit": { kind: "nginx", limit: true, adds: "as nginx, limit_req by address" },
  "nginx-gzip-1": { kind: "nginx", gzip: 1, adds: "as nginx, gzip level 1 (its default)" },
  "nginx-gzip-6": { kind: "nginx", gzip: 6, adds: "as nginx, gzip level 6" },
  nginx: { kind: "nginx", adds: "Host, X-Forwarded-For" },
  "nginx-aa": { kind: "nginx", adds: "the same again: control" },
  "nginx-full": {
    kind: "nginx",
    full: true,
    adds: "Host, X-Forwarded-For/-Proto/-Host, X-Request-Id, traceparent, Via (both ways)",
  },
  "nginx-log": { kind: "nginx", log: true, adds: "as nginx, access log to a file (buffer=64k flush=1s)" },
  "nginx-ws": { kind: "nginx", websocket: true, adds: "as nginx, Upgrade and Connection" },
  "nginx-grpc": { kind: "nginx", grpc: true, adds: "X-Forwarded-For (grpc_pass)" },
  haproxy: { kind: "haproxy", adds: "X-Forwarded-For" },
  "haproxy-full": {
    kind: "haproxy",
    full: true,
    adds: "X-Forwarded-For/-Proto/-Host, X-Request-Id, traceparent, Via (both ways)",
  },
  "haproxy-grpc": { kind: "haproxy", grpc: true, adds: "as haproxy" },
  h2o: { kind: "h2o", adds: "X-Forwarded-For/-Proto, Via towards the origin; Server" },
};

/** Why a variant can't be measured here, or nothing. Only h2o may be missing: its Debian package is not on every machine. */
export function missing(name) {
  if (VARIANTS[name].kind !== "h2o") return undefined;
  try {
    execFileSync("which", ["h2o"], { stdio: "ignore" });
    return undefined;
  } catch {
    return "h2o is not installed (apt-get install h2o)";
  }
}

/** How Titan is started: the product (`cli`), or the data plane alone (`native`, an example binary without Node). */
export function titanForm(wanted) {
  if (wanted) return wanted;
  return existsSync(path.join(ROOT, "dist/cli/main.js")) ? "cli" : "native";
}

/** Makes a P-256 certificate for `bench.test` with openssl. */
export function certificate(dir) {
  const cert = path.join(dir, "cert.pem");
  const key = path.join(dir, "key.pem");
  execFileSync(
    "openssl",
    [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:prime256v1",
      "-nodes",
      "-days",
      "2",
      "-subj",
      "/CN=bench.test",
      "-addext",
      "subjectAltName=DNS:bench.test",
      "-keyout",
      key,
      "-out",
      cert,
    ],
    { stdio: "ignore" },
  );
  return { cert, key };
}

/** An RSA key as PEM and a token that it signed, with the claims that a provider puts into one. */
export function identity(dir) {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const jwtKey = path.join(dir, "jwt.pem");
  writeFileSync(jwtKey, publicKey.export({ type: "spki", format: "pem" }));
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    iss: "https://idp.bench.test",
    aud: ["api", "account"],
    sub: "6f1f0a52-0d1f-4c39-9a35-1f2f0f0b7a11",
    iat: now,
    exp: now + 86_400,
    jti: "b8a9c1f0-55b8-4a0c-8f3e-5c5d8f1f9f10",
    azp: "web",
    scope: "openid profile email read:users write:users",
    realm_access: { roles: ["user", "editor"] },
    email: "ada@example.com",
  };
  const head = `${part({ alg: "RS256", typ: "JWT", kid: "k1" })}.${part(claims)}`;
  return { jwtKey, token: `${head}.${sign("sha256", Buffer.from(head), privateKey).toString("base64url")}` };
}

/**
 * Starts a variant; resolves when it answers. `context` = { dir, origin, grpcOrigin, cert, key, jwtKey, token, form }, and for the reliability
 * scenarios { backendConnections, memoryLimit }.
 */
export async function startGateway(name, context) {
  const variant = VARIANTS[name];
  const dir = path.join(context.dir, name);
  mkdirSync(dir, { recursive: true });
  const ports = {};
  for (const one of ["http", "https", "h2", "h2c", "admin"]) ports[one] = await freePort();
  // Titan speaks HTTP/2 on its HTTP ports; the others get ports of their own, so that their HTTP/1.1 ones stay as they are.
  if (variant.kind === "titan") Object.assign(ports, { h2: ports.https, h2c: ports.http });
  const input = { ...context, ...variant, dir, ports };
  const argv = { titan, nginx, haproxy, h2o }[variant.kind](input);
  const from = performance.now();
  const child = start(CORES.gateway, argv, { cwd: dir, env: { ...process.env, NODE_ENV: "production" } });
  child.stdout.resume();
  if (context.memoryLimit) limitMemory(child.pid, context.memoryLimit);
  const route = variant.routes ? `/r${variant.routes / 2}` : "";
  const ready = await untilServing(child, ports.http, `${route}/109`, from, authorization(context));
  return { name, dir, child, ports, ready, prefix: route };
}

/** What a request carries where a gateway asks for a token. */
function authorization({ token }) {
  return token ? [`Authorization: Bearer ${token}`] : [];
}

/** A memory cgroup (v1) of its own, removed by the system's own rules once it is empty. */
function limitMemory(pid, bytes) {
  const group = `/sys/fs/cgroup/memory/titan-bench-${pid}`;
  if (!existsSync("/sys/fs/cgroup/memory/memory.limit_in_bytes")) return;
  mkdirSync(group, { recursive: true });
  writeFileSync(`${group}/memory.limit_in_bytes`, String(bytes));
  writeFileSync(`${group}/cgroup.procs`, String(pid));
}

function titan({
  form,
  dir,
  origin,
  ports,
  cert,
  key,
  workers = 1,
  log = false,
  routes = 0,
  grpcOrigin,
  websocket = false,
  grpc = false,
  policy = false,
  compression,
  jwtKey,
  backendConnections = 20_000,
}) {
  const patterns = routes ? Array.from({ length: routes }, (_, index) => `/r${index}/*`) : ["/*"];
  const file = path.join(dir, "config.json");
  if (form === "native") {
    if (policy || compression) throw new Error("policies are measured with the product: --titan cli");
    const listener = (name, port, tls) => ({
      name,
      address: "127.0.0.1",
      port,
      limits: { max_connections: 20_000, max_body: 1 << 30 },
      ...(tls && { tls }),
    });
    const tls = { certificates: [{ cert_path: cert, key_path: key }] };
    const config = {
      workers,
      listeners: [listener("http", ports.http), listener("https", ports.https, tls)],
      upstreams: [
        {
          name: "origin",
          backends: [{ host: "127.0.0.1", port: origin, max_connections: backendConnections }],
          pool: { max_idle: 20_000 },
        },
        ...(grpc ? [{ name: "grpc", protocol: "h2c", backends: [{ host: "127.0.0.1", port: grpcOrigin }] }] : []),
      ],
      routes: [
        ...patterns.map((pattern, index) => ({
          name: `r${index}`,
          match: { path: pattern },
          action: { type: "proxy", targets: [{ upstream: "origin" }] },
        })),
        ...(websocket
          ? [
              {
                name: "ws",
                match: { path: "/ws" },
                action: { type: "proxy", targets: [{ upstream: "origin" }] },
                websocket: WEBSOCKET,
              },
            ]
          : []),
        ...(grpc
          ? [{ name: "grpc", match: { path: "/grpc/*" }, action: { type: "proxy", targets: [{ upstream: "grpc" }] } }]
          : []),
      ],
      ...(log && { access_log: { format: "json", fields: LOG_FIELDS, output: path.join(dir, "access.log") } }),
    };
    writeFileSync(file, JSON.stringify(config));
    return [locate("TITAN_SERVE", "target/dist/examples/serve", "target/release/examples/serve"), file];
  }
  const config = {
    server: {
      host: "127.0.0.1",
      port: ports.http,
      https_port: ports.https,
      workers,
      log_level: "error",
      max_connections: 20_000,
      tls: { enabled: true, cert_path: cert, key_path: key },
    },
    upstreams: [
      {
        name: "origin",
        pool_size: 20_000,
        backends: [{ host: "127.0.0.1", port: origin, max_connections: backendConnections }],
      },
      ...(grpc ? [{ name: "grpc", protocol: "h2c", backends: [{ host: "127.0.0.1", port: grpcOrigin }] }] : []),
    ],
    routes: [
      ...patterns.map((pattern) => ({ path: pattern, upstream: "origin", auth_required: policy })),
      ...(websocket ? [{ path: "/ws", upstream: "origin", websocket: WEBSOCKET }] : []),
      ...(grpc ? [{ path: "/grpc/*", upstream: "grpc" }] : []),
    ],
    ...(policy && policies(jwtKey)),
    ...(compression && {
      compression: { algorithms: Object.keys(compression), levels: compression, content_types: ["application/json"] },
    }),
    logging: { level: "error", log_requests: log, ...(log && { output: path.join(dir, "access.log") }) },
    metrics: { enabled: true, port: ports.admin },
  };
  writeFileSync(file, JSON.stringify(config));
  return [process.execPath, path.join(ROOT, "dist/cli/main.js"), "serve", "--config", file];
}

/** The limits on frames stay on; one connection sends more than the default of 1,000 a second here. */
const WEBSOCKET = { max_frames_per_second: 1_000_000 };

/** Every request is limited, gets CORS headers and is authenticated; the limit is one that no request meets. */
function policies(jwtKey) {
  return {
    rate_limit: { requests_per_second: 1_000_000, burst: 1_000_000, key: "client_ip" },
    cors: { allowed_origins: ["https://app.bench.test"], allow_credentials: true },
    jwt: {
      keys: [{ algorithm: "RS256", key_id: "k1", public_key_path: jwtKey }],
      allowed_issuers: ["https://idp.bench.test"],
      allowed_audiences: ["api"],
    },
  };
}

const LOG_FIELDS = [
  "time",
  "client_ip",
  "method",
  "path",
  "status",
  "bytes_out",
  "duration_ms",
  "upstream",
  "request_id",
];

function locate(variable, ...places) {
  const found = [process.env[variable], ...places.map((place) => path.join(ROOT, place))].find(
    (place) => place && existsSync(place),
  );
  if (!found) throw new Error(`none of ${places.join(", ")} is built (see bench/README.md)`);
  return found;
}

// Tuned: one worker, no log, upstream keep-alive for every connection, no request limit a connection, answers in memory buffers that hold
// 16 KiB at once and grow for large ones, never on disk.
function nginx({
  dir,
  origin,
  grpcOrigin,
  ports,
  cert,
  key,
  full = false,
  log = false,
  websocket = false,
  grpc = false,
  limit = false,
  gzip = 0,
  backendConnections = 0,
}) {
  const upgrade = `location = /ws { proxy_pass http://origin; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; proxy_read_timeout 300s; }`;
  const calls =
    "location /grpc/ { grpc_pass grpc://grpc; grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }";
  const zone = limit ? "limit_req_zone $binary_remote_addr zone=z:10m rate=1000000r/s;" : "";
  const limited = limit ? "limit_req zone=z burst=1000000 nodelay;" : "";
  const compressed = gzip
    ? `gzip on; gzip_comp_level ${gzip}; gzip_min_length 1024; gzip_types application/json; gzip_proxied any; gzip_vary on;`
    : "";
  const headers = full
    ? `proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Request-Id $request_id;
       proxy_set_header traceparent "00-$request_id-00f067aa0ba902b7-01"; proxy_set_header Via "1.1 nginx"; add_header Via "1.1 nginx"; add_header X-Request-Id $request_id;`
    : "";
  const text = `
worker_processes 1; worker_rlimit_nofile 20000; daemon off; pid ${dir}/pid; error_log ${dir}/error.log error;
events { worker_connections 18000; use epoll; }
http {
  access_log ${log ? `${dir}/access.log combined buffer=64k flush=1s` : "off"};
  sendfile on; tcp_nodelay on; keepalive_timeout 300s; keepalive_requests 1000000000; client_max_body_size 1g; server_tokens off; ${zone} ${compressed}
  client_body_temp_path ${dir}/b; proxy_temp_path ${dir}/p; fastcgi_temp_path ${dir}/f; uwsgi_temp_path ${dir}/u; scgi_temp_path ${dir}/s;
  proxy_http_version 1.1; proxy_buffering on; proxy_buffer_size 32k; proxy_buffers 16 64k; proxy_busy_buffers_size 256k; proxy_max_temp_file_size 0;
  ssl_certificate ${cert}; ssl_certificate_key ${key}; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:s:10m; ssl_buffer_size 16k;
  upstream origin { server 127.0.0.1:${origin} max_conns=${backendConnections}; keepalive 10000; keepalive_requests 1000000000; keepalive_timeout 300s; }
  ${grpc ? `upstream grpc { server 127.0.0.1:${grpcOrigin}; keepalive 10000; keepalive_requests 1000000000; keepalive_timeout 300s; }` : ""}
  server {
    listen 127.0.0.1:${ports.http} backlog=4096; listen 127.0.0.1:${ports.https} ssl backlog=4096;
    listen 127.0.0.1:${ports.h2c} http2 backlog=4096; listen 127.0.0.1:${ports.h2} ssl http2 backlog=4096;
    ${websocket ? upgrade : ""} ${grpc ? calls : ""}
    location / {
      proxy_pass http://origin; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; ${headers} ${limited}
    }
  }
}`;
  writeFileSync(path.join(dir, "nginx.conf"), text);
  return ["nginx", "-p", dir, "-e", path.join(dir, "error.log"), "-c", path.join(dir, "nginx.conf")];
}

// Tuned: one thread, no log, connections to the origin shared by all clients, splicing of large answers.
function haproxy({ dir, origin, grpcOrigin, ports, cert, key, full = false, grpc = false, backendConnections = 0 }) {
  const pem = path.join(dir, "haproxy.pem");
  writeFileSync(pem, `${read(cert)}${read(key)}`, { mode: 0o600 });
  const headers = full
    ? `  unique-id-format %[uuid()]
  http-request set-header X-Forwarded-Proto http if !{ ssl_fc }
  http-request set-header X-Forwarded-Proto https if { ssl_fc }
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Request-Id %[unique-id]
  http-request set-header traceparent 00-%[rand(999999999),hex]%[rand(999999999),hex]-00f067aa0ba902b7-01
  http-request add-header Via "1.1 haproxy"
  http-response set-header X-Request-Id %[unique-id]
  http-response add-header Via "1.1 haproxy"`
    : "";
  const text = `
global
  nbthread 1
  maxconn 7900
  tune.bufsize 32768
  tune.maxrewrite 1024
  tune.pool-high-fd-ratio 90
  tune.pool-low-fd-ratio 80
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout queue 1s
  timeout tunnel 300s
  timeout http-keep-alive 300s
  option http-keep-alive
  option splice-auto
  http-reuse always
frontend web
  bind 127.0.0.1:${ports.http} backlog 4096
  bind 127.0.0.1:${ports.https} ssl crt ${pem} backlog 4096
  bind 127.0.0.1:${ports.h2c} proto h2 backlog 4096
  bind 127.0.0.1:${ports.h2} ssl crt ${pem} alpn h2,http/1.1 backlog 4096
  option forwardfor
${headers}
${grpc ? "  use_backend grpc if { path_beg /grpc/ }" : ""}
  default_backend origin
${grpc ? `backend grpc\n  server g 127.0.0.1:${grpcOrigin} proto h2 pool-max-conn 10000 pool-purge-delay 300s` : ""}
backend origin
  server o 127.0.0.1:${origin} pool-max-conn 10000 pool-purge-delay 300s${backendConnections ? ` maxconn ${backendConnections}` : ""}
`;
  const file = path.join(dir, "haproxy.cfg");
  writeFileSync(file, text);
  return ["haproxy", "-db", "-f", file];
}

// Tuned: one thread, no log, connections to the origin kept. HTTP/2 by prior knowledge comes on the plain port.
function h2o({ dir, origin, ports, cert, key }) {
  const text = `
user: ${os.userInfo().username}
num-threads: 1
num-name-resolution-threads: 1
max-connections: 18000
tcp-fastopen: 0
error-log: ${dir}/error.log
pid-file: ${dir}/pid
http2-idle-timeout: 300
http1-request-timeout: 300
listen: { host: 127.0.0.1, port: ${ports.http} }
listen: { host: 127.0.0.1, port: ${ports.h2c} }
listen: { host: 127.0.0.1, port: ${ports.https}, ssl: { certificate-file: ${cert}, key-file: ${key} } }
listen: { host: 127.0.0.1, port: ${ports.h2}, ssl: { certificate-file: ${cert}, key-file: ${key} } }
hosts:
  default:
    paths:
      "/":
        proxy.reverse.url: "http://127.0.0.1:${origin}"
        proxy.preserve-host: ON
        proxy.timeout.keepalive: 300000
        proxy.timeout.io: 300000
`;
  const file = path.join(dir, "h2o.yaml");
  writeFileSync(file, text);
  return ["h2o", "-m", "worker", "-c", file];
}

function read(file) {
  return readFileSync(file, "utf8");
}
