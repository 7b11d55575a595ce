import type { IncomingMessage } from "node:http";
import { TitanError } from "../errors.ts";
import type { Gateway } from "../gateway/gateway.ts";
import type { ExplainRequest, GatewayState, Status } from "../gateway/types.ts";
import { version } from "../version.ts";

/** An answer of the admin listener or the control socket. */
export interface Reply {
  status: number;
  contentType: string;
  headers?: Record<string, string>;
  body: string;
}

/** An answer in JSON. */
export function json(status: number, value: unknown, headers: Record<string, string> = {}): Reply {
  return { status, contentType: "application/json", headers, body: `${JSON.stringify(value)}\n` };
}

type Handler = (gateway: Gateway, request: IncomingMessage, url: URL) => unknown;

/**
 * State and control, the same over the admin listener and the control socket. A method that changes something is POST and must carry
 * `X-Titan-Admin`: a form of a foreign web page can send the one but not the other.
 */
const ROUTES: Record<string, Handler> = {
  "GET /_admin/status": (gateway) => describe(gateway),
  "GET /_admin/routes": (gateway) => gateway.routes(),
  "GET /_admin/config": (gateway) => redact(gateway.config),
  "POST /_admin/explain": async (gateway, request) => gateway.explain((await body(request)) as ExplainRequest),
  "POST /_admin/reload": async (gateway) => ({ generation: await gateway.reload(), file: gateway.file }),
  "POST /_admin/jwt/revoke": async (gateway, request) => {
    const { jti, exp } = (await body(request)) as { jti?: unknown; exp?: unknown };
    if (typeof jti !== "string" || jti === "" || jti.length > 1024) {
      throw new TitanError("TITAN_USAGE", "jti must be a string of 1 to 1024 characters.");
    }
    if (exp !== undefined && !(typeof exp === "number" && Number.isFinite(exp) && exp >= 0)) {
      throw new TitanError("TITAN_USAGE", "exp must be the token's expiry in Unix seconds.");
    }
    gateway.revoke(jti, exp as number | undefined);
    return { revoked: jti };
  },
  "POST /_admin/drain": (gateway, _request, url) => {
    const backend = url.searchParams.get("backend");
    if (backend !== null) {
      const on = url.searchParams.get("undo") === null;
      return { backend, state: on ? "draining" : "up", endpoints: gateway.drainBackend(backend, on) };
    }
    // Its end is the end of this server too, so it is not waited for.
    void gateway.close();
    return { state: "draining" };
  },
};

/** Answers a request. */
export async function route(gateway: Gateway, request: IncomingMessage, url: URL): Promise<Reply> {
  const method = request.method === "HEAD" ? "GET" : (request.method ?? "GET");
  const handler = ROUTES[`${method} ${url.pathname}`];
  if (!handler) {
    const allow = Object.keys(ROUTES).flatMap((key) =>
      key.endsWith(` ${url.pathname}`) ? [key.split(" ")[0] ?? ""] : [],
    );
    if (allow.length > 0) return json(405, { error: "method_not_allowed" }, { allow: allow.join(", ") });
    return json(404, { error: "not_found", message: `The admin API has no ${url.pathname}.` });
  }
  if (method === "POST" && request.headers["x-titan-admin"] === undefined) {
    return json(403, { error: "forbidden", message: "A change needs the header X-Titan-Admin: 1." });
  }
  try {
    return json(200, await handler(gateway, request, url));
  } catch (error) {
    if (!(error instanceof TitanError)) throw error;
    return json(error.exitCode === 2 ? 422 : 409, { error: error.toJSON() });
  }
}

/** What `titan status` shows. */
export interface RunningStatus extends Status {
  version: string;
  pid: number;
  state: GatewayState;
  file: string | null;
  admin: { address: string; port: number } | null;
  /** Warnings about the configuration. */
  warnings: number;
}

function describe(gateway: Gateway): RunningStatus {
  return {
    version,
    pid: process.pid,
    state: gateway.state,
    file: gateway.file ?? null,
    admin: gateway.adminAddress() ?? null,
    warnings: gateway.warnings.length,
    ...gateway.status(),
  };
}

const SECRET = /secret|token|password|passphrase|private/i;
/** Headers, cookies and parameters whose value lets somebody in. */
const CREDENTIAL = /secret|token|passw|authorization|cookie|api[-_]?key|session|signature|credential/i;
/** Where such a value stands under its name, and where beside it. */
const BY_NAME = new Set(["headers", "query", "cookies"]);
const VALUES = new Set(["value", "exact", "prefix", "regex"]);

/** The configuration without anything that is named like a secret, or is the value of something that is. */
export function redact(value: unknown, place = ""): unknown {
  if (Array.isArray(value)) return value.map((item) => redact(item, place));
  // redis://user:password@host
  if (typeof value === "string") return value.replace(/(:\/\/)[^/@\s]*@/, "$1[redacted]@");
  if (typeof value !== "object" || value === null) return value;
  const valued = "name" in value && typeof value.name === "string" && CREDENTIAL.test(value.name);
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      const named = SECRET.test(key) && !/(path|file|name)$/.test(key);
      // An API key and a password's hash, beside the id or name of whose they are.
      const owned = (key === "key" && "id" in value) || (key === "hash" && "name" in value);
      // A rule or a condition, as `{name, value}` or as `{"Authorization": "Bearer …"}`.
      const ruled =
        (valued && VALUES.has(key)) || (BY_NAME.has(place) && typeof inner === "string" && CREDENTIAL.test(key));
      const hide = (named || owned || ruled) && inner !== undefined && inner !== null;
      return [key, hide ? "[redacted]" : redact(inner, key)];
    }),
  );
}

async function body(request: IncomingMessage): Promise<object> {
  let text = "";
  request.setEncoding("utf8");
  for await (const chunk of request) {
    text += chunk;
    if (text.length > 65_536) throw new TitanError("TITAN_USAGE", "The request is larger than 64 KiB.");
  }
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value;
  } catch {
    // Said below.
  }
  throw new TitanError("TITAN_USAGE", "The request's body must be a JSON object.");
}
