/** A running Titan gives its listening sockets to another one, which then serves instead of it: no request fails. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import { type Backend, startBackend } from "../helpers/backend.ts";
import { hasPython, serviceManager } from "../helpers/systemd.ts";
import { startTitan, type Titan } from "../helpers/titan.ts";

const MAIN = resolve(import.meta.dirname, "../../dist/cli/main.js");
const runtime = mkdtempSync(join(tmpdir(), "titan-handover-"));
let backend: Backend | undefined;
let titan: Titan | undefined;

afterEach(async () => {
  // Whoever serves now is a child of the process that the test started.
  for (const pid of served()) if (alive(pid)) process.kill(pid, "SIGKILL");
  await titan?.stop();
  await backend?.close();
  titan = undefined;
});

/** The processes that have said that they serve, in order. */
function served(): number[] {
  const lines = titan?.output().split("\n") ?? [];
  return lines
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line))
    .filter(({ msg }) => msg.startsWith("Titan serves"))
    .map(({ pid }) => pid);
}

function alive(pid: number): boolean {
  try {
    // A child that has ended and was not waited for is there still, as a zombie.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 30_000; Date.now() < end; await sleep(25)) if (await holds()) return;
  throw new Error(`never: ${what}\n${titan?.output()}`);
}

async function start(workers: number, env: Record<string, string> = {}): Promise<Titan> {
  backend = await startBackend({ name: "one" });
  titan = await startTitan({
    env: { TITAN_RUNTIME_DIR: runtime, ...env },
    config: {
      server: { workers, shutdown_timeout: 20_000, shutdown_delay: 5000 },
      logging: { level: "info" },
      upstreams: [{ name: "up", backends: [{ host: "127.0.0.1", port: backend.port }] }],
      routes: [{ path: "/*", upstream: "up" }],
    },
  });
  // It answers a little before it obeys this signal and has its control socket.
  await until("it has begun", () => existsSync(join(runtime, `${titan?.child.pid}.sock`)) && served().length === 1);
  return titan;
}

/** Requests one after the other until `stop()`, which gives their number and what failed. */
function client(port: number, keepAlive: boolean) {
  const agent = new Agent({ keepAlive, maxSockets: 1 });
  const failures: string[] = [];
  let [stopped, count] = [false, 0];
  const one = () =>
    new Promise<void>((done) => {
      const asked = request({ port, host: "127.0.0.1", path: "/", agent, timeout: 20_000 }, (answer) => {
        if (answer.statusCode !== 200) failures.push(`status ${answer.statusCode}`);
        answer.on("end", done).resume();
      });
      asked.on("timeout", () => asked.destroy(new Error("timeout")));
      asked.on("error", (error) => {
        failures.push(error.message);
        done();
      });
      asked.end();
    });
  const ended = (async () => {
    while (!stopped) {
      await one();
      count++;
      await sleep(2);
    }
    agent.destroy();
  })();
  return {
    async stop() {
      stopped = true;
      await ended;
      return { count, failures };
    },
  };
}

test("three times under load, on new and on held connections: no request fails, and the last one is a whole Titan", async () => {
  const at = await start(2);
  const clients = [false, false, true, true].map((keepAlive) => client(at.port, keepAlive));
  for (let generation = 1; generation <= 3; generation++) {
    // More workers than before, and fewer: the queue of every socket must be served.
    const config = JSON.parse(readFileSync(at.file, "utf8"));
    config.server.workers = generation % 2 === 1 ? 1 : 3;
    writeFileSync(at.file, JSON.stringify(config));
    const before = served().at(-1) as number;
    await sleep(200);
    process.kill(before, "SIGUSR2");
    await until("another process serves", () => served().length === generation + 1);
    await until("the one before has ended", () => !alive(before));
  }
  await sleep(200);
  for (const { stop } of clients) {
    const { count, failures } = await stop();
    expect(failures).toEqual([]);
    expect(count).toBeGreaterThan(10);
  }
  const last = served().at(-1) as number;
  await until("the control socket", () => existsSync(join(runtime, `${last}.sock`)));
  const status = spawnSync(process.execPath, [MAIN, "status", "--json", "--pid", String(last)], {
    env: { ...process.env, TITAN_RUNTIME_DIR: runtime },
    encoding: "utf8",
  });
  expect(JSON.parse(status.stdout)).toMatchObject({ pid: last, state: "running", workers: 1 });
  await until("the admin port is its own", async () => {
    const answer = await fetch(`http://127.0.0.1:${at.adminPort}/_admin/status`).catch(() => undefined);
    return ((await answer?.json()) as { pid?: number } | undefined)?.pid === last;
  });
  process.kill(last, "SIGTERM");
  await until("it ends", () => !alive(last));
}, 180_000);

test("a process that cannot serve takes nothing over", async () => {
  const at = await start(1);
  writeFileSync(at.file, '{ "routes": [ { "path": "/x", "upstream": "nope" } ] }');
  process.kill(at.child.pid as number, "SIGUSR2");
  await until("it is said", () => at.output().includes("DID NOT TAKE OVER"));
  expect(at.output()).toContain("nope");
  const answer = await fetch(`http://127.0.0.1:${at.port}/`);
  expect(answer.status).toBe(200);
  expect(served()).toHaveLength(1);
}, 90_000);

test.skipIf(!hasPython)(
  "systemd is told which process is the service now, and not that it stops",
  async () => {
    const path = join(runtime, "notify");
    const manager = await serviceManager(path);
    try {
      const at = await start(1, { NOTIFY_SOCKET: path });
      process.kill(at.child.pid as number, "SIGUSR2");
      await until("another process serves", () => served().length === 2);
      await until("the one before has ended", () => !alive(at.child.pid as number));
      expect(manager.heard()).toContain(`MAINPID=${served().at(-1)}\n`);
      expect(manager.heard()).not.toContain("STOPPING=1");
    } finally {
      manager.close();
    }
  },
  90_000,
);

test("cleanup", () => rmSync(runtime, { recursive: true, force: true }));
