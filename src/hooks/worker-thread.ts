/** A worker thread that runs hooks, from outside. */
import { existsSync, readFileSync } from "node:fs";
import { extname, resolve } from "node:path";
import { Worker } from "node:worker_threads";
import type { ProgramCode } from "../config/program/program.ts";
import { packageRoot } from "../config/root.ts";
import { MODULE_EXTENSIONS } from "../config/source.ts";
import type { LoadOptions } from "../config/types.ts";
import { TitanError } from "../errors.ts";
import type { HookLogLine } from "./dispatch.ts";
import type { Host } from "./host.ts";

/** What a worker is told to do first. */
export interface WorkerTask {
  file: string;
  load: LoadOptions;
  reload: boolean;
  /** What the first thread made of the configuration's modules: this one runs the same text, and needs no compiler. */
  code: ProgramCode;
  /** Hooks by number, to see that both threads read the same configuration. */
  names: string[];
}

/** What it is told: its task, and then to end. */
export type WorkerOrder = WorkerTask | "end";

/** What a worker tells. */
export type WorkerMessage =
  | { type: "ready"; channel: number }
  | { type: "failed"; message: string }
  | { type: "log"; line: HookLogLine }
  | { type: "ended" };

interface Setup extends WorkerTask {
  write: (line: HookLogLine) => void;
  /** It is no more; `expected` where it was meant to end. */
  ended: (host: WorkerThread, expected: boolean) => void;
}

/** `onShutdown` has this long. */
const END_MS = 5_000;
/** What a configuration with hooks has in its text, unless it takes all of them from elsewhere. */
const MENTIONS_HOOKS = /\bhooks\b|\bon(Request|Response|Error|Log)\b/;

export class WorkerThread implements Host {
  readonly inline = false;
  readonly #worker: Worker;
  readonly #exited: Promise<void>;
  readonly #started: Promise<number>;
  #id = 0;
  #expected = false;
  #setup: Setup | undefined;

  /** Starts the thread: it loads what it needs and waits for {@link begin}. */
  constructor() {
    const worker = new Worker(script(), { name: "titan-hooks" });
    this.#worker = worker;
    this.#exited = new Promise((done) => worker.once("exit", () => done()));
    this.#started = new Promise((done, refuse) => {
      const failed = (message: string, cause?: unknown) =>
        refuse(new TitanError("TITAN_HOOK_START", message, cause === undefined ? {} : { cause }));
      worker.on("message", (message: WorkerMessage) => {
        if (message.type === "log") this.#setup?.write(message.line);
        else if (message.type === "ready") {
          this.#id = message.channel;
          done(message.channel);
        } else if (message.type === "failed") failed(message.message);
        else this.#expected = true;
      });
      worker.on("error", (error) => {
        const message = error instanceof Error ? error.message : String(error);
        failed(`the thread of the hooks failed to start: ${message}`, error);
        const fields = { event: "hooks_lost" };
        if (this.#id !== 0)
          this.#setup?.write({ level: "error", message: `The thread of the hooks failed: ${message}`, fields });
      });
      worker.once("exit", () => {
        failed("the thread of the hooks ended before it was ready");
        if (this.#id !== 0) this.#setup?.ended(this, this.#expected);
      });
    });
    // Whoever begins with it hears of a failure; one that nobody needs may fail.
    this.#started.catch(() => undefined);
    // It lives as long as the gateway, and does not keep the process alive by itself.
    worker.unref();
  }

  /** A thread on its way while the configuration `file` is still read, where that looks as if it had hooks. */
  static ahead(file: string): WorkerThread | undefined {
    if (!MODULE_EXTENSIONS.includes(extname(file))) return undefined;
    try {
      return MENTIONS_HOOKS.test(readFileSync(file, "utf8")) ? new WorkerThread() : undefined;
    } catch {
      return undefined;
    }
  }

  get id(): number {
    return this.#id;
  }

  /** Gives it its task; resolves when it is ready to be called. */
  async begin(setup: Setup): Promise<this> {
    const { write: _, ended: __, ...task } = setup;
    this.#setup = setup;
    this.#worker.ref();
    this.#worker.postMessage(task satisfies WorkerOrder);
    try {
      await this.#started;
    } finally {
      this.#worker.unref();
    }
    return this;
  }

  async end(): Promise<void> {
    this.#expected = true;
    this.#worker.ref();
    this.#worker.postMessage("end" satisfies WorkerOrder);
    const limit = setTimeout(() => void this.#worker.terminate(), END_MS);
    await this.#exited;
    clearTimeout(limit);
  }

  /** Ends it whatever it does; `expected` = it is not needed any more. */
  async kill(expected = true): Promise<void> {
    this.#expected = expected;
    await this.#worker.terminate();
    await this.#exited;
  }
}

/** The worker's program: bundled, or the source where the sources run. */
function script(): string {
  const built = resolve(packageRoot(), "dist/hooks/worker.js");
  return existsSync(built) ? built : resolve(packageRoot(), "src/hooks/worker.ts");
}
