/** What is expected beside what came. */
import type { Forwarded, InjectResult } from "../types.ts";
import type { Expectation, Matcher } from "./schema.ts";

/** An expectation that was not met. */
export interface Difference {
  /** From `expect` to the expectation. */
  path: readonly (string | number)[];
  expected: string;
  received: string;
}

/** Longer texts are cut where they are shown. */
const SHOWN = 300;
/** Differences of one JSON document that are shown. */
const MANY = 10;

/** Every expectation that a result does not meet. */
export function differences(expect: Expectation, result: InjectResult): Difference[] {
  const found: Difference[] = [];
  const tell = (path: (string | number)[], expected: string, received: string) => {
    found.push({ path, expected, received });
  };
  const text = (key: string, wanted: Matcher | undefined, value: string | undefined) =>
    compareText([key], wanted, value, tell);

  if (expect.status !== undefined) {
    const wanted = [expect.status].flat();
    const met = wanted.some((one) =>
      typeof one === "string" && /xx$/i.test(one) ? one[0] === String(result.status)[0] : Number(one) === result.status,
    );
    if (!met) tell(["status"], wanted.join(" or "), `${result.status}${reason(result)}`);
  }
  text("route", expect.route, result.route);
  text("upstream", expect.upstream, result.upstream);
  text("backend", expect.backend, result.backend);
  text("answered_by", expect.answered_by, result.answeredBy);
  text("stage", expect.stage, result.stage);
  text("client_ip", expect.client_ip, result.clientIp);
  text("subject", expect.subject, result.subject);
  for (const [name, wanted] of Object.entries(expect.params ?? {}))
    compareText(["params", name], wanted, result.params[name], tell);
  for (const [name, wanted] of Object.entries(expect.trailers ?? {}))
    compareText(["trailers", name], wanted, headerOf(result.trailers, name), tell);
  if (expect.grpc_status !== undefined && expect.grpc_status !== result.grpcStatus)
    tell(["grpc_status"], String(expect.grpc_status), String(result.grpcStatus ?? "none"));
  if (expect.upgraded !== undefined && expect.upgraded !== result.upgraded)
    tell(
      ["upgraded"],
      expect.upgraded ? "a tunnel is opened" : "no tunnel is opened",
      result.upgraded ? "one was" : "none was",
    );
  if (expect.tries !== undefined && expect.tries !== result.attempts.length)
    tell(["tries"], String(expect.tries), String(result.attempts.length));
  for (const [name, wanted] of Object.entries(expect.policies ?? {})) {
    // A policy that acts at two stages is there twice; a type may be, too.
    const named = result.policies.filter((one) => one.name === name);
    const meant = named.length > 0 ? named : result.policies.filter((one) => one.type === name);
    const known = [...new Set(result.policies.map((one) => one.name))].join(", ") || "none";
    if (meant.length === 0) tell(["policies", name], wanted, `no such policy here: there are ${known}`);
    else if (!meant.some(({ verdict }) => verdict === wanted))
      tell(["policies", name], wanted, [...new Set(meant.map(({ verdict }) => verdict))].join(", "));
  }
  if (expect.hooks !== undefined) {
    const called = [...new Set(result.hooks.filter(({ handler }) => handler !== "onLog").map(({ hook }) => hook))];
    if (called.join("\n") !== expect.hooks.join("\n"))
      tell(["hooks"], expect.hooks.join(", ") || "none", called.join(", ") || "none");
  }
  compareMessage([], expect, result.headers, result.body, tell);
  compareForwarded(expect.forwarded, result.forwarded, tell);
  return found;
}

type Tell = (path: (string | number)[], expected: string, received: string) => void;

function compareForwarded(wanted: Expectation["forwarded"], forwarded: Forwarded | undefined, tell: Tell): void {
  if (wanted === undefined) return;
  if (wanted === null) {
    if (forwarded) {
      const { method, path, upstream } = forwarded;
      tell(["forwarded"], "nothing is forwarded", `${method} ${path} went to the upstream ${upstream}`);
    }
    return;
  }
  if (!forwarded) {
    tell(["forwarded"], "a request is forwarded", "nothing was");
    return;
  }
  compareText(["forwarded", "method"], wanted.method, forwarded.method, tell);
  compareText(["forwarded", "path"], wanted.path, forwarded.path, tell);
  compareText(["forwarded", "query"], wanted.query, forwarded.query, tell);
  compareMessage(["forwarded"], wanted, forwarded.headers, forwarded.text(), tell);
}

/** Headers and body, of the answer or of what was forwarded. */
function compareMessage(
  at: readonly string[],
  wanted: { headers?: Record<string, Matcher>; body?: Matcher; json?: unknown },
  headers: Headers,
  body: string,
  tell: Tell,
): void {
  for (const [name, matcher] of Object.entries(wanted.headers ?? {}))
    compareText([...at, "headers", name], matcher, headerOf(headers, name), tell);
  compareText([...at, "body"], wanted.body, body, tell);
  if (wanted.json === undefined) return;
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    tell([...at, "json"], "JSON", show(body));
    return;
  }
  let told = 0;
  compareJson([...at, "json"], wanted.json, value, (...difference) => {
    if (++told <= MANY) tell(...difference);
  });
}

function headerOf(headers: Headers, name: string): string | undefined {
  try {
    return headers.get(name) ?? undefined;
  } catch {
    // No header has such a name.
    return undefined;
  }
}

function compareText(
  path: (string | number)[],
  wanted: Matcher | undefined,
  value: string | undefined,
  tell: Tell,
): void {
  if (wanted === undefined) return;
  const received = value === undefined ? "nothing" : show(value);
  if (wanted === null) {
    if (value !== undefined) tell(path, "nothing", received);
  } else if (typeof wanted !== "object") {
    if (value !== String(wanted)) tell(path, show(String(wanted)), received);
  } else {
    const { contains, matches, not, absent, present } = wanted;
    if (absent !== undefined && absent !== (value === undefined))
      tell(path, absent ? "nothing" : "something", received);
    if (present !== undefined && present !== (value !== undefined))
      tell(path, present ? "something" : "nothing", received);
    if (not !== undefined && value === not) tell(path, `not ${show(not)}`, received);
    if (contains !== undefined && !value?.includes(contains)) tell(path, `contains ${show(contains)}`, received);
    if (matches !== undefined && !(value !== undefined && new RegExp(matches).test(value)))
      tell(path, `matches /${matches}/`, received);
  }
}

/** Objects may hold more than is expected; lists and plain values are the same. */
function compareJson(path: (string | number)[], wanted: unknown, value: unknown, tell: Tell): void {
  if (Array.isArray(wanted)) {
    if (!Array.isArray(value)) tell(path, "a list", show(value));
    else if (value.length !== wanted.length)
      tell(path, `a list of ${wanted.length}`, `a list of ${value.length}: ${show(value)}`);
    else for (const [index, item] of wanted.entries()) compareJson([...path, index], item, value[index], tell);
  } else if (typeof wanted === "object" && wanted !== null) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      tell(path, "an object", show(value));
      return;
    }
    for (const [key, item] of Object.entries(wanted))
      compareJson(
        [...path, key],
        item,
        Object.hasOwn(value, key) ? (value as Record<string, unknown>)[key] : undefined,
        tell,
      );
  } else if (!Object.is(wanted, value)) tell(path, show(wanted), show(value));
}

function show(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = JSON.stringify(value);
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}… (${text.length} characters)` : text;
}

/** Why an answer of Titan's own is what it is: what a person asks next. */
function reason({ stage, answeredBy, status, body }: InjectResult): string {
  if (status < 400) return "";
  const who = answeredBy ?? stage;
  let message = "";
  try {
    const { message: said } = JSON.parse(body) as { message?: unknown };
    if (stage !== undefined && typeof said === "string") message = `: ${said}`;
  } catch {
    // Not one of Titan's own.
  }
  return who === undefined ? "" : ` (${who}${message})`;
}
