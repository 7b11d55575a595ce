/** What becomes of a change of a backend's state: one line of the log, a series of the metrics, a column of `titan status`. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import type { RunningStatus } from "../../src/admin/api.ts";
import { get } from "../helpers/client.ts";
import { RawOrigin } from "../helpers/origin.ts";
import { startTitan, type Titan } from "../helpers/titan.ts";

const MAIN = resolve(import.meta.dirname, "../../dist/cli/main.js");

/** Lines of Titan's own log with this event. */
function told(titan: Titan, event: string): { level: string; upstream: string; address: string; msg: string }[] {
  const lines = titan.output().split("\n");
  return lines
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line))
    .filter((line) => line.event === event);
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not within 10 s: ${holds}`);
    await sleep(20);
  }
}

test("a circuit, an ejection and a health check: one log line each, counted in metrics and status", async () => {
  const runtime = mkdtempSync(join(tmpdir(), "titan-state-"));
  let status = 500;
  const answer = {
    onRequest: (_: unknown, { socket }: { socket: { write(text: string): void } }) =>
      socket.write(`HTTP/1.1 ${status} X\r\nContent-Length: 0\r\n\r\n`),
  };
  const origins = await Promise.all([0, 1, 2].map(() => RawOrigin.start(answer)));
  // An upstream's only backend is never ejected.
  origins.push(await RawOrigin.start());
  const [broken, outlier, sick, well] = origins.map(({ port }) => ({ host: "127.0.0.1", port }));
  const titan = await startTitan({
    env: { TITAN_RUNTIME_DIR: runtime },
    config: {
      logging: { level: "info" },
      upstreams: [
        {
          name: "breaks",
          max_retries: 0,
          backends: [broken],
          circuit_breaker: { failure_threshold: 3, timeout_ms: 60_000 },
        },
        {
          name: "ejects",
          max_retries: 0,
          backends: [outlier, well],
          outlier_detection: { consecutive_failures: 2, max_ejected: 1, ejection_time: "3s" },
        },
        {
          name: "checks",
          backends: [sick],
          health_check: {
            path: "/",
            interval_seconds: 0.2,
            timeout_seconds: 1,
            unhealthy_threshold: 2,
            healthy_threshold: 1,
          },
        },
      ],
      routes: [
        ...["breaks", "ejects", "checks"].map((upstream) => ({ path: `/${upstream}/*`, upstream })),
        { path: "/tight", redirect: { location: "/", status: 302 }, middleware: ["tight"] },
      ],
      rate_limits: { tight: { requests: 1, window: "1h", burst: 1 } },
    },
  });
  const address = (backend?: { port: number }) => `127.0.0.1:${backend?.port}`;
  const page = async () => (await get(titan.port, "/_metrics")).body.split("\n");
  try {
    for (let i = 0; i < 8; i++) await get(titan.port, "/breaks/x");
    for (let i = 0; i < 4; i++) await get(titan.port, "/ejects/x");
    for (let i = 0; i < 3; i++) await get(titan.port, "/tight");
    await until(() => told(titan, "backend_unhealthy").length > 0);
    expect(told(titan, "circuit_open")).toMatchObject([
      { level: "warn", upstream: "breaks", msg: expect.stringContaining(address(broken)) },
    ]);
    expect(told(titan, "backend_ejected")).toMatchObject([
      { level: "warn", upstream: "ejects", msg: expect.stringContaining(address(outlier)) },
    ]);
    const lines = await page();
    for (const line of [
      `titan_circuit_breaker_state{backend="${address(broken)}",upstream="breaks"} 2`,
      `titan_circuit_breaker_opened_total{backend="${address(broken)}",upstream="breaks"} 1`,
      `titan_circuit_breaker_state{backend="${address(outlier)}",upstream="ejects"} 0`,
      `titan_backend_requests_total{upstream="breaks",backend="${address(broken)}",result="failed"} 3`,
      `titan_backend_changes_total{upstream="ejects",backend="${address(outlier)}",change="backend_ejected"} 1`,
      `titan_backend_changes_total{upstream="breaks",backend="${address(broken)}",change="circuit_open"} 1`,
      `titan_backend_ejections_total{upstream="ejects",backend="${address(outlier)}"} 1`,
      `titan_backend_healthy{upstream="checks",backend="${address(sick)}"} 0`,
      `titan_backend_checks_total{upstream="checks",backend="${address(sick)}",result="ok"} 0`,
    ]) {
      expect(lines).toContain(line);
    }

    const cli = (...args: string[]) => {
      const env = { ...process.env, TITAN_RUNTIME_DIR: runtime };
      return spawnSync(process.execPath, [MAIN, "status", ...args], { env, encoding: "utf8" }).stdout;
    };
    const state = JSON.parse(cli("--json")) as RunningStatus;
    expect(state).toMatchObject({ generation: 1, waiting: 0, shards: [{ shard: 0 }], uptime_ms: expect.any(Number) });
    expect(state.limits.connections).toEqual({ limit: 0, address: 0, shutdown: 0 });
    expect(state.limits.requests).toMatchObject({ circuit_open: 5, pool_exhausted: 0, overload: 0 });
    expect(state.limits.policies).toEqual({ tight: 2 });
    const text = cli();
    expect(text).toMatch(/REFUSED +BY +COUNT\nrequests +circuit open +5\nrequests +policy tight +2/);
    expect(text, "only what was hit").not.toContain("overloaded");
    expect(text).toMatch(/SHARD +CONNECTIONS\n0 +\d/);

    status = 200;
    await until(() => told(titan, "backend_healthy").length > 0);
    await until(async () =>
      (await page()).includes(`titan_backend_healthy{upstream="checks",backend="${address(sick)}"} 1`),
    );
    await until(() => told(titan, "backend_readmitted").length > 0);
    expect(told(titan, "backend_readmitted")).toMatchObject([
      { level: "info", upstream: "ejects", msg: expect.stringContaining(`${address(outlier)} is ejected no longer`) },
    ]);
    expect(await page()).toContain(
      `titan_backend_changes_total{upstream="ejects",backend="${address(outlier)}",change="backend_readmitted"} 1`,
    );
    // Some checks later, still one line a change.
    await sleep(500);
    expect(told(titan, "backend_unhealthy")).toHaveLength(1);
    expect(told(titan, "backend_healthy")).toMatchObject([{ level: "info", upstream: "checks" }]);
  } finally {
    await titan.stop();
    await Promise.all(origins.map((origin) => origin.close()));
    rmSync(runtime, { recursive: true, force: true });
  }
});
