/** The threads that run the hooks of one generation. */
import { url as inspectorUrl } from "node:inspector";
import type { Loaded, LoadOptions } from "../config/types.ts";
import { messageOf, TitanError } from "../errors.ts";
import type { TitanLogger } from "../log/types.ts";
import type { Native } from "../native.ts";
import { type HookLogLine, HookThread } from "./dispatch.ts";
import { WorkerThread } from "./worker-thread.ts";

/** A thread that has the hooks. */
export interface Host {
  /** What the native configuration names it by. */
  readonly id: number;
  /** Whether it is this thread. */
  readonly inline: boolean;
  /** Ends it; runs `onShutdown` first where it still can. */
  end(): Promise<void>;
}

/** What starting hooks needs. */
export interface HookOptions {
  native: Native;
  loaded: Loaded;
  /** Worker threads; 0 = this thread. Only a configuration from a file can be run elsewhere. */
  workers: number;
  /** A worker that is on its way already: used as the first one, or ended. */
  ahead: WorkerThread | undefined;
  /** How the workers read the same configuration. */
  load: LoadOptions;
  /** A configuration is served already: `onReload` runs, not `onStart`. */
  reload: boolean;
  log: () => TitanLogger;
  /** A thread was found to be stuck. */
  stalled: () => void;
  /** A worker ended that was not told to. */
  lost: (hooks: Hooks) => void;
  /** All of it has ended. */
  ended: (hooks: Hooks) => void;
}

/** How often threads are looked at. */
const WATCH_MS = 250;
/** A thread that does not come for this long is said to be stuck. */
const STALL_MS = 1_000;
/** A thread that does not come for this long when all is to end is not waited for. */
const STUCK_MS = 500;
/** A worker that is stuck for this long is ended and replaced, unless somebody may be looking at it in a debugger. */
const HOPELESS_MS = 30_000;

/** The hooks of one generation. */
export class Hooks {
  readonly #options: HookOptions;
  readonly #hosts: Host[] = [];
  readonly #stuck = new Map<number, number>();
  #watch: NodeJS.Timeout | undefined;
  #ended: Promise<void> | undefined;
  #tick = performance.now();

  private constructor(options: HookOptions) {
    this.#options = options;
  }

  /** Starts the threads of a configuration and names them in its native form; `undefined` where it has no hooks. */
  static async start(options: HookOptions): Promise<Hooks | undefined> {
    if (options.loaded.hooks.length === 0) return undefined;
    const hooks = new Hooks(options);
    try {
      await hooks.#start();
    } catch (error) {
      await hooks.end();
      throw error;
    }
    return hooks;
  }

  async #start(): Promise<void> {
    const { loaded, workers, native, reload, ahead } = this.#options;
    if (workers > 0 && loaded.file !== undefined) {
      const started = await Promise.allSettled(
        Array.from({ length: workers }, (_, i) => this.#worker(i === 0 ? ahead : undefined)),
      );
      for (const one of started) if (one.status === "fulfilled") this.#hosts.push(one.value);
      const failed = started.find((one) => one.status === "rejected");
      if (failed) throw failed.reason;
    } else {
      void ahead?.kill();
      let thread: HookThread | undefined;
      const host = { id: 0, inline: true, end: async () => thread?.end() };
      thread = new HookThread(native.HookChannel, loaded.hooks, this.#write, () => void this.end());
      this.#hosts.push({ ...host, id: thread.id });
      try {
        await thread.begin(reload);
      } catch (cause) {
        throw new TitanError("TITAN_HOOK_START", messageOf(cause), { cause });
      }
    }
    const channels = this.#hosts.map(({ id }) => id);
    for (const policy of loaded.native.policies as { type: string; config: { channels?: number[] } }[])
      if (policy.type === "hook") policy.config.channels = channels;
    this.#watch = setInterval(() => this.#look(), WATCH_MS);
    this.#watch.unref();
  }

  #worker(ahead = new WorkerThread()): Promise<Host> {
    const { loaded, load, reload } = this.#options;
    return ahead.begin({
      file: loaded.file as string,
      load,
      reload,
      code: loaded.code,
      names: loaded.hooks.map(({ name }) => name),
      write: this.#write,
      ended: (host, expected) => {
        const index = this.#hosts.indexOf(host);
        if (index >= 0) this.#hosts.splice(index, 1);
        if (!expected && this.#ended === undefined) this.#options.lost(this);
        if (this.#hosts.length === 0) {
          clearInterval(this.#watch);
          this.#options.ended(this);
        }
      },
    });
  }

  /** How long calls wait for a thread that does not come, milliseconds; of the thread that is worst. */
  get stalledMs(): number {
    const { native } = this.#options;
    const stalls = this.#hosts.map(({ id }) => native.hookStall(id));
    return Math.max(0, ...stalls);
  }

  /** Ends every thread; `onShutdown` has a few seconds. */
  end(): Promise<void> {
    this.#ended ??= (async () => {
      clearInterval(this.#watch);
      // One that is stuck can't run its `onShutdown`, and nobody should have to wait for it.
      const stuck = (host: Host) => host instanceof WorkerThread && this.#options.native.hookStall(host.id) >= STUCK_MS;
      await Promise.all(this.#hosts.map((host) => (stuck(host) ? (host as WorkerThread).kill() : host.end())));
      this.#options.ended(this);
    })();
    return this.#ended;
  }

  #write = ({ level, message, fields }: HookLogLine): void => {
    this.#options.log()[level](fields, message);
  };

  /** Says when a thread is stuck, and when it is back. */
  #look(): void {
    const now = performance.now();
    const late = now - this.#tick - WATCH_MS;
    this.#tick = now;
    const log = this.#options.log();
    if (late > STALL_MS && this.#hosts.some(({ inline }) => inline)) {
      this.#options.stalled();
      log.warn(
        { event: "hooks_stalled", stalled_ms: Math.round(late) },
        `The event loop was blocked for ${Math.round(late)} ms: hooks had to wait.`,
      );
    }
    for (const host of this.#hosts) {
      if (host.inline) continue;
      const stalled = this.#options.native.hookStall(host.id);
      const since = this.#stuck.get(host.id);
      if (stalled >= STALL_MS) {
        if (since === undefined) {
          this.#stuck.set(host.id, now - stalled);
          this.#options.stalled();
          log.warn(
            { event: "hooks_stalled", stalled_ms: Math.round(stalled) },
            "A hook blocks its thread: requests with hooks wait for their deadline, others are not affected.",
          );
        } else if (now - since > HOPELESS_MS && host instanceof WorkerThread && inspectorUrl() === undefined) {
          this.#stuck.delete(host.id);
          log.error(
            { event: "hooks_replaced" },
            `The thread of the hooks was blocked for ${HOPELESS_MS / 1_000} s and is replaced.`,
          );
          void host.kill(false);
        }
      } else if (since !== undefined) {
        this.#stuck.delete(host.id);
        log.info({ event: "hooks_back", stalled_ms: Math.round(now - since) }, "The thread of the hooks is back.");
      }
    }
  }
}
