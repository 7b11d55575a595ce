/** A worker thread that runs hooks, from outside. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { Worker } from "node:worker_threads";
import { packageRoot } from "../config/root.ts";
import type { LoadOptions } from "../config/types.ts";
import { TitanError } from "../errors.ts";
import type { HookLogLine } from "./dispatch.ts";
import type { Host } from "./host.ts";

/** What a worker is told. */
export interface WorkerTask {
  file: string;
  load: LoadOptions;
  reload: boolean;
  /** Hooks by number, to see that both threads read the same configuration. */
  names: string[];
}

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

export class WorkerThread implements Host {
  readonly id: number;
  readonly inline = false;
  readonly #worker: Worker;
  readonly #exited: Promise<void>;
  #expected = false;

  private constructor(worker: Worker, id: number, exited: Promise<void>) {
    this.#worker = worker;
    this.id = id;
    this.#exited = exited;
  }

  /** Resolves when it is ready to be called. */
  static start(setup: Setup): Promise<WorkerThread> {
    const { write, ended, ...task } = setup;
    const worker = new Worker(script(), { workerData: task, name: "titan-hooks" });
    const exited = new Promise<void>((done) => worker.once("exit", () => done()));
    return new Promise((done, refuse) => {
      let host: WorkerThread | undefined;
      const failed = (message: string, cause?: unknown) =>
        refuse(new TitanError("TITAN_HOOK_START", message, cause === undefined ? {} : { cause }));
      worker.on("message", (message: WorkerMessage) => {
        if (message.type === "log") write(message.line);
        else if (message.type === "ready") {
          host = new WorkerThread(worker, message.channel, exited);
          // It lives as long as the gateway, and does not keep the process alive by itself.
          worker.unref();
          done(host);
        } else if (message.type === "failed") failed(message.message);
        else if (host) host.#expected = true;
      });
      worker.on("error", (error) => {
        const message = error instanceof Error ? error.message : String(error);
        if (!host) return failed(`the thread of the hooks failed to start: ${message}`, error);
        write({
          level: "error",
          message: `The thread of the hooks failed: ${message}`,
          fields: { event: "hooks_lost" },
        });
      });
      worker.once("exit", () => {
        if (host) ended(host, host.#expected);
        else failed("the thread of the hooks ended before it was ready");
      });
    });
  }

  async end(): Promise<void> {
    this.#expected = true;
    this.#worker.ref();
    this.#worker.postMessage("end");
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
