/// <reference lib="esnext.disposable" preserve="true" />
/** `@titan-gateway/titan/testing`: a real configuration under test. No listener is bound, no backend reached. */
import { randomBytes } from "node:crypto";
import { formatIssues, loadConfig, resolveConfig } from "../config/index.ts";
import type { ConfigInput } from "../config/schema/root.ts";
import { suggest } from "../config/suggest.ts";
import type { Loaded, LoadResult } from "../config/types.ts";
import { parseDuration } from "../config/units.ts";
import { messageOf, TitanError } from "../errors.ts";
import { refusal, throwRefusal } from "../gateway/gateway.ts";
import { parseTarget } from "../gateway/target.ts";
import type { ExplainRequest, Explanation, Status } from "../gateway/types.ts";
import { type HookLogLine, HookThread } from "../hooks/dispatch.ts";
import { loadNative, type Native, type NativeRehearsal } from "../native.ts";
import { watched } from "./hook-calls.ts";
import { decode, encode, type Incoming, streamHead, textOf, usage } from "./message.ts";
import { Prepared } from "./prepare.ts";
import { Stage, withTrailers } from "./stage.ts";
import type { HookCall, InjectRequest, InjectResult, PolicyVerdict, TestGatewayOptions } from "./types.ts";

export type * from "./types.ts";
export { withTrailers };

/** Times above this are taken in several steps. */
const MAX_STEP = 2 ** 31;

/** What the data plane says of a request (`titan_core::rehearsal::Observation`). */
interface Observation {
  route: string | null;
  upstream: string | null;
  client_ip: string;
  stage: string | null;
  policies_ran: boolean;
  answered_by: number | null;
  subject: string | null;
}

/** A gateway that serves nobody but {@link TestGateway.inject}. */
export class TestGateway implements AsyncDisposable {
  /** Lines that hooks logged, failures with their stacks among them. */
  readonly logs: HookLogLine[] = [];
  readonly #loaded: Loaded;
  readonly #stage: Stage;
  readonly #thread: HookThread;
  readonly #native: NativeRehearsal;
  /** Hands waiting calls to the hooks. */
  #wake: () => void = () => undefined;
  #prepared!: Prepared;
  #calls: HookCall[] = [];
  #queue: Promise<unknown> = Promise.resolve();
  #closed: Promise<void> | undefined;

  private constructor(addon: Native, loaded: Loaded, stage: Stage) {
    this.#loaded = loaded;
    this.#stage = stage;
    this.#native = new addon.NativeRehearsal();
    const gateway = this;
    class Channel extends addon.HookChannel {
      constructor(wake: () => void) {
        super(wake);
        gateway.#wake = wake;
      }
    }
    this.#thread = new HookThread(
      Channel,
      watched(loaded.hooks, (call) => void this.#calls.push(call)),
      (line) => void this.logs.push(line),
      () => undefined,
    );
  }

  /** Use {@link createTestGateway}. */
  static async open(loaded: Loaded, options: TestGatewayOptions): Promise<TestGateway> {
    const addon = await loadNative();
    const upstreams = loaded.native.upstreams as { name: string; protocol?: string }[];
    refuseUnknown(options, loaded);
    const stage = await Stage.open({
      upstreams: options.upstreams,
      services: options.services ?? {},
      http2: new Set(
        upstreams.filter(({ protocol }) => protocol === "h2" || protocol === "h2c").map(({ name }) => name),
      ),
    });
    const gateway = new TestGateway(addon, loaded, stage);
    try {
      await gateway.#start();
    } catch (error) {
      await gateway.close();
      throw error;
    }
    return gateway;
  }

  async #start(): Promise<void> {
    this.#prepared = new Prepared(this.#loaded.native, this.#stage, this.#thread.id);
    try {
      await this.#thread.begin(false);
    } catch (cause) {
      throw new TitanError("TITAN_HOOK_START", messageOf(cause), { cause });
    }
    const config = JSON.stringify(this.#prepared.native);
    const outcome = await this.#native.start(config, this.#stage.address, this.#stage.token);
    throwRefusal(outcome, this.#loaded);
  }

  /** Takes a request through the gateway. Requests run one after another. */
  inject(request: InjectRequest | string): Promise<InjectResult> {
    const next = this.#queue.then(() => this.#inject(typeof request === "string" ? { url: request } : request));
    this.#queue = next.catch(() => undefined);
    return next;
  }

  /**
   * Lets time pass at once: `"1m"`, or milliseconds. For rate limits of this gateway it stands still otherwise. The clock of circuits and
   * ejections is moved ahead too; it also runs, and is one for all gateways of the process. Tokens live by the time of day, which stays.
   */
  async advance(time: number | string): Promise<void> {
    const ms = typeof time === "string" ? parseDuration(time) : time;
    if (ms === undefined || !Number.isFinite(ms) || ms < 0)
      throw usage(`${JSON.stringify(time)} is no time such as "1m" or 500 (milliseconds).`);
    await this.#queue;
    for (let left = Math.round(ms); left > 0; left -= MAX_STEP) this.#native.skip(Math.min(left, MAX_STEP));
  }

  /** State of the upstreams: circuits, ejections, counters. */
  status(): Pick<Status, "upstreams" | "limits"> {
    return JSON.parse(this.#native.status());
  }

  /** Which route a request would take, and why. Nothing is sent. */
  explain(request: ExplainRequest): Explanation {
    return JSON.parse(this.#native.explain(JSON.stringify(request)));
  }

  /** Runs `onShutdown` and ends. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await this.#queue;
    await this.#native.close();
    this.#wake();
    await this.#thread.end();
    await this.#stage.close();
  }

  /** {@link close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #inject(request: InjectRequest): Promise<InjectResult> {
    if (this.#closed) throw new TitanError("TITAN_STATE", "The test gateway is closed.");
    const parts = parseTarget(request.url);
    if (!parts) throw usage(`"${request.url}" is neither a path such as /users nor a URL such as https://host/users.`);
    const { listeners } = this.#prepared;
    const listener = listeners.find(({ name, secure }) =>
      request.listener === undefined
        ? parts.scheme === undefined || secure === (parts.scheme === "https")
        : name === request.listener,
    );
    if (!listener && request.listener !== undefined)
      throw usage(
        `There is no listener "${request.listener}"; there are ${listeners.map(({ name }) => name).join(", ")}.`,
      );
    // A load balancer before Titan may speak TLS where no listener does.
    const at = listener ?? listeners[0];
    const secure = parts.scheme === undefined ? (at?.secure ?? false) : parts.scheme === "https";
    if (request.http2 && at && !at.http2)
      throw usage(`The listener "${at.name}" speaks no HTTP/2 (\`alpn_protocols\` with TLS, \`h2c\` without).`);
    const method = request.method ?? "GET";
    const headers: Record<string, string | readonly string[]> = { ...request.headers, ...handshake(request) };
    const hostName = Object.keys(headers).find((name) => name.toLowerCase() === "host");
    const host = String((hostName && headers[hostName]) ?? parts.host ?? "localhost");
    let body = typeof request.body === "string" ? Buffer.from(request.body) : request.body;
    if (request.json !== undefined) {
      if (body !== undefined) throw usage("A request has a `body` or `json`, not both.");
      body = Buffer.from(JSON.stringify(request.json));
      if (!Object.keys(headers).some((name) => name.toLowerCase() === "content-type"))
        headers["content-type"] = "application/json";
    }
    const clientIp = request.clientIp ?? "127.0.0.1";
    const explanation = this.explain({
      method,
      host,
      target: parts.target,
      headers: Object.entries(headers).flatMap(([name, values]) =>
        [values].flat().map((value): [string, string] => [name.toLowerCase(), String(value)]),
      ),
      client_ip: clientIp,
    });
    if (request.identity) {
      const route = explanation.route ? `the route "${explanation.route.name}"` : "no route that it takes";
      const [name, value] = this.#prepared.credential(request.identity, explanation.policies, route);
      headers[name] = value;
    }
    const from = {
      ...(at && { listener: at.name }),
      address: clientIp,
      ...(secure && { secure: host.replace(/:\d+$/, "") }),
      ...(request.clientCertificate && { certificate: certificateOf(request.clientCertificate, secure) }),
    };
    this.#stage.empty();
    this.#calls = [];
    const outgoing = { method, target: parts.target, host, headers, body };
    const tunnel = request.websocket !== undefined && request.websocket !== false;
    const limit = request.timeout ?? 10_000;
    const sent = await (request.http2
      ? this.#native.sendStream(
          JSON.stringify(from),
          JSON.stringify(streamHead(outgoing, secure, tunnel)),
          Buffer.from(body ?? ""),
          limit,
        )
      : this.#native.send(JSON.stringify(from), encode(outgoing), limit));
    // What `onLog` is to be told waits by now.
    this.#wake();
    if (this.#stage.failure) throw this.#stage.failure.error;
    if (sent.failure !== undefined || !sent.answer) {
      throw new TitanError("TITAN_TIMEOUT", `${method} ${request.url}: ${sent.failure ?? "no answer came"}.`);
    }
    const answer = decode(sent.answer, tunnel && request.http2 ? "CONNECT" : method, request.http2);
    const seen = sent.observation === undefined ? undefined : (JSON.parse(sent.observation) as Observation);
    const upgraded = answer.status === 101 || (tunnel && request.http2 === true && answer.status === 200);
    return { ...this.#result(answer, seen, explanation), upgraded };
  }

  #result(answer: Incoming, seen: Observation | undefined, explanation: Explanation): Omit<InjectResult, "upgraded"> {
    const attempts = this.#stage.attempts;
    const calls = this.#calls;
    const policies = explanation.policies.map(({ name, type }, place): PolicyVerdict => {
      const ended = seen?.answered_by ?? Number.POSITIVE_INFINITY;
      if (!seen?.policies_ran || place > ended) return { name, type, verdict: "not_reached" };
      if (place === ended) return { name, type, verdict: "answered" };
      const hook = type === "hook" ? this.#loaded.hooks[this.#prepared.hookOf.get(name) ?? -1] : undefined;
      const called = calls.some((call) => call.hook === hook?.name && call.handler === "onRequest");
      return { name, type, verdict: hook && !called ? "skipped" : "passed" };
    });
    const policy = policies.find(({ verdict }) => verdict === "answered");
    // A hook may have answered in place of an answer or an error: it came last.
    const hook = calls.findLast(({ outcome, handler }) => outcome === "answered" && handler !== "onRequest");
    const body = textOf(answer.body, answer.headers.get("content-encoding"));
    return {
      status: answer.status,
      headers: answer.headers,
      body,
      bytes: answer.body,
      json: () => JSON.parse(body),
      trailers: answer.trailers,
      grpcStatus: grpcStatusOf(answer),
      route: seen?.route ?? undefined,
      params: Object.fromEntries(explanation.route?.params ?? []),
      upstream: seen?.upstream ?? undefined,
      backend: attempts.at(-1)?.backend,
      policies,
      hooks: calls,
      forwarded: attempts.at(-1),
      attempts,
      answeredBy: hook?.hook ?? policy?.name,
      stage: seen?.stage ?? undefined,
      clientIp: seen?.client_ip,
      subject: seen?.subject ?? undefined,
      explanation,
    };
  }
}

/** Fields that ask for a WebSocket, where one is asked for. */
function handshake({ websocket, http2, method, headers = {}, body, json }: InjectRequest): Record<string, string> {
  if (websocket === undefined || websocket === false) return {};
  if ((method ?? "GET") !== "GET" || body !== undefined || json !== undefined)
    throw usage("A WebSocket is asked for with GET, and without a body.");
  const given = new Set(Object.keys(headers).map((name) => name.toLowerCase()));
  const fields = {
    "sec-websocket-version": "13",
    ...(!http2 && {
      connection: "Upgrade",
      upgrade: "websocket",
      "sec-websocket-key": randomBytes(16).toString("base64"),
    }),
    ...(websocket !== true && { "sec-websocket-protocol": websocket.join(", ") }),
  };
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !given.has(name)));
}

function grpcStatusOf({ headers, trailers }: Incoming): number | undefined {
  const text = trailers.get("grpc-status") ?? headers.get("grpc-status");
  return text === null ? undefined : Number(text);
}

/**
 * Loads a configuration (a file, an object, or what `loadConfig` gave) with all its checks, starts its hooks and a data plane for it. The
 * data plane is the real one; what stands in for the world around it: see `docs/testing.md`.
 */
export async function createTestGateway(
  source: string | ConfigInput | LoadResult,
  options: TestGatewayOptions = {},
): Promise<TestGateway> {
  if (typeof source !== "string" && (typeof source !== "object" || source === null))
    throw usage("createTestGateway takes a file's path or a configuration.");
  const loaded =
    typeof source === "string"
      ? await loadConfig(source, options)
      : isResult(source)
        ? source
        : await resolveConfig(source, options);
  try {
    if (!loaded.ok) throw refusal(loaded);
    return await TestGateway.open(loaded, options);
  } catch (error) {
    // A test runner shows the message and nothing else: all problems shall be in it.
    if (!(error instanceof TitanError) || error.issues.length === 0) throw error;
    const { message, code, issues } = error;
    throw new TitanError(code, `${message}\n${formatIssues(issues)}`, { issues, cause: error });
  }
}

function isResult(source: ConfigInput | LoadResult): source is LoadResult {
  return "ok" in source && "issues" in source;
}

/** Fakes of things that the configuration does not have are typing errors. */
function refuseUnknown(options: TestGatewayOptions, loaded: Loaded): void {
  const known = loaded.config.upstreams.map(({ name }) => name);
  for (const name of Object.keys(options.upstreams ?? {})) {
    if (known.includes(name)) continue;
    const near = suggest(name, known);
    throw usage(
      `The configuration has no upstream "${name}"${near ? `; did you mean "${near}"?` : `: it has ${known.join(", ") || "none"}.`}`,
    );
  }
  const asked = servicesOf(loaded);
  for (const url of Object.keys(options.services ?? {})) {
    if (!URL.canParse(url)) throw usage(`\`services\` has "${url}", which is no URL.`);
    if (!asked.includes(url))
      throw usage(`The configuration asks no service "${url}": it asks ${asked.join(", ") || "none"}.`);
  }
}

/** URLs of the services that a configuration makes Titan ask. */
function servicesOf(loaded: Loaded): string[] {
  const policies = loaded.native.policies as {
    type: string;
    config: { url?: string; methods?: { jwks?: { url?: string; issuer?: string } }[] };
  }[];
  return policies.flatMap(({ type, config }) => {
    if (type === "forward_auth") return config.url === undefined ? [] : [config.url];
    return (config.methods ?? []).flatMap(({ jwks }) => [jwks?.url ?? jwks?.issuer].filter((url) => url !== undefined));
  });
}

function certificateOf(given: NonNullable<InjectRequest["clientCertificate"]>, secure: boolean): object {
  if (!secure) throw usage("A client certificate needs a TLS session: give the request an https URL.");
  return {
    subject: given.subject,
    ...(given.commonName !== undefined && { common_name: given.commonName }),
    sans: given.sans ?? [],
    fingerprint: given.fingerprint ?? "",
  };
}
