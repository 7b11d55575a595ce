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
  /** A body; text is sent as UTF-8. */
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
  /** Sends it over HTTP/2: by ALPN where the URL is `https`, with prior knowledge otherwise. gRPC asks for it. */
  http2?: boolean;
  /**
   * Asks for a WebSocket, in the way of the protocol: the fields of the handshake are filled in. A list offers subprotocols. Whether it was
   * opened is {@link InjectResult.upgraded}; frames are not played.
   */
  websocket?: boolean | readonly string[];
  /** Name of the listener at which it arrives. Default: the first that speaks the URL's scheme. */
  listener?: string;
  /** How long the answer is waited for, milliseconds. Default 10,000. */
  timeout?: number;
}

/** What a backend gets. */
export interface Forwarded {
  /** Name of the upstream; the URL of a service. */
  upstream: string;
  /** `host:port` as configured. */
  backend: string;
  /** Method as the backend sees it. */
  method: string;
  /** Path, rewrites done. */
  path: string;
  /** Without the `?`. */
  query: string;
  /** Header fields as the backend sees them. */
  headers: Headers;
  /** The body's bytes. */
  body: Uint8Array;
  /** The body as text. */
  text(): string;
  /** The body read as JSON. */
  json(): unknown;
}

/** What became of a policy. */
export interface PolicyVerdict {
  /** Name of the policy, as in metrics. */
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
  /** Name of the hook. */
  hook: string;
  /** Which of its functions was called. */
  handler: "onRequest" | "onResponse" | "onError" | "onLog";
  /** `continued`, `answered` in place of what would have been, or `failed`. */
  outcome: "continued" | "answered" | "failed";
  /** What it threw. */
  error?: unknown;
}

/** What became of an injected request. */
export interface InjectResult {
  /** Status that the client gets. */
  status: number;
  /** Header fields that the client gets. */
  headers: Headers;
  /** The body as text, a content coding taken off. */
  body: string;
  /** The body's bytes as they were sent. */
  bytes: Uint8Array;
  /** The body read as JSON. */
  json(): unknown;
  /** Fields behind the body; empty where there are none. */
  trailers: Headers;
  /** `grpc-status`, from the trailers or, where a call failed at once, from the headers; `undefined` where it is no answer of gRPC. */
  grpcStatus: number | undefined;
  /** Whether the answer opened a tunnel, such as a WebSocket: 101 over HTTP/1.1, 200 to an extended CONNECT over HTTP/2. */
  upgraded: boolean;
  /** Name of the route. */
  route: string | undefined;
  /** Parameters of its path. */
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
  /** What `titan explain` says of the request. */
  explanation: Explanation;
}

/**
 * A backend of a test. `Response.error()` breaks the connection; what it throws fails the test. A WebSocket upgrade is accepted by any
 * answer of 200. Trailers: {@link withTrailers}.
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
