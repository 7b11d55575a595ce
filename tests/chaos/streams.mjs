// Long streams through a gateway, each of which must carry something all the time.
import http from "node:http";
import http2 from "node:http2";
import WebSocket from "ws";
import { sleep } from "./world.mjs";

/** Between two messages of a stream. */
const BEAT_MS = 100;
/** A stream on which nothing comes back for this long is broken. */
const SILENCE_MS = 10_000;

/**
 * Opens `each` streams of every kind at `port`: over HTTP/1.1 a WebSocket and server-sent events, over HTTP/2 (prior knowledge, at `h2port`)
 * server-sent events and a gRPC call. `end()` resolves with what broke, by kind.
 */
export async function openStreams(port, h2port, each) {
  const streams = [];
  const session = http2.connect(`http://127.0.0.1:${h2port}`);
  session.on("error", () => {});
  for (let i = 0; i < each; i++) {
    streams.push(webSocket(port), events(port), events2(session), call(session));
  }
  await Promise.all(streams.map(({ opened }) => opened));
  return {
    count: streams.length,
    async end() {
      // One more beat, so that what broke without a word is seen.
      const mark = performance.now();
      while (performance.now() - mark < SILENCE_MS && streams.some((one) => !one.broken && one.heard < mark)) {
        await sleep(20);
      }
      const broken = {};
      for (const one of streams) {
        const why = one.broken ?? (one.heard < mark ? "silent" : undefined);
        if (why) broken[`${one.kind}: ${why}`] = (broken[`${one.kind}: ${why}`] ?? 0) + 1;
        one.close();
      }
      session.destroy();
      return broken;
    },
  };
}

function stream(kind) {
  const one = { kind, heard: 0, broken: undefined, ending: false };
  one.opened = new Promise((resolve, reject) => {
    one.hear = () => {
      one.heard = performance.now();
      resolve();
    };
    one.fail = (why) => {
      if (one.ending) return;
      one.broken ??= why;
      clearInterval(one.beat);
      reject(new Error(`${kind}: ${why}`));
    };
  });
  one.close = () => {
    one.ending = true;
    clearInterval(one.beat);
    one.cut();
  };
  return one;
}

function webSocket(port) {
  const one = stream("WebSocket");
  const socket = new WebSocket(`ws://127.0.0.1:${port}/chat`);
  one.cut = () => socket.terminate();
  const send = () => socket.send("beat");
  socket.on("open", () => {
    send();
    one.beat = setInterval(send, BEAT_MS);
  });
  socket.on("message", one.hear);
  socket.on("error", (error) => one.fail(error.message));
  socket.on("close", (code) => one.fail(`closed with ${code}`));
  return one;
}

function events(port) {
  const one = stream("events");
  const request = http.get({ port, host: "127.0.0.1", path: "/events", agent: false }, (answer) => {
    if (answer.statusCode !== 200) one.fail(`status ${answer.statusCode}`);
    answer.on("data", one.hear);
    answer.on("close", () => one.fail("closed"));
    answer.on("error", (error) => one.fail(error.message));
  });
  request.on("error", (error) => one.fail(error.message));
  one.cut = () => request.destroy();
  return one;
}

function events2(session) {
  return multiplexed("events over HTTP/2", session.request({ ":path": "/events" }));
}

function call(session) {
  const request = session.request({
    ":method": "POST",
    ":path": "/call/echo",
    "content-type": "application/grpc",
    te: "trailers",
  });
  const one = multiplexed("gRPC", request);
  // An empty message: no compression, no bytes.
  const send = () => request.write(Buffer.alloc(5));
  send();
  one.beat = setInterval(send, BEAT_MS);
  return one;
}

function multiplexed(kind, request) {
  const one = stream(kind);
  request.on("response", (headers) => {
    if (headers[":status"] !== 200) one.fail(`status ${headers[":status"]}`);
  });
  request.on("data", one.hear);
  request.on("error", (error) => one.fail(error.message));
  request.on("close", () => one.fail("closed"));
  one.cut = () => request.close();
  return one;
}
