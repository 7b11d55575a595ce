import { type ChildProcess, spawn } from "node:child_process";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const MAIN = resolve(import.meta.dirname, "../../dist/cli/main.js");

/** A running command. */
export interface Serving {
  /** Address of its first listener. */
  readonly url: string;
  readonly child: ChildProcess;
  /** What it wrote to stdout. */
  out(): string;
  /** What it wrote to stderr. */
  err(): string;
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | null>;
}

/** How it is started. */
export interface ServeSetting {
  cwd: string;
  env?: Record<string, string>;
  /** Without the word `serve`. */
  bare?: boolean;
}

/** Runs `titan serve ARGS` and resolves when its log says where it serves. */
export async function serve(args: string[], { cwd, env = {}, bare = false }: ServeSetting): Promise<Serving> {
  const child = spawn(process.execPath, [MAIN, ...(bare ? [] : ["serve"]), ...args], {
    cwd,
    env: { ...process.env, TITAN_RUNTIME_DIR: join(cwd, "run"), ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [out, err] = ["", ""];
  child.stdout.on("data", (data) => {
    out += data;
  });
  child.stderr.on("data", (data) => {
    err += data;
  });
  const closed = new Promise<number | null>((done) => child.once("close", done));
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGTERM");
    return closed;
  };
  for (const end = Date.now() + 20_000; Date.now() < end && child.exitCode === null; await sleep(20)) {
    const url = /"listeners":\["([^"]+)"/.exec(err)?.[1];
    if (url !== undefined) return { url, child, out: () => out, err: () => err, stop };
  }
  child.kill("SIGKILL");
  throw new Error(`titan ${args.join(" ")} does not serve (exit code ${child.exitCode}):\n${out}\n${err}`);
}
