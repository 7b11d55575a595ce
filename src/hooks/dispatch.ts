/** Runs hooks on this thread: takes batches of calls, calls, hands replies back. Nothing that a hook does gets out of here. */
import { AsyncResource } from "node:async_hooks";
import { inspect } from "node:util";
import type { HookChannel } from "#native";
import { BodyError, Context, Frame, fieldName, fieldValue } from "./context.ts";
import type { HookPlan } from "./plan.ts";
import { Answer, type HookInput, type HookLogger, type LifecycleContext } from "./types.ts";
import { ANSWER, Call, EDIT, type Edit, FAILED, GO_ON, RELEASE, Replies } from "./wire.ts";

/** A line for the log of the gateway. */
export interface HookLogLine {
  level: "debug" | "info" | "warn" | "error";
  message: string;
  fields: Record<string, unknown>;
}

/** The constructor of the addon's channel. */
export type ChannelClass = new (onCalls: () => void) => HookChannel;

type Handler = (this: HookInput, context: Context) => unknown;

/** Nothing has to happen when it goes. */
const RESOURCE = { requireManualDestroy: true };
const NO_EDITS: readonly Edit[] = [];
const LOG = 3;
const RETIRED = -1;

/** Hooks of one generation on this thread. */
export class HookThread {
  readonly #channel: HookChannel;
  /** What the addon calls holds this thread by way of here: its callbacks are roots, and would keep all of it for ever. */
  readonly #held: { thread: HookThread | undefined } = { thread: this };
  readonly #plans: readonly HookPlan[];
  /** By hook and point. */
  readonly #handlers: readonly (readonly (Handler | undefined)[])[];
  readonly #write: (line: HookLogLine) => void;
  readonly #retired: () => void;
  readonly #replies = new Replies();
  #calls = Buffer.allocUnsafeSlow(128 << 10);
  /** The context of AsyncLocalStorage that calls begin in, wherever a batch happens to be taken. */
  readonly #root = new AsyncResource("TitanHooks", RESOURCE);
  #exchanging = false;
  #flushing = false;
  #over = false;
  readonly #contexts: (object | undefined)[] = [undefined];
  readonly #free: number[] = [];
  readonly #contextual: (frame: Frame) => HookLogger = (frame) => this.#logger(frame);

  constructor(
    Channel: ChannelClass,
    plans: readonly HookPlan[],
    write: (line: HookLogLine) => void,
    retired: () => void,
  ) {
    this.#plans = plans;
    this.#write = write;
    this.#retired = retired;
    this.#handlers = plans.map(
      ({ input }) => [input.onRequest, input.onResponse, input.onError, input.onLog] as Handler[],
    );
    const held = this.#held;
    this.#channel = new Channel(() => {
      const { thread } = held;
      if (thread) thread.#exchange();
    });
  }

  /** What the native configuration names this thread by. */
  get id(): number {
    return this.#channel.id;
  }

  /** Objects that hooks have attached to requests that have not ended. */
  get attached(): number {
    return this.#contexts.length - 1 - this.#free.length;
  }

  /** Runs `onStart` or `onReload` of every hook; rejects with the first one's error. */
  async begin(reload: boolean): Promise<void> {
    for (const plan of this.#plans) {
      const context: LifecycleContext = { log: this.#logger(plan) };
      try {
        if (reload) await plan.input.onReload?.(context);
        else await plan.input.onStart?.(context);
      } catch (error) {
        throw new Error(`${reload ? "onReload" : "onStart"} of the hook "${plan.name}" failed: ${messageOf(error)}`, {
          cause: error,
        });
      }
    }
  }

  /** Runs `onShutdown` of every hook, and takes no more calls. */
  async end(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    this.#held.thread = undefined;
    this.#channel.close();
    for (const plan of this.#plans) {
      try {
        await plan.input.onShutdown?.({ log: this.#logger(plan) });
      } catch (error) {
        this.#report(plan, "onShutdown", error, undefined);
      }
    }
  }

  #exchange(): void {
    // An asynchronous reply that is ready inside of a hook is handed over by the loop that runs.
    if (this.#exchanging || this.#over) return;
    this.#exchanging = true;
    // A reply that is ready may come from within a hook: the calls that are taken then are no part of its request.
    this.#root.runInAsyncScope(this.#takeCalls, this);
  }

  #takeCalls(): void {
    try {
      for (;;) {
        const got = this.#channel.exchange(this.#replies.bytes, this.#replies.length, this.#calls);
        this.#replies.clear();
        if (got > 0) {
          for (let at = 0; at < got; ) {
            const call = new Call(this.#calls, at);
            at += call.length;
            this.#dispatch(call);
          }
        } else if (got === 0) {
          if (this.#calls.length > 4 << 20) this.#calls = Buffer.allocUnsafeSlow(128 << 10);
          break;
        } else if (got === RETIRED) {
          queueMicrotask(this.#retired);
          break;
        } else this.#calls = Buffer.allocUnsafeSlow(Math.max(-got, this.#calls.length * 2));
      }
    } finally {
      this.#exchanging = false;
    }
  }

  #dispatch(call: Call): void {
    const { point } = call;
    if (point === RELEASE) {
      this.#release(call.context);
      return;
    }
    const plan = this.#plans[call.hook];
    const handler = this.#handlers[call.hook]?.[point];
    if (plan === undefined || handler === undefined) {
      this.#replies.write(call, GO_ON, 0, 0, false, NO_EDITS, "");
      return;
    }
    const frame = new Frame(
      call,
      plan,
      call.context === 0 ? undefined : this.#contexts[call.context],
      this.#contextual,
    );
    let result: unknown;
    try {
      // A context of its own: what a hook enters is seen by all that it awaits, and by no other request.
      result = new AsyncResource("TitanHook", RESOURCE).runInAsyncScope(handler, plan.input, new Context(frame));
    } catch (error) {
      this.#fail(frame, error);
      return;
    }
    if (result === undefined || result instanceof Answer) {
      this.#settle(frame, result);
      return;
    }
    // What waits outlives the batch.
    call.keep();
    this.#wait(frame, result);
  }

  async #wait(frame: Frame, promised: unknown): Promise<void> {
    try {
      const result = await promised;
      const web = typeof globalThis.Response === "function" && result instanceof globalThis.Response;
      this.#settle(frame, web ? await fromWeb(result) : result);
    } catch (error) {
      this.#fail(frame, error);
    }
    this.#flushSoon();
  }

  /** Hands asynchronous replies over together: those of promises that settle in the same turn. */
  #flushSoon(): void {
    if (this.#flushing || this.#exchanging) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      if (this.#replies.length > 0) this.#exchange();
    });
  }

  #settle(frame: Frame, result: unknown): void {
    const { call } = frame;
    if (call.point === LOG) return;
    let answer: Answer | undefined;
    let edits = frame.edited;
    if (result !== undefined && result !== null) {
      try {
        answer = result as Answer;
        edits = answerEdits(answer, edits);
      } catch (error) {
        this.#fail(frame, error);
        return;
      }
    }
    const fresh = frame.state !== undefined && call.context === 0;
    const context = fresh ? this.#attach(frame.state as object) : call.context;
    if (answer === undefined) this.#replies.write(call, GO_ON, 0, context, fresh, edits, "");
    else this.#replies.write(call, ANSWER, answer.status, context, fresh, edits, answer.body);
  }

  #fail(frame: Frame, error: unknown): void {
    const { call, plan } = frame;
    const handler = ["onRequest", "onResponse", "onError", "onLog"][call.point] as string;
    if (error instanceof BodyError && call.point === 0) {
      const told = { error: error.status === 415 ? "unsupported_media_type" : "bad_request", message: error.message };
      const body = JSON.stringify({ ...told, request_id: requestId(frame) });
      this.#settle(frame, new Answer(error.status, body, { "content-type": "application/json" }));
      return;
    }
    this.#report(plan, handler, error, requestId(frame));
    if (call.point !== LOG) this.#replies.write(call, FAILED, 0, 0, false, NO_EDITS, "");
  }

  #report(plan: HookPlan, handler: string, error: unknown, id: string | undefined): void {
    const fields: Record<string, unknown> = { hook: plan.name, handler };
    if (id !== undefined) fields.request_id = id;
    fields.stack = error instanceof Error ? inspect(error, { depth: 3 }) : inspect(error);
    this.#log({ level: "error", message: `${handler} of the hook "${plan.name}" failed: ${messageOf(error)}`, fields });
  }

  #attach(state: object): number {
    const id = this.#free.pop() ?? this.#contexts.length;
    this.#contexts[id] = state;
    return id;
  }

  #release(id: number): void {
    if (this.#contexts[id] === undefined) return;
    this.#contexts[id] = undefined;
    this.#free.push(id);
  }

  #logger(of: Frame | HookPlan): HookLogger {
    const frame = of instanceof Frame ? of : undefined;
    const name = frame ? frame.plan.name : (of as HookPlan).name;
    const at =
      (level: HookLogLine["level"]) =>
      (message: string, fields: object = {}) => {
        const known: Record<string, unknown> = { hook: name };
        if (frame) known.request_id = requestId(frame);
        this.#log({ level, message: String(message), fields: { ...known, ...fields } });
      };
    return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
  }

  #log(line: HookLogLine): void {
    try {
      this.#write(line);
    } catch {
      // A log that fails must not fail a request.
    }
  }
}

function requestId(frame: Frame): string {
  return frame.call.latin1(frame.plan.layout.get("request_id") ?? 0) ?? "";
}

/** The answer's headers as edits of the answer; throws where the answer is none. */
function answerEdits(answer: Answer, edits: readonly Edit[]): Edit[] {
  if (!(answer instanceof Answer))
    throw new TypeError(
      `a hook returns nothing or an answer (ctx.respond, ctx.json, ctx.redirect, or a Response), not ${inspect(answer, { depth: 0 })}`,
    );
  if (!Number.isInteger(answer.status) || answer.status < 200 || answer.status > 599)
    throw new RangeError(`${answer.status} is not a status that a hook can answer with (200 to 599)`);
  if (typeof answer.body !== "string" && !(answer.body instanceof Uint8Array))
    throw new TypeError("the body of an answer is a string or a Uint8Array");
  // Edits of the request have no meaning any more.
  const kept = edits.filter(([kind]) => kind >= EDIT.responseSet && kind <= EDIT.responseRemove);
  for (const [name, values] of Object.entries(answer.headers)) {
    const lower = fieldName(name);
    const list = typeof values === "string" ? [values] : values;
    list.forEach((value, index) => {
      kept.push([index === 0 ? EDIT.responseSet : EDIT.responseAdd, lower, fieldValue(lower, value)]);
    });
  }
  return kept;
}

/** A `Response` of the Fetch standard as an answer. */
async function fromWeb(response: globalThis.Response): Promise<Answer> {
  const headers: Record<string, string | string[]> = {};
  for (const [name, value] of response.headers)
    if (name !== "content-length" && name !== "set-cookie") headers[name] = value;
  const cookies = response.headers.getSetCookie();
  if (cookies.length > 0) headers["set-cookie"] = cookies;
  return new Answer(response.status, new Uint8Array(await response.arrayBuffer()), headers);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : inspect(error, { depth: 1 });
}
