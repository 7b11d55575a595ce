/**
 * The types behind `defineConfig`: a configuration whose parts know of each other.
 *
 * What a configuration declares (upstreams, hooks, named middleware) and the paths of its routes are inferred as type parameters; where
 * these are used they stand in `NoInfer`, so that a wrong name is an error at the place of its use and adds nothing to the list of right
 * ones. No parameter takes a whole object with settings: it would take misspelt keys for its own.
 */
import type { RouteHandlers } from "../hooks/define.ts";
import type { AnyHook, Hook, HookFactory } from "../hooks/types.ts";
import type { InputOf } from "./kit/index.ts";
import type { MIDDLEWARE, middleware as middlewareSchema, PackageMiddleware } from "./schema/middleware.ts";
import type { ConfigInput } from "./schema/root.ts";
import type { route as routeSchema } from "./schema/route.ts";

type RouteInput = InputOf<typeof routeSchema>;
type ItemOf<L> = L extends readonly (infer I)[] ? I : never;
type ValueOf<M> = M extends Readonly<Record<string, infer V>> ? V : never;

/** Settings of a route that name nothing and are no functions. */
export interface PlainRoute
  extends Omit<RouteInput, "path" | "upstream" | "upstreams" | "middleware" | keyof RouteHandlers<string>> {}
/** Settings of a configuration that neither declare nor use names. */
export interface PlainConfig
  extends Omit<
    ConfigInput,
    | "extends"
    | "variants"
    | "server"
    | "upstreams"
    | "routes"
    | "hooks"
    | "middleware"
    | "named_middleware"
    | "rate_limits"
    | "cors_configs"
    | "transform_configs"
    | "compression_configs"
  > {}

/** A middleware of a built-in type in place. */
export type BuiltInMiddleware = InputOf<typeof middlewareSchema>;
/** An upstream under a name. */
export interface NamedUpstream<U extends string> extends Omit<ItemOf<ConfigInput["upstreams"]>, "name"> {
  /** Name, for routes. */
  name: U;
}
/** One of several upstreams of a route. */
export interface NamedTarget<U extends string> extends Omit<ItemOf<RouteInput["upstreams"]>, "upstream"> {
  /** Name of an upstream. */
  upstream: U;
}

/** A hook of `hooks` in place, with the options that it takes. */
export type HookMiddleware<K> = {
  [N in keyof K & string]: { type: N } & (K[N] extends Hook
    ? { config?: Record<string, never> | undefined }
    : K[N] extends HookFactory<infer _, infer I>
      ? Record<never, never> extends I
        ? { config?: I | undefined }
        : { config: I }
      : { config?: unknown });
}[keyof K & string];

/** What a route may list as middleware: names `M`, the hooks `K` with options, built-in types and packages in place. */
export type MiddlewareUse<M extends string, K> = M | BuiltInMiddleware | HookMiddleware<K> | PackageMiddleware;

/**
 * A route: `P` its path, `U` the upstreams, `M` and `K` the middleware that there are, `F` the upstreams that its functions may choose.
 */
export interface TypedRoute<
  P extends string,
  U extends string = string,
  M extends string = string,
  K = Readonly<Record<string, AnyHook>>,
  F extends string = U,
> extends PlainRoute,
    RouteHandlers<P, F> {
  /** Pattern: literal segments, `:param` for one segment, a last `*` (or `*name`) for the rest. More specific ones win. */
  path: P;
  /** Name of the upstream to forward to. */
  upstream?: U | undefined;
  /** Several upstreams by weight (canary), instead of `upstream`. */
  upstreams?: readonly NamedTarget<U>[] | NamedTarget<U> | undefined;
  /** Names of middleware, or middleware in place. A type listed here replaces the global middleware of that type. */
  middleware?: readonly MiddlewareUse<M, K>[] | MiddlewareUse<M, K> | undefined;
}

/** Global middleware, which may have names. */
type GlobalMiddleware<G extends string, K> = (BuiltInMiddleware | HookMiddleware<K> | PackageMiddleware) & {
  name?: G | undefined;
};

/** Top-level blocks that a route may list by their type. */
export type MiddlewareBlock = Extract<keyof typeof MIDDLEWARE, keyof ConfigInput>;

/** `T`; and where a preset, another file or a variant (`X`) adds to the configuration, any other name too. */
type Known<T extends string, X> = [X] extends [never] ? T : T | (string & Record<never, never>);

/** Asks for `V`, and infers `T` from what is given: while `T` is inferred both branches are looked at, and afterwards it is never `never`. */
type Inferring<T, V> = [T] extends [never] ? T : V;

type Named<N extends string, S extends keyof ConfigInput> =
  | { readonly [Name in N]?: ValueOf<ConfigInput[S]> }
  | undefined;

/**
 * What {@link defineConfig} takes. `R` are the routes; the others are what the configuration declares: `U` upstreams, `K` hooks, `N` named
 * middleware, `G` named global middleware; `X` is what may add names that are not in sight, `S` the server's settings.
 */
export interface ConfigShape<R, U extends string, K extends object, N extends string, G extends string, X, S>
  extends PlainConfig {
  /** Presets or files this one builds on: `"titan:talos"`, `"./base.json"`. What stands here wins. */
  extends?: Inferring<X, ConfigInput["extends"]>;
  /** Parts that depend on the environment, and what must then be there; later ones win. */
  variants?: Inferring<X, ConfigInput["variants"]>;
  /** Ports, limits and time limits of the gateway itself. */
  server?: Inferring<S, ConfigInput["server"]>;
  /** Named sets of backends. */
  upstreams?: readonly NamedUpstream<U>[] | undefined;
  /** Hooks by name, for routes to list in `middleware`. */
  hooks?: (K & Readonly<Record<string, AnyHook>>) | undefined;
  /** Global middleware: runs on every route and on Titan's own answers. */
  middleware?: readonly GlobalMiddleware<G, NoInfer<K>>[] | undefined;
  /** Middleware by name, for routes to list. */
  named_middleware?: Named<N, "named_middleware">;
  /** Rate limits by name, for routes to list. */
  rate_limits?: Named<N, "rate_limits">;
  /** CORS settings by name, for routes to list. */
  cors_configs?: Named<N, "cors_configs">;
  /** Transforms by name, for routes to list. */
  transform_configs?: Named<N, "transform_configs">;
  /** Compression settings by name, for routes to list. */
  compression_configs?: Named<N, "compression_configs">;
  /** What is done with which requests. */
  routes?: R | undefined;
  /** Keys that begin with `x-` are yours. */
  [key: `x-${string}`]: unknown;
}

type UpstreamNames<U extends string, X> = NoInfer<Known<U, X>>;
type MiddlewareNames<K, N extends string, G extends string, X> = NoInfer<
  Known<N | G | (keyof K & string) | MiddlewareBlock, X>
>;

/** Routes by their paths. A mapped tuple, so that each route's path is inferred by itself and reaches its functions. */
export type RoutesOf<P extends readonly string[], U extends string, K, N extends string, G extends string, X> = {
  [I in keyof P]: TypedRoute<P[I], UpstreamNames<U, X>, MiddlewareNames<K, N, G, X>, NoInfer<K>>;
};

/** Routes of a configuration that a function makes. Their functions take no part in what is inferred: they would end it too early. */
export type LooseRoutes<U extends string, K, N extends string, G extends string, X> = readonly TypedRoute<
  string,
  UpstreamNames<U, X>,
  MiddlewareNames<K, N, G, X>,
  NoInfer<K>,
  string
>[];
