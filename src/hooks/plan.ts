/** A hook as the data plane and the dispatcher know it: when it is called, what crosses, and in which order. */
import type { BodyMode, HookInput, Reads } from "./types.ts";

/** When a hook is called; the number is the one on the wire. */
export const POINTS = { request: 0, response: 1, error: 2, log: 3 } as const;
/** Of {@link POINTS}. */
export type PointName = keyof typeof POINTS;

const HANDLERS = { request: "onRequest", response: "onResponse", error: "onError", log: "onLog" } as const;

/** Largest body that a hook reads unless it says otherwise, bytes. */
const MAX_BODY = 1 << 20;

/** A hook ready to be called. Its number is its place in the generation. */
export interface HookPlan {
  readonly name: string;
  readonly input: HookInput;
  readonly points: readonly PointName[];
  /** Names of the values that cross, in their order. */
  readonly reads: readonly string[];
  /** From a name to its place. */
  readonly layout: ReadonlyMap<string, number>;
  readonly body: BodyMode | undefined;
  readonly responseBody: BodyMode | undefined;
  /** Bytes of a request's body, read or put in its place. */
  readonly maxBody: number;
  /** What was declared, for the message when something else is read; `undefined` = nothing was. */
  readonly declared: Reads | undefined;
  /** Names of the upstreams that it may choose. */
  readonly upstreams: ReadonlySet<string>;
}

/** The native policy's settings, but for number and channels. */
export interface NativeHook {
  points: PointName[];
  reads: string[];
  methods?: string[];
  paths?: string[];
  headers?: string[];
  deadline_ms: number;
  fail: "open" | "closed";
  concurrency: number;
  request_body?: number;
  response_body?: number;
}

/** A problem of a hook's settings. */
export interface HookFinding {
  key: string;
  message: string;
}

/** Works out what a hook needs. */
export function planHook(
  name: string,
  input: HookInput,
  report: (finding: HookFinding) => void,
  upstreams: ReadonlySet<string> = new Set(),
): HookPlan {
  const points = (Object.keys(POINTS) as PointName[]).filter((point) => typeof input[HANDLERS[point]] === "function");
  const lifecycle = [input.onStart, input.onReload, input.onShutdown].some((fn) => typeof fn === "function");
  if (points.length === 0 && !lifecycle)
    report({ key: "", message: "does nothing: give it onRequest, onResponse, onError or onLog" });
  if (input.body !== undefined && !points.includes("request"))
    report({ key: "body", message: "has no effect without onRequest" });
  if (input.responseBody !== undefined && !points.includes("response"))
    report({ key: "responseBody", message: "has no effect without onResponse" });
  const reads = [...readNames(input, points)];
  return {
    name,
    input,
    points,
    reads,
    layout: new Map(reads.map((read, index) => [read, index])),
    body: input.body,
    responseBody: input.responseBody,
    maxBody: input.maxBody ?? MAX_BODY,
    declared: input.reads,
    upstreams,
  };
}

/** Settings of the native policy. */
export function nativeHook(plan: HookPlan, report: (finding: HookFinding) => void): NativeHook {
  const { input } = plan;
  const native: NativeHook = {
    points: [...plan.points],
    reads: [...plan.reads],
    deadline_ms: milliseconds(input.deadline ?? 1_000, report),
    fail: input.fail ?? "closed",
    concurrency: count("concurrency", input.concurrency ?? 1_000, report),
  };
  if (input.fail !== undefined && input.fail !== "open" && input.fail !== "closed")
    report({ key: "fail", message: 'must be "open" or "closed"' });
  if (input.when?.methods) native.methods = input.when.methods.map((method) => method.toUpperCase());
  if (input.when?.paths) native.paths = [...input.when.paths];
  if (input.when?.headers) native.headers = input.when.headers.map((header) => header.toLowerCase());
  if (plan.body !== undefined) native.request_body = count("maxBody", input.maxBody ?? MAX_BODY, report);
  if (plan.responseBody !== undefined)
    native.response_body = count("maxResponseBody", input.maxResponseBody ?? MAX_BODY, report);
  for (const [key, mode] of [
    ["body", plan.body],
    ["responseBody", plan.responseBody],
  ] as const) {
    if (mode !== undefined && !["json", "text", "bytes"].includes(mode))
      report({ key, message: 'must be "json", "text" or "bytes"' });
  }
  return native;
}

function* readNames(input: HookInput, points: readonly PointName[]): Generator<string> {
  const reads: Reads = input.reads ?? {
    headers: true,
    params: true,
    query: true,
    host: true,
    scheme: true,
    clientIp: true,
    id: true,
    identity: true,
    responseHeaders: true,
  };
  // Always there: what a log line or a decision needs, a few bytes each.
  yield* ["path", "method", "route", "request_id"];
  if (reads.query) yield "query";
  if (reads.host) yield "host";
  if (reads.scheme) yield "scheme";
  if (reads.clientIp) yield "client_ip";
  if (reads.params) yield "params";
  if (reads.headers === true) yield "headers";
  else for (const name of new Set(reads.headers?.map((header) => header.toLowerCase()))) yield `header:${name}`;
  if (reads.identity) yield "identity";
  for (const path of new Set(reads.claims)) yield `claim:${path}`;
  if (points.includes("response") || points.includes("log")) {
    if (reads.responseHeaders === true) yield "response_headers";
    else
      for (const name of new Set(reads.responseHeaders?.map((header) => header.toLowerCase())))
        yield `response_header:${name}`;
  }
  if (points.includes("error")) yield "error";
  if (points.includes("log")) yield "log";
  if (input.body !== undefined) yield "request_body";
  if (input.responseBody !== undefined) yield "response_body";
  // Text that a coding was applied to is none: see `Frame.body`.
  if (isText(input.body) && reads.headers !== true) yield* missing("header:content-encoding", reads.headers);
  if (isText(input.responseBody) && reads.responseHeaders !== true)
    yield* missing("response_header:content-encoding", reads.responseHeaders);
}

function isText(mode: BodyMode | undefined): boolean {
  return mode === "json" || mode === "text";
}

function* missing(read: string, named: readonly string[] | undefined): Generator<string> {
  if (!named?.some((name) => name.toLowerCase() === "content-encoding")) yield read;
}

function milliseconds(value: number | string, report: (finding: HookFinding) => void): number {
  const match = typeof value === "string" ? /^(\d+(?:\.\d+)?)(ms|s|m)$/.exec(value.trim()) : null;
  const ms = match ? Number(match[1]) * { ms: 1, s: 1_000, m: 60_000 }[match[2] as "ms" | "s" | "m"] : Number(value);
  if (Number.isFinite(ms) && ms >= 1 && ms <= 3_600_000) return Math.round(ms);
  report({ key: "deadline", message: `must be a time from 1ms to 1h such as "100ms", not ${JSON.stringify(value)}` });
  return 1_000;
}

function count(key: string, value: number, report: (finding: HookFinding) => void): number {
  if (Number.isInteger(value) && value >= 1 && value <= 0x7fff_ffff) return value;
  report({ key, message: `must be a whole number of at least 1, not ${JSON.stringify(value)}` });
  return 1_000;
}
