// One sample by nghttp2's h2load: HTTP/2 with many streams a connection.
import { writeFileSync } from "node:fs";
import http2 from "node:http2";
import path from "node:path";
import { CORES, runJson } from "./processes.mjs";

/** Requests of the run that is not counted: it opens the connections to the origin. */
const WARMUP = 1600;

const HEADERS = ["accept: */*", "accept-encoding: gzip"];
const GRPC_HEADERS = ["content-type: application/grpc", "te: trailers", "grpc-accept-encoding: identity"];

/**
 * `requests` requests over `one.connections` × `one.streams`; the gateway's CPU clock is read around the whole run, its 16 handshakes
 * included. One bad answer throws the sample out.
 */
export async function h2load(gateway, one, load, requests) {
  const port = one.tls ? gateway.ports.h2 : gateway.ports.h2c;
  const run = async (count) => {
    const command = [
      "h2load",
      "-n",
      String(count),
      "-c",
      String(one.connections),
      "-m",
      String(one.streams),
      "-t",
      "1",
    ];
    for (const header of one.grpc ? GRPC_HEADERS : HEADERS) command.push("-H", header);
    if (one.grpc) command.push("-d", messageFile(gateway.dir, one.grpc));
    command.push(`${one.tls ? "https" : "http"}://127.0.0.1:${port}${gateway.prefix}${one.path}`);
    const result = await runJson(CORES.load, [load, "around", "--pid", String(gateway.child.pid), "--", ...command]);
    return { ...result, ...parse(result.output, gateway, one, count) };
  };
  if (one.grpc) await checkCall(port, gateway, one);
  await run(WARMUP);
  const { seconds, gateway_cpu_nanos, gateway_cores, rps, latency_us } = await run(requests);
  return { seconds, ok: requests, rps, latency_us, gateway_cpu_us: gateway_cpu_nanos / 1000 / requests, gateway_cores };
}

/** Reads h2load's report; throws unless every request was answered with a 2xx. */
function parse(output, gateway, one, count) {
  const number = (pattern) => Number(pattern.exec(output)?.[1] ?? Number.NaN);
  const good = [/ (\d+) succeeded/, /status codes: (\d+) 2xx/].map(number);
  const alpn = /Application protocol: (\S+)/.exec(output)?.[1];
  if (good.some((found) => found !== count) || !["h2", "h2c"].includes(alpn)) {
    throw new Error(
      `${gateway.name}, ${one.name}: not ${count} good answers over h2: ${output} ${gateway.child.errors}`,
    );
  }
  const times = /time for request: +(\S+) +(\S+) +(\S+)/.exec(output) ?? [];
  return { rps: number(/, ([\d.]+) req\/s/), latency_us: { mean: micros(times[3]), max: micros(times[2]) } };
}

/** h2load writes `812us`, `1.20ms`, `1.02s`. */
function micros(text = "") {
  const [, value, unit] = /^([\d.]+)(us|ms|s)$/.exec(text) ?? [];
  return Number(value) * { us: 1, ms: 1e3, s: 1e6 }[unit];
}

/** A file with one gRPC message (uncompressed, its length in front). */
function messageFile(dir, length) {
  const file = path.join(dir, "message");
  writeFileSync(file, message(length));
  return file;
}

function message(length) {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(length, 1);
  return Buffer.concat([prefix, Buffer.alloc(length, "x")]);
}

/** h2load does not look at trailers: one call is seen to bring the message back and `grpc-status: 0`. */
async function checkCall(port, gateway, one) {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  try {
    const fields = Object.fromEntries(GRPC_HEADERS.map((header) => header.split(": ")));
    const stream = session.request({ ":method": "POST", ":path": gateway.prefix + one.path, ...fields });
    const chunks = [];
    let trailers = {};
    stream.on("data", (data) => chunks.push(data));
    stream.on("trailers", (got) => {
      trailers = got;
    });
    stream.end(message(one.grpc));
    await new Promise((resolve, reject) => {
      for (const one of [session, stream]) one.on("error", reject);
      stream.on("close", resolve);
    });
    if (trailers["grpc-status"] !== "0" || !Buffer.concat(chunks).equals(message(one.grpc))) {
      throw new Error(
        `${gateway.name}, ${one.name}: no good call: ${JSON.stringify(trailers)} ${Buffer.concat(chunks)}`,
      );
    }
  } finally {
    session.close();
  }
}
