/** What hooks get: views of a call that decode on access, and the edits that they ask for. */
import type { HookPlan } from "./plan.ts";
import { Answer, type BodyMode, type HookLogger, type Identity } from "./types.ts";
import { type Call, EDIT, type Edit } from "./wire.ts";

/** Thrown where a hook reads what it did not declare. */
export class UndeclaredReadError extends Error {
  override readonly name = "UndeclaredReadError";
}

/** The body is not what the hook asked for: the client's fault, answered with 400 or 415. */
export class BodyError extends Error {
  override readonly name = "BodyError";
  readonly status: 400 | 415;
  constructor(status: 400 | 415, message: string, options?: ErrorOptions) {
    super(message, options);
    this.status = status;
  }
}

const NONE: readonly Edit[] = [];
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
/** Fields that frame a message or concern one connection. */
const RESERVED = new Set([
  "connection",
  "content-length",
  "host",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** Header name in lower case; throws where it is none, or one that a hook must not touch. */
export function fieldName(name: string): string {
  if (!TOKEN.test(name)) throw new TypeError(`${JSON.stringify(name)} is not a header name`);
  const lower = name.toLowerCase();
  if (RESERVED.has(lower))
    throw new TypeError(`the header "${lower}" is Titan's own business and can't be changed by a hook`);
  return lower;
}

/** The value; throws where it can't be a header's. */
export function fieldValue(name: string, value: string): string {
  const text = String(value);
  if (!VALUE.test(text)) {
    throw new TypeError(
      `the value of "${name}" holds a line break or characters beyond Latin-1: encode it (encodeURIComponent)`,
    );
  }
  return text;
}

/** Values and edits of one call. */
export class Frame {
  readonly call: Call;
  readonly plan: HookPlan;
  edits: Edit[] | undefined;
  /** Attached object: known before, or made now. */
  state: object | undefined;
  readonly #logger: (frame: Frame) => HookLogger;

  constructor(call: Call, plan: HookPlan, state: object | undefined, logger: (frame: Frame) => HookLogger) {
    this.call = call;
    this.plan = plan;
    this.state = state;
    this.#logger = logger;
  }

  /** Place of a declared value; throws where it was not declared. */
  place(read: string, how: string): number {
    const index = this.plan.layout.get(read);
    if (index !== undefined) return index;
    throw new UndeclaredReadError(
      `the hook "${this.plan.name}" reads ${how}, which its "reads" does not name: add it there, or leave "reads" out`,
    );
  }

  latin1(read: string, how: string): string | undefined {
    return this.call.latin1(this.place(read, how));
  }

  edit(kind: number, name: string, value: string | Uint8Array): void {
    this.edits ??= [];
    this.edits.push([kind, name, value]);
  }

  get edited(): readonly Edit[] {
    return this.edits ?? NONE;
  }

  body(read: "request_body" | "response_body", mode: BodyMode | undefined, coding: () => string | undefined): unknown {
    if (mode === undefined) return undefined;
    const index = this.place(read, "a body");
    if (mode === "bytes") return this.call.bytes(index);
    const coded = coding();
    if (coded !== undefined && coded !== "" && coded.toLowerCase() !== "identity")
      throw new BodyError(
        415,
        `the body has the content coding ${JSON.stringify(coded)}, and a hook reads it as ${mode}`,
      );
    const text = this.call.utf8(index);
    if (mode === "text" || text === undefined) return text;
    if (text === "") return undefined;
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw new BodyError(400, "the body is not valid JSON", { cause });
    }
  }

  get log(): HookLogger {
    return this.#logger(this);
  }
}

/** Header fields of a request or an answer, with the edits so far applied on reading. */
export class Headers {
  readonly #frame: Frame;
  readonly #one: "header:" | "response_header:";
  readonly #all: "headers" | "response_headers";
  /** First kind of edit: set, then add, then remove. */
  readonly #kind: number;
  #map: Map<string, string[]> | undefined;

  constructor(frame: Frame, side: "request" | "response") {
    this.#frame = frame;
    this.#one = side === "request" ? "header:" : "response_header:";
    this.#all = side === "request" ? "headers" : "response_headers";
    this.#kind = side === "request" ? EDIT.requestSet : EDIT.responseSet;
  }

  get(name: string): string | undefined {
    const lower = name.toLowerCase();
    const { edits } = this.#frame;
    if (edits !== undefined) {
      for (let i = edits.length - 1; i >= 0; i--) {
        const [kind, edited, value] = edits[i] as Edit;
        if (edited !== lower) continue;
        if (kind === this.#kind) return this.#firstAfter(i, lower) ?? (value as string);
        if (kind === this.#kind + 2) return this.#firstAfter(i, lower);
      }
      return this.received(lower) ?? this.#firstAfter(-1, lower);
    }
    return this.received(lower);
  }

  has(name: string): boolean {
    return this.get(name) !== undefined;
  }

  *entries(): IterableIterator<[string, string]> {
    const map = new Map([...this.#decoded()].map(([name, values]) => [name, [...values]]));
    for (const [kind, name, text] of this.#frame.edited) {
      const value = text as string;
      if (kind === this.#kind) map.set(name, [value]);
      else if (kind === this.#kind + 1) map.set(name, [...(map.get(name) ?? []), value]);
      else if (kind === this.#kind + 2) map.delete(name);
    }
    for (const [name, values] of map) for (const value of values) yield [name, value];
  }

  set(name: string, value: string): void {
    const lower = fieldName(name);
    this.#frame.edit(this.#kind, lower, fieldValue(lower, value));
  }

  append(name: string, value: string): void {
    const lower = fieldName(name);
    this.#frame.edit(this.#kind + 1, lower, fieldValue(lower, value));
  }

  delete(name: string): void {
    this.#frame.edit(this.#kind + 2, fieldName(name), "");
  }

  /** First value added after an edit that decided what was there. */
  #firstAfter(index: number, name: string): string | undefined {
    const edits = this.#frame.edited;
    const decided = index >= 0 && edits[index]?.[0] === this.#kind ? edits[index]?.[2] : undefined;
    if (decided !== undefined) return decided as string;
    for (let i = index + 1; i < edits.length; i++) {
      const [kind, edited, value] = edits[i] as Edit;
      if (edited === name && kind === this.#kind + 1) return value as string;
    }
    return undefined;
  }

  /** The first value that came, whatever was edited since. */
  received(lower: string): string | undefined {
    const { call, plan } = this.#frame;
    const index = plan.layout.get(this.#one + lower);
    if (index !== undefined) return call.latin1(index);
    if (this.#map === undefined && !plan.layout.has(this.#all)) this.#frame.place(this.#all, `the header "${lower}"`);
    return this.#decoded().get(lower)?.[0];
  }

  #decoded(): Map<string, string[]> {
    if (this.#map) return this.#map;
    const block = this.#frame.latin1(this.#all, "all headers") ?? "";
    const map = new Map<string, string[]>();
    const lines = block.split("\n");
    for (let i = 0; i + 1 < lines.length; i += 2) {
      const name = (lines[i] as string).toLowerCase();
      const known = map.get(name);
      if (known) known.push(lines[i + 1] as string);
      else map.set(name, [lines[i + 1] as string]);
    }
    this.#map = map;
    return map;
  }
}

/** The request. */
class Request {
  readonly #frame: Frame;
  #headers: Headers | undefined;
  #search: URLSearchParams | undefined;
  #body: unknown;
  #read = false;

  constructor(frame: Frame) {
    this.#frame = frame;
  }
  get method(): string {
    return this.#frame.latin1("method", "the method") ?? "";
  }
  get path(): string {
    return this.#frame.latin1("path", "the path") ?? "";
  }
  get query(): string {
    return this.#frame.latin1("query", "the query") ?? "";
  }
  get searchParams(): URLSearchParams {
    this.#search ??= new URLSearchParams(this.query);
    return this.#search;
  }
  get host(): string {
    return this.#frame.latin1("host", "the host") ?? "";
  }
  get scheme(): string {
    return this.#frame.latin1("scheme", "the scheme") ?? "";
  }
  get clientIp(): string {
    return this.#frame.latin1("client_ip", "the client's address") ?? "";
  }
  get id(): string {
    return this.#frame.latin1("request_id", "the request id") ?? "";
  }
  get headers(): Headers {
    this.#headers ??= new Headers(this.#frame, "request");
    return this.#headers;
  }
  get body(): unknown {
    if (!this.#read) {
      this.#body = this.#frame.body("request_body", this.#frame.plan.body, () =>
        this.headers.received("content-encoding"),
      );
      this.#read = true;
    }
    return this.#body;
  }
  setBody(body: unknown): void {
    const { call, plan } = this.#frame;
    if (call.point !== 0) throw new TypeError("the request has gone: its body can be replaced in onRequest only");
    if (plan.body === undefined)
      throw new TypeError(`the hook "${plan.name}" replaces a body that it does not read: give it "body"`);
    const written = encoded(body, plan.body);
    const size = typeof written === "string" ? Buffer.byteLength(written) : written.length;
    if (size > plan.maxBody)
      throw new RangeError(
        `the new body has ${size} bytes; "maxBody" of the hook "${plan.name}" allows ${plan.maxBody}`,
      );
    this.#frame.edit(EDIT.body, "", written);
    this.#body = body;
    this.#read = true;
  }
}

/** The answer. */
class Response {
  readonly #frame: Frame;
  #headers: Headers | undefined;
  #body: unknown;
  #read = false;

  constructor(frame: Frame) {
    this.#frame = frame;
  }
  get status(): number {
    return this.#frame.call.status;
  }
  get headers(): Headers {
    this.#headers ??= new Headers(this.#frame, "response");
    return this.#headers;
  }
  get body(): unknown {
    if (!this.#read) {
      this.#body = this.#frame.body("response_body", this.#frame.plan.responseBody, () =>
        this.headers.received("content-encoding"),
      );
      this.#read = true;
    }
    return this.#body;
  }
}

/** What every request's hook gets; the types in `types.ts` say what is there at which point. */
export class Context {
  readonly #frame: Frame;
  #request: Request | undefined;
  #response: Response | undefined;
  #params: Record<string, string> | undefined;
  #facts: Record<string, unknown> | undefined;

  constructor(frame: Frame) {
    this.#frame = frame;
  }

  get request(): Request {
    this.#request ??= new Request(this.#frame);
    return this.#request;
  }

  get response(): Response {
    this.#response ??= new Response(this.#frame);
    return this.#response;
  }

  get params(): Readonly<Record<string, string>> {
    if (this.#params) return this.#params;
    const block = this.#frame.latin1("params", "path parameters") ?? "";
    const params: Record<string, string> = Object.create(null);
    const lines = block.split("\n");
    for (let i = 0; i + 1 < lines.length; i += 2) params[lines[i] as string] = decoded(lines[i + 1] as string);
    this.#params = params;
    return params;
  }

  get route(): string {
    return this.#frame.call.utf8(this.#frame.place("route", "the route")) ?? "";
  }

  get identity(): Identity | undefined {
    const text = this.#frame.call.utf8(this.#frame.place("identity", "the identity"));
    return text === undefined ? undefined : JSON.parse(text);
  }

  claim(path: string): string | undefined {
    const index = this.#frame.plan.layout.get(`claim:${path}`);
    if (index !== undefined) return this.#frame.call.utf8(index);
    if (!this.#frame.plan.layout.has("identity")) this.#frame.place(`claim:${path}`, `the claim "${path}"`);
    return claimText(this.identity?.claims, path);
  }

  get state(): object {
    this.#frame.state ??= {};
    return this.#frame.state;
  }

  get log(): HookLogger {
    return this.#frame.log;
  }

  get error(): { status: number; stage: string; message: string } {
    const text = this.#frame.call.utf8(this.#frame.place("error", "the error")) ?? "\n";
    const at = text.indexOf("\n");
    return { status: this.#frame.call.status, stage: text.slice(0, at), message: text.slice(at + 1) };
  }

  respond(status: number, body: string | Uint8Array = "", headers: Answer["headers"] = {}): Answer {
    return new Answer(status, body, headers);
  }

  json(value: unknown, status = 200, headers: Answer["headers"] = {}): Answer {
    return new Answer(status, JSON.stringify(value) ?? "null", { "content-type": "application/json", ...headers });
  }

  redirect(location: string, status = 302): Answer {
    return new Answer(status, "", { location });
  }

  rewrite(target: { path?: string; query?: string | URLSearchParams | Record<string, string> }): void {
    if (target.path !== undefined) {
      if (!/^\/[\x21-\x7e]*$/.test(target.path) || /[?#]/.test(target.path)) {
        throw new TypeError(
          `${JSON.stringify(target.path)} is not a path: it begins with "/", and what is not ASCII is encoded (encodeURI)`,
        );
      }
      this.#frame.edit(EDIT.path, "", target.path);
    }
    if (target.query !== undefined) {
      const text =
        typeof target.query === "string"
          ? target.query.replace(/^\?/, "")
          : new URLSearchParams(target.query).toString();
      if (!/^[\x21-\x7e]*$/.test(text) || text.includes("#"))
        throw new TypeError(`${JSON.stringify(text)} is not a query: encode it (URLSearchParams does)`);
      this.#frame.edit(EDIT.query, "", text);
    }
  }

  forward(to: { upstream?: string; backend?: string }): void {
    if (to.upstream !== undefined) {
      const { upstreams } = this.#frame.plan;
      if (!upstreams.has(to.upstream)) throw new RangeError(unknownUpstream(to.upstream, upstreams));
      this.#frame.edit(EDIT.upstream, "", to.upstream);
    }
    if (to.backend !== undefined) this.#frame.edit(EDIT.backend, "", to.backend);
  }

  // What became of the request, for onLog.

  get status(): number {
    return this.#frame.call.status;
  }
  get durationMs(): number {
    return this.#fact("duration_ms") as number;
  }
  get upstreamFirstByteMs(): number | undefined {
    return this.#fact("upstream_first_byte_ms") as number | undefined;
  }
  get bytesIn(): number {
    return this.#fact("bytes_in") as number;
  }
  get bytesOut(): number {
    return this.#fact("bytes_out") as number;
  }
  get upstream(): string | undefined {
    return this.#fact("upstream") as string | undefined;
  }
  get backend(): string | undefined {
    return this.#fact("backend") as string | undefined;
  }
  get tries(): number {
    return this.#fact("tries") as number;
  }
  get stage(): string | undefined {
    return this.#fact("stage") as string | undefined;
  }

  #fact(name: string): unknown {
    this.#facts ??= JSON.parse(this.#frame.call.utf8(this.#frame.place("log", "the log's facts")) ?? "{}");
    return (this.#facts as Record<string, unknown>)[name] ?? undefined;
  }
}

/** A new body as it is sent; throws where it is not of the form that the hook reads. */
function encoded(body: unknown, mode: BodyMode): string | Uint8Array {
  if (mode === "json") {
    const text = JSON.stringify(body);
    if (text === undefined) throw new TypeError("the new body has no JSON form");
    return text;
  }
  if (mode === "text" ? typeof body !== "string" : !(body instanceof Uint8Array))
    throw new TypeError(
      `the new body of a hook that reads ${mode} must be a ${mode === "text" ? "string" : "Uint8Array"}`,
    );
  return body as string | Uint8Array;
}

/** A parameter as text; one that is not well encoded stays as it is. */
function decoded(value: string): string {
  if (!value.includes("%")) return value;
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}

/** As the data plane looks claims up: the whole name first, then level by level. */
function claimText(claims: unknown, path: string): string | undefined {
  const value = lookUp(claims, path);
  if (value === undefined || value === null) return undefined;
  return typeof value === "string" ? value : JSON.stringify(value);
}

function lookUp(claims: unknown, path: string): unknown {
  if (typeof claims !== "object" || claims === null) return undefined;
  if (Object.hasOwn(claims, path)) return (claims as Record<string, unknown>)[path];
  for (let dot = path.indexOf("."); dot >= 0; dot = path.indexOf(".", dot + 1)) {
    const found = lookUp((claims as Record<string, unknown>)[path.slice(0, dot)], path.slice(dot + 1));
    if (found !== undefined) return found;
  }
  return undefined;
}

function unknownUpstream(name: unknown, known: ReadonlySet<string>): string {
  const names = [...known].slice(0, 20).join(", ");
  return `the configuration has no upstream ${JSON.stringify(name)}: it has ${names || "none"}${known.size > 20 ? " …" : ""}`;
}
