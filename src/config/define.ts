/** `defineConfig` and `defineHook` for `titan.config.ts`. */
import type { RouteHandlers } from "../hooks/define.ts";
import type { InputOf } from "./kit/index.ts";
import type { ConfigInput } from "./schema/root.ts";
import type { route as routeSchema } from "./schema/route.ts";
import type { ConfigEnvironment } from "./source.ts";

export { defineHook, defineHookFactory, defineRoute } from "../hooks/define.ts";

/** A configuration, or a function that makes one. */
export type ConfigExport =
  | ConfigInput
  | Promise<ConfigInput>
  | ((environment: ConfigEnvironment) => ConfigInput | Promise<ConfigInput>);

/** A configuration but for its routes, and a route but for its functions: these get their types from the route's own path. */
type WithoutRoutes = Omit<ConfigInput, "routes">;
type WithoutHandlers = Omit<InputOf<typeof routeSchema>, "path" | keyof RouteHandlers<string>>;

/** Routes by their paths. A mapped tuple, so that each route's path is inferred by itself and reaches its functions. */
type RoutesOf<P extends readonly string[]> = {
  [K in keyof P]: { path: P[K] } & RouteHandlers<P[K]> & WithoutHandlers;
};

/** The routes again, as every configuration has them. Named, because it would be long written out. */
export interface DefinedRoutes {
  /** The configuration's routes. */
  routes?: ConfigInput["routes"];
}

/**
 * Upstreams that the configuration itself defines, checked where routes use them. Only where all are literals of this very object:
 * with `extends` or `variants`, or a list made elsewhere, any name may be right.
 */
type CheckNames<T> = T extends { extends: unknown } | { variants: unknown }
  ? unknown
  : T extends { upstreams: readonly { name: infer U extends string }[]; routes: readonly unknown[] }
    ? string extends U
      ? unknown
      : {
          routes: readonly {
            upstream?: U | undefined;
            upstreams?: readonly { upstream: U; weight?: number | undefined }[] | undefined;
            [key: string]: unknown;
          }[];
        }
    : unknown;

/**
 * Gives a configuration its types: completion; a route that names an upstream that does not exist does not compile; and `ctx.params` of a
 * route's own functions has the parameters of its path.
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
 */
export function defineConfig<const T extends WithoutRoutes, const P extends readonly string[] = readonly string[]>(
  config: T & CheckNames<T> & { routes?: RoutesOf<P> },
): T & DefinedRoutes;
/** The same for a function of `{mode, env}`, also asynchronous. */
export function defineConfig<T extends (environment: ConfigEnvironment) => ConfigInput | Promise<ConfigInput>>(
  config: T,
): T;
export function defineConfig(config: unknown): unknown {
  return config;
}
