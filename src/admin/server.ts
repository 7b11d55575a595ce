import { createHash, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, BlockList, isIP } from "node:net";
import type { Config } from "../config/index.ts";
import { messageOf, TitanError } from "../errors.ts";
import type { Gateway } from "../gateway/gateway.ts";
import { type Reply, route } from "./api.ts";
import { DASHBOARD, DASHBOARD_HEADERS } from "./dashboard.ts";

/**
 * The admin listener: metrics for a scraper, state and control for an operator. On loopback it is open to this machine's users; bound
 * anywhere else it wants a bearer token for everything.
 */
export class AdminServer {
  readonly #gateway: Gateway;
  readonly #host: string;
  readonly #port: number;
  readonly #metricsPath: string;
  readonly #token: string | undefined;
  readonly #server: Server;

  constructor(gateway: Gateway, config: Config) {
    this.#gateway = gateway;
    this.#host = config.metrics.host;
    this.#port = config.metrics.port;
    this.#metricsPath = config.metrics.path;
    this.#token = config.admin.token?.text || undefined;
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch((error: unknown) => {
        if (!response.headersSent) response.writeHead(500, { "content-type": "application/json" });
        response.end(`${JSON.stringify({ error: "internal", message: messageOf(error) })}\n`);
      });
    });
    // An admin page left open must not keep the process from ending.
    this.#server.unref();
  }

  /** Binds. Rejects where the port is taken, or where the address is open to others and there is no token. */
  async listen(): Promise<void> {
    if (!isLoopback(this.#host) && !this.#token) {
      throw new TitanError(
        "TITAN_ADMIN_TOKEN",
        `The admin listener on ${this.#host}:${this.#port} would be open to other machines and has no token.`,
      );
    }
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", (cause: NodeJS.ErrnoException) => {
        const why = cause.code === "EADDRINUSE" ? "the port is in use" : cause.message;
        const at = `${this.#host}:${this.#port}`;
        reject(new TitanError("TITAN_ADMIN_LISTEN", `The admin listener cannot use ${at}: ${why}.`, { cause }));
      });
      this.#server.listen(this.#port, this.#host, resolve);
    });
  }

  /** Where it listens. */
  address(): { address: string; port: number } {
    const { address, port } = this.#server.address() as AddressInfo;
    return { address, port };
  }

  /** Ends, open connections included. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // It listens before the gateway serves.
    await this.#gateway.settled();
    const reply = dashboard(request) ?? this.#allowed(request) ?? (await this.#page(request));
    response.writeHead(reply.status, {
      "cache-control": "no-store",
      "content-type": reply.contentType,
      ...reply.headers,
    });
    response.end(request.method === "HEAD" ? undefined : reply.body);
  }

  async #page(request: IncomingMessage): Promise<Reply> {
    const url = new URL(request.url ?? "/", "http://admin");
    if (url.pathname === this.#metricsPath) {
      const page = await this.#gateway.metrics();
      return { status: 200, contentType: page.contentType, body: page.body };
    }
    return route(this.#gateway, request, url);
  }

  /** A refusal, or nothing. */
  #allowed(request: IncomingMessage): Reply | undefined {
    if (this.#token) {
      const given = /^Bearer\s+(.+)$/i.exec(request.headers.authorization ?? "")?.[1];
      if (given !== undefined && sameSecret(given, this.#token)) return undefined;
      return {
        status: 401,
        contentType: "application/json",
        headers: { "www-authenticate": 'Bearer realm="titan-admin"' },
        body: '{"error":"unauthorized","message":"The admin token is needed: Authorization: Bearer …"}\n',
      };
    }
    // Without a token only this machine may ask, and a page in a browser must not do it for its user by a name of its own (DNS rebinding).
    const host = (request.headers.host ?? "").replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
    if (host === "localhost" || isLoopback(host)) return undefined;
    return {
      status: 403,
      contentType: "application/json",
      body: '{"error":"forbidden","message":"Without admin.token the admin listener answers to localhost only."}\n',
    };
  }
}

/** The page itself is the same for everyone and says nothing; what it asks for needs the token. */
function dashboard(request: IncomingMessage): Reply | undefined {
  if (request.url !== "/" || (request.method !== "GET" && request.method !== "HEAD")) return undefined;
  return { status: 200, contentType: "text/html; charset=utf-8", headers: DASHBOARD_HEADERS, body: DASHBOARD };
}

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

function isLoopback(host: string): boolean {
  if (host === "localhost") return true;
  const family = isIP(host);
  return family !== 0 && loopback.check(host, family === 4 ? "ipv4" : "ipv6");
}

/** Compares without telling by its time where the difference is. */
function sameSecret(a: string, b: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}
