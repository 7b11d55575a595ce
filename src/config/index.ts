/**
 * Configuration: from a file in any accepted form to the plain JSON that the data plane compiles.
 *
 * ```text
 * file ─ read ─ interpolate ─ extend ─ override ─ validate (schema) ─ lower and cross-check ─▶ native JSON
 * ```
 *
 * One schema (`schema/`, described with `kit/`) is the source of the types, the validation, the defaults, the published JSON Schema and
 * the reference page.
 */
export { type ConfigExport, type DefinedConfig, defineConfig } from "./define.ts";
export { embeddedConfig } from "./embedded.ts";
export { PRESETS } from "./extend.ts";
export { formatPath, type Issue, inFileOrder, type Path, parsePath, type Severity } from "./issue.ts";
export { Secret } from "./kit/index.ts";
export { CONFIG_NAMES, findConfigFile, loadConfig, resolveConfig, SYSTEM_CONFIG } from "./load.ts";
export { OVERRIDES } from "./overrides.ts";
export { formatIssues, summarise } from "./report.ts";
export type { Config, ConfigInput } from "./schema/root.ts";
export type { ConfigEnvironment } from "./source.ts";
export type { Loaded, LoadOptions, LoadResult, NativeConfig, NativeIssue, Refused } from "./types.ts";
export { type UpstreamFlags, upstreamConfig } from "./upstream-flag.ts";
