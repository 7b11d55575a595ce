/** A configuration made ready for a rehearsal: what would leave the machine is taken off, everything that decides stays as it is. */
import { createHmac, randomBytes } from "node:crypto";
import type { NativeConfig } from "../config/types.ts";
import { usage } from "./message.ts";
import type { Stage } from "./stage.ts";
import type { InjectRequest } from "./types.ts";

/** A listener of the configuration. */
export interface TestListener {
  name: string;
  secure: boolean;
  /** Clients may speak HTTP/2 to it. */
  http2: boolean;
}

/** A native JWT method, as far as it matters here. */
interface Jwt {
  method: "jwt";
  header: string;
  scheme: string;
  keys: object[];
  jwks?: { url?: string; issuer?: string; allowed_hosts?: string[]; ca_path?: string };
  algorithms: string[];
  issuers: string[];
  audiences: string[];
  require_sub: boolean;
  revocation_redis?: object;
}

type Policy =
  | { name: string; type: "auth"; config: { methods: (Jwt | { method: string; redis?: object })[] } }
  | { name: string; type: "rate_limit"; config: { redis?: object } }
  | { name: string; type: "forward_auth"; config: { url: string; ca_path?: string } }
  | { name: string; type: "hook"; config: { hook: number; channels?: number[] } };

interface Native {
  workers: number;
  listeners: { name: string; tls?: object; http2: boolean }[];
  upstreams: { name: string; protocol?: string; tls?: { sni?: string; verify?: boolean }; health_check?: object }[];
  policies: Policy[];
  access_log?: object;
}

/** Signs tokens for a test. */
const KEY_ID = "titan-test";

/** A configuration under test. */
export class Prepared {
  readonly native: NativeConfig;
  readonly listeners: readonly TestListener[];
  /** Policy by name → number of its hook. */
  readonly hookOf: ReadonlyMap<string, number>;
  readonly #secret = randomBytes(32);
  readonly #jwt = new Map<string, Jwt>();

  constructor(source: NativeConfig, stage: Stage, channel: number) {
    const native = structuredClone(source) as unknown as Native;
    this.native = native as unknown as NativeConfig;
    // One shard: what a limit or a balancer does is then the same in every run.
    native.workers = 1;
    delete native.access_log;
    // Certificates are for sockets: a client's session is said, not made.
    this.listeners = native.listeners.map(({ name, tls, http2 }) => ({ name, secure: tls !== undefined, http2 }));
    for (const listener of native.listeners) delete listener.tls;
    for (const upstream of native.upstreams) {
      delete upstream.health_check;
      if (upstream.tls)
        upstream.tls = { verify: false, ...(upstream.tls.sni !== undefined && { sni: upstream.tls.sni }) };
    }
    const hooks = new Map<string, number>();
    for (const policy of native.policies) {
      if (policy.type === "rate_limit") delete policy.config.redis;
      else if (policy.type === "auth") this.#prepareAuth(policy, stage);
      else if (policy.type === "forward_auth") {
        policy.config.url = stage.service(policy.config.url) ?? stage.missing(policy.config.url);
        delete policy.config.ca_path;
      } else if (policy.type === "hook") {
        hooks.set(policy.name, policy.config.hook);
        policy.config.channels = [channel];
      }
    }
    this.hookOf = hooks;
  }

  /** The header that says who somebody is, for a route with these policies. */
  credential(
    { subject, claims = {} }: NonNullable<InjectRequest["identity"]>,
    policies: readonly { name: string }[],
    route: string,
  ): [name: string, value: string] {
    const jwt = policies.map(({ name }) => this.#jwt.get(name)).find((method) => method !== undefined);
    if (!jwt) {
      throw usage(
        `The request has an \`identity\`, and ${route} has no "jwt" authentication: nobody would be known there. ` +
          "Give the route one, or send the credential itself in `headers`.",
      );
    }
    const now = Math.floor(Date.now() / 1000);
    const sub = subject ?? (jwt.require_sub ? "test" : undefined);
    const payload = {
      ...(jwt.issuers.length > 0 && { iss: jwt.issuers[0] }),
      ...(jwt.audiences.length > 0 && { aud: jwt.audiences[0] }),
      iat: now,
      exp: now + 3_600,
      ...(sub !== undefined && { sub }),
      ...claims,
    };
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const text = `${part({ alg: "HS256", typ: "JWT", kid: KEY_ID })}.${part(payload)}`;
    const signature = createHmac("sha256", this.#secret).update(text).digest("base64url");
    return [jwt.header, `${jwt.scheme === "" ? "" : `${jwt.scheme} `}${text}.${signature}`];
  }

  #prepareAuth(policy: Extract<Policy, { type: "auth" }>, stage: Stage): void {
    for (const method of policy.config.methods) {
      if (!isJwt(method)) {
        delete (method as { redis?: object }).redis;
        continue;
      }
      delete method.revocation_redis;
      const { jwks } = method;
      const source = jwks?.url ?? jwks?.issuer;
      const played = source === undefined ? undefined : stage.service(source);
      if (jwks && played !== undefined) {
        // Tokens of the provider are verified with the keys that the fake gives.
        if (jwks.issuer !== undefined && method.issuers.length === 0) method.issuers = [jwks.issuer];
        delete jwks.issuer;
        delete jwks.ca_path;
        jwks.url = played;
        jwks.allowed_hosts = [];
      } else if (jwks) {
        if (jwks.issuer !== undefined && method.issuers.length === 0) method.issuers = [jwks.issuer];
        delete method.jwks;
      }
      method.keys.push({
        algorithm: "HS256",
        key_id: KEY_ID,
        secret: { value: this.#secret.toString("base64"), encoding: "base64" },
      });
      if (method.algorithms.length > 0 && !method.algorithms.includes("HS256")) method.algorithms.push("HS256");
      if (!this.#jwt.has(policy.name)) this.#jwt.set(policy.name, method);
    }
  }
}

function isJwt(method: { method: string }): method is Jwt {
  return method.method === "jwt";
}
