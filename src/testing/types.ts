/** What a test says and what it gets. */
import type { LoadOptions } from "../config/types.ts";
import type { Explanation } from "../gateway/types.ts";

/** A request to inject. */
export interface InjectRequest {
  /** `GET` unless said otherwise. */
  method?: string;
  /** `https://host/path?query`, or a path alone (host `localhost`). It is sent as it is written: `/a/../b` and `%2F` stay. */
  url: string;
  /** A list of values is sent as so many fields. */
  headers?: Readonly<Record<string, string | readonly string[]>>;
  body?: string | Uint8Array;
  /** A body as JSON, with its `content-type`. */
  json?: unknown;
  /** Address of the client. `127.0.0.1` unless said otherwise. */
  clientIp?: string;
  /**
   * Whose token the request carries: a JSON Web Token with these claims, signed with a key that only this test gateway has. `iss`, `aud`
   * and `exp` are filled in where they are not given. The route needs `jwt` authentication.
   */
  identity?: { subject?: string; claims?: Readonly<Record<string, unknown>> };
  /** A client certificate that the listener has verified; for `https` only. */
  clientCertificate?: { subject: string; commonName?: string; sans?: readonly string[]; fingerprint?: string };
  /** Name of the listener at which it arrives. Default: the first that speaks the URL's scheme. */
  listener?: string;
  /** How long the answer is waited for, milliseconds. Default 10,000. */
  timeout?: number;
}

/** What a backend gets. */
export interface Forwarded {
  upstream: string;
  /** `host:port` as configured. */
  backend: string;
  method: string;
  path: string;
  /** Without the `?`. */
  query: string;
  headers: Headers;
  body: Uint8Array;
  /** The body as text. */
  text(): string;
  /** The body read as JSON. */
  json(): unknown;
}

/** What became of a policy. */
export interface PolicyVerdict {
  name: string;
  /** Such as `rate_limit`, `cors`, `auth`, `hook`. */
  type: string;
  /**
   * `passed`: the request went on. `answered`: the request ended here, refused or answered. `skipped`: a hook whose `when` was not met, or
   * that has nothing to do with requests. `not_reached`: something answered before.
   */
  verdict: "passed" | "answered" | "skipped" | "not_reached";
}

/** A call of a hook. */
export interface HookCall {
  hook: string;
  handler: "onRequest" | "onResponse" | "onError" | "onLog";
  /** `continued`, `answered` in place of what would have been, or `failed`. */
  outcome: "continued" | "answered" | "failed";
  /** What it threw. */
  error?: unknown;
}

/** What became of an injected request. */
export interface InjectResult {
  status: number;
  headers: Headers;
  /** The body as text, a content coding taken off. */
  body: string;
  /** The body's bytes as they were sent. */
  bytes: Uint8Array;
  json(): unknown;
  /** Name of the route. */
  route: string | undefined;
  params: Record<string, string>;
  /** Name of the upstream that the request was given to. */
  upstream: string | undefined;
  /** `host:port` of the backend that got it last. */
  backend: string | undefined;
  /** Every policy in the order in which it runs. */
  policies: PolicyVerdict[];
  /** Every call of a hook, in order. */
  hooks: HookCall[];
  /** What went to the upstream, the last time where there were several tries; `undefined` where nothing did. */
  forwarded: Forwarded | undefined;
  /** Every request that went to an upstream: one a try. */
  attempts: Forwarded[];
  /** Name of the policy or hook that answered. */
  answeredBy: string | undefined;
  /** Where an answer of Titan's own was made, such as `rate_limit`, `no_route` or `connect`. */
  stage: string | undefined;
  /** Address of the client, as policies saw it (through trusted proxies). */
  clientIp: string | undefined;
  /** Who was authenticated. */
  subject: string | undefined;
  explanation: Explanation;
}

/**
 * A backend of a test. `Response.error()` breaks the connection; what it throws fails the test. A WebSocket upgrade is accepted by any
 * answer of 200.
 */
export type FakeUpstream = (request: Forwarded) => Response | Promise<Response>;

/** Options of {@link createTestGateway}. */
export interface TestGatewayOptions extends LoadOptions {
  /**
   * By name. Without this option every upstream answers 200 with an empty body; with it, a request to an upstream that has no fake is an
   * error.
   */
  upstreams?: Readonly<Record<string, FakeUpstream>>;
  /** Services that Titan itself asks, by their URL as configured: forward-auth, JSON Web Key Sets (or their issuer). */
  services?: Readonly<Record<string, FakeUpstream>>;
}
