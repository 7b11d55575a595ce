// V16: clients that are slow on purpose. They are cut off by the timeouts, and the others do not notice them.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { exchange, RawClient, status } from "../helpers/client.ts";
import { echo } from "../helpers/origin.ts";
import { allowedP99, honestP99, LONG, openStage, type Stage } from "./stage.ts";

const SLOW = LONG ? 2000 : 200;
type Backends = { backends: object[] };
let stage: Stage;
beforeAll(async () => {
  stage = await openStage({
    config: (upstream) => ({
      // A body on its way holds a connection to the backend: 2,000 slow ones must leave some.
      upstreams: [
        { ...upstream, backends: (upstream as Backends).backends.map((one) => ({ ...one, max_connections: 4000 })) },
      ],
      server: {
        read_timeout: 2000,
        write_timeout: 2000,
        header_timeout: 2000,
        idle_timeout: 3000,
        max_connections: 8000,
        max_request_size: 1 << 20,
      },
    }),
    origin: {
      onRequest(request, connection) {
        if (!request.start.includes("/large")) return echo(request, connection);
        connection.socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${8 << 20}\r\n\r\n`);
        connection.socket.write(Buffer.alloc(8 << 20, "x"));
      },
    },
  });
});
afterAll(async () => {
  await stage.close();
});

async function many(count: number, begin: (client: RawClient, index: number) => void): Promise<RawClient[]> {
  const clients: RawClient[] = [];
  for (let from = 0; from < count; from += 100) {
    clients.push(
      ...(await Promise.all(
        Array.from({ length: Math.min(100, count - from) }, () => RawClient.connect(stage.titan.port)),
      )),
    );
  }
  clients.forEach(begin);
  return clients;
}

const KINDS: [string, (client: RawClient, index: number) => void, (client: RawClient) => void][] = [
  ["heads", (client) => client.write("GET /slow HTTP/1.1\r\nHost: t.test\r\n"), (client) => client.write("X: a\r\n")],
  [
    "bodies",
    (client) => client.write("POST /slow HTTP/1.1\r\nHost: t.test\r\nContent-Length: 100000\r\n\r\n"),
    () => {},
  ],
  [
    "readers",
    (client) => {
      client.socket.pause();
      client.write("GET /large HTTP/1.1\r\nHost: t.test\r\n\r\n");
    },
    () => {},
  ],
];

describe("V16", () => {
  test.each(KINDS)(`${SLOW} slow %s: others stay fast, memory bounded, all are cut off`, async (kind, begin, drip) => {
    // A reader holds kernel buffers at both ends; fewer make the point.
    const count = kind === "readers" ? SLOW / 4 : SLOW;
    const quiet = await honestP99(stage, "h1");
    const before = stage.titan.memory();
    const clients = await many(count, begin);
    const timer = setInterval(() => {
      for (const client of clients) if (!client.closed) drip(client);
    }, 250);
    try {
      await sleep(300);
      let p99 = await honestP99(stage, "h1");
      // A machine that does other things, too, has its bad seconds; a fault of the gateway's comes again.
      if (p99 >= allowedP99(quiet)) p99 = await honestP99(stage, "h1");
      const grown = stage.titan.memory() - before;
      expect(p99, `p99 of honest requests, ms (${quiet.toFixed(1)} without)`).toBeLessThan(allowedP99(quiet));
      // A slow reader may hold its route's buffers; 64 KiB each is far below what it asked for (8 MiB).
      expect(grown / count, "bytes a slow client").toBeLessThan(kind === "readers" ? 256 << 10 : 40 << 10);
      for (const client of clients) client.socket.on("close", () => (client.closed = true));
      const deadline = Date.now() + 10_000;
      if (kind === "readers") {
        await sleep(4000);
        for (const client of clients) client.socket.resume();
        await sleep(500);
        const whole = clients.filter((client) => client.raw.length > 8 << 20);
        expect(whole.length, "answers that were delivered whole after a stall beyond the write timeout").toBe(0);
      } else {
        while (clients.some((client) => !client.closed) && Date.now() < deadline) await sleep(50);
        expect(clients.filter((client) => !client.closed).length, "slow clients still connected").toBe(0);
      }
    } finally {
      clearInterval(timer);
      for (const client of clients) client.destroy();
    }
    await sleep(100);
    await expectAlive2();
  });

  test("a slow head gets 408 when its time is over, however regularly it drips", async () => {
    const client = await RawClient.connect(stage.titan.port);
    const began = performance.now();
    client.write("GET /slow HTTP/1.1\r\nHost: t.test\r\n");
    const timer = setInterval(() => client.write("X: a\r\n"), 100);
    await client.until(() => client.finals.length > 0, 8000);
    clearInterval(timer);
    await client.until(() => false, 200);
    expect(client.finals.map(status)).toEqual([408]);
    expect(client.closed).toBe(true);
    expect(performance.now() - began).toBeLessThan(6000);
    client.destroy();
  });

  test("a stalled body gets 408 and ends the upstream request", async () => {
    stage.origin.reset();
    const result = await exchange(
      stage.titan.port,
      "POST /slow HTTP/1.1\r\nHost: t.test\r\nContent-Length: 10\r\n\r\nabc",
      { timeout: 6000, linger: 200 },
    );
    expect(result.statuses).toEqual([408]);
    expect(result.closed).toBe(true);
    expect(stage.origin.requests).toHaveLength(0);
    expect(
      stage.origin.connections.filter(({ received, ended, closed }) => received.length > 0 && !ended && !closed),
    ).toHaveLength(0);
  });

  test("an idle connection is closed when its time is over, without an answer", async () => {
    const client = await RawClient.connect(stage.titan.port);
    client.write("GET /a HTTP/1.1\r\nHost: t.test\r\n\r\n");
    await client.until(() => client.closed, 8000);
    expect(client.closed).toBe(true);
    expect(client.finals.map(status)).toEqual([200]);
    client.destroy();
  });
});

async function expectAlive2(): Promise<void> {
  const result = await exchange(stage.titan.port, "GET /alive HTTP/1.1\r\nHost: t.test\r\n\r\n");
  expect(result.statuses).toEqual([200]);
}
