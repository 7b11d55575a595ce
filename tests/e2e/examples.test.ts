/** The examples that embed Titan run, answer through the gateway, and end by SIGTERM. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, type IncomingHttpHeaders } from "node:http2";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { credentials, makeGenericClientConstructor } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { WebSocket } from "ws";

const EXAMPLES = resolve(import.meta.dirname, "../../examples");
const page = mkdtempSync(join(tmpdir(), "titan-page-"));

beforeAll(() => writeFileSync(join(page, "index.html"), "<!doctype html><title>page</title>"));
afterAll(() => rmSync(page, { recursive: true }));

/** Starts an example; resolves with the address that it prints. */
async function run(name: string) {
  const child = spawn(process.execPath, [join(EXAMPLES, name)], {
    env: { ...process.env, PORT: "0", ROOT: page },
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const exited = new Promise<number | null>((done) => child.once("exit", done));
  const url = await new Promise<string>((done, failed) => {
    let out = "";
    child.stdout.on("data", (data) => {
      out += data;
      const found = /listening on (\S+)/.exec(out)?.[1];
      if (found !== undefined) done(found);
    });
    child.once("exit", (code) => failed(new Error(`${name} ended with ${code}`)));
  });
  const stop = () => {
    child.kill("SIGTERM");
    return exited;
  };
  return { url, stop };
}

test.each([
  ["express.mjs", "/hello/you", '"hello":"you","forwardedFor":"127.0.0.1"'],
  ["fastify.mjs", "/api/hello/you", '{"hello":"you"}'],
  ["hono.mjs", "/version", '"version"'],
  ["vite.mjs", "/api/x", '{"api":"/api/x"}'],
  ["vite.mjs", "/", "<title>page</title>"],
])("%s answers %s", { timeout: 60_000 }, async (name, path, expected) => {
  const { url, stop } = await run(name);
  const answer = await fetch(url + path);
  expect(answer.status).toBe(200);
  expect(await answer.text()).toContain(expected);
  // Vite ends the process itself, by the convention for signals.
  expect([0, name === "vite.mjs" ? 143 : 0]).toContain(await stop());
});

test("http2.mjs passes early hints and trailers over HTTP/2, and serves HTTP/1.1 beside it", {
  timeout: 60_000,
}, async () => {
  const { url, stop } = await run("http2.mjs");
  const session = connect(url);
  const stream = session.request({ ":path": "/page", te: "trailers" });
  const seen: Record<string, IncomingHttpHeaders> = {};
  for (const event of ["headers", "response", "trailers"]) stream.on(event, (fields) => (seen[event] = fields));
  let text = "";
  stream.setEncoding("utf8").on("data", (data) => (text += data));
  await once(stream, "close");
  expect(text).toBe("/page by HTTP/2.0 for 127.0.0.1\n");
  expect(seen.headers).toMatchObject({ ":status": 103, link: "</style.css>; rel=preload; as=style" });
  expect(seen.response).toMatchObject({ ":status": 200 });
  expect(seen.trailers).toMatchObject({ "x-lines": "1" });
  expect(await (await fetch(`${url}/old`)).text()).toBe("/old by HTTP/2.0 for 127.0.0.1\n");
  const gone = once(session, "goaway");
  const exited = stop();
  await gone;
  expect(await exited).toBe(0);
});

test("websocket.mjs: members hear each other over both protocols, others stay outside", {
  timeout: 60_000,
}, async () => {
  const { url, stop } = await run("websocket.mjs");
  const origin = "https://app.example.com";
  const member = new WebSocket(`${url.replace("http", "ws")}/room`, "chat.v1", { origin });
  await once(member, "open");
  const stranger = new WebSocket(`${url.replace("http", "ws")}/room`, "chat.v1", { origin: "https://evil.example" });
  const [, refused] = await once(
    stranger.on("error", () => {}),
    "unexpected-response",
  );
  expect(refused.statusCode).toBe(403);
  stranger.terminate();

  const session = connect(url);
  await once(session, "remoteSettings");
  const connectRequest = {
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":path": "/room",
    ":scheme": "http",
    ":authority": "t.test",
  };
  const fields = { origin, "sec-websocket-version": "13", "sec-websocket-protocol": "chat.v1" };
  const stream = session.request({ ...connectRequest, ...fields }, { endStream: false });
  const [answer] = await once(stream, "response");
  expect(answer).toMatchObject({ ":status": 200, "sec-websocket-protocol": "chat.v1" });

  const heard = once(member, "message");
  const echoed = once(stream, "data");
  // A text frame under a mask of zeros.
  stream.write(Buffer.concat([Buffer.from([0x81, 0x85, 0, 0, 0, 0]), Buffer.from("hello")]));
  expect(String((await heard)[0])).toBe("hello");
  expect((await echoed)[0]).toEqual(Buffer.concat([Buffer.from([0x81, 5]), Buffer.from("hello")]));

  const closed = once(member, "close");
  const goodbye = once(stream, "data");
  const exited = stop();
  expect((await closed)[0]).toBe(1001);
  expect((await goodbye)[0]).toEqual(Buffer.from([0x88, 2, 0x03, 0xe9]));
  stream.end();
  session.close();
  expect(await exited).toBe(0);
});

test("grpc.mjs balances calls of a gRPC client, unary and streaming", { timeout: 60_000 }, async () => {
  const { url, stop } = await run("grpc.mjs");
  const serialize = (value: object) => Buffer.from(JSON.stringify(value));
  const deserialize = (bytes: Buffer) => JSON.parse(bytes.toString());
  const method = (name: string, streams: boolean) => ({
    path: `/example.Greeter/${name}`,
    requestStream: streams,
    responseStream: streams,
    requestSerialize: serialize,
    requestDeserialize: deserialize,
    responseSerialize: serialize,
    responseDeserialize: deserialize,
  });
  const Client = makeGenericClientConstructor(
    { hello: method("Hello", false), chat: method("Chat", true), lost: method("Lost", false) },
    "Greeter",
  );
  const client = new Client(new URL(url).host, credentials.createInsecure());
  const deadline = () => ({ deadline: Date.now() + 20_000 });
  const call = (name: string) =>
    new Promise<{ by: string }>((done, failed) => {
      client[name]?.({ name: "you" }, deadline(), (error: Error | null, value: { by: string }) =>
        error ? failed(error) : done(value),
      );
    });
  const by = [];
  for (let n = 0; n < 4; n++) by.push((await call("hello")).by);
  expect(new Set(by)).toEqual(new Set(["one", "two"]));
  await expect(call("lost")).rejects.toMatchObject({ code: 12 });

  const chat = client.chat?.(deadline());
  for (const text of ["a", "b"]) {
    // The next one is written when the one before was answered: both directions are open.
    const answer = once(chat, "data");
    chat.write({ text });
    expect((await answer)[0].text).toMatch(new RegExp(`^(one|two) heard ${text}$`));
  }
  const status = once(chat, "status");
  chat.on("data", () => {});
  chat.end();
  expect((await status)[0]).toMatchObject({ code: 0 });
  client.close();
  expect(await stop()).toBe(0);
});
