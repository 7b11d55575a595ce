import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { get } from "./client.ts";

const ROOT = resolve(import.meta.dirname, "../..");

/** A port of 127.0.0.1 that nothing listens on. */
export async function freePort(): Promise<number> {
  return new Promise((done, reject) => {
    const server = net.createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as net.AddressInfo;
      server.close(() => done(port));
    });
  });
}

/** A running `titan serve`. */
export interface Titan {
  readonly port: number;
  /** 0 unless the configuration asked for HTTPS. */
  readonly httpsPort: number;
  readonly adminPort: number;
  readonly child: ChildProcess;
  readonly dir: string;
  readonly file: string;
  /** Everything it wrote. */
  output(): string;
  /** Resident bytes. */
  memory(): number;
  /** SIGTERM, SIGKILL after `grace`; resolves with the exit code. */
  stop(grace?: number): Promise<number | null>;
}

/** What is started. */
export interface TitanOptions {
  /** Configuration in the guide's form; host, ports, quiet logs and metrics port are filled in. */
  config: { server?: object; logging?: object; metrics?: object; [key: string]: unknown };
  /** Also listen for HTTPS with this certificate. */
  tls?: { cert_path: string; key_path: string; [key: string]: unknown };
  env?: Record<string, string>;
  args?: string[];
}

/** Starts Titan as a user does (`node dist/cli/main.js serve --config …`) and resolves when it answers `/_health`. */
export async function startTitan(options: TitanOptions): Promise<Titan> {
  // A port that was free may be taken by the time that Titan binds it: other tests run beside this one.
  for (let tries = 1; ; tries++) {
    try {
      return await startOnce(options);
    } catch (error) {
      if (tries === 3 || !/\bin use\b/.test(String(error))) throw error;
    }
  }
}

async function startOnce({ config, tls, env = {}, args = [] }: TitanOptions): Promise<Titan> {
  const dir = mkdtempSync(join(tmpdir(), "titan-test-"));
  const [port, httpsPort, adminPort] = [await freePort(), tls ? await freePort() : 0, await freePort()];
  const whole = {
    ...config,
    server: {
      host: "127.0.0.1",
      port,
      workers: 1,
      ...(tls && { https_port: httpsPort, tls: { enabled: true, ...tls } }),
      ...config.server,
    },
    logging: { level: "warn", log_requests: false, ...config.logging },
    metrics: { port: adminPort, ...config.metrics },
  };
  const file = join(dir, "config.json");
  writeFileSync(file, JSON.stringify(whole, null, 2));
  const child = spawn(process.execPath, [join(ROOT, "dist/cli/main.js"), "serve", "--config", file, ...args], {
    cwd: dir,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (data) => (output += data));
  const exited = new Promise<number | null>((done) => child.once("close", done));
  const titan: Titan = {
    port,
    httpsPort,
    adminPort,
    child,
    dir,
    file,
    output: () => output,
    memory: () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1] ?? 0) * 1024,
    async stop(grace = 5000) {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill("SIGTERM");
        await Promise.race([exited, sleep(grace)]);
        if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      }
      const code = await exited;
      rmSync(dir, { recursive: true, force: true });
      return code;
    },
  };
  const deadline = performance.now() + 20_000;
  for (;;) {
    const up = await get(port, "/_health", {}, { timeout: 1000 }).catch(() => undefined);
    if (up?.status === 200) return titan;
    if (child.exitCode !== null || performance.now() > deadline) {
      await titan.stop(0);
      throw new Error(`titan does not serve (exit code ${child.exitCode}):\n${output}`);
    }
    await sleep(20);
  }
}
