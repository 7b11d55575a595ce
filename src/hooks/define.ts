/** What a configuration defines hooks with. Part of the small module that `titan.config.ts` imports: nothing heavy here. */
import type { InputOf } from "../config/kit/index.ts";
import type { route as routeSchema } from "../config/schema/route.ts";
import type { TypedRoute } from "../config/shape.ts";
import {
  type BodyMode,
  type ErrorContext,
  FACTORY,
  HOOK,
  type Hook,
  type HookFactory,
  type HookInput,
  type HookResult,
  type LogContext,
  type OptionsSchema,
  type RequestContext,
  type ResponseContext,
} from "./types.ts";

/** Not a plain object, so that nothing that walks a configuration takes it apart. */
class DefinedHook implements Hook {
  readonly [HOOK] = true as const;
}

/**
 * A hook, for `hooks` of the configuration (and then by its name in `middleware`).
 *
 * @example
 * ```ts
 * const tenant = defineHook({
 *   reads: { claims: ["tenant"] },
 *   onRequest(ctx) {
 *     const tenant = ctx.claim("tenant");
 *     if (tenant === undefined) return ctx.json({ error: "no tenant" }, 403);
 *     ctx.request.headers.set("x-tenant", tenant);
 *   },
 * });
 * ```
 */
export function defineHook<
  P extends string = string,
  const M extends BodyMode | undefined = undefined,
  const R extends BodyMode | undefined = undefined,
  S extends object = Record<string, unknown>,
>(hook: HookInput<P, M, R, S>): Hook {
  return Object.assign(new DefinedHook(), hook);
}

/**
 * A hook with options, checked by a schema where a configuration uses it: `{ type: "name", config: { … } }`. What an npm package with a hook
 * for users of JSON or YAML exports as its default.
 */
export function defineHookFactory<O = unknown>(create: (options: O) => Hook): HookFactory<O>;
export function defineHookFactory<O, I>(
  create: (options: O) => Hook,
  options: OptionsSchema<O, I> | undefined,
): HookFactory<O, I>;
export function defineHookFactory<O>(create: (options: O) => Hook, options?: OptionsSchema<O, O>): HookFactory<O> {
  return { [FACTORY]: true, create, options };
}

/** Functions of a route with the types of its path. */
export interface RouteHandlers<P extends string, U extends string = string> {
  /** See {@link HookInput.onRequest}. */
  onRequest?: RouteHandler<RequestContext<P, undefined, Record<string, unknown>, U>, HookResult> | undefined;
  /** See {@link HookInput.onResponse}. */
  onResponse?: RouteHandler<ResponseContext<P>, HookResult> | undefined;
  /** See {@link HookInput.onError}. */
  onError?: RouteHandler<ErrorContext<P>, HookResult> | undefined;
  /** See {@link HookInput.onLog}. */
  onLog?: RouteHandler<LogContext<P>, void> | undefined;
}

type RouteHandler<C, R> = (ctx: C) => R | Promise<R>;

/**
 * A route whose functions know its path: `ctx.params.id` exists under `/users/:id`, and a misspelt one does not compile.
 *
 * @example
 * ```ts
 * defineRoute({
 *   path: "/users/:id",
 *   upstream: "api",
 *   onRequest(ctx) {
 *     ctx.request.headers.set("x-user", ctx.params.id);
 *   },
 * });
 * ```
 */
export function defineRoute<const P extends string>(route: TypedRoute<P>): DefinedRoute {
  return route as unknown as DefinedRoute;
}

type RouteInput = InputOf<typeof routeSchema>;

/** What {@link defineRoute} gives. Its names fit every configuration: were its type a parameter, the path's would be lost. */
export type DefinedRoute = Omit<RouteInput, "upstream" | "upstreams" | "middleware" | keyof RouteHandlers<string>> & {
  upstream?: never;
  upstreams?: never;
  middleware?: never;
};

/** Whether a value was made by {@link defineHook}. */
export function isHook(value: unknown): value is Hook & HookInput {
  return typeof value === "object" && value !== null && (value as { [HOOK]?: unknown })[HOOK] === true;
}

/** Whether a value was made by {@link defineHookFactory}. */
export function isHookFactory(value: unknown): value is HookFactory {
  return typeof value === "object" && value !== null && (value as { [FACTORY]?: unknown })[FACTORY] === true;
}
