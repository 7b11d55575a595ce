/** What the packaging tests share. */
import { type SpawnSyncReturns, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export const ROOT = resolve(import.meta.dirname, "../..");
export const VERSION = "0.1.0";

/** A folder for one test file, and its end. */
export function folder(): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), "titan-packaging-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true, maxRetries: 5 }) };
}

interface RunOptions {
  cwd?: string;
  env?: Record<string, string | undefined>;
  input?: string;
  timeout?: number;
}

/** Runs a command to its end. */
export function run(command: string, args: string[], options: RunOptions = {}): SpawnSyncReturns<string> {
  return spawnSync(command, args, { cwd: ROOT, encoding: "utf8", timeout: 300_000, maxBuffer: 1 << 26, ...options });
}

/** The same, and throws with everything that was said where it fails. */
export function must(command: string, args: string[], options: RunOptions = {}): string {
  const done = run(command, args, options);
  if (done.status !== 0) {
    throw new Error(
      `${command} ${args.join(" ")} ended with ${done.status ?? done.signal ?? done.error}:\n${done.stdout}\n${done.stderr}`,
    );
  }
  return done.stdout;
}

/** Whether a program is there. */
export function has(program: string): boolean {
  return run("sh", ["-c", `command -v ${program}`]).status === 0;
}

/** Node's own environment variables of the machine that runs the tests have no place in what is shown. */
export function cleanEnvironment(extra: Record<string, string> = {}): Record<string, string> {
  return { PATH: "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", HOME: "/tmp", ...extra };
}

/** Starts a server, waits until `url` answers 200, runs `use`, ends the server with SIGTERM; resolves with its exit code. */
export async function serving(
  command: string,
  args: string[],
  options: { url: string; env?: Record<string, string>; cwd?: string; uid?: number; gid?: number },
  use: (started: { milliseconds: number; pid: number; output: () => string }) => Promise<void> | void,
): Promise<number | null> {
  const began = performance.now();
  const { url: _, ...spawning } = options;
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...spawning });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  const exited = new Promise<number | null>((done) => child.on("exit", (code) => done(code)));
  try {
    for (;;) {
      if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}:\n${output}`);
      try {
        if ((await fetch(options.url)).ok) break;
      } catch {
        // Not listening yet.
      }
      if (performance.now() - began > 30_000) throw new Error(`${options.url} did not answer:\n${output}`);
      await sleep(3);
    }
    await use({ milliseconds: performance.now() - began, pid: child.pid ?? 0, output: () => output });
  } finally {
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), 15_000);
    await exited;
    clearTimeout(timer);
  }
  return exited;
}
