/// <reference lib="esnext.disposable" preserve="true" />
import { EventEmitter } from "node:events";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { AdminServer } from "../admin/server.ts";
import type { Config, ConfigInput, Issue, Loaded, LoadOptions, LoadResult } from "../config/index.ts";
import { inFileOrder } from "../config/issue.ts";
import { messageOf, TitanError } from "../errors.ts";
import type { Hooks } from "../hooks/host.ts";
import type { WorkerThread } from "../hooks/worker-thread.ts";
import { silent } from "../log/silent.ts";
import type { TitanLogger } from "../log/types.ts";
import type { MetricsPage } from "../metrics/page.ts";
import { failureOf, loadNative, type NativeGateway, type Outcome } from "../native.ts";
import { type Echo, startEcho } from "./echo.ts";
import { routeRows } from "./routes.ts";
import { reachable } from "./target.ts";
import type {
  Address,
  ExplainRequest,
  Explanation,
  GatewayEvents,
  GatewayState,
  NativeEvent,
  RouteRow,
  Status,
} from "./types.ts";

/** Options of {@link createGateway}. */
export interface GatewayOptions extends Omit<LoadOptions, "echo"> {
  /**
   * Titan's own log; default: none. pino, or anything with its five methods; or a function that makes it when the configuration is
   * read, whose level then follows the configuration.
   */
  logger?: TitanLogger | ((config: Config) => Promise<TitanLogger>);
  /**
   * The admin listener (`metrics.host`, `metrics.port`): `true` starts it where the configuration enables it, and a port that is taken
   * is an error; `"optional"` only says so in the log. Default `false`: a program has its own, and asks {@link Gateway.metrics}.
   */
  admin?: boolean | "optional";
  /** Use listeners that systemd or another parent handed over (LISTEN_FDS). */
  inheritSockets?: boolean;
  /**
   * This process takes over from another Titan, which has the admin port until this one serves.
   * @internal
   */
  successor?: boolean;
  /**
   * Threads that run the hooks of a configuration file: a number, or `"config"` for its `hook_workers`. Default 0: hooks run on this
   * thread, and may share what the program has.
   */
  hookWorkers?: number | "config";
}

/** Where the configuration comes from: an object, a file, or nothing for the search path and then the embedded default. */
export type GatewaySource = ConfigInput | { readonly file: string } | undefined;

/** Gateways that run. A program may drop its reference; that must not end a gateway that serves. */
const running = new Set<Gateway>();

/**
 * An API gateway inside this process. The data plane has its own threads; JavaScript is only asked where the configuration says so.
 *
 * ```ts
 * await using gateway = createGateway({ upstreams: […], routes: […] });
 * await gateway.start();
 * console.log(gateway.address());
 * ```
 */
export class Gateway extends EventEmitter<GatewayEvents> implements AsyncDisposable {
  readonly #options: GatewayOptions;
  #log: TitanLogger;
  #source: GatewaySource;
  #state: GatewayState = "new";
  #loaded: Loaded | undefined;
  #native: NativeGateway | undefined;
  #page: MetricsPage | undefined;
  #admin: AdminServer | undefined;
  #echo: Echo | undefined;
  #starting: Promise<unknown> | undefined;
  #closed: Promise<void> | undefined;
  #reloading: Promise<unknown> = Promise.resolve();
  /** Of the configuration that is served, and of earlier ones whose requests have not ended. */
  readonly #hooks = new Set<Hooks>();
  #lostAt = 0;
  /** Times that a thread of the hooks was stuck. */
  #hookStalls = 0;
  /** A thread for hooks that was started while their configuration is read. */
  #ahead: WorkerThread | undefined;
  /** What the addon calls holds this gateway by way of here: its callbacks are roots, and would keep a closed one for ever. */
  readonly #held: { gateway: Gateway | undefined } = { gateway: this };

  /** Use {@link createGateway}. */
  constructor(source: GatewaySource, options: GatewayOptions = {}) {
    super();
    this.#source = source;
    this.#options = options;
    this.#log = typeof options.logger === "object" ? options.logger : silent;
  }

  /** Where it is in its life. */
  get state(): GatewayState {
    return this.#state;
  }

  /** The configuration that is served, with defaults filled in. */
  get config(): Config {
    return this.#configuration().config;
  }

  /** The file it came from, if from one. */
  get file(): string | undefined {
    return this.#loaded?.file;
  }

  /** Every file that the configuration depends on. */
  get files(): readonly string[] {
    return this.#loaded?.files ?? [];
  }

  /** Warnings about the configuration that is served. */
  get warnings(): readonly Issue[] {
    return this.#loaded?.issues ?? [];
  }

  /**
   * Reads the configuration, binds its listeners and serves. Rejects with a {@link TitanError} that holds every problem; nothing is
   * left behind then.
   */
  async start(): Promise<this> {
    if (this.#state !== "new") throw new TitanError("TITAN_STATE", `The gateway is ${this.#state}; it starts once.`);
    this.#state = "starting";
    this.#starting = this.#start();
    try {
      await this.#starting;
    } catch (error) {
      this.#state = "closed";
      await this.#release();
      throw error;
    }
    return this;
  }

  /**
   * Reads the configuration again (or takes another one) and swaps it in: requests in flight finish under the old one. Resolves with
   * the new generation; rejects where it is refused, and the old one is then still served. Calls queue.
   */
  reload(source?: Exclude<GatewaySource, undefined>): Promise<number> {
    const next = this.#reloading.then(() => this.#reload(source));
    this.#reloading = next.catch(() => undefined);
    return next;
  }

  /**
   * Drains (requests in flight finish within `server.shutdown_timeout`) and ends. With `force`, connections are cut at once; that also
   * cuts a drain short that has begun.
   */
  async close(options: { force?: boolean } = {}): Promise<void> {
    if (this.#state === "new") this.#state = "closed";
    await this.#starting?.catch(() => undefined);
    if (this.#state === "running") {
      this.#state = "draining";
      this.emit("draining");
      this.#native?.drain();
    }
    if (options.force) this.#native?.stop();
    await this.#closed;
  }

  /**
   * Duplicates of the listening sockets, for a process that takes over; whoever asks closes them.
   * @internal
   */
  sockets(): { name: string; fd: number }[] {
    return JSON.parse(this.#running().sockets());
  }

  /**
   * {@link close} in favour of a process that has the {@link sockets}: the admin port is free at once, and held connections end with an
   * answer instead of a refusal.
   * @internal
   */
  async handOver(): Promise<void> {
    if (this.#state !== "running") return this.#closed;
    this.#state = "draining";
    this.emit("draining");
    const admin = this.#admin;
    this.#admin = undefined;
    this.#native?.handOver();
    await admin?.close();
    await this.#closed;
  }

  /** Address of the first listener, or of the one named. */
  address(name?: string): Address | undefined {
    const all = this.addresses();
    return name === undefined ? all[0] : all.find((address) => address.name === name);
  }

  /** Addresses of all listeners; with port 0 in the configuration, the port that the system chose. */
  addresses(): Address[] {
    const bound = JSON.parse(this.#running().addresses()) as Pick<Address, "name" | "address" | "port">[];
    const configured = this.#configuration().native.listeners as { name: string; tls?: object }[];
    return bound.map((one) => {
      const protocol = configured.find(({ name }) => name === one.name)?.tls ? "https" : "http";
      return { ...one, protocol, url: `${protocol}://${reachable(one.address)}:${one.port}` };
    });
  }

  /** Address of the admin listener, where there is one. */
  adminAddress(): { address: string; port: number } | undefined {
    return this.#admin?.address();
  }

  /** Lifecycle, generation, listeners, upstreams with the state of each backend. */
  status(): Status {
    return JSON.parse(this.#running().status());
  }

  /**
   * Takes a backend out of traffic, or (`on` = false) back: no new requests, those in flight end. Holds across reloads.
   *
   * @param target - `upstream/host:port`, for every address of a backend, or `upstream/address:port`
   * @returns how many endpoints are meant
   */
  drainBackend(target: string, on = true): number {
    try {
      return this.#running().drainBackend(target, on);
    } catch (cause) {
      throw new TitanError("TITAN_USAGE", `The backend cannot be drained: ${messageOf(cause)}`, { cause });
    }
  }

  /**
   * Refuses a JSON Web Token from now on: on every worker at once, and on every Titan that shares its revocations through Redis.
   *
   * @param jti - the token's `jti`
   * @param exp - the token's `exp` in Unix seconds, after which the revocation is forgotten; without it, it is kept
   */
  revoke(jti: string, exp?: number): void {
    this.#running().revoke(jti, exp);
  }

  /** The routing table. */
  routes(): RouteRow[] {
    return routeRows(this.#configuration().native);
  }

  /** Which route a request would take, why, and the state of its backends. */
  explain(request: ExplainRequest): Explanation {
    try {
      return JSON.parse(this.#running().explain(JSON.stringify(request)));
    } catch (cause) {
      throw new TitanError("TITAN_USAGE", `The request cannot be explained: ${messageOf(cause)}`, { cause });
    }
  }

  /** The metrics page in Prometheus' text format, as `/_metrics` gives it. */
  async metrics(): Promise<{ contentType: string; body: string }> {
    await this.settled();
    this.#running();
    // prom-client is loaded when the first page is asked for.
    if (!this.#page) {
      const { MetricsPage } = await import("../metrics/page.ts");
      this.#page ??= new MetricsPage(
        () => this.#running().metrics(),
        () => ({
          hook_stalls: this.#hookStalls,
          hook_stalled_ms: Math.max(0, ...[...this.#hooks].map(({ stalledMs }) => stalledMs)),
        }),
      );
    }
    return this.#page.render();
  }

  /**
   * Resolves when a start that is under way has come to its end, one way or the other: the data plane may answer, and the admin listener
   * be asked, before this thread hears of it.
   *
   * @internal
   */
  async settled(): Promise<void> {
    if (this.#state === "starting") await this.#starting?.catch(() => undefined);
  }

  /** {@link close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #start(): Promise<void> {
    const [native, loaded] = await Promise.all([loadNative(), this.#load(this.#source)]);
    if (typeof this.#options.logger === "function") this.#log = await this.#options.logger(loaded.config);
    await this.#startAdmin(loaded);
    const held = this.#held;
    const gateway = new native.NativeGateway(
      (event) => {
        const { gateway } = held;
        if (gateway) gateway.#onEvent(event);
      },
      (id) => {
        const { gateway } = held;
        if (gateway) gateway.#onMetrics(id);
      },
    );
    await this.#startHooks(loaded, false);
    const outcome = await gateway.start(JSON.stringify(loaded.native), this.#options.inheritSockets ?? false);
    throwRefusal(outcome, loaded);
    this.#native = gateway;
    this.#loaded = loaded;
    this.#state = "running";
    this.#closed = this.#untilClosed(gateway);
    running.add(this);
    this.emit("listening", this.addresses());
  }

  async #reload(source: GatewaySource): Promise<number> {
    const native = this.#running();
    let generation = 0;
    try {
      const loaded = await this.#load(source ?? this.#source);
      const hooks = await this.#startHooks(loaded, true);
      try {
        const outcome = await native.apply(JSON.stringify(loaded.native));
        throwRefusal(outcome, loaded);
        generation = outcome.generation ?? 0;
      } catch (error) {
        await hooks?.end();
        throw error;
      }
      this.#source = source ?? this.#source;
      this.#loaded = loaded;
      if (typeof this.#options.logger === "function") this.#log.level = loaded.config.logging.level;
      this.emit("reload", generation);
      return generation;
    } catch (error) {
      if (error instanceof TitanError) this.emit("reloadRefused", error);
      throw error;
    }
  }

  async #load(source: GatewaySource): Promise<Loaded> {
    const config = await import("../config/index.ts");
    const options: LoadOptions = { ...this.#options };
    let result: LoadResult;
    if (source !== undefined && !isFile(source)) {
      result = await config.resolveConfig(source, options);
    } else {
      const file = source?.file ?? config.findConfigFile(options.cwd);
      if (file === undefined) {
        this.#echo ??= await startEcho();
        options.echo = { host: this.#echo.host, port: this.#echo.port };
      }
      if (file !== undefined && this.#options.hookWorkers) {
        const { WorkerThread } = await import("../hooks/worker-thread.ts");
        this.#ahead = WorkerThread.ahead(resolve(options.cwd ?? "", file));
      }
      result = await config.loadConfig(file, options);
    }
    if (result.ok) return result;
    await this.#takeAhead()?.kill();
    throw refusal(result);
  }

  #takeAhead(): WorkerThread | undefined {
    const ahead = this.#ahead;
    this.#ahead = undefined;
    return ahead;
  }

  async #startHooks(loaded: Loaded, reload: boolean): Promise<Hooks | undefined> {
    const ahead = this.#takeAhead();
    if (loaded.hooks.length === 0) {
      await ahead?.kill();
      return undefined;
    }
    const { Hooks } = await import("../hooks/host.ts");
    const { hookWorkers = 0, env, mode, strict, cwd } = this.#options;
    const hooks = await Hooks.start({
      native: await loadNative(),
      loaded,
      workers: hookWorkers === "config" ? loaded.config.hook_workers : hookWorkers,
      ahead,
      load: definedOnly({ env: env && { ...env }, mode, strict, cwd }),
      reload,
      log: () => this.#log,
      stalled: () => void this.#hookStalls++,
      lost: (hooks) => this.#replaceHooks(hooks),
      ended: (gone) => this.#hooks.delete(gone),
    });
    if (hooks) this.#hooks.add(hooks);
    return hooks;
  }

  /** A thread of the hooks is gone: a reload brings another one. Not more often than once a second. */
  #replaceHooks(gone: Hooks): void {
    // The last one is that of the configuration that is served.
    if ([...this.#hooks].at(-1) !== gone) return;
    const wait = Math.max(0, this.#lostAt + 1_000 - Date.now());
    this.#lostAt = Date.now() + wait;
    setTimeout(() => {
      if (this.#state === "running") this.reload().catch(() => undefined);
    }, wait).unref();
  }

  async #startAdmin(loaded: Loaded): Promise<void> {
    if (!this.#options.admin || !loaded.config.metrics.enabled) return;
    const { AdminServer } = await import("../admin/server.ts");
    const admin = new AdminServer(this, loaded.config);
    try {
      await admin.listen();
      this.#admin = admin;
    } catch (error) {
      if (this.#options.successor && error instanceof TitanError && error.code === "TITAN_ADMIN_LISTEN") {
        void this.#awaitAdmin(admin);
        return;
      }
      if (this.#options.admin !== "optional" || !(error instanceof TitanError)) throw error;
      this.#log.warn({ code: error.code }, `${error.message} ${error.fix} Serving without it.`);
    }
  }

  /** The predecessor has the admin port until this gateway serves. */
  async #awaitAdmin(admin: AdminServer): Promise<void> {
    let last: unknown;
    for (const end = Date.now() + ADMIN_PATIENCE_MS; Date.now() < end; await sleep(50, undefined, { ref: false })) {
      if (this.#state === "closed" || this.#state === "draining") return;
      try {
        await admin.listen();
        this.#admin = admin;
        return;
      } catch (error) {
        last = error;
      }
    }
    this.#log.warn(`${messageOf(last)} Serving without it.`);
  }

  #onMetrics(id: number): void {
    this.metrics().then(
      (page) => this.#native?.answerMetrics(id, page.contentType, page.body),
      (error: unknown) => this.#native?.answerMetrics(id, "", undefined, messageOf(error)),
    );
  }

  #onEvent(json: string): void {
    const event = JSON.parse(json) as NativeEvent;
    this.#log[event.level]({ event: event.name, ...event.fields }, event.message);
    this.emit("event", event);
  }

  async #untilClosed(native: NativeGateway): Promise<void> {
    await native.closed();
    this.#state = "closed";
    running.delete(this);
    await this.#release();
    this.emit("close");
  }

  async #release(): Promise<void> {
    await Promise.all([
      this.#takeAhead()?.kill(),
      this.#admin?.close(),
      this.#echo?.close(),
      ...[...this.#hooks].map((hooks) => hooks.end()),
    ]);
    this.#admin = undefined;
    this.#echo = undefined;
    this.#held.gateway = undefined;
  }

  #configuration(): Loaded {
    if (this.#loaded) return this.#loaded;
    throw new TitanError("TITAN_STATE", `The gateway is ${this.#state}; it has no configuration yet.`);
  }

  #running(): NativeGateway {
    if (this.#native && this.#state !== "closed") return this.#native;
    throw new TitanError("TITAN_STATE", `The gateway is ${this.#state}, not running.`);
  }
}

/**
 * A gateway; {@link Gateway.start} makes it serve. `source` is a configuration object, `{ file }`, or nothing for the search path
 * (`./titan.config.*`, `./titan.{json,yaml}`, `/etc/titan/config.json`) and then the embedded default.
 */
export function createGateway(source?: GatewaySource, options?: GatewayOptions): Gateway {
  return new Gateway(source, options);
}

/** A refused configuration as an error. */
export function refusal(result: { file?: string | undefined; issues: readonly Issue[] }): TitanError {
  const errors = result.issues.filter((issue) => issue.severity === "error");
  const where = result.file ?? "The configuration";
  const count = errors.length === 1 ? "an error" : `${errors.length} errors`;
  const first = errors[0];
  const place = first?.path ? `${first.path}: ` : "";
  return new TitanError("TITAN_CONFIG_INVALID", `${where} has ${count}${first ? `: ${place}${first.message}` : "."}`, {
    issues: result.issues,
  });
}

/** Puts what the data plane found at its place in the file, tells a busy port from a bad configuration, and throws. */
export function throwRefusal(outcome: Outcome, loaded: Loaded): void {
  const failure = failureOf(outcome);
  if (!failure) return;
  if (failure.code !== "TITAN_CONFIG_INVALID") throw failure;
  if (outcome.issues.length > 0 && outcome.issues.every((issue) => LISTEN.test(issue.path))) {
    throw new TitanError("TITAN_LISTEN", outcome.issues.map((issue) => issue.message).join("; "));
  }
  throw refusal({ file: loaded.file, issues: inFileOrder([...loaded.locate(outcome.issues), ...loaded.issues]) });
}

/** Without the keys that have no value. */
function definedOnly(options: { [K in keyof LoadOptions]: LoadOptions[K] | undefined }): LoadOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** How long a successor waits for the admin port. */
const ADMIN_PATIENCE_MS = 60_000;

/** Where the data plane reports an address that it could not bind. */
const LISTEN = /^listeners\[\d+\](\.(address|port))?$/;

function isFile(source: object): source is { readonly file: string } {
  return "file" in source && typeof source.file === "string";
}
