/** `titan serve --upstream URL`: a whole configuration from one flag. */
import type { ConfigInput } from "./schema/root.ts";

/** Options of `titan serve --upstream URL`. */
export interface UpstreamFlags {
  /** `http://host[:port]` or `https://host[:port]`, optionally with a base path; `host:port` means http. */
  upstream: string;
  /** Address to listen on; default 127.0.0.1. */
  host?: string;
  /** Port to listen on; default 8080. */
  port?: number;
  /** A development certificate made by the caller: HTTPS is served on `port` instead of HTTP. */
  tls?: { cert_path: string; key_path: string };
}

/** The configuration (for `resolveConfig`) behind the flags. Throws a `TypeError` that says what is wrong with a bad URL. */
export function upstreamConfig(flags: UpstreamFlags): ConfigInput {
  const { url, secure } = parse(flags.upstream);
  const host = flags.host ?? "127.0.0.1";
  const port = flags.port ?? 8080;
  const base = url.pathname.replace(/\/+$/, "");
  return {
    description: `titan serve --upstream ${flags.upstream}`,
    ...(flags.tls
      ? { server: { host }, listeners: [{ name: "https", address: host, port, tls: { ...flags.tls } }] }
      : { server: { host, port } }),
    upstreams: [
      {
        name: "upstream",
        backends: [
          {
            host: url.hostname.replace(/^\[|\]$/g, ""),
            port: url.port === "" ? (secure ? 443 : 80) : Number(url.port),
          },
        ],
        // A server behind TLS usually serves by name: Host and SNI are its own. A local one sees the client's Host, as with any proxy.
        ...(secure ? { tls: true, host_header: "backend" } : {}),
      },
    ],
    routes: [{ name: "all", path: "/*", upstream: "upstream", ...(base === "" ? {} : { add_prefix: base }) }],
  };
}

function parse(text: string): { url: URL; secure: boolean } {
  const bad = (why: string) =>
    new TypeError(
      `--upstream ${JSON.stringify(text)}: ${why}; write it like http://127.0.0.1:3000 or https://api.example.com`,
    );
  let url: URL;
  try {
    url = new URL(/^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`);
  } catch {
    throw bad("this is not a URL");
  }
  if (url.protocol !== "http:" && url.protocol !== "https:")
    throw bad(`the scheme ${url.protocol.slice(0, -1)} is not http or https`);
  if (url.username !== "" || url.password !== "") throw bad("a user name or password in it is not possible");
  if (url.search !== "" || url.hash !== "") throw bad('a query or "#" in it is not possible');
  return { url, secure: url.protocol === "https:" };
}
