// The three gateways, configured alike as far as they can be. The intervals and timeouts are part of what is measured: see docs/reliability.md.
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { directory, freePort, get, sleep, start, stop, until } from "./world.mjs";

const ROOT = path.resolve(import.meta.dirname, "../..");

/**
 * Starts a gateway before `origins`. `settings`:
 * health (active checks each second), tries, statuses (that are tried again), breaker, timeout (ms until a silent backend is given up),
 * streams (WebSocket and events pass; `h2port` takes HTTP/2, whose /call/* goes to the port `h2` of the backend).
 */
export async function gateway(kind, origins, settings = {}) {
  const port = await freePort();
  const self = { kind, port, generation: 0, dir: path.join(directory, `${kind}-${port}`), origins, settings };
  mkdirSync(self.dir);
  await { titan, nginx, haproxy }[kind](self);
  await until(
    `${kind} serves`,
    async () => {
      if (self.child.gone) throw new Error(`${kind} ended: ${self.child.output.slice(-2000)}`);
      return (await get(port, "/", 2000)).status !== undefined;
    },
    60_000,
  ).catch((error) => {
    throw new Error(`${error.message} (its output: ${self.child.output.slice(-500)})`);
  });
  return self;
}

async function titan(self) {
  const admin = await freePort();
  const file = path.join(self.dir, "config.json");
  self.write = (broken = false) => {
    self.generation++;
    const { health, tries = 2, statuses = [], breaker, timeout, dns, workers = 2, streams } = self.settings;
    const upstream = {
      name: "api",
      backends: self.origins.map(({ port, host = "127.0.0.1" }) => ({ host, port })),
      max_retries: tries,
      retry: { statuses, ...(timeout && { try_timeout: timeout }) },
      ...(health && { health_check: { interval_seconds: 1, timeout_seconds: 1, path: "/health" } }),
      ...(breaker && { circuit_breaker: breaker }),
      ...(timeout && { connect_timeout: timeout, retry_timeout: 0 }),
    };
    const config = {
      server: { host: "127.0.0.1", ...(!streams && { port: self.port }), workers, shutdown_timeout: 10_000 },
      upstreams: [
        upstream,
        ...(streams ? [{ name: "calls", protocol: "h2c", backends: [{ host: "127.0.0.1", port: streams.h2 }] }] : []),
      ],
      ...(streams && {
        listeners: [
          { port: self.port, address: "127.0.0.1" },
          { port: streams.h2port, address: "127.0.0.1" },
        ],
      }),
      // Each generation differs in a route, so that there is something to swap.
      routes: [
        { path: "/*", upstream: broken ? "nobody" : "api" },
        { path: `/generation/${self.generation}`, upstream: "api" },
        ...(streams
          ? [
              { path: "/chat", upstream: "api", websocket: {} },
              { path: "/call/*", upstream: "calls" },
            ]
          : []),
      ],
      logging: { level: "info", format: "json", log_requests: false },
      metrics: { port: admin },
      ...(dns && { dns }),
    };
    writeFileSync(file, JSON.stringify(config));
  };
  self.write();
  self.argv = [process.execPath, path.join(ROOT, "dist/cli/main.js"), "serve", "--config", file];
  self.child = start([...(self.settings.prefix ?? []), ...self.argv], {
    cwd: self.dir,
    env: { ...process.env, NODE_ENV: "production" },
  });
  self.graceful = "SIGTERM";
  self.reload = async () => {
    self.write();
    const seen = count(self.child.output, "new configuration is served");
    self.child.kill("SIGHUP");
    await until("the reload is done", () => count(self.child.output, "new configuration is served") > seen);
  };
  self.breakAndReload = async () => {
    self.write(true);
    const seen = count(self.child.output, "nobody");
    self.child.kill("SIGHUP");
    await until("the refusal is said", () => count(self.child.output, "nobody") > seen);
  };
}

async function nginx(self) {
  const file = path.join(self.dir, "nginx.conf");
  self.write = (broken = false) => {
    self.generation++;
    const { statuses = [], timeout = 60_000, streams } = self.settings;
    const next = ["error", "timeout", ...statuses.map((status) => `http_${status}`)].join(" ");
    const dir = self.dir;
    // Where failures are tried again they are what is measured: a server that is out for them would hide it.
    const fails = statuses.length > 0 ? 0 : 1;
    writeFileSync(
      file,
      `worker_processes 2; daemon off; pid ${dir}/pid; error_log ${dir}/error.log notice;
events { worker_connections 1024; }
http {
  access_log off; keepalive_requests 1000000; keepalive_timeout 300s;
  client_body_temp_path ${dir}/b; proxy_temp_path ${dir}/p; fastcgi_temp_path ${dir}/f; uwsgi_temp_path ${dir}/u; scgi_temp_path ${dir}/s;
  upstream api { ${self.origins.map(({ port }) => `server 127.0.0.1:${port} max_fails=${fails} fail_timeout=2s;`).join(" ")} keepalive 64; }
  server {
    listen 127.0.0.1:${self.port};
    ${streams ? `listen 127.0.0.1:${streams.h2port} http2;` : ""}
    ${streams ? "location = /chat { proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }" : ""}
    ${streams ? "location = /events { proxy_pass http://api; proxy_http_version 1.1; proxy_buffering off; }" : ""}
    ${streams ? `location /call/ { grpc_pass grpc://127.0.0.1:${streams.h2}; }` : ""}
    location / {
      proxy_pass http://${broken ? "nobody_{" : "api"}; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_connect_timeout ${Math.min(timeout, 60_000)}ms; proxy_read_timeout ${timeout}ms; proxy_next_upstream ${next};
    }
    location = /generation/${self.generation} { return 200; }
  }
}`,
    );
  };
  self.write();
  self.child = start([
    ...(self.settings.prefix ?? []),
    "nginx",
    "-p",
    self.dir,
    "-e",
    path.join(self.dir, "error.log"),
    "-c",
    file,
  ]);
  self.graceful = "SIGQUIT";
  self.reload = async () => {
    self.write();
    self.child.kill("SIGHUP");
    await sleep(60);
  };
  self.breakAndReload = async () => {
    self.write(true);
    self.child.kill("SIGHUP");
    await sleep(60);
  };
}

async function haproxy(self) {
  const file = path.join(self.dir, "haproxy.cfg");
  self.write = (broken = false) => {
    self.generation++;
    const { health, tries = 2, statuses = [], timeout = 60_000, streams } = self.settings;
    const on = ["conn-failure", "empty-response", "response-timeout", ...statuses].join(" ");
    const check = health ? " check inter 1s fall 1 rise 1" : "";
    writeFileSync(
      file,
      `global
  nbthread 2
  ${streams ? "" : "hard-stop-after 12s"}
  maxconn ${self.settings.prefix ? 100 : 2000}
defaults
  mode http
  timeout connect ${Math.min(timeout, 5000)}ms
  timeout client 60s
  timeout server ${timeout}ms
  timeout check 1s
  option redispatch 1
  retries ${tries}
  retry-on ${on}
frontend web
  bind 127.0.0.1:${self.port}
  ${streams ? `bind 127.0.0.1:${streams.h2port} proto h2` : ""}
  ${streams ? "use_backend calls if { path_beg /call/ }" : ""}
  http-request return status 200 if { path /generation/${self.generation} }
  default_backend ${broken ? "nobody" : "api"}
backend api
  ${health ? "option httpchk GET /health" : ""}
  # haproxy's own rule for what may be sent twice
  http-request disable-l7-retry if METH_POST
${self.origins.map(({ port }, index) => `  server s${index} 127.0.0.1:${port}${check}`).join("\n")}
${streams ? `backend calls\n  server s0 127.0.0.1:${streams.h2} proto h2` : ""}
`,
    );
  };
  self.write();
  self.child = start([
    ...(self.settings.prefix ?? []),
    "haproxy",
    "-W",
    "-db",
    "-f",
    file,
    "-p",
    path.join(self.dir, "pid"),
  ]);
  self.graceful = "SIGUSR1";
  self.reload = async () => {
    self.write();
    self.child.kill("SIGUSR2");
    await sleep(60);
  };
  self.breakAndReload = async () => {
    self.write(true);
    self.child.kill("SIGUSR2");
    await sleep(60);
  };
}

/** Ends a gateway. */
export function end(self) {
  return stop(self.child, self.graceful, 2000);
}

function count(text, part) {
  return text.split(part).length - 1;
}
