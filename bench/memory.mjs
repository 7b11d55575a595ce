// Memory an idle connection keeps, resident memory when idle, and time from start to the first answer.
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startGateway } from "./gateways.mjs";
import { CORES, firstJson, residentBytes, start, stop } from "./processes.mjs";
import { summary } from "./statistics.mjs";

const STREAMS = path.join(import.meta.dirname, "streams.mjs");

/**
 * Bytes of resident memory for each idle connection that has been used once: for one request, or (`tunnel`) upgraded and for one message. With
 * `h2` each is a stream, a hundred to a connection.
 */
async function idleBytes(name, context, load, connections, { tls = false, tunnel = false, h2 = false } = {}) {
  const gateway = await startGateway(name, context);
  try {
    const port = tls ? gateway.ports.https : gateway.ports.http;
    const open = async (count) => {
      const argv = [load, "idle", "--target", `127.0.0.1:${port}`, "--connections", String(count)];
      argv.push(...(tunnel ? ["--path", "/ws", "--websocket", "64"] : ["--path", "/109"]));
      if (tls) argv.push("--tls", "bench.test");
      const holder = start(
        CORES.load,
        h2 ? [process.execPath, STREAMS, String(gateway.ports.h2c), String(count)] : argv,
      );
      return { holder, state: await firstJson(holder) };
    };
    // Once before measuring, so that what is allocated on first use is not charged to the connections.
    const first = await open(200);
    first.holder.stdin.end();
    await first.holder.ended;
    await sleep(300);
    const before = residentBytes(gateway.child.pid);
    const { holder, state } = await open(connections);
    await sleep(1500);
    const after = residentBytes(gateway.child.pid);
    holder.stdin.end();
    await holder.ended;
    if (state.open < connections) throw new Error(`${name}: only ${state.open} of ${connections} idle connections`);
    return (after - before) / connections;
  } finally {
    await stop(gateway.child);
  }
}

/** Start-up milliseconds and resident bytes, `rounds` times. */
async function starts(name, context, rounds) {
  const ready = [];
  const resident = [];
  for (let round = 0; round < rounds; round++) {
    const gateway = await startGateway(name, context);
    ready.push(gateway.ready);
    await sleep(700);
    resident.push(residentBytes(gateway.child.pid));
    await stop(gateway.child);
  }
  return { ready_ms: summary(ready), resident_bytes: summary(resident) };
}

/** Measures all three; `say` is told each figure. */
export async function memory(names, context, load, { connections, rounds, say }) {
  const result = {};
  for (const name of names) {
    const { ready_ms, resident_bytes } = await starts(name, context, rounds);
    const plain = await idleBytes(name, context, load, connections);
    const tls = await idleBytes(name, context, load, connections, { tls: true });
    result[name] = { ready_ms, resident_bytes, idle_plain_bytes: plain, idle_tls_bytes: tls, connections };
    say(
      `${name.padEnd(10)} start ${ready_ms.median.toFixed(0)} ms, resident ${(resident_bytes.median / 2 ** 20).toFixed(1)} MiB, ` +
        `idle connection ${(plain / 1024).toFixed(2)} KiB plain, ${(tls / 1024).toFixed(2)} KiB TLS`,
    );
  }
  return result;
}

/**
 * Idle WebSocket tunnels: what the gateway keeps for both of a tunnel's connections. Over HTTP/2 only Titan: nginx does not take WebSockets there,
 * and HAProxy asks for a handshake that the origin does not compute.
 */
export async function tunnels(names, context, load, { connections, rounds, say }) {
  const result = {};
  for (const name of names) {
    // Titan's process has a garbage collector whose heap breathes: the median of some rounds, each with a gateway of its own.
    const measure = async (kind) => {
      const all = [];
      for (let round = 0; round < rounds; round++) {
        all.push(await idleBytes(name, context, load, connections, { tunnel: true, ...kind }));
      }
      return summary(all);
    };
    const plain = await measure({});
    const tls = await measure({ tls: true });
    const h2 = name.startsWith("titan") ? await measure({ h2: true }) : undefined;
    result[name] = { idle_plain_bytes: plain, idle_tls_bytes: tls, idle_h2_bytes: h2, connections };
    const kib = ({ median, min, max }, kind) =>
      `${(median / 1024).toFixed(2)} KiB ${kind} (${(min / 1024).toFixed(2)}–${(max / 1024).toFixed(2)})`;
    const parts = [kib(plain, "plain"), kib(tls, "TLS"), ...(h2 ? [kib(h2, "HTTP/2")] : [])];
    say(`${name.padEnd(10)} idle tunnel ${parts.join(", ")}`);
  }
  return result;
}
