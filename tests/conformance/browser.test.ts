// A real browser through Titan: pages, EventSource and WebSocket, over HTTP/1.1 and over HTTP/2 by ALPN.
import { existsSync } from "node:fs";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocketServer } from "ws";
import { selfSigned } from "../helpers/certificate.ts";
import { startTitan, type Titan } from "../helpers/titan.ts";

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const there = existsSync(executablePath);
if (!there)
  console.warn(`SKIPPED: browser tests: there is no ${executablePath} (Debian package chromium, or set CHROMIUM)`);

/** Nothing but what the page asks for, and no network but the loopback. */
const ARGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--ignore-certificate-errors",
];

describe.skipIf(!there)("Chromium", () => {
  let origin: Server;
  let titan: Titan;
  let browser: Browser;
  /** Event streams that are open at the origin. */
  const streams = new Set<ServerResponse>();

  beforeAll(async () => {
    const sockets = new WebSocketServer({ noServer: true });
    origin = createServer((request, response) => {
      if (request.url === "/events") {
        response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
        response.write("id: 0\ndata: open\n\n");
        streams.add(response);
        response.on("close", () => streams.delete(response));
      } else {
        response.writeHead(200, { "content-type": "text/html", "cache-control": "no-store" });
        response.end(`<!doctype html><title>${request.url}</title><link rel="icon" href="data:,">`);
      }
    });
    origin.on("upgrade", (request, socket, head) => {
      sockets.handleUpgrade(request, socket, head, (one) => {
        one.on("message", (data, binary) => {
          const text = binary ? "" : String(data);
          if (text.startsWith("close ")) one.close(Number(text.slice(6)), "as asked");
          else one.send(data, { binary });
        });
        one.on("close", (code, reason) => closes.push(`${code} ${reason}`));
      });
    });
    await new Promise<void>((done) => origin.listen(0, "127.0.0.1", done));
    const { port } = origin.address() as AddressInfo;
    const { cert_path, key_path } = selfSigned("localhost", "127.0.0.1");
    titan = await startTitan({
      config: {
        logging: {
          level: "warn",
          log_requests: true,
          format: "json",
          fields: ["protocol", "scheme", "target", "status"],
        },
        upstreams: [{ name: "origin", backends: [{ host: "127.0.0.1", port }] }],
        routes: [
          { path: "/ws", upstream: "origin", websocket: {} },
          { path: "/elsewhere", upstream: "origin", websocket: { allowed_origins: ["https://good.example"] } },
          { path: "/*", upstream: "origin" },
        ],
      },
      tls: { cert_path, key_path },
    });
    browser = await chromium.launch({ executablePath, args: ARGS });
  });

  afterAll(async () => {
    await browser?.close();
    for (const stream of streams) stream.destroy();
    await titan?.stop();
    origin?.close();
    origin?.closeAllConnections();
  });

  /** Close codes that the origin got. */
  const closes: string[] = [];

  /** Protocol and status in Titan's access log for a target, once it is written. */
  async function logged(target: string, scheme: string): Promise<[protocol: string, status: number][]> {
    const lines = () =>
      titan
        .output()
        .split("\n")
        .filter((line) => line.includes(`"target":"${target}"`) && line.includes(`"scheme":"${scheme}"`))
        .map((line) => JSON.parse(line))
        .map(({ protocol, status }) => [protocol, status] as [string, number]);
    await expect.poll(() => lines().length, { timeout: 5000 }).toBeGreaterThan(0);
    return lines();
  }

  describe.each([
    { name: "HTTP/2 over TLS", protocol: "h2", log: "HTTP/2", secure: true, opened: 200 },
    { name: "HTTP/1.1 in the clear", protocol: "http/1.1", log: "HTTP/1.1", secure: false, opened: 101 },
  ])("over $name", ({ protocol, log, secure, opened }) => {
    const scheme = secure ? "https" : "http";
    let page: Page;
    const at = (path: string, scheme = "http") =>
      `${scheme}${secure ? "s" : ""}://localhost:${secure ? titan.httpsPort : titan.port}${path}`;

    beforeAll(async () => {
      page = await browser.newPage({ ignoreHTTPSErrors: true });
      await page.goto(at("/start"));
    });
    afterAll(() => page?.close());

    it("a page and a fetch come by it", async () => {
      expect(await page.title()).toBe("/start");
      const [status, text, hops] = await page.evaluate(async () => {
        const answer = await fetch("/fetched?a=1");
        const text = await answer.text();
        const entries = performance.getEntries() as unknown as { entryType: string; nextHopProtocol: string }[];
        const pages = entries.filter(({ entryType }) => entryType === "navigation" || entryType === "resource");
        return [answer.status, text, pages.map(({ nextHopProtocol }) => nextHopProtocol)];
      });
      expect(status).toBe(200);
      expect(text).toContain("/fetched?a=1");
      expect(hops).toEqual([protocol, protocol]);
    });

    it("EventSource gets each event while the stream is open", async () => {
      await page.evaluate(() => {
        const source = new EventSource("/events");
        const got: string[] = [];
        source.onmessage = ({ data, lastEventId }) => got.push(`${lastEventId} ${data}`);
        Object.assign(globalThis, { source, got });
      });
      const got = () => page.evaluate(() => (globalThis as unknown as { got: string[] }).got);
      await expect.poll(got).toEqual(["0 open"]);
      const [stream] = streams;
      // The next one is sent when the one before is known to have come: a buffer on the way would stop it.
      for (const n of [1, 2, 3, 4, 5]) {
        stream?.write(`id: ${n}\ndata: event ${n}\n\n`);
        await expect.poll(async () => (await got()).at(-1)).toBe(`${n} event ${n}`);
      }
      expect(await got()).toHaveLength(6);
      await page.evaluate(() => (globalThis as unknown as { source: EventSource }).source.close());
      // The client's leaving reaches the origin: as a reset of the stream at once over HTTP/2; HTTP/1.1 has only the end of its
      // connection, which may be half of it, so there it shows when the next events find nobody.
      const left = () => {
        if (!secure) stream?.write(": anybody there?\n\n");
        return streams.size;
      };
      await expect.poll(left, { timeout: 5000 }).toBe(0);
    });

    it("WebSocket echoes text, binary, 1 MiB and 100 messages in order", async () => {
      const echoed = await page.evaluate(
        async (url) => {
          const socket = new WebSocket(url);
          socket.binaryType = "arraybuffer";
          await new Promise((done, fail) => {
            socket.onopen = done;
            socket.onerror = () => fail(new Error("no WebSocket"));
          });
          const take = (count: number) =>
            new Promise<(string | ArrayBuffer)[]>((done, fail) => {
              const list: (string | ArrayBuffer)[] = [];
              socket.onclose = ({ code }) => fail(new Error(`closed with ${code}`));
              socket.onmessage = ({ data }) => {
                if (list.push(data) === count) done(list);
              };
            });
          let next = take(1);
          socket.send("grüße 🚀");
          const [text] = await next;
          next = take(1);
          socket.send(new Uint8Array([0, 1, 254, 255]));
          const [binary] = await next;
          const large = new Uint8Array(1 << 20).map((_, i) => (i * 31) ^ (i >> 8));
          next = take(1);
          socket.send(large);
          const back = new Uint8Array((await next)[0] as ArrayBuffer);
          next = take(100);
          for (let i = 0; i < 100; i++) socket.send(`message ${i}`);
          const many = await next;
          socket.onclose = null;
          socket.close(4321, "done");
          return {
            text,
            binary: [...new Uint8Array(binary as ArrayBuffer)],
            large: back.length === large.length && back.every((byte, i) => byte === large[i]),
            many,
          };
        },
        at("/ws?echo", "ws"),
      );
      expect(echoed.text).toBe("grüße 🚀");
      expect(echoed.binary).toEqual([0, 1, 254, 255]);
      expect(echoed.large).toBe(true);
      expect(echoed.many).toEqual(Array.from({ length: 100 }, (_, i) => `message ${i}`));
      // The client's close code reaches the origin.
      await expect.poll(() => closes.includes("4321 done")).toBe(true);
      closes.length = 0;
      expect(await logged("/ws?echo", scheme)).toEqual([[log, opened]]);
    });

    it("the origin's close code reaches the page", async () => {
      const closed = await page.evaluate(
        (url) =>
          new Promise((done) => {
            const socket = new WebSocket(url);
            socket.onopen = () => socket.send("close 4000");
            socket.onclose = ({ code, reason, wasClean }) => done([code, reason, wasClean]);
          }),
        at("/ws?close", "ws"),
      );
      expect(closed).toEqual([4000, "as asked", true]);
    });

    it("a WebSocket from an Origin that is not allowed is refused", async () => {
      const closed = await page.evaluate(
        (url) =>
          new Promise((done) => {
            const socket = new WebSocket(url);
            const seen: string[] = [];
            socket.onopen = () => seen.push("open");
            socket.onerror = () => seen.push("error");
            socket.onclose = ({ code }) => done([...seen, code]);
          }),
        at("/elsewhere", "ws"),
      );
      expect(closed).toEqual(["error", 1006]);
      expect(await logged("/elsewhere", scheme)).toEqual([[log, 403]]);
    });
  });
});
