/** `defineConfig` and `defineHook` for `titan.config.ts`. */
import type { ConfigInput } from "./schema/root.ts";
import type { ConfigEnvironment } from "./source.ts";

export { defineHook, defineHookFactory, defineRoute } from "../hooks/define.ts";

/** A configuration, or a function that makes one. */
export type ConfigExport =
  | ConfigInput
  | Promise<ConfigInput>
  | ((environment: ConfigEnvironment) => ConfigInput | Promise<ConfigInput>);

/**
 * Names that the configuration itself defines, checked where routes use them. Only where all are literals of this very object:
 * with `extends`, or a list made elsewhere, any name may be right.
 */
type CheckNames<T> = T extends { extends: unknown }
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
 * Gives a configuration its types: completion, and a route that names an upstream that does not exist does not compile.
 *
 * @example
 * ```ts
 * import { defineConfig } from "@titan-gateway/titan";
 *
 * export default defineConfig({
 *   upstreams: [{ name: "api", backends: [{ host: "127.0.0.1", port: 3000 }] }],
 *   routes: [{ path: "/*", upstream: "api" }],
 * });
 * ```
 */
export function defineConfig<const T extends ConfigInput>(config: T & CheckNames<T>): T;
/** The same for a function of `{mode, env}`, also asynchronous. */
export function defineConfig<T extends (environment: ConfigEnvironment) => ConfigInput | Promise<ConfigInput>>(
  config: T,
): T;
export function defineConfig(config: unknown): unknown {
  return config;
}
