/** `server` and `listeners`. */

import { isIP } from "node:net";
import { boolean, duration, integer, list, object, oneOf, size, string } from "../kit/index.ts";
import { bindAddress, cidr, file, hostPattern, name, regex } from "./formats.ts";

/** Log levels, quietest last. */
export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error"] as const;

export const logLevel = () =>
  oneOf(LOG_LEVELS, { spellings: { warning: "warn", err: "error", critical: "error", fatal: "error" }, anyCase: true });

const certificate = object(
  {
    cert_path: file().doc("PEM chain, leaf first."),
    key_path: file().doc("PEM key (PKCS#8, PKCS#1 or SEC1)."),
    names: list(hostPattern(), { single: true })
      .default([])
      .doc("Names (SNI) it is served for, exact or `*.example.com`. Empty: the names in the certificate."),
  },
  { title: "Certificate", aliases: { cert_file: "cert_path", key_file: "key_path", sni: "names" } },
);

export const listenerTls = object(
  {
    enabled: boolean().default(true).doc("`false` keeps the block without using it."),
    cert_path: file().optional().doc("PEM chain of the default certificate, leaf first."),
    key_path: file().optional().doc("Its PEM key."),
    certificates: list(certificate, { max: 10_000 })
      .default([])
      .doc("More certificates, chosen by SNI. Without `cert_path` the first is the default."),
    min_version: oneOf(["1.2", "1.3"], {
      spellings: { "TLSv1.2": "1.2", "TLSv1.3": "1.3", "TLS1.2": "1.2", "TLS1.3": "1.3" },
    })
      .default("1.2")
      .doc("Lowest TLS version; an older client is refused."),
    alpn_protocols: list(oneOf(["h2", "http/1.1"]), { min: 1, max: 2 })
      .default(["h2", "http/1.1"])
      .doc("Protocols offered by ALPN, preferred first."),
    client_auth: oneOf(["none", "optional", "required"])
      .default("none")
      .doc("Client certificates: not asked for, verified when given, or no handshake without one."),
    client_ca_path: file()
      .optional()
      .doc("PEM bundle that client certificates must chain to; needed unless `client_auth` is `none`."),
  },
  {
    title: "TLS",
    guarded: true,
    aliases: {
      cert_file: "cert_path",
      key_file: "key_path",
      certificate_path: "cert_path",
      private_key_path: "key_path",
      alpn: "alpn_protocols",
    },
    check: (tls, cx) => {
      if (tls.enabled === false) return;
      if (tls.cert_path === undefined && tls.key_path !== undefined)
        cx.report({ code: "missing", message: '"cert_path" is missing: "key_path" has no certificate' });
      if (tls.cert_path !== undefined && tls.key_path === undefined)
        cx.report({ code: "missing", message: '"key_path" is missing: the certificate has no key' });
      if (tls.cert_path === undefined && tls.key_path === undefined && (tls.certificates as unknown[]).length === 0) {
        cx.report({ code: "missing", message: 'TLS needs "cert_path" and "key_path", or "certificates"' });
      }
      if (tls.client_auth !== "none" && tls.client_ca_path === undefined) {
        cx.report({
          code: "missing",
          message: `"client_ca_path" is missing: with client_auth "${tls.client_auth}" nothing says which certificates are good`,
        });
      }
      if (tls.client_auth === "none" && tls.client_ca_path !== undefined) {
        cx.report(
          {
            code: "contradiction",
            message: '"client_ca_path" has no effect while "client_auth" is "none"; set it to "optional" or "required"',
          },
          "client_ca_path",
        );
      }
    },
  },
);

export const http2 = object(
  {
    max_concurrent_streams: integer({ min: 1, max: 65_535 })
      .default(100)
      .doc("Streams a client may have open on one connection."),
    initial_stream_window: size({ min: 65_535, max: 2 ** 31 - 1 })
      .default(65_536)
      .doc("Flow-control window of a stream."),
    initial_connection_window: size({ min: 65_535, max: 2 ** 31 - 1 })
      .default(1_048_576)
      .doc("Flow-control window of a connection."),
    max_header_list: size({ min: 1024, max: 2 ** 20 })
      .default(16_384)
      .doc("Uncompressed bytes of a request's headers."),
    max_resets: integer({ min: 1, max: 100_000 })
      .default(200)
      .doc("Streams a client may reset within a second of opening them, in 30 s, before the connection is ended."),
  },
  { title: "HTTP/2" },
);

/** Limits and time limits that `server` states for every listener and a listener may state for itself. */
const connection = {
  read_timeout: duration("ms").doc("Between two reads of a request body: 408. 0 = none."),
  write_timeout: duration("ms").doc("Between two accepted writes of an answer: the connection is reset. 0 = none."),
  idle_timeout: duration("ms").doc("An idle keep-alive connection is closed after this time. 0 = never."),
  header_timeout: duration("ms").doc("From the first byte of a request head to its last: 408. 0 = none."),
  tls_handshake_timeout: duration("ms").doc("TLS handshake: the connection is closed. 0 = none."),
  max_connections: integer({ min: 1, max: 10_000_000 }).doc(
    "Open client connections, exact for the process; one more gets a 503 that names the limit.",
  ),
  max_connections_per_ip: integer({ min: 0, max: 10_000_000 }).doc(
    "Open connections of one client address (IPv6: of one /64). 0 = no limit.",
  ),
  max_requests_per_connection: integer({ min: 0 }).doc(
    "Requests served by one connection before it is closed. 0 = no limit.",
  ),
  max_request_size: size({ max: 2 ** 50 }).doc(
    "Bytes of a request body, counted while it streams: 413. A route may state its own.",
  ),
  max_header_size: size({ min: 512, max: 2 ** 20 }).doc(
    "Bytes of a request head: 431, or 414 where its first line alone is longer.",
  ),
  max_headers: integer({ min: 1, max: 10_000 }).doc("Header fields of a request: 431."),
  backlog: integer({ min: 1, max: 65_535 }).doc("Length of the accept queue."),
} as const;

const forwarding = object(
  {
    x_forwarded: boolean().default(true).doc("Write `X-Forwarded-For`, `-Proto` and `-Host`."),
    forwarded: boolean().default(false).doc("Write `Forwarded` (RFC 7239)."),
    via: string({
      max: 128,
      pattern: "^\\S*$",
      check: (text) => (/\s/.test(text) ? "must not hold white space" : undefined),
    })
      .default("titan")
      .doc(
        "Pseudonym in `Via`; empty = no `Via`. nginx as a backend compresses for requests with `Via` only where its `gzip_proxied` says so.",
      ),
    request_id_header: string({ max: 256 })
      .default("x-request-id")
      .doc("Header of the request id; empty = none is written."),
    correlation_id_header: string({ max: 256 })
      .default("")
      .doc(
        "Header of an id that several requests share. Kept under the same rule as a request id, else it is the request's own; sent to the backend and the client, and `correlation_id` in the access log. Empty = none.",
      ),
    id_pattern: regex()
      .optional()
      .doc(
        "Ids that match this whole are taken from any client; without it, only those of `trusted_proxies` are. What is not taken is replaced.",
      )
      .example("[0-9a-f-]{36}"),
    server_timing: boolean()
      .default(false)
      .doc("Write `Server-Timing` on answers: milliseconds until the answer's head, and the backend's share."),
    trace_context: boolean().default(true).doc("Keep a valid `traceparent`, begin one otherwise (W3C Trace Context)."),
  },
  {
    title: "Forwarding headers",
    aliases: { request_id: "request_id_header", correlation_id: "correlation_id_header" },
    check: (value, cx) => {
      const [request, correlation] = [value.request_id_header, value.correlation_id_header].map((name) =>
        String(name ?? "").toLowerCase(),
      );
      if (correlation !== "" && correlation === request)
        cx.report(
          { code: "contradiction", message: "is the header of the request id: one header has one meaning" },
          "correlation_id_header",
        );
    },
  },
);

/** `0.0.0.0:80`, `[::]:80` → address and port. */
export function parseListen(text: string): { host: string; port: number } | undefined {
  const at = text.lastIndexOf(":");
  const host = text.slice(0, Math.max(at, 0)).replace(/^\[|\]$/g, "");
  const port = text.slice(at + 1);
  return (isIP(host) !== 0 || host === "localhost") && /^\d{1,5}$/.test(port) && Number(port) <= 65_535
    ? { host, port: Number(port) }
    : undefined;
}

export const server = object(
  {
    host: bindAddress().default("0.0.0.0").doc("Address to listen on. Override: `TITAN_HOST`."),
    port: integer({ min: 0, max: 65_535 })
      .optional()
      .doc("HTTP port; 8080 unless `listeners` are given. 0 = chosen by the system. Override: `TITAN_PORT`."),
    listen: string({
      code: "bad_address",
      check: (text) => (parseListen(text) ? undefined : `must be "address:port", not ${JSON.stringify(text)}`),
    })
      .optional()
      .doc("Address and port in one, such as `0.0.0.0:8080`, instead of `host` and `port`."),
    https_port: integer({ min: 0, max: 65_535 }).optional().doc("HTTPS port; 8443 where `tls` is on."),
    workers: integer({ min: 0, max: 1024 })
      .default(0)
      .doc("Data-plane threads; 0 = one for each CPU. Fixed at start. Override: `TITAN_WORKERS`."),
    log_level: logLevel().optional().doc("Same as `logging.level`. Override: `TITAN_LOG_LEVEL`."),
    tls: listenerTls.optional().doc("HTTPS on `https_port`, beside HTTP on `port`."),
    http2: http2.default({}).doc("HTTP/2 settings."),
    h2c: boolean().default(true).doc("HTTP/2 by prior knowledge on plain ports."),
    backlog: connection.backlog.default(4096),
    read_timeout: connection.read_timeout.default(60_000),
    write_timeout: connection.write_timeout.default(60_000),
    idle_timeout: connection.idle_timeout.default(300_000),
    header_timeout: connection.header_timeout.default(10_000),
    tls_handshake_timeout: connection.tls_handshake_timeout.default(10_000),
    max_connections: connection.max_connections.default(10_000),
    max_connections_per_ip: connection.max_connections_per_ip.default(0),
    max_requests_per_connection: connection.max_requests_per_connection.default(0),
    max_request_size: connection.max_request_size.default(1_048_576),
    max_header_size: connection.max_header_size.default(8192),
    max_headers: connection.max_headers.default(100),
    max_buffered_size: size({ max: 2 ** 50 })
      .default(268_435_456)
      .doc(
        "Bytes of bodies that the process holds at once (for another try, hooks, changes of a whole body, compression): what cannot be " +
          "served without gets 503, the rest does without. 0 = no limit.",
      ),
    shutdown_timeout: duration("ms", { max: 86_400_000 })
      .default(30_000)
      .doc("Time that requests in flight get once draining."),
    shutdown_delay: duration("ms", { max: 86_400_000 })
      .default(0)
      .doc("Time served normally, with readiness failing, before the drain begins."),
    trusted_proxies: list(cidr(), { max: 1000, single: true })
      .default([])
      .doc("Peers whose `X-Forwarded-*`, `Forwarded` and request id are believed."),
    forwarding: forwarding.default({}).doc("Which headers tell the backend about the client."),
  },
  {
    title: "Server",
    guarded: [
      "tls",
      "max_connections",
      "max_connections_per_ip",
      "max_requests_per_connection",
      "max_request_size",
      "max_header_size",
      "max_headers",
      "max_buffered_size",
      "trusted_proxies",
    ],
    aliases: {
      listen_address: "host",
      listen_port: "port",
      worker_threads: "workers",
      tls_enabled: "tls.enabled",
      tls_certificate_path: "tls.cert_path",
      tls_private_key_path: "tls.key_path",
      tls_alpn_protocols: "tls.alpn_protocols",
      tls_min_version: "tls.min_version",
    },
  },
);

export const listener = object(
  {
    name: name()
      .optional()
      .doc("Stable name (metrics label, identity across reloads); made from protocol and port where absent."),
    address: bindAddress().optional().doc("Address to listen on; default `server.host`."),
    port: integer({ min: 0, max: 65_535 }).doc("TCP port; 0 = chosen by the system."),
    protocol: oneOf(["http", "https"]).optional().doc("Default: `https` with `tls`, else `http`."),
    tls: listenerTls.optional().doc("TLS; needed for `https`."),
    http2: http2.optional().doc("HTTP/2 settings; default `server.http2`."),
    h2c: boolean().optional().doc("HTTP/2 by prior knowledge on a plain port; default `server.h2c`."),
    backlog: connection.backlog.optional(),
    read_timeout: connection.read_timeout.optional(),
    write_timeout: connection.write_timeout.optional(),
    idle_timeout: connection.idle_timeout.optional(),
    header_timeout: connection.header_timeout.optional(),
    tls_handshake_timeout: connection.tls_handshake_timeout.optional(),
    max_connections: connection.max_connections.optional(),
    max_connections_per_ip: connection.max_connections_per_ip.optional(),
    max_requests_per_connection: connection.max_requests_per_connection.optional(),
    max_request_size: connection.max_request_size.optional(),
    max_header_size: connection.max_header_size.optional(),
    max_headers: connection.max_headers.optional(),
  },
  {
    title: "Listener",
    guarded: [
      "tls",
      "max_connections",
      "max_connections_per_ip",
      "max_requests_per_connection",
      "max_request_size",
      "max_header_size",
      "max_headers",
      "trusted_proxies",
    ],
    aliases: { host: "address", listen_address: "address", listen_port: "port" },
  },
);
