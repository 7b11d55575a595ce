/** `server` and `listeners` → native listeners. */
import type { Path } from "../issue.ts";
import type { OutputOf } from "../kit/index.ts";
import { type listener, type listenerTls, parseListen } from "../schema/server.ts";
import { compact, type Json, type Lowering, ms } from "./context.ts";

type Tls = OutputOf<typeof listenerTls>;
type Listener = OutputOf<typeof listener>;

/** Native listeners and the place each came from. */
export function lowerListeners(cx: Lowering): { listeners: Json[]; origins: Path[] } {
  const { server, listeners, metrics } = cx.config;
  const out: Json[] = [];
  const origins: Path[] = [];
  const tls = server.tls?.enabled ? server.tls : undefined;
  const add = (item: Listener, secure: Tls | undefined, origin: Path) => {
    out.push(cx.part(() => lowerListener(cx, item, secure, out), {}));
    origins.push(origin);
  };

  const listen = server.listen === undefined ? undefined : parseListen(server.listen);
  if (listen !== undefined) {
    if (server.port !== undefined && server.port !== listen.port) {
      cx.error(
        "contradiction",
        ["server", "listen"],
        `says port ${listen.port}, "port" says ${server.port}; keep one of them`,
      );
    }
    server.host = listen.host;
    server.port = listen.port;
  }
  // `port` and `https_port` are sugar for two listeners; with `listeners` they are there only where they are stated.
  if (server.port === undefined && listeners.length === 0) server.port = 8080;
  if (server.port !== undefined) add({ name: "http", port: server.port }, undefined, ["server", "port"]);
  if (tls !== undefined && server.https_port === undefined && listeners.length === 0) server.https_port = 8443;
  if (server.https_port !== undefined) {
    if (tls === undefined)
      cx.error(
        "missing",
        ["server", "https_port"],
        'HTTPS needs a certificate: "server.tls" is missing or switched off',
      );
    else add({ name: "https", port: server.https_port }, tls, ["server", "tls"]);
  }
  for (const [i, item] of listeners.entries()) {
    const path = ["listeners", i];
    const own = item.tls?.enabled ? item.tls : undefined;
    const secure = own ?? (item.protocol === "https" ? tls : undefined);
    if (item.protocol === "https" && secure === undefined)
      cx.error(
        "missing",
        [...path, "protocol"],
        '"https" needs a certificate: "tls" is missing (here and in "server")',
      );
    else if (item.protocol === "http" && own !== undefined)
      cx.error("contradiction", [...path, "protocol"], '"http" with "tls": leave out one of them');
    else add(item, secure, path);
  }

  checkClashes(cx, out, origins);
  if (metrics.enabled && metrics.port !== 0) {
    const clash = out.findIndex(
      (item) => item.port === metrics.port && overlap(String(item.address), ip(metrics.host)),
    );
    if (clash >= 0)
      cx.error(
        "port_clash",
        ["metrics", "port"],
        `port ${metrics.port} is already the listener ${JSON.stringify(out[clash]?.name)}; choose another for the admin listener`,
      );
  }
  return { listeners: out, origins };
}

function lowerListener(cx: Lowering, item: Listener, tls: Tls | undefined, before: readonly Json[]): Json {
  const { server } = cx.config;
  const h2 = item.http2 ?? server.http2;
  const base = tls ? `https-${item.port}` : `http-${item.port}`;
  let name = item.name ?? base;
  for (let n = 2; item.name === undefined && before.some((other) => other.name === name); n++) name = `${base}-${n}`;
  return compact({
    name,
    address: ip(item.address ?? server.host),
    port: item.port,
    backlog: item.backlog ?? server.backlog,
    tls: tls && lowerTls(cx, tls),
    http2: tls ? tls.alpn_protocols.includes("h2") : (item.h2c ?? server.h2c),
    h2: {
      max_concurrent_streams: h2.max_concurrent_streams,
      initial_stream_window: h2.initial_stream_window,
      initial_connection_window: h2.initial_connection_window,
      max_header_list: h2.max_header_list,
      max_resets: h2.max_resets,
    },
    timeouts: {
      tls_handshake_ms: ms(item.tls_handshake_timeout ?? server.tls_handshake_timeout),
      head_ms: ms(item.header_timeout ?? server.header_timeout),
      read_ms: ms(item.read_timeout ?? server.read_timeout),
      write_ms: ms(item.write_timeout ?? server.write_timeout),
      idle_ms: ms(item.idle_timeout ?? server.idle_timeout),
    },
    limits: {
      max_connections: item.max_connections ?? server.max_connections,
      max_connections_per_ip: item.max_connections_per_ip ?? server.max_connections_per_ip,
      max_requests_per_connection: item.max_requests_per_connection ?? server.max_requests_per_connection,
      max_body: item.max_request_size ?? server.max_request_size,
      max_head: item.max_header_size ?? server.max_header_size,
      max_headers: item.max_headers ?? server.max_headers,
    },
  });
}

function lowerTls(cx: Lowering, tls: Tls): Json {
  const certificates = tls.certificates.map((item) => ({
    cert_path: cx.file(item.cert_path),
    key_path: cx.file(item.key_path),
    names: item.names.map((n) => n.toLowerCase()),
  }));
  if (tls.cert_path !== undefined && tls.key_path !== undefined) {
    certificates.unshift({ cert_path: cx.file(tls.cert_path), key_path: cx.file(tls.key_path), names: [] });
  }
  return compact({
    certificates,
    min_version: tls.min_version,
    alpn: tls.alpn_protocols,
    client_auth: tls.client_auth,
    client_ca_path: cx.optionalFile(tls.client_ca_path),
  });
}

function checkClashes(cx: Lowering, listeners: readonly Json[], origins: readonly Path[]): void {
  const names = new Map<unknown, number>();
  for (const [i, item] of listeners.entries()) {
    const origin = origins[i] ?? [];
    const twin = names.get(item.name);
    if (twin !== undefined) cx.error("duplicate_name", origin, `two listeners are named ${JSON.stringify(item.name)}`);
    names.set(item.name, i);
    if (item.port === 0) continue;
    const clash = listeners.findIndex(
      (other, j) => j < i && other.port === item.port && overlap(String(other.address), String(item.address)),
    );
    if (clash >= 0)
      cx.error(
        "port_clash",
        origin,
        `port ${item.port} is already the listener ${JSON.stringify(listeners[clash]?.name)}`,
      );
  }
}

/** Two addresses can't both be bound on one port. */
function overlap(a: string, b: string): boolean {
  const all = (address: string) => address === "0.0.0.0" || address === "::";
  return a === b || all(a) || all(b);
}

function ip(address: string): string {
  return address === "localhost" ? "127.0.0.1" : address;
}
