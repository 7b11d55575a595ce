/** Entry points: a file, the default search, a program's object. */
import { existsSync } from "node:fs";
import { dirname, resolve as resolvePath } from "node:path";
import { embeddedConfig } from "./embedded.ts";
import { extend, findInLayers } from "./extend.ts";
import { hookUses } from "./hook-uses.ts";
import type { Issue } from "./issue.ts";
import type { ProgramCode } from "./program/program.ts";
import { resolve } from "./resolve.ts";
import { type ConfigEnvironment, readSource, type Source } from "./source.ts";
import type { LoadOptions, LoadResult } from "./types.ts";

/** Names looked for in the working folder, in this order. */
export const CONFIG_NAMES = [
  "titan.config.ts",
  "titan.config.mts",
  "titan.config.js",
  "titan.config.mjs",
  "titan.config.json",
  "titan.config.yaml",
  "titan.config.yml",
  "titan.json",
  "titan.jsonc",
  "titan.yaml",
  "titan.yml",
] as const;

/** Where a service keeps its configuration. */
export const SYSTEM_CONFIG = "/etc/titan/config.json";

/** The first of {@link CONFIG_NAMES} in `cwd`, else {@link SYSTEM_CONFIG}, that exists. */
export function findConfigFile(cwd: string = process.cwd()): string | undefined {
  for (const name of CONFIG_NAMES) {
    const file = resolvePath(cwd, name);
    if (existsSync(file)) return file;
  }
  return existsSync(SYSTEM_CONFIG) ? SYSTEM_CONFIG : undefined;
}

/**
 * Reads, validates and lowers `file`; without one, the default search path, else the embedded default.
 * Never throws for a bad configuration: the result says everything that is wrong with it.
 */
export function loadConfig(file: string | undefined, options: LoadOptions = {}): Promise<LoadResult> {
  return loadWith(file, options, new Map());
}

/** {@link loadConfig} with what another thread has made of the same configuration's modules; what is missing is added. */
export async function loadWith(file: string | undefined, options: LoadOptions, code: ProgramCode): Promise<LoadResult> {
  const cwd = options.cwd ?? process.cwd();
  const found = file === undefined ? findConfigFile(cwd) : resolvePath(cwd, file);
  if (found === undefined) return resolveConfig(embeddedConfig(options.echo), options);
  const environment = environmentOf(options);
  const read = await readSource(found, environment, code);
  if (Array.isArray(read)) return { ok: false, file: found, files: [found], issues: read };
  return finish(read, found, dirname(found), environment, options, code);
}

/** The same for a configuration that a program made (`createGateway(config)`, `titan serve --upstream`). */
export async function resolveConfig(input: unknown, options: LoadOptions = {}): Promise<LoadResult> {
  const base = options.cwd ?? process.cwd();
  const environment = environmentOf(options);
  // A name for `extends` to start from; issues of a program's object have no file.
  const source: Source = {
    file: resolvePath(base, "titan.config"),
    value: input,
    variables: true,
    files: [],
    find: () => undefined,
  };
  const result = await finish(source, undefined, base, environment, options);
  for (const issue of result.issues) if (issue.file === source.file) delete issue.file;
  if (!result.ok) return result;
  const { locate } = result;
  return {
    ...result,
    locate: (issues) =>
      locate(issues).map(({ file, ...issue }) =>
        file === undefined || file === source.file ? issue : { ...issue, file },
      ),
  };
}

async function finish(
  source: Source,
  file: string | undefined,
  base: string,
  environment: ConfigEnvironment,
  options: LoadOptions,
  code: ProgramCode = new Map(),
): Promise<LoadResult> {
  const issues: Issue[] = [];
  const extended = await extend(source, environment, issues, code);
  if (extended === undefined)
    return { ok: false, ...(file === undefined ? {} : { file }), files: source.files, issues };
  const uses = await hookUses(extended.value, base, issues, (path) => findInLayers(extended.layers, path, false));
  const origin = {
    extended: { ...extended, value: uses.value as Record<string, unknown> },
    hooks: uses.hooks,
    moved: uses.moved,
    base,
    env: environment.env,
    strict: options.strict ?? false,
    ...(file === undefined ? {} : { file }),
  };
  return resolve(origin, issues, code);
}

function environmentOf(options: LoadOptions): ConfigEnvironment {
  const env = options.env ?? process.env;
  return { env, mode: options.mode ?? (env.TITAN_ENV || "production") };
}
