/** Reload, drain and signals of a real `titan serve`. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import WebSocket, { WebSocketServer } from "ws";
import { type Backend, startBackend } from "../helpers/backend.ts";
import { hasPython, serviceManager, withSocket } from "../helpers/systemd.ts";
import { freePort, startTitan, type Titan, type TitanOptions } from "../helpers/titan.ts";

const MAIN = resolve(import.meta.dirname, "../../dist/cli/main.js");
const runtime = mkdtempSync(join(tmpdir(), "titan-run-"));
let one: Backend;
let two: Backend;
let titan: Titan | undefined;

beforeAll(async () => {
  one = await startBackend({ name: "one" });
  two = await startBackend({
    name: "two",
    answer: (request, response, backend) => {
      const wait = Number(new URL(request.url ?? "/", "http://x").searchParams.get("wait") ?? 0);
      setTimeout(() => response.end(backend.name), wait);
    },
  });
});
afterEach(async () => {
  await titan?.stop();
  titan = undefined;
});
afterAll(async () => {
  await Promise.all([one.close(), two.close()]);
  rmSync(runtime, { recursive: true });
});

const to = (backend: Backend, more: object = {}) => ({
  server: { shutdown_timeout: 5000 },
  upstreams: [{ name: "up", backends: [{ host: "127.0.0.1", port: backend.port }] }],
  routes: [{ path: "/*", upstream: "up" }],
  ...more,
});

async function start(config: TitanOptions["config"], args: string[] = []): Promise<Titan> {
  titan = await startTitan({ config, args, env: { TITAN_RUNTIME_DIR: runtime } });
  // It answers a little before its control socket is there.
  const socket = join(runtime, `${titan.child.pid}.sock`);
  await until(() => existsSync(socket));
  return titan;
}

/** Writes the configuration again, with the ports that it has. */
function rewrite(at: Titan, config: object): void {
  const before = JSON.parse(readFileSync(at.file, "utf8"));
  const { server, ...rest } = config as { server?: object };
  writeFileSync(at.file, JSON.stringify({ ...before, ...rest, server: { ...before.server, ...server } }));
}

async function text(url: string): Promise<string> {
  const answer = await fetch(url);
  return answer.text();
}

async function until(condition: () => boolean | Promise<boolean>, ms = 5000): Promise<void> {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(25)) if (await condition()) return;
  throw new Error(`it did not happen within ${ms} ms:\n${titan?.output()}`);
}

function cli(...args: string[]) {
  const done = spawnSync(process.execPath, [MAIN, ...args], {
    env: { ...process.env, TITAN_RUNTIME_DIR: runtime },
    encoding: "utf8",
  });
  return { code: done.status, out: done.stdout, err: done.stderr };
}

test("SIGHUP swaps the configuration under load without a failed request", async () => {
  const at = await start(to(one));
  const url = `http://127.0.0.1:${at.port}/`;
  let stop = false;
  let answered = 0;
  const failures: string[] = [];
  const clients = Array.from({ length: 8 }, async () => {
    while (!stop) {
      try {
        const answer = await fetch(url);
        const body = await answer.text();
        if (answer.status !== 200 || !(body === "two" || body.includes("one")))
          failures.push(`${answer.status} ${body}`);
        answered++;
      } catch (error) {
        failures.push(String(error));
      }
    }
  });
  for (let i = 0; i < 10; i++) {
    rewrite(at, to(i % 2 === 0 ? two : one));
    at.child.kill("SIGHUP");
    await sleep(100);
  }
  rewrite(at, to(two));
  at.child.kill("SIGHUP");
  await until(async () => (await text(url)) === "two");
  stop = true;
  await Promise.all(clients);
  expect(failures).toEqual([]);
  expect(answered).toBeGreaterThan(20);
});

test("a WebSocket on an unchanged route outlives a reload, and hears 1001 when Titan drains", async () => {
  const sockets = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  sockets.on("connection", (socket) => socket.on("message", (data, binary) => socket.send(data, { binary })));
  await new Promise((done) => sockets.once("listening", done));
  const port = (sockets.address() as AddressInfo).port;
  const routes = [
    { path: "/ws", upstream: "ws", websocket: {} },
    { path: "/*", upstream: "up" },
  ];
  const upstreams = (backend: Backend) => [
    { name: "up", backends: [{ host: "127.0.0.1", port: backend.port }] },
    { name: "ws", backends: [{ host: "127.0.0.1", port }] },
  ];
  const at = await start({ server: { shutdown_timeout: 3000 }, upstreams: upstreams(one), routes });
  const socket = new WebSocket(`ws://127.0.0.1:${at.port}/ws`);
  const heard: string[] = [];
  socket.on("message", (data) => heard.push(String(data)));
  await new Promise((done, failed) => socket.once("open", done).once("error", failed));
  socket.send("before");
  rewrite(at, { upstreams: upstreams(two), routes });
  at.child.kill("SIGHUP");
  await until(async () => (await text(`http://127.0.0.1:${at.port}/`)) === "two");
  socket.send("after");
  await until(() => heard.length === 2);
  expect(heard).toEqual(["before", "after"]);
  const closed = new Promise<number>((done) => socket.once("close", (code) => done(code)));
  at.child.kill("SIGTERM");
  expect(await closed).toBe(1001);
  sockets.close();
});

test("an invalid configuration is refused loudly and the old one stays", async () => {
  const at = await start(to(one));
  writeFileSync(at.file, '{ "routes": [ { "path": "/x", "upstream": "nope" } ] }');
  at.child.kill("SIGHUP");
  await until(() => at.output().includes("RELOAD REFUSED"));
  expect(at.output()).toContain("nope");
  expect(await text(`http://127.0.0.1:${at.port}/`)).toContain("one");
  const refused = cli("reload");
  expect(refused.code).toBe(2);
  expect(refused.err).toContain("nope");
});

test("--watch reloads when the file changes", async () => {
  const at = await start(to(one), ["--watch"]);
  rewrite(at, to(two));
  await until(async () => (await text(`http://127.0.0.1:${at.port}/`)) === "two");
});

test("titan reload, status, routes and explain talk to the running process; its socket is the owner's alone", async () => {
  const at = await start(to(one));
  const socket = join(runtime, `${at.child.pid}.sock`);
  expect(statSync(socket).mode & 0o777).toBe(0o600);
  const status = JSON.parse(cli("status", "--json").out);
  expect(status).toMatchObject({ pid: at.child.pid, state: "running", file: at.file, generation: 1 });
  expect(cli("status").out).toContain(`127.0.0.1:${one.port}`);
  rewrite(at, to(two));
  expect(JSON.parse(cli("reload", "--json").out)).toMatchObject({ generation: 2 });
  expect(await text(`http://127.0.0.1:${at.port}/`)).toBe("two");
  expect(JSON.parse(cli("routes", "--live", "--json").out)).toHaveLength(1);
  const explained = JSON.parse(cli("explain", "--live", "GET", "/x", "--json").out);
  expect(explained.route.action.backends[0]).toMatchObject({ backend: `127.0.0.1:${two.port}`, state: "up" });
  expect(cli("reload", "--pid", "1").code).toBe(1);
});

test("a change of workers is refused with the reason", async () => {
  const at = await start(to(one));
  rewrite(at, { server: { workers: 3 } });
  const refused = cli("reload");
  expect(refused.code).toBe(2);
  expect(refused.err).toMatch(/workers[\s\S]*restart/i);
});

test("SIGTERM: what is in flight is answered, a held connection hears 503, liveness answers, exit code 0", async () => {
  const at = await start(to(two, { server: { shutdown_timeout: 5000, shutdown_delay: 0 } }));
  const held = new Agent({ keepAlive: true, maxSockets: 1 });
  expect((await get(at.port, "/", held)).body).toBe("two");
  const slow = text(`http://127.0.0.1:${at.port}/?wait=1500`);
  await sleep(200);
  at.child.kill("SIGTERM");
  await sleep(200);
  const refused = await get(at.port, "/", held);
  expect(refused.status).toBe(503);
  expect(JSON.parse(refused.body)).toMatchObject({ error: "SERVER_SHUTTING_DOWN" });
  expect(await slow).toBe("two");
  const code = await new Promise((done) => at.child.once("exit", done));
  expect(code).toBe(0);
  held.destroy();
});

test("a pre-drain delay serves on while readiness fails", async () => {
  const at = await start(to(one, { server: { shutdown_delay: 1500 } }));
  at.child.kill("SIGTERM");
  await sleep(300);
  expect((await fetch(`http://127.0.0.1:${at.port}/_ready`)).status).toBe(503);
  expect((await fetch(`http://127.0.0.1:${at.port}/_live`)).status).toBe(200);
  expect((await fetch(`http://127.0.0.1:${at.port}/new`)).status).toBe(200);
});

test("a second signal ends at once", async () => {
  const at = await start(to(two, { server: { shutdown_timeout: 30_000 } }));
  const slow = text(`http://127.0.0.1:${at.port}/?wait=20000`).catch(() => "cut");
  await sleep(200);
  at.child.kill("SIGTERM");
  await sleep(300);
  expect(at.child.exitCode).toBeNull();
  const began = Date.now();
  at.child.kill("SIGTERM");
  const code = await new Promise((done) => at.child.once("exit", done));
  expect(code).toBe(1);
  expect(Date.now() - began).toBeLessThan(1500);
  expect(await slow).toBe("cut");
});

test("titan drain ends it like SIGTERM", async () => {
  const at = await start(to(one));
  const exited = new Promise((done) => at.child.once("exit", done));
  expect(cli("drain").code).toBe(0);
  expect(await exited).toBe(0);
});

test.each([
  ["server.port", "TITAN_LISTEN"],
  ["metrics.port", "TITAN_ADMIN_LISTEN"],
])("a busy %s is an error that names port and fix", async (key, code) => {
  const holder = createServer();
  await new Promise<void>((done) => holder.listen(0, "127.0.0.1", done));
  const { port } = holder.address() as AddressInfo;
  const config = to(one, {
    server: { host: "127.0.0.1", port: key === "server.port" ? port : await freePort() },
    metrics: { port: key === "metrics.port" ? port : await freePort() },
  });
  const file = join(runtime, "busy.json");
  writeFileSync(file, JSON.stringify(config));
  const { code: exit, err } = cli("serve", "--config", file);
  holder.close();
  expect(exit).toBe(1);
  expect(err).toContain(String(port));
  expect(err).toContain(code);
  expect(err).toContain("fix:");
});

test("a second Titan on the port is refused, not a silent partner", async () => {
  const at = await start(to(one));
  const config = { ...JSON.parse(readFileSync(at.file, "utf8")), metrics: { enabled: false } };
  const file = join(runtime, "second.json");
  writeFileSync(file, JSON.stringify(config));
  expect(cli("serve", "--config", file)).toMatchObject({ code: 1 });
});

test.skipIf(!hasPython)("systemd: READY, RELOADING, STOPPING by the notification socket", async () => {
  const path = join(runtime, "notify");
  const manager = await serviceManager(path);
  try {
    titan = await startTitan({ config: to(one), env: { TITAN_RUNTIME_DIR: runtime, NOTIFY_SOCKET: path } });
    await until(() => manager.heard().includes("READY=1"));
    titan.child.kill("SIGHUP");
    const again = /RELOADING=1\nMONOTONIC_USEC=\d+/;
    await until(() => again.test(manager.heard()) && manager.heard().split("READY=1").length === 3);
    titan.child.kill("SIGTERM");
    await until(() => manager.heard().includes("STOPPING=1"));
  } finally {
    manager.close();
  }
});

test.skipIf(!hasPython)(
  "systemd: a socket that was handed over is used: its port can be privileged and is never closed",
  async () => {
    const port = await freePort();
    const file = join(runtime, "inherited.json");
    const config = { ...to(one), metrics: { enabled: false }, server: { host: "127.0.0.1", port, workers: 1 } };
    writeFileSync(file, JSON.stringify(config));
    const command = [process.execPath, MAIN, "serve", "--config", file];
    const child = spawn(...withSocket(port, command), {
      env: { ...process.env, TITAN_RUNTIME_DIR: runtime },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let said = "";
    child.stderr.on("data", (data) => {
      said += data;
    });
    const exited = new Promise((done) => child.once("exit", done));
    // The port accepts from the beginning; what came before Titan was ready is answered by it.
    await until(async () => (await text(`http://127.0.0.1:${port}/`).catch(() => "")).includes("one"), 15_000);
    expect(said).not.toContain("TITAN_LISTEN");
    child.kill("SIGTERM");
    expect(await exited).toBe(0);
  },
);

function get(port: number, path: string, agent: Agent): Promise<{ status: number; body: string }> {
  return new Promise((done, failed) => {
    const call = request({ host: "127.0.0.1", port, path, agent }, (response) => {
      let body = "";
      response.on("data", (chunk) => {
        body += chunk;
      });
      response.on("end", () => done({ status: response.statusCode ?? 0, body }));
    });
    call.on("error", failed);
    call.end();
  });
}

test.runIf(process.platform === "linux")("the allocator takes no huge pages, unless it is told to", async () => {
  const asked = async (env: Record<string, string>) => {
    titan = await startTitan({ config: to(one), env: { TITAN_RUNTIME_DIR: runtime, ...env } });
    const state = /^THP_enabled:\s+(\d)/m.exec(readFileSync(`/proc/${titan.child.pid}/status`, "utf8"));
    await titan.stop();
    titan = undefined;
    return state?.[1];
  };
  // Kernels without the field have nothing to tell.
  expect([undefined, "0"]).toContain(await asked({}));
  expect([undefined, "1"]).toContain(await asked({ MIMALLOC_ALLOW_THP: "1" }));
});
