import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { type Exchange, type ExchangeOptions, exchange, get, status } from "../helpers/client.ts";
import { type OriginOptions, RawOrigin } from "../helpers/origin.ts";
import { startTitan, type Titan, type TitanOptions } from "../helpers/titan.ts";

/** The longer form of the suite: `npm run test:safety`. */
export const LONG = process.env.TITAN_SAFETY === "long";

/** A running Titan with a raw origin behind `/*`. */
export interface Stage extends AsyncDisposable {
  titan: Titan;
  origin: RawOrigin;
  close(): Promise<void>;
}

/** What a stage is made of. */
export interface StageOptions extends Omit<TitanOptions, "config"> {
  origin?: OriginOptions;
  /** Gets the origin's upstream and returns what differs from one proxied route. */
  config?: (upstream: object) => object;
  /** Also a route to a backend in a process of its own, for {@link honestP99}. */
  honest?: boolean;
}

/** Starts Titan and its origin. */
export async function openStage(options: StageOptions = {}): Promise<Stage> {
  const origin = await RawOrigin.start(options.origin);
  const upstream = { name: "origin", max_retries: 0, backends: [{ host: "127.0.0.1", port: origin.port }] };
  const config = {
    upstreams: [upstream] as object[],
    routes: [{ path: "/*", upstream: "origin" }] as object[],
    ...options.config?.(upstream),
  };
  const honest = options.honest ? await honestOrigin() : undefined;
  if (honest) {
    config.upstreams = [...config.upstreams, honest.upstream];
    config.routes = [{ path: "/honest", upstream: "honest" }, ...config.routes];
  }
  const closeOrigins = async () => {
    honest?.close();
    await origin.close();
  };
  try {
    const titan = await startTitan({ ...options, config });
    const close = async () => {
      await titan.stop();
      await closeOrigins();
    };
    return { titan, origin, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await closeOrigins();
    throw error;
  }
}

async function honestOrigin() {
  const script = join(import.meta.dirname, "../helpers/honest-origin.mjs");
  const child = spawn(process.execPath, [script], { stdio: ["pipe", "pipe", "inherit"] });
  const [port] = await once(child.stdout, "data");
  const backends = [{ host: "127.0.0.1", port: Number(port) }];
  return { upstream: { name: "honest", max_retries: 0, backends }, close: () => child.stdin.end() };
}

/** Sends an attack and looks at what became of it. The origin starts the case with nothing recorded. */
export async function attack(
  stage: Stage,
  parts: Parameters<typeof exchange>[1],
  options: ExchangeOptions = {},
): Promise<Exchange> {
  stage.origin.reset();
  // The gateway notices that its pooled connections are gone.
  await sleep(5);
  return exchange(stage.titan.port, parts, { answers: 1, timeout: 3000, linger: 100, ...options });
}

/** The request was refused with one of `statuses`, the connection closed, and nothing reached the origin. */
export function expectRefused(stage: Stage, result: Exchange, statuses: number[] = [400]): void {
  const seen = `client got:\n${result.raw.toString("latin1")}\norigin got:\n${stage.origin.text}`;
  expect(result.broken, seen).toBeUndefined();
  expect(result.answers.map(status), seen).toHaveLength(1);
  expect(statuses, seen).toContain(result.statuses[0]);
  expect(result.closed, `connection left open; ${seen}`).toBe(true);
  expect(stage.origin.bytes, seen).toBe(0);
}

/**
 * Runs an attack beside an honest client, which must hardly notice. Where it did notice, both are run once more: a machine that does other
 * things, too, has its bad seconds, and a fault of the gateway's comes again.
 */
export async function expectUnmoved(
  stage: Stage,
  protocol: "h1" | "h2",
  attack: () => Promise<void>,
  again = true,
): Promise<void> {
  const quiet = await honestP99(stage, protocol);
  const running = attack();
  const busy = await honestP99(stage, protocol);
  await running;
  const said = `p99 beside the attack: ${busy.toFixed(1)} ms, ${quiet.toFixed(1)} ms without`;
  if (busy >= allowedP99(quiet) && again) {
    console.warn(`once more: ${said}`);
    return expectUnmoved(stage, protocol, attack, false);
  }
  expect(busy, said).toBeLessThan(allowedP99(quiet));
}

/** 99th percentile in milliseconds of an honest client's requests, one after another; client and backend are processes of their own. */
export async function honestP99(stage: Stage, protocol: "h1" | "h2", count = 300): Promise<number> {
  const script = join(import.meta.dirname, "../helpers/honest.mjs");
  const output = await new Promise<string>((resolve, reject) => {
    execFile(process.execPath, [script, String(stage.titan.port), protocol, String(count)], (error, stdout, stderr) =>
      error ? reject(new Error(`an honest request failed: ${stderr}`)) : resolve(stdout),
    );
  });
  const { times } = JSON.parse(output) as { times: number[] };
  return times[Math.floor(times.length * 0.99)] ?? Number.POSITIVE_INFINITY;
}

/**
 * What p99 may be beside an attack. The figure that counts (50 ms, or twice what it is in quiet) is asked of the long form, which is run
 * on a machine that does nothing else; the quick form shares its two cores with other tests and only notices a gateway that stands still.
 */
export function allowedP99(quiet: number): number {
  return LONG ? Math.max(50, 2 * quiet) : Math.max(250, 5 * quiet);
}

/** Titan still serves: what every file checks at its end. */
export async function expectAlive(stage: Stage): Promise<void> {
  stage.origin.behave({});
  const answer = await get(stage.titan.port, "/alive");
  expect(answer.status, stage.titan.output()).toBe(200);
  expect(answer.body).toBe("GET /alive HTTP/1.1");
  expect(stage.titan.output()).not.toMatch(/panicked|segmentation/i);
}
