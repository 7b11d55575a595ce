/** `defineConfig` and `defineHook` for `titan.config.ts`. */
import type { DefinedRoute } from "../hooks/define.ts";
import type { AnyHook } from "../hooks/types.ts";
import type { ConfigInput } from "./schema/root.ts";
import type { ConfigShape, LooseRoutes, RoutesOf } from "./shape.ts";
import type { ConfigEnvironment } from "./source.ts";

export { defineHook, defineHookFactory, defineRoute } from "../hooks/define.ts";

/** A configuration, or a function that makes one. */
export type ConfigExport =
  | ConfigInput
  | Promise<ConfigInput>
  | ((environment: ConfigEnvironment) => ConfigInput | Promise<ConfigInput>);

/** What {@link defineConfig} gives for an object: a configuration, with the server's settings `S` as they were written. */
export interface DefinedConfig<S = ConfigInput["server"]>
  extends Omit<ConfigInput, "server" | "upstreams" | "routes" | "middleware"> {
  /** The server's settings. */
  server: S;
  /** The configuration's upstreams. */
  upstreams?: Extract<ConfigInput["upstreams"], readonly unknown[]> | undefined;
  /** The configuration's routes; their names have been checked. */
  routes?: readonly DefinedRoute[] | undefined;
  /** The configuration's global middleware; their types have been checked. */
  middleware?: readonly never[] | undefined;
  /** Keys that begin with `x-` are yours. */
  [key: `x-${string}`]: unknown;
}

/** Stands for "no function was given". */
interface NoFunction {
  readonly function: never;
}

/**
 * Gives a configuration its types. A key that does not exist does not compile, nor does a route that names an upstream or a middleware that
 * the configuration does not have, each at its place; options of the configuration's own hooks have the types that these declare; and a
 * route's own functions know the parameters of its path (`ctx.params`) and the upstreams (`ctx.forward`). With `extends` or `variants`, which
 * may bring names that are not in sight, any name may be right.
 *
 * Also takes a function of `{ mode, env }`, which may be asynchronous. TypeScript infers no path for a function within another one: let it
 * return `defineConfig({ … })`, and everything above holds there.
 *
 * @example
 * ```ts
 * import { defineConfig } from "@titan-gateway/titan";
 *
 * export default defineConfig({
 *   upstreams: [{ name: "api", backends: [{ host: "127.0.0.1", port: 3000 }] }],
 *   routes: [
 *     { path: "/users/:id", upstream: "api", onRequest: (ctx) => ctx.rewrite({ path: `/people/${ctx.params.id}` }) },
 *     { path: "/*", upstream: "api" },
 *   ],
 * });
 * ```
 *
 * @example
 * ```ts
 * export default defineConfig(async ({ mode }) =>
 *   defineConfig({
 *     server: { port: mode === "development" ? 3000 : 8080 },
 *     upstreams: [{ name: "api", backends: await backends() }],
 *     routes: [{ path: "/users/:id", upstream: "api", onRequest: (ctx) => ctx.rewrite({ path: `/people/${ctx.params.id}` }) }],
 *   }),
 * );
 * ```
 */
export function defineConfig<
  const P extends readonly string[],
  const U extends string,
  const K extends Readonly<Record<string, AnyHook>> = Readonly<Record<never, never>>,
  const N extends string = never,
  const G extends string = never,
  const X = never,
  const S = undefined,
  R = NoFunction,
>(
  config:
    | ConfigShape<RoutesOf<P, U, K, N, G, X>, U, K, N, G, X, S>
    | (((
        environment: ConfigEnvironment,
      ) => Awaitable<ConfigShape<LooseRoutes<U, K, N, G, X>, U, K, N, G, X, unknown>>) &
        InferResult<R>),
): [R] extends [NoFunction] ? DefinedConfig<S> : (environment: ConfigEnvironment) => R;
export function defineConfig(config: unknown): unknown {
  return config;
}

type Awaitable<T> = T | Promise<T>;
type InferResult<R> = [R] extends [never] ? (environment: ConfigEnvironment) => R : unknown;
