/** Hooks that put other bodies in the place of requests' and answers': what the wire says then, over HTTP/1.1 and HTTP/2. */
import http2 from "node:http2";
import { text } from "node:stream/consumers";
import { gunzipSync, gzipSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type BodyMode, createGateway, defineHook, type Gateway, type HookInput } from "../../src/index.ts";
import { exchange } from "../helpers/client.ts";
import { field } from "../helpers/message.ts";
import { RawOrigin } from "../helpers/origin.ts";

type AnyHook = HookInput<string, BodyMode | undefined, BodyMode | undefined>;

const open: Gateway[] = [];
const lines: string[] = [];
const note = (_: object, message: string) => void lines.push(message);
const logger = { trace: note, debug: note, info: note, warn: note, error: note } as never;
let origin: RawOrigin;
let h2: http2.Http2Server;
const h2Seen: { headers: http2.IncomingHttpHeaders; body: string }[] = [];

beforeAll(async () => {
  origin = await RawOrigin.start();
  h2 = http2.createServer();
  h2.on("stream", async (stream, headers) => {
    h2Seen.push({ headers, body: await text(stream) });
    stream.respond({ ":status": 200 });
    stream.end("h2");
  });
  await new Promise<void>((done) => h2.listen(0, "127.0.0.1", done));
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((gateway) => gateway.close({ force: true })));
  origin.reset();
  origin.behave({});
  h2Seen.length = 0;
  lines.length = 0;
});
afterAll(async () => {
  await origin.close();
  h2.close();
});

async function serve(hooks: Record<string, AnyHook>, more: object = {}): Promise<number> {
  const gateway = createGateway(
    {
      server: { host: "127.0.0.1", port: 0, workers: 1 },
      logging: { log_requests: false },
      upstreams: [
        { name: "h1", backends: [`127.0.0.1:${origin.port}`] },
        { name: "h2", protocol: "h2c", backends: [`127.0.0.1:${(h2.address() as { port: number }).port}`] },
      ],
      hooks: Object.fromEntries(
        // Nothing here is about deadlines, and the first stack of an error takes long on a busy machine.
        Object.entries(hooks).map(([name, hook]) => [name, defineHook({ deadline: "30s", ...hook } as HookInput)]),
      ),
      routes: [
        { path: "/h2/*", upstream: "h2", middleware: Object.keys(hooks) },
        { path: "/*", upstream: "h1", middleware: Object.keys(hooks) },
      ],
      ...more,
    } as never,
    { logger },
  );
  await gateway.start();
  open.push(gateway);
  return gateway.address()?.port as number;
}

const post = (port: number, head: string, body: string | Buffer, path = "/a") =>
  exchange(
    port,
    Buffer.concat([Buffer.from(`POST ${path} HTTP/1.1\r\nHost: t.test\r\n${head}\r\n`), Buffer.from(body)]),
  );
const length = (body: string | Buffer) => `Content-Length: ${Buffer.byteLength(body)}\r\n`;

describe("a request's body", () => {
  const shout: AnyHook = {
    body: "text",
    onRequest(ctx) {
      ctx.request.setBody(`${(ctx.request.body as string).toUpperCase()}ß!`);
      ctx.request.headers.set("x-now", ctx.request.body as string);
    },
  };

  it("of known and of unknown length goes out with its new length", async () => {
    const port = await serve({ shout });
    for (const [head, body] of [
      [length("hello"), "hello"],
      ["Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n", "2\r\nhe\r\n3\r\nllo\r\n0\r\nx-sum: 1\r\n\r\n"],
      ["Transfer-Encoding: chunked\r\n", "0\r\n\r\n"],
    ] as const) {
      const { statuses } = await post(port, `${head}Content-Type: text/plain\r\n`, body);
      const request = origin.requests.at(-1);
      const expected = `${body.includes("he") ? "HELLO" : ""}ß!`;
      expect(statuses).toEqual([200]);
      expect(request?.body.toString()).toBe(expected);
      expect(field(request as never, "content-length")).toBe(String(Buffer.byteLength(expected)));
      expect(field(request as never, "transfer-encoding")).toBeUndefined();
      expect(field(request as never, "content-type")).toBe("text/plain");
    }
    expect(origin.requests).toHaveLength(3);
  });

  it("may be given to a request that has none, and be taken away", async () => {
    const port = await serve({
      turn: {
        body: "text",
        onRequest: (ctx) => ctx.request.setBody(ctx.request.body === "" ? "given" : ""),
      },
    });
    await exchange(port, "POST /a HTTP/1.1\r\nHost: t.test\r\n\r\n");
    expect(origin.requests.at(-1)?.body.toString()).toBe("given");
    expect(field(origin.requests.at(-1) as never, "content-length")).toBe("5");
    // The connection is in step afterwards: two requests in one write.
    const { statuses } = await exchange(
      port,
      "POST /b HTTP/1.1\r\nHost: t.test\r\nContent-Length: 3\r\n\r\nabcPOST /c HTTP/1.1\r\nHost: t.test\r\n\r\n",
      { answers: 2 },
    );
    expect(statuses).toEqual([200, 200]);
    const bodies = origin.requests.map(({ start, body }) => `${start.split(" ")[1]} ${body}`);
    expect(bodies).toEqual(["/a given", "/b ", "/c given"]);
    expect(field(origin.requests.find(({ start }) => start.includes("/b")) as never, "content-length")).toBe("0");
  });

  it("as JSON, and as bytes; a later hook reads what an earlier one wrote", async () => {
    const port = await serve({
      add: {
        body: "json",
        onRequest(ctx) {
          const body = ctx.request.body as { n: number };
          ctx.request.setBody({ n: body.n + 1, ü: true });
        },
      },
      double: {
        body: "bytes",
        onRequest(ctx) {
          const body = ctx.request.body as Uint8Array;
          ctx.request.setBody(Buffer.concat([body, body]));
        },
      },
    });
    await post(port, length('{"n":1}'), '{"n":1}');
    expect(origin.requests.at(-1)?.body.toString()).toBe('{"n":2,"ü":true}{"n":2,"ü":true}');
  });

  it("loses what described the old one, and the hook's own edits come after", async () => {
    const hooks: Record<string, AnyHook> = {
      plain: {
        body: "bytes",
        onRequest(ctx) {
          const body = ctx.request.body as Uint8Array;
          if (ctx.request.path === "/again") ctx.request.headers.set("content-encoding", "gzip");
          ctx.request.setBody(ctx.request.path === "/again" ? gzipSync("again") : gunzipSync(body));
        },
      },
    };
    const port = await serve(hooks);
    const packed = gzipSync("hello");
    const head = `${length(packed)}Content-Encoding: gzip\r\nContent-Digest: sha-256=:x:\r\nRepr-Digest: sha-256=:x:\r\n`;
    await post(port, head, packed);
    const request = origin.requests.at(-1);
    expect(request?.body.toString()).toBe("hello");
    for (const name of ["content-encoding", "content-digest", "repr-digest"])
      expect(field(request as never, name)).toBeUndefined();
    await post(port, head, packed, "/again");
    expect(field(origin.requests.at(-1) as never, "content-encoding")).toBe("gzip");
    expect(gunzipSync(origin.requests.at(-1)?.body as Buffer).toString()).toBe("again");
  });

  it("in a content coding is no text: 415", async () => {
    const port = await serve({ shout });
    const packed = gzipSync("hello");
    const { statuses, answers } = await post(port, `${length(packed)}Content-Encoding: gzip\r\n`, packed);
    expect(statuses).toEqual([415]);
    expect(answers[0]?.body.toString()).toContain('has the content coding \\"gzip\\"');
    expect((await post(port, `${length("a")}Content-Encoding: identity\r\n`, "a")).statuses).toEqual([200]);
    expect(origin.requests).toHaveLength(1);
  });

  it("must be of its form and within its limit; else the hook has failed, and nothing of it is sent", async () => {
    const port = await serve({
      bad: {
        body: "text",
        maxBody: 10,
        onRequest(ctx) {
          const by: Record<string, unknown> = { "/long": "x".repeat(11), "/form": 1, "/umlauts": "ü".repeat(6) };
          ctx.request.setBody((by[ctx.request.path] ?? "fits") as string);
        },
      },
    });
    for (const path of ["/long", "/form", "/umlauts"])
      expect((await post(port, length("a"), "a", path)).statuses).toEqual([500]);
    expect((await post(port, length("a"), "a")).statuses).toEqual([200]);
    expect(lines.filter((line) => line.includes("onRequest"))).toEqual([
      expect.stringContaining('the new body has 11 bytes; "maxBody" of the hook "bad" allows 10'),
      expect.stringContaining("must be a string"),
      expect.stringContaining("the new body has 12 bytes"),
    ]);
    expect(origin.requests.map(({ body }) => body.toString())).toEqual(["fits"]);
  });

  it("is refused where it is not read, and where another hook may read less", async () => {
    const write: AnyHook = { onRequest: (ctx) => (ctx.request.setBody as (body: string) => void)("x") };
    expect((await post(await serve({ write }), length("a"), "a")).statuses).toEqual([500]);
    expect(lines.join()).toContain("replaces a body that it does not read");
    const port = await serve({
      grow: { body: "text", onRequest: (ctx) => ctx.request.setBody("123456") },
      small: { body: "text", maxBody: 5, onRequest: () => undefined },
    });
    expect((await post(port, length("a"), "a")).statuses).toEqual([413]);
    expect(origin.requests).toHaveLength(0);
  });

  it("is left alone by a hook that fails open", async () => {
    const port = await serve({
      open: {
        body: "text",
        fail: "open",
        onRequest(ctx) {
          ctx.request.setBody("half done");
          throw new Error("then this");
        },
      },
    });
    expect((await post(port, length("kept"), "kept")).statuses).toEqual([200]);
    expect(origin.requests.at(-1)?.body.toString()).toBe("kept");
  });

  it("is the same in every try", async () => {
    let calls = 0;
    origin.behave({
      onRequest: (_, connection) => {
        calls++;
        if (calls === 1) connection.socket.destroy();
        else connection.socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
      },
    });
    const port = await serve(
      { shout },
      {
        upstreams: [
          {
            name: "h1",
            backends: [`127.0.0.1:${origin.port}`],
            max_retries: 2,
            retry: { non_idempotent: true, backoff: 1 },
          },
          { name: "h2", backends: ["127.0.0.1:1"] },
        ],
      },
    );
    const { statuses } = await post(port, length("try"), "try");
    expect(statuses).toEqual([200]);
    expect(origin.requests.map(({ body }) => body.toString())).toEqual(["TRYß!", "TRYß!"]);
  });

  it("over HTTP/2 on both legs", async () => {
    const port = await serve({ shout });
    const client = http2.connect(`http://127.0.0.1:${port}`);
    const ask = async (path: string, body: string, headers: http2.OutgoingHttpHeaders = {}) => {
      const stream = client.request({ ":path": path, ":method": "POST", ...headers });
      stream.end(body);
      const answer = await new Promise<http2.IncomingHttpHeaders>((done, refuse) => {
        stream.on("response", (headers) => done(headers));
        stream.on("error", refuse);
      });
      await text(stream);
      return answer[":status"];
    };
    try {
      expect(await ask("/h2/a", "hello", { "content-length": 5 })).toBe(200);
      expect(await ask("/h2/b", "")).toBe(200);
      expect(await ask("/a", "mixed")).toBe(200);
      expect(h2Seen.map(({ headers, body }) => [headers["content-length"], body])).toEqual([
        ["8", "HELLOß!"],
        ["3", "ß!"],
      ]);
      expect(origin.requests.at(-1)?.body.toString()).toBe("MIXEDß!");
      // HTTP/1.1 to HTTP/2 as well.
      await post(port, "Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n", "/h2/c");
      expect(h2Seen.at(-1)).toMatchObject({ body: "HIß!", headers: { "content-length": "5" } });
    } finally {
      client.destroy();
    }
  });

  it("is not given to a request that changes protocols", async () => {
    const port = await serve(
      { give: { body: "text", onRequest: (ctx) => ctx.request.setBody("x") } },
      { routes: [{ path: "/*", upstream: "h1", websocket: {}, middleware: ["give"] }] },
    );
    const { statuses } = await exchange(
      port,
      "GET /a HTTP/1.1\r\nHost: t.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    expect(statuses).toEqual([500]);
    expect(origin.requests).toHaveLength(0);
  });
});

describe("an answer's body", () => {
  const answer = (head: string, body: string | Buffer) =>
    origin.behave({
      onRequest: (_, { socket }) =>
        socket.write(Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\n${head}\r\n`), Buffer.from(body)])),
    });
  const redact: AnyHook = {
    responseBody: "text",
    maxResponseBody: 100,
    onResponse: (ctx) => ctx.respond(ctx.response.status, (ctx.response.body as string).replaceAll("secret", "•")),
  };

  it("is replaced with its length, and without what described the old one", async () => {
    const port = await serve({ redact });
    answer(
      'Transfer-Encoding: chunked\r\nETag: "1"\r\nRepr-Digest: sha-256=:x:\r\nX-Kept: 1\r\n',
      "8\r\na secret\r\n0\r\n\r\n",
    );
    const { answers } = await post(port, length("a"), "a");
    const [got] = answers;
    expect(got?.body.toString()).toBe("a •");
    expect(
      ["content-length", "transfer-encoding", "etag", "repr-digest", "x-kept"].map((n) => field(got as never, n)),
    ).toEqual(["5", undefined, undefined, undefined, "1"]);
    expect(field(origin.requests.at(-1) as never, "accept-encoding")).toBe("identity");
  });

  it("that a backend encodes all the same is no text, and one that is too large is not read", async () => {
    const port = await serve({ redact });
    const packed = gzipSync("a secret");
    answer(`Content-Encoding: gzip\r\n${length(packed)}`, packed);
    expect((await post(port, length("a"), "a")).statuses).toEqual([500]);
    expect(lines.join()).toContain('the body has the content coding "gzip"');
    answer(length("x".repeat(101)), "x".repeat(101));
    expect((await post(port, length("a"), "a")).statuses).toEqual([502]);
  });

  it("is replaced over HTTP/2 too", async () => {
    const port = await serve({
      redact: { responseBody: "text", onResponse: (ctx) => ctx.respond(201, `${ctx.response.body}!`) },
    });
    const client = http2.connect(`http://127.0.0.1:${port}`);
    try {
      const stream = client.request({ ":path": "/h2/a" });
      const headers = await new Promise<http2.IncomingHttpHeaders>((done) => stream.on("response", done));
      expect([headers[":status"], headers["content-length"], await text(stream)]).toEqual([201, "3", "h2!"]);
    } finally {
      client.destroy();
    }
  });
});
