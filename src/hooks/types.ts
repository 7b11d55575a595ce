/** What hooks are made of: the types a user meets. */

/** Names in a path pattern: `"/users/:id/*rest"` → `"id" | "rest"`; a bare `*` is `"*"`. */
export type PathParams<P extends string> = string extends P
  ? string
  : P extends `${infer Segment}/${infer Rest}`
    ? SegmentParam<Segment> | PathParams<Rest>
    : SegmentParam<P>;

type SegmentParam<S extends string> = S extends `:${infer Name}`
  ? Name
  : S extends `*${infer Name}`
    ? Name extends ""
      ? "*"
      : Name
    : never;

/** Parameters of a route by name. */
export type Params<P extends string = string> =
  string extends PathParams<P> ? Readonly<Record<string, string | undefined>> : Readonly<Record<PathParams<P>, string>>;

/** How a body is handed to a hook. */
export type BodyMode = "json" | "text" | "bytes";

/** The type of a body read in a mode. */
export type BodyOf<M> = M extends "json"
  ? unknown
  : M extends "text"
    ? string
    : M extends "bytes"
      ? Uint8Array
      : undefined;

/** Who a request was made by, as authentication found it. */
export interface Identity {
  /** How it was found out: the authentication that let the request in. */
  readonly kind: "jwt" | "api_key" | "basic" | "mtls" | "forward_auth";
  /** Empty where a token has none. */
  readonly subject: string;
  /** The verified token's claims, or what stands for them: attributes of an API key or a user, the subject of a certificate. */
  readonly claims: Readonly<Record<string, unknown>>;
}

/** Header fields. Names are compared in any case. */
export interface ReadHeaders {
  /** The first value. */
  get(name: string): string | undefined;
  /** Whether there is a field line of the name. */
  has(name: string): boolean;
  /** Every field line, names in lower case; needs all headers to be read. */
  entries(): IterableIterator<[name: string, value: string]>;
}

/** Header fields that can be changed. */
export interface EditHeaders extends ReadHeaders {
  /** Replaces every field line of the name. */
  set(name: string, value: string): void;
  /** One more field line. */
  append(name: string, value: string): void;
  /** Takes every field line of the name off. */
  delete(name: string): void;
}

/** The request, after authentication and authorisation. */
export interface HookRequest<H extends ReadHeaders = ReadHeaders, B = undefined> {
  /** Method as the client sent it, such as `GET`. */
  readonly method: string;
  /** Normalised path, the one that was matched. */
  readonly path: string;
  /** Without the `?`; empty where there is none. */
  readonly query: string;
  /** The query, decoded; made when it is first asked for. Changes to it change nothing: see `rewrite`. */
  readonly searchParams: URLSearchParams;
  /** Host and port as the client sent them. */
  readonly host: string;
  /** Of the client's request, through trusted proxies. */
  readonly scheme: "http" | "https";
  /** The client's address, through trusted proxies. */
  readonly clientIp: string;
  /** Request id, as forwarded and logged. */
  readonly id: string;
  /** Header fields as they came, with the edits of this hook. */
  readonly headers: H;
  /** The body, where `body` asks for it. */
  readonly body: B;
}

/** The request before it is forwarded: what can be changed of it. */
export interface EditRequest<B = undefined> extends HookRequest<EditHeaders, B> {
  /**
   * Forwards this body instead of the client's; later hooks read it too. Only where the hook has `body`, in the form that it names
   * (`"json"`: what `JSON.stringify` takes), and up to `maxBody` bytes. The length is Titan's business; `content-encoding` and digests of
   * the old body are taken off, `content-type` stays unless it is set.
   *
   * @throws TypeError for another form, RangeError above `maxBody`
   */
  setBody(body: NewBody<B>): void;
}

/** What {@link EditRequest.setBody} takes, by what is read. */
export type NewBody<B> = [B] extends [undefined] ? never : B;

/** An answer in place of the one that would come. Made with `ctx.respond`, `ctx.json` or `ctx.redirect`. */
export class Answer {
  /** Status code, 200 to 599. */
  readonly status: number;
  /** Header fields; a list gives a field line each. Those that frame the message are Titan's own. */
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  /** The body; text is sent as UTF-8. Its length is Titan's business. */
  readonly body: string | Uint8Array;
  constructor(
    status: number,
    body: string | Uint8Array,
    headers: Readonly<Record<string, string | readonly string[]>>,
  ) {
    this.status = status;
    this.body = body;
    this.headers = headers;
  }
}

/** Writes log lines that carry the request's id and the hook's name. */
export interface HookLogger {
  /** A line of level debug. `fields` are added to it. */
  debug(message: string, fields?: object): void;
  /** A line of level info. */
  info(message: string, fields?: object): void;
  /** A line of level warn. */
  warn(message: string, fields?: object): void;
  /** A line of level error. */
  error(message: string, fields?: object): void;
}

interface BaseContext<P extends string, S extends object> {
  /** Parameters of the route's path, decoded. */
  readonly params: Params<P>;
  /** Name of the route. */
  readonly route: string;
  /** `undefined` where nobody in particular asks. */
  readonly identity: Identity | undefined;
  /** A claim by path, as text (arrays and objects as JSON). */
  claim(path: string): string | undefined;
  /** What earlier hooks of this request attached; seen by the later ones. */
  readonly state: Partial<S>;
  /** Writes to Titan's log, with the request's id and the hook's name. */
  readonly log: HookLogger;
  /** An answer with this status and body. */
  respond(status: number, body?: string | Uint8Array, headers?: Record<string, string | readonly string[]>): Answer;
  /** An answer with a JSON body. */
  json(value: unknown, status?: number, headers?: Record<string, string | readonly string[]>): Answer;
  /** A redirect (302 unless said otherwise). */
  redirect(location: string, status?: 301 | 302 | 303 | 307 | 308): Answer;
}

/** What `onRequest` gets. */
export interface RequestContext<
  P extends string = string,
  B = undefined,
  S extends object = Record<string, unknown>,
  U extends string = string,
> extends BaseContext<P, S> {
  /** The request, and what can be changed of it. */
  readonly request: EditRequest<B>;
  /** Edits of the answer's headers, whoever answers. */
  readonly response: { readonly headers: Pick<EditHeaders, "set" | "append" | "delete"> };
  /** Changes what is forwarded. What was authorised stays: policies have seen the path as it came. */
  rewrite(target: { path?: string; query?: string | URLSearchParams | Record<string, string> }): void;
  /** Sends the request to another upstream of the configuration, or to one of its backends (`host:port`). */
  forward(to: { upstream?: U; backend?: string }): void;
}

/** What `onResponse` gets. */
export interface ResponseContext<P extends string = string, B = undefined, S extends object = Record<string, unknown>>
  extends BaseContext<P, S> {
  /** The request, as it was; it has gone to the upstream. */
  readonly request: HookRequest;
  /** The answer; edits of its headers are sent to the client. */
  readonly response: {
    readonly status: number;
    readonly headers: EditHeaders;
    /** The body, where `responseBody` asks for it. An {@link Answer} replaces it; the answer's other headers stay. */
    readonly body: B;
  };
}

/** What `onError` gets: Titan is about to answer with an error of its own. */
export interface ErrorContext<P extends string = string, S extends object = Record<string, unknown>>
  extends BaseContext<P, S> {
  /** The request that fails. */
  readonly request: HookRequest;
  /** What Titan would answer. */
  readonly error: {
    readonly status: number;
    /** Which stage made it: `no_route`, `rate_limit`, `upstream_timeout` … */
    readonly stage: string;
    readonly message: string;
  };
  /** Edits of the answer's headers, whoever makes it. */
  readonly response: { readonly headers: Pick<EditHeaders, "set" | "append" | "delete"> };
}

/** What `onLog` gets: the last byte has gone. */
export interface LogContext<P extends string = string, S extends object = Record<string, unknown>>
  extends Omit<BaseContext<P, S>, "respond" | "json" | "redirect"> {
  /** The request that was answered. */
  readonly request: HookRequest;
  /** Status that was sent; 499 where the client went away before. */
  readonly status: number;
  /** Milliseconds from the first byte of the request to the last one of the answer. */
  readonly durationMs: number;
  /** Milliseconds from the request's sending to the first byte of the backend's answer; absent where no backend answered. */
  readonly upstreamFirstByteMs: number | undefined;
  /** Bytes of the request's body. */
  readonly bytesIn: number;
  /** Bytes of the answer's body. */
  readonly bytesOut: number;
  /** Name of the upstream; absent where Titan answered itself. */
  readonly upstream: string | undefined;
  /** Address of the backend of the last try, `address:port`. */
  readonly backend: string | undefined;
  /** How often the request was sent; more than 1 where it was tried again. */
  readonly tries: number;
  /** Stage of an answer that Titan made itself. */
  readonly stage: string | undefined;
}

/** What `onStart`, `onReload` and `onShutdown` get. */
export interface LifecycleContext {
  /** Writes to Titan's log, with the hook's name. */
  readonly log: HookLogger;
}

/** What a hook reads. Only this crosses into JavaScript; reading anything else throws. */
export interface Reads {
  /** `true` = all, or the names. */
  headers?: true | readonly string[];
  /** Parameters of the route's path. */
  params?: boolean;
  /** The query, as text and decoded. */
  query?: boolean;
  /** Host and port of the request. */
  host?: boolean;
  /** `http` or `https`. */
  scheme?: boolean;
  /** The client's address. */
  clientIp?: boolean;
  /** The request's id; log lines have it without this. */
  id?: boolean;
  /** Whole, or claims by path. */
  identity?: boolean;
  /** Claims by path, such as `realm_access.roles`. */
  claims?: readonly string[];
  /** Headers of the answer: `true` = all, or the names. */
  responseHeaders?: true | readonly string[];
}

/** Which requests a hook is called for; decided without JavaScript. */
export interface When {
  /** Methods, in any letter case. */
  methods?: readonly string[];
  /** Match paths: exact, or a prefix when ending in `*`. */
  paths?: readonly string[];
  /** Headers that must be there. */
  headers?: readonly string[];
}

/** What a hook may return: nothing, to go on, or an answer. */
// biome-ignore lint/suspicious/noConfusingVoidType: hooks that return nothing are the common case
export type HookResult = void | undefined | Answer | Response;

/** A schema in the sense of https://standardschema.dev: zod, valibot, arktype and others are. */
export interface OptionsSchema<T, I = unknown> {
  /** The standard's entry point. */
  readonly "~standard": {
    /** What the schema takes, for types only. */
    readonly types?: { readonly input: I } | undefined;
    validate(
      value: unknown,
    ):
      | { readonly value: T; readonly issues?: undefined }
      | { readonly issues: readonly { readonly message: string; readonly path?: readonly unknown[] | undefined }[] }
      | Promise<unknown>;
  };
}

/** A hook: functions, and what Titan must know to call them as rarely and cheaply as possible. */
export interface HookInput<
  P extends string = string,
  M extends BodyMode | undefined = undefined,
  R extends BodyMode | undefined = undefined,
  S extends object = Record<string, unknown>,
> {
  /** What it reads; without it, all of the request's head crosses. */
  reads?: Reads;
  /** Which requests it is called for; without it, all of its routes. */
  when?: When;
  /** Reads the request's body before `onRequest`. */
  body?: M;
  /** Largest body that is read, bytes (default 1 MiB); more is 413. */
  maxBody?: number;
  /** Reads the answer's body before `onResponse`. */
  responseBody?: R;
  /** Largest answer that is read, bytes (default 1 MiB); more is 502. */
  maxResponseBody?: number;
  /** A call that takes longer has failed; milliseconds or `"100ms"`. Default 1 s. */
  deadline?: number | string;
  /** What a failed call means: the request is refused (`closed`, the default) or goes on without it (`open`). */
  fail?: "open" | "closed";
  /** Calls under way at most; one more has failed. Default 1000. */
  concurrency?: number;
  /** Runs on every route. */
  global?: boolean;
  /** After authorisation, before the upstream. May answer. */
  onRequest?(ctx: RequestContext<P, BodyOf<M>, S>): HookResult | Promise<HookResult>;
  /** The answer's head is there (of an upstream, or of a route that answers itself). May answer in its place. */
  onResponse?(ctx: ResponseContext<P, BodyOf<R>, S>): HookResult | Promise<HookResult>;
  /** Titan is about to answer with an error of its own. May answer in its place. */
  onError?(ctx: ErrorContext<P, S>): HookResult | Promise<HookResult>;
  /** The last byte has gone. Nothing waits for it. */
  onLog?(ctx: LogContext<P, S>): void | Promise<void>;
  /** The first configuration with this hook is about to be served. Requests wait for it. */
  onStart?(ctx: LifecycleContext): void | Promise<void>;
  /** A reloaded configuration with this hook is about to be served. */
  onReload?(ctx: LifecycleContext): void | Promise<void>;
  /** The last request under this configuration has ended. */
  onShutdown?(ctx: LifecycleContext): void | Promise<void>;
}

/** A hook as {@link defineHook} makes it. */
export interface Hook {
  /** Marks what {@link defineHook} made. */
  readonly [HOOK]: true;
}

/** A hook that takes options where it is used: `{ type: "its name", config: options }`. */
export interface HookFactory<O = unknown, I = O> {
  /** Marks what {@link defineHookFactory} made. */
  readonly [FACTORY]: true;
  /** Checks options where the hook is used; absent = any. */
  readonly options: OptionsSchema<O, I> | undefined;
  /** Makes the hook for checked options. */
  create(options: O): Hook;
}

/** A hook, with options or without. */
// biome-ignore lint/suspicious/noExplicitAny: options of any type, which `unknown` and `never` are not
export type AnyHook = Hook | HookFactory<any, any>;

/** Marks what {@link defineHook} made; shared by every copy of this package in a process. */
export const HOOK: unique symbol = Symbol.for("titan.hook");
/** Marks what {@link defineHookFactory} made. */
export const FACTORY: unique symbol = Symbol.for("titan.hookFactory");
