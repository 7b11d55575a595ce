// Holds idle WebSockets over HTTP/2 (RFC 8441), as `titan-load idle --websocket` does over HTTP/1.1: each is opened, used for one message and
// kept until standard input ends. node streams.mjs PORT COUNT → {"open": N, "lost": M} once all are open (or after a minute).
import { once } from "node:events";
import { connect } from "node:http2";

/** Streams of one connection: Titan's `max_concurrent_streams`. */
const STREAMS = 100;
const [port, count] = process.argv.slice(2).map(Number);

/** A binary message of 64 bytes, masked with zeros. */
const MESSAGE = Buffer.concat([Buffer.from([0x82, 0x80 | 64, 0, 0, 0, 0]), Buffer.alloc(64, "x")]);
const ECHO = 2 + 64;

const HEAD = {
  ":method": "CONNECT",
  ":protocol": "websocket",
  ":scheme": "http",
  ":path": "/ws",
  ":authority": "bench.test",
  "sec-websocket-version": "13",
};

let [open, lost] = [0, 0];
let settled = () => {};
const all = new Promise((resolve) => {
  settled = resolve;
});

function tunnel(session) {
  const stream = session.request(HEAD, { endStream: false });
  let got = 0;
  stream.on("response", ({ ":status": status }) => {
    if (status === 200) stream.write(MESSAGE);
    else stream.destroy();
  });
  stream.on("data", (data) => {
    got += data.length;
    if (got === ECHO && ++open + lost === count) settled();
  });
  stream.on("error", () => {});
  stream.on("close", () => {
    if (got === ECHO) open--;
    if (++lost + open === count) settled();
  });
}

for (let left = count; left > 0; left -= STREAMS) {
  const session = connect(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  await once(session, "remoteSettings");
  for (let n = 0; n < Math.min(STREAMS, left); n++) tunnel(session);
}
await Promise.race([all, new Promise((resolve) => setTimeout(resolve, 60_000))]);
process.stdout.write(`${JSON.stringify({ open, lost })}\n`);
process.stdin.resume().on("end", () => process.exit());
