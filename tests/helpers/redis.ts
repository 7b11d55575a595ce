import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "./titan.ts";

/** Whether Debian's (or any) redis-server is here. Where it is not, that is said loudly: skipped tests must be seen. */
export const redisInstalled = spawnSync("redis-server", ["--version"]).status === 0;
if (!redisInstalled) console.warn("SKIPPED: redis-server is not installed, so nothing was tested against a real Redis");

/** A real Redis. */
export interface Redis {
  readonly port: number;
  readonly child: ChildProcess;
  stop(): Promise<void>;
}

/** Starts one that keeps nothing, on `port` or a free one; `args` come last. With TLS, pass `--port 0 --tls-port PORT`. */
export async function startRedis(args: readonly string[] = [], port?: number): Promise<Redis> {
  const at = port ?? (await freePort());
  const common = ["--port", String(at), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/tmp"];
  const child = spawn("redis-server", [...common, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (data) => (output += data));
  const closed = new Promise<void>((done) => child.once("close", () => done()));
  const stop = async () => {
    child.kill("SIGKILL");
    await closed;
  };
  for (const end = Date.now() + 20_000; Date.now() < end && child.exitCode === null; await sleep(20)) {
    const up = await new Promise<boolean>((done) => {
      const socket = net.connect(at, "127.0.0.1", () => {
        socket.destroy();
        done(true);
      });
      socket.once("error", () => done(false));
    });
    if (up) return { port: at, child, stop };
  }
  await stop();
  throw new Error(`redis-server does not start:\n${output}`);
}
