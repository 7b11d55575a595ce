// V21: what is small on the wire and large in memory. Titan unpacks only what rules must read, and that within their bound; what it holds whole,
// and what compresses, has a bound, too.
import { randomBytes } from "node:crypto";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { brotliCompressSync, constants, deflateSync, gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { exchange } from "../helpers/client.ts";
import { field } from "../helpers/message.ts";
import type { OriginOptions } from "../helpers/origin.ts";
import { expectAlive, openStage, type Stage } from "./stage.ts";

const MIB = 1 << 20;
/** Answers that are compressed at once while their readers stand still. */
const READERS = 4;
/** Encoder, buffers, and what the allocator keeps: about 5 MiB for brotli. */
const PER_READER = 8 * MIB;

let stage: Stage;
beforeAll(async () => {
  const rule = [{ action: "remove", field: "secret" }];
  stage = await openStage({
    config: () => ({
      routes: [
        {
          path: "/json",
          upstream: "origin",
          transform: { request_body: rule, response_body: rule, max_body_size: "64kb" },
        },
        { path: "/packed", upstream: "origin", compression: { algorithms: ["gzip", "brotli", "zstd"] } },
        { path: "/*", upstream: "origin" },
      ],
    }),
  });
});
afterAll(async () => {
  await expectAlive(stage);
  await stage.close();
});

// Packed it is smaller than what may be held, so that only unpacking can find it out.
const zeros = Buffer.alloc(32 * MIB);
const bomb = gzipSync(zeros);
/** Name, coding, body, and the statuses as a request and as an answer where rules read it. */
const BOMBS: [string, string, Buffer, number, number][] = [
  ["gzip", "gzip", bomb, 413, 502],
  ["gzip in gzip", "gzip, gzip", gzipSync(bomb), 415, 502],
  ["brotli", "br", brotliCompressSync(zeros, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } }), 413, 502],
  ["deflate", "deflate", deflateSync(zeros), 413, 502],
  ["what is none", "gzip", Buffer.from('{"secret":1'), 400, 502],
  ["an unknown coding", "x-zip", bomb, 415, 502],
];

/** Runs it and returns by how much Titan grew at most. */
async function growth(run: () => Promise<void>): Promise<number> {
  const before = stage.titan.memory();
  let most = before;
  const timer = setInterval(() => {
    most = Math.max(most, stage.titan.memory());
  }, 20);
  try {
    await run();
  } finally {
    clearInterval(timer);
  }
  return Math.max(most, stage.titan.memory()) - before;
}

const post = (body: Buffer, extra = "", path = "/json") =>
  Buffer.concat([
    Buffer.from(
      `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n${extra}Content-Length: ${body.length}\r\n\r\n`,
    ),
    body,
  ]);

const answerWith = (body: Buffer, extra = ""): OriginOptions => ({
  onRequest: (_, { socket }) => {
    socket.write(`HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n${extra}Content-Length: ${body.length}\r\n\r\n`);
    socket.write(body);
  },
});

describe("V21 bodies that are encoded", () => {
  test.each(BOMBS)(
    "%s, as a request that rules read: refused, and never at the origin",
    async (_, coding, body, status) => {
      stage.origin.behave({});
      stage.origin.reset();
      const grown = await growth(async () => {
        const result = await exchange(stage.titan.port, post(body, `Content-Encoding: ${coding}\r\n`));
        expect(result.statuses).toEqual([status]);
        if (status === 415) expect(result.raw.toString()).toMatch(/^accept-encoding: gzip, deflate, br, zstd\r$/im);
      });
      expect(stage.origin.bytes).toBe(0);
      expect(grown).toBeLessThan(16 * MIB);
    },
  );

  test.each(BOMBS)("%s, as an answer that rules read: 502", async (_, coding, body, __, status) => {
    stage.origin.behave(answerWith(body, `Content-Encoding: ${coding}\r\n`));
    const grown = await growth(async () => {
      const result = await exchange(stage.titan.port, "GET /json HTTP/1.1\r\nHost: a\r\n\r\n");
      expect(result.statuses).toEqual([status]);
      expect(result.raw.length, "nothing of it gets through").toBeLessThan(2000);
    });
    expect(grown).toBeLessThan(16 * MIB);
  });

  test.each([
    ["gzip", gzipSync],
    ["deflate", deflateSync],
    ["br", brotliCompressSync],
  ])("%s: no way round the rules, in either direction", async (coding, pack) => {
    const encoding = `Content-Encoding: ${coding}\r\n`;
    stage.origin.behave(answerWith(pack(Buffer.from('{"secret":1,"a":2}')), encoding));
    stage.origin.reset();
    const result = await exchange(stage.titan.port, post(pack(Buffer.from('{"secret":1,"b":3}')), encoding));
    const [answer] = result.answers;
    expect([answer?.body.toString(), answer && field(answer, "content-encoding")]).toEqual(['{"a":2}', undefined]);
    const [seen] = stage.origin.requests;
    expect([seen?.body.toString(), seen && field(seen, "content-encoding")]).toEqual(['{"b":3}', undefined]);
    expect(seen && field(seen, "content-length")).toBe("7");
  });

  test.each(BOMBS)(
    "%s, where no rule reads it: passed on byte for byte, without being read",
    async (_, coding, body) => {
      const encoding = `Content-Encoding: ${coding}\r\n`;
      stage.origin.behave(answerWith(body, encoding));
      stage.origin.reset();
      const grown = await growth(async () => {
        const result = await exchange(stage.titan.port, post(body, encoding, "/plain"));
        const [answer] = result.answers;
        expect(answer && field(answer, "content-encoding")).toBe(coding);
        expect(answer?.body.equals(body)).toBe(true);
      });
      const [seen] = stage.origin.requests;
      expect(seen && field(seen, "content-encoding")).toBe(coding);
      expect(seen?.body.equals(body)).toBe(true);
      expect(grown).toBeLessThan(16 * MIB);
    },
  );
});

describe("V21 bodies that are held whole", () => {
  const chunked =
    "POST /json HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

  test("the rules do apply to a document that is not encoded", async () => {
    stage.origin.behave(answerWith(Buffer.from('{"secret":1,"a":2}')));
    stage.origin.reset();
    const result = await exchange(stage.titan.port, post(Buffer.from('{"secret":1,"b":3}')));
    expect(result.answers[0]?.body.toString()).toBe('{"a":2}');
    expect(stage.origin.requests[0]?.body.toString()).toBe('{"b":3}');
  });

  test("a request over max_body_size is 413, said or not said in advance, and never reaches the origin", async () => {
    stage.origin.behave({});
    stage.origin.reset();
    const piece = `10000\r\n"${"x".repeat(65_535)}\r\n`;
    const grown = await growth(async () => {
      const declared = await exchange(stage.titan.port, post(Buffer.alloc(8 * MIB, 32)));
      expect(declared.statuses).toEqual([413]);
      const streamed = await exchange(stage.titan.port, [chunked, ...Array<string>(64).fill(piece)]);
      expect(streamed.statuses).toEqual([413]);
    });
    expect(stage.origin.bytes).toBe(0);
    expect(grown).toBeLessThan(16 * MIB);
  });

  test("an answer over max_body_size is 502", async () => {
    stage.origin.behave(answerWith(Buffer.concat([Buffer.from('"'), Buffer.alloc(8 * MIB, 120), Buffer.from('"')])));
    const grown = await growth(async () => {
      const result = await exchange(stage.titan.port, "GET /json HTTP/1.1\r\nHost: a\r\n\r\n");
      expect(result.statuses).toEqual([502]);
    });
    expect(grown).toBeLessThan(16 * MIB);
  });

  test.each(["[", '{"a":'])("%s without end is 400 and no stack overflow", async (nested) => {
    stage.origin.behave({});
    stage.origin.reset();
    const result = await exchange(stage.titan.port, post(Buffer.from(nested.repeat(12_000))));
    expect(result.statuses).toEqual([400]);
    expect(stage.origin.bytes).toBe(0);
  });
});

describe("V21 answers that Titan compresses", () => {
  // Hexadecimal of random bytes: compresses by half, so that what is held back is felt.
  const text = Buffer.from(randomBytes(8 * MIB).toString("hex"));

  test.each(["gzip", "br", "zstd"])("%s: readers that stand still hold the origin back, not memory", async (coding) => {
    const written: number[] = [];
    stage.origin.behave({
      onRequest: (_, { socket }) => {
        const index = written.push(0) - 1;
        socket.write(`HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ${text.length}\r\n\r\n`);
        const pump = (from: number) => {
          written[index] = from;
          if (from < text.length && !socket.destroyed)
            socket.write(text.subarray(from, from + 65_536), () => pump(from + 65_536));
        };
        pump(0);
      },
    });
    const clients: net.Socket[] = [];
    const grown = await growth(async () => {
      for (let i = 0; i < READERS; i++) {
        const client = net.connect(stage.titan.port, "127.0.0.1").on("error", () => {});
        client.pause();
        client.write(`GET /packed HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept-Encoding: ${coding}\r\n\r\n`);
        clients.push(client);
      }
      await sleep(1500);
    });
    expect(written).toHaveLength(READERS);
    for (const bytes of written) expect(bytes, "the origin was read to its end").toBeLessThan(text.length);
    expect(grown, "an encoder and what is between the sockets").toBeLessThan(READERS * PER_READER);
    const head = String(await new Promise((done) => clients[0]?.once("data", done).resume()));
    for (const client of clients) client.destroy();
    expect(head.toLowerCase()).toContain(`\r\ncontent-encoding: ${coding}\r\n`);
  });
});
