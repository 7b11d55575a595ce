/** `@titan-gateway/titan/testing`: a real configuration under test, without a socket. */
import { loadConfig, resolveConfig } from "../config/index.ts";
import type { ConfigInput } from "../config/schema/root.ts";
import type { Loaded, LoadOptions } from "../config/types.ts";
import { TitanError } from "../errors.ts";
import { explainUnder } from "../gateway/explain.ts";
import { refusal } from "../gateway/gateway.ts";
import type { Explanation } from "../gateway/types.ts";
import { type HookLogLine, HookThread } from "../hooks/dispatch.ts";
import { POINTS, type PointName } from "../hooks/plan.ts";
import type { Identity } from "../hooks/types.ts";
import { ANSWER, EDIT, type Edit, FAILED, RELEASE } from "../hooks/wire.ts";
import { MemoryChannel, type Values, writeCall } from "./record.ts";

/** A request to inject. */
export interface InjectRequest {
  /** `GET` unless said otherwise. */
  method?: string;
  /** `https://host/path?query`, or a path alone (host `localhost`). */
  url: string;
  headers?: Readonly<Record<string, string>>;
  body?: string | Uint8Array;
  clientIp?: string;
  /** Who authentication would have found. */
  identity?: { subject?: string; claims?: Record<string, unknown>; kind?: Identity["kind"] };
}

/** What a backend would get. Forwarding headers and header rules of the configuration are the data plane's, and not here. */
export interface Forwarded {
  upstream: string;
  /** `host:port`, where a hook chose one. */
  backend: string | undefined;
  method: string;
  path: string;
  query: string;
  headers: Headers;
  body: Uint8Array;
}

/** What became of an injected request. */
export interface InjectResult {
  status: number;
  headers: Headers;
  body: string;
  json(): unknown;
  /** Name of the route. */
  route: string | undefined;
  params: Record<string, string>;
  /** Every policy in the order in which it would run; of these, hooks have run here. */
  policies: { name: string; type: string }[];
  /** What went to the upstream; `undefined` where nothing did. */
  forwarded: Forwarded | undefined;
  /** Name of the hook that answered. */
  answeredBy: string | undefined;
  explanation: Explanation;
}

/** A backend of a test. */
export type FakeUpstream = (request: Forwarded) => Response | Promise<Response>;

/** Options of {@link createTestGateway}. */
export interface TestGatewayOptions extends LoadOptions {
  /** By name; an upstream without one answers 200 with an empty body. */
  upstreams?: Readonly<Record<string, FakeUpstream>>;
}

/** Settings of a hook's native policy that decide whether it is called. */
interface Uses {
  name: string;
  hook: number;
  points: PointName[];
  methods?: string[];
  paths?: string[];
  headers?: string[];
  fail: "open" | "closed";
}

/** A gateway that serves nobody but {@link TestGateway.inject}. */
export class TestGateway implements AsyncDisposable {
  /** Lines that hooks logged, failures with their stacks among them. */
  readonly logs: HookLogLine[] = [];
  readonly #loaded: Loaded;
  readonly #options: TestGatewayOptions;
  readonly #thread: HookThread;
  #channel: MemoryChannel | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(loaded: Loaded, options: TestGatewayOptions) {
    this.#loaded = loaded;
    this.#options = options;
    const gateway = this;
    class Channel extends MemoryChannel {
      constructor(wake: () => void) {
        super(wake);
        gateway.#channel = this;
      }
    }
    this.#thread = new HookThread(
      Channel,
      loaded.hooks,
      (line) => void this.logs.push(line),
      () => undefined,
    );
  }

  /** Use {@link createTestGateway}. */
  static async load(source: string | ConfigInput, options: TestGatewayOptions): Promise<TestGateway> {
    const loaded =
      typeof source === "string" ? await loadConfig(source, options) : await resolveConfig(source, options);
    if (!loaded.ok) throw refusal(loaded);
    const gateway = new TestGateway(loaded, options);
    await gateway.#thread.begin(false);
    return gateway;
  }

  /** Takes a request through routing, hooks and the fake upstream. Requests run one after another. */
  inject(request: InjectRequest | string): Promise<InjectResult> {
    const next = this.#queue.then(() => this.#inject(typeof request === "string" ? { url: request } : request));
    this.#queue = next.catch(() => undefined);
    return next;
  }

  /** Runs `onShutdown`. */
  async close(): Promise<void> {
    await this.#queue;
    await this.#thread.end();
  }

  /** {@link close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #inject(request: InjectRequest): Promise<InjectResult> {
    const url = new URL(request.url, "http://localhost");
    const method = request.method ?? "GET";
    const sent = new Headers(request.headers);
    const body = typeof request.body === "string" ? Buffer.from(request.body) : (request.body ?? new Uint8Array());
    const explanation = await explainUnder(this.#loaded.native, {
      method,
      host: sent.get("host") ?? url.host,
      target: url.pathname + url.search,
      headers: [...sent],
      ...(request.clientIp !== undefined && { client_ip: request.clientIp }),
    });
    const { route } = explanation;
    const exchange = new Exchange(this.#channel as MemoryChannel, this.#loaded, explanation, (read) =>
      readValue(read, { request, url, method, sent, body, explanation }),
    );
    let forwarded: Forwarded | undefined;
    let answer: Answered | undefined;
    if (!route || route.action.type === "refused") {
      const status = { refused: 400, method_not_allowed: 405, no_route: 404, route: 400 }[explanation.outcome];
      answer = await exchange.error(status, explanation.outcome);
    } else {
      answer = await exchange.at("request", 0);
      if (!answer && route.action.type === "proxy") {
        forwarded = exchange.forward(route.action.upstream, route.action.target, { method, sent, body });
        if (!this.#knows(forwarded.upstream)) {
          forwarded = undefined;
          answer = await exchange.error(500, "internal");
        } else answer = await exchange.respond(await this.#upstream(forwarded));
      } else if (!answer) {
        const location = route.action.type === "redirect" ? { location: route.action.location } : {};
        const status = (route.action as { status: number }).status;
        answer = await exchange.respond(new Response(null, { status, headers: location }));
      }
    }
    exchange.finish(answer.status);
    const text = Buffer.from(answer.body).toString("utf8");
    return {
      status: answer.status,
      headers: answer.headers,
      body: text,
      json: () => JSON.parse(text),
      route: route?.name,
      params: Object.fromEntries(route?.params ?? []),
      policies: explanation.policies,
      forwarded,
      answeredBy: answer.hook,
      explanation,
    };
  }

  #knows(upstream: string): boolean {
    return this.#loaded.config.upstreams.some(({ name }) => name === upstream);
  }

  async #upstream(request: Forwarded): Promise<Response> {
    const fake = this.#options.upstreams?.[request.upstream];
    return fake ? fake(request) : new Response(null, { status: 200 });
  }
}

/** Loads a configuration (a file, or an object) with all its checks, and starts its hooks. */
export function createTestGateway(
  source: string | ConfigInput,
  options: TestGatewayOptions = {},
): Promise<TestGateway> {
  if (typeof source !== "string" && typeof source !== "object")
    return Promise.reject(new TitanError("TITAN_USAGE", "createTestGateway takes a file's path or a configuration."));
  return TestGateway.load(source, options);
}

interface Answered {
  status: number;
  headers: Headers;
  body: Uint8Array;
  hook: string | undefined;
}

/** Hooks of one request, as the data plane would call them. */
class Exchange {
  readonly #channel: MemoryChannel;
  readonly #loaded: Loaded;
  readonly #uses: Uses[];
  readonly #explanation: Explanation;
  readonly #values: Values;
  readonly #request: Edit[] = [];
  readonly #response: Edit[] = [];
  #context = 0;
  #error = "";
  #answer: { headers: Headers; body: Uint8Array } | undefined;

  constructor(channel: MemoryChannel, loaded: Loaded, explanation: Explanation, values: Values) {
    this.#channel = channel;
    this.#loaded = loaded;
    this.#explanation = explanation;
    this.#values = values;
    const policies = loaded.native.policies as { name: string; type: string; config: Omit<Uses, "name"> }[];
    const names = new Set(explanation.policies.filter(({ type }) => type === "hook").map(({ name }) => name));
    this.#uses = [...names].flatMap((name) =>
      policies.filter((policy) => policy.name === name).map((policy) => ({ ...policy.config, name })),
    );
  }

  /** Runs the hooks of a point; the answer of the one that gave one, or of one that failed closed. */
  async at(point: PointName, status: number): Promise<Answered | undefined> {
    for (const use of this.#uses) {
      if (!use.points.includes(point) || !this.#wants(use)) continue;
      const plan = this.#loaded.hooks[use.hook];
      if (!plan) continue;
      const call = writeCall(use.hook, plan, POINTS[point], status, this.#context, (read) => this.#value(read));
      if (point === "log") {
        this.#channel.tell(call);
        continue;
      }
      const reply = await this.#channel.ask(call);
      if (reply.outcome === FAILED) {
        if (point === "error" || use.fail === "open") continue;
        const body = JSON.stringify({
          error: "hook_failed",
          message: "A hook of this route failed",
          request_id: "test",
        });
        return {
          status: 500,
          headers: this.#edited(new Headers(JSON_TYPE), []),
          body: Buffer.from(body),
          hook: undefined,
        };
      }
      this.#context = reply.context || this.#context;
      const response = reply.edits.filter(([kind]) => kind >= EDIT.responseSet && kind <= EDIT.responseRemove);
      if (reply.outcome === ANSWER) {
        const base = plan.responseBody && this.#answer ? this.#answer.headers : new Headers();
        return { status: reply.status, headers: this.#edited(base, response), body: reply.body, hook: use.name };
      }
      this.#request.push(...reply.edits.filter((edit) => !response.includes(edit)));
      this.#response.push(...response);
    }
    return undefined;
  }

  /** What the hooks so far make of a request. */
  forward(upstream: string, target: string, sent: { method: string; sent: Headers; body: Uint8Array }): Forwarded {
    const last = (kind: number) => this.#request.findLast(([found]) => found === kind)?.[2];
    const [path = "/", query = ""] = target.split("?", 2);
    return {
      upstream: last(EDIT.upstream) ?? upstream,
      backend: last(EDIT.backend),
      method: sent.method,
      path: last(EDIT.path) ?? path,
      query: last(EDIT.query) ?? query,
      headers: apply(new Headers(sent.sent), this.#request, EDIT.requestSet),
      body: sent.body,
    };
  }

  /** Takes an answer through the response hooks. */
  async respond(response: Response): Promise<Answered> {
    const body = new Uint8Array(await response.arrayBuffer());
    this.#answer = { headers: new Headers(response.headers), body };
    const instead = await this.at("response", response.status);
    return (
      instead ?? { status: response.status, headers: this.#edited(this.#answer.headers, []), body, hook: undefined }
    );
  }

  /** Takes an error of Titan's own through the error hooks. */
  async error(status: number, stage: string): Promise<Answered> {
    const message = this.#explanation.message ?? stage.replaceAll("_", " ");
    this.#error = `${stage}\n${message}`;
    const body = JSON.stringify({ error: stage, message, request_id: "test" });
    const instead = await this.at("error", status);
    return (
      instead ?? { status, headers: this.#edited(new Headers(JSON_TYPE), []), body: Buffer.from(body), hook: undefined }
    );
  }

  /** Tells the log hooks, and lets go of what was attached. */
  finish(status: number): void {
    void this.at("log", status);
    const plan = this.#loaded.hooks[0];
    if (this.#context !== 0 && plan)
      this.#channel.tell(writeCall(0, { ...plan, reads: [] }, RELEASE, 0, this.#context, () => undefined));
  }

  #edited(headers: Headers, more: readonly Edit[]): Headers {
    return apply(new Headers(headers), [...this.#response, ...more], EDIT.responseSet);
  }

  #wants({ methods, paths, headers }: Uses): boolean {
    const path = this.#explanation.path;
    const method = String(this.#values("method"));
    return (
      (!methods || methods.includes(method)) &&
      (!paths || paths.some((one) => (one.endsWith("*") ? path.startsWith(one.slice(0, -1)) : one === path))) &&
      (!headers || headers.every((name) => this.#values(`header:${name}`) !== undefined))
    );
  }

  #value(read: string): string | Uint8Array | undefined {
    if (read === "error") return this.#error;
    if (read === "log") return '{"duration_ms":0,"bytes_in":0,"bytes_out":0,"tries":1}';
    if (read === "response_body") return this.#answer?.body;
    if (read === "response_headers") return this.#answer && lines(this.#answer.headers);
    if (read.startsWith("response_header:")) return this.#answer?.headers.get(read.slice(16)) ?? undefined;
    return this.#values(read);
  }
}

const JSON_TYPE = { "content-type": "application/json" };

interface Facts {
  request: InjectRequest;
  url: URL;
  method: string;
  sent: Headers;
  body: Uint8Array;
  explanation: Explanation;
}

/** A value that a hook reads of the request. */
function readValue(
  read: string,
  { request, url, method, sent, body, explanation }: Facts,
): string | Uint8Array | undefined {
  const { identity } = request;
  if (read.startsWith("header:")) return sent.get(read.slice(7)) ?? undefined;
  if (read.startsWith("claim:")) {
    const value = claim(identity?.claims, read.slice(6));
    return value === undefined || typeof value === "string" ? value : JSON.stringify(value);
  }
  switch (read) {
    case "path":
      return explanation.path;
    case "method":
      return method;
    case "route":
      return explanation.route?.name ?? "";
    case "request_id":
      return "test";
    case "query":
      return url.search === "" ? undefined : url.search.slice(1);
    case "host":
      return sent.get("host") ?? url.host;
    case "scheme":
      return url.protocol.slice(0, -1);
    case "client_ip":
      return request.clientIp ?? "127.0.0.1";
    case "params":
      return (explanation.route?.params ?? []).map(([name, value]) => `${name}\n${value}\n`).join("");
    case "headers":
      return lines(sent);
    case "identity":
      return (
        identity &&
        JSON.stringify({ kind: identity.kind ?? "jwt", subject: identity.subject ?? "", claims: identity.claims ?? {} })
      );
    case "request_body":
      return body;
    default:
      return undefined;
  }
}

function claim(claims: unknown, path: string): unknown {
  if (typeof claims !== "object" || claims === null) return undefined;
  if (Object.hasOwn(claims, path)) return (claims as Record<string, unknown>)[path];
  const dot = path.indexOf(".");
  return dot < 0 ? undefined : claim((claims as Record<string, unknown>)[path.slice(0, dot)], path.slice(dot + 1));
}

function lines(headers: Headers): string {
  return [...headers].map(([name, value]) => `${name}\n${value}\n`).join("");
}

/** Headers with edits applied, whose first kind is `set`. */
function apply(headers: Headers, edits: readonly Edit[], set: number): Headers {
  for (const [kind, name, value] of edits) {
    if (kind === set) headers.set(name, value);
    else if (kind === set + 1) headers.append(name, value);
    else if (kind === set + 2) headers.delete(name);
  }
  return headers;
}
