// One sample by nghttp2's h2load: HTTP/2 with many streams a connection.
import { CORES, runJson } from "./processes.mjs";

/** Requests of the run that is not counted: it opens the connections to the origin. */
const WARMUP = 1600;

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
    for (const header of one.headers ?? ["accept: */*", "accept-encoding: gzip"]) command.push("-H", header);
    if (one.data) command.push("-d", one.data);
    command.push(`${one.tls ? "https" : "http"}://127.0.0.1:${port}${gateway.prefix}${one.path}`);
    const result = await runJson(CORES.load, [load, "around", "--pid", String(gateway.child.pid), "--", ...command]);
    return { ...result, ...parse(result.output, gateway, one, count) };
  };
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
