/** Hooks: functions, so only configurations that are programs can define them. */
import { isHook, isHookFactory } from "../../hooks/define.ts";
import type {
  AnyHook,
  ErrorContext,
  HookResult,
  LogContext,
  RequestContext,
  ResponseContext,
} from "../../hooks/types.ts";
import { integer, map, raw } from "../kit/index.ts";
import { name } from "./formats.ts";

/** Hooks by name. */
export const hooks = map(
  raw<AnyHook>(
    "a hook, made with defineHook in titan.config.ts",
    (value) => isHook(value) || isHookFactory(value),
    // JSON has no functions: an editor says so where one is tried.
    { not: {} },
  ),
  { max: 100, key: name() },
);

export const hookWorkers = integer({ min: 0, max: 32 });

type Awaitable<T> = T | Promise<T>;

const handler = <C, R>() =>
  raw<(ctx: C) => R>("a function (in titan.config.ts)", (value) => typeof value === "function", { not: {} }).optional();

/** Functions of a route: a hook in place. */
export const routeHandlers = {
  onRequest: handler<RequestContext, Awaitable<HookResult>>().doc(
    "Called after authorisation, before the upstream; may answer. A hook in place; `ctx.params` knows the route's path.",
  ),
  onResponse: handler<ResponseContext, Awaitable<HookResult>>().doc(
    "Called with the answer's head; may answer in its place.",
  ),
  onError: handler<ErrorContext, Awaitable<HookResult>>().doc(
    "Called when Titan is about to answer with an error of its own; may answer in its place.",
  ),
  onLog: handler<LogContext, Awaitable<void>>().doc("Called when the last byte has gone."),
};
