/** What loading a configuration takes and gives. */
import type { HookPlan } from "../hooks/plan.ts";
import type { Issue } from "./issue.ts";
import type { ProgramCode } from "./program/program.ts";
import type { Config } from "./schema/root.ts";

/** How a configuration is read. */
export interface LoadOptions {
  /** Environment for `${NAME}` and the `TITAN_*` overrides. Default: `process.env`. */
  env?: Readonly<Record<string, string | undefined>>;
  /** Handed to a function configuration; default `TITAN_ENV`, else `production`. */
  mode?: string;
  /** Unknown keys are errors everywhere, not only where a typo would fail open. */
  strict?: boolean;
  /** Where the default search begins and relative paths of a program's configuration are resolved. Default: `process.cwd()`. */
  cwd?: string;
  /** Address of the embedded echo backend, for the embedded default configuration (no file found). */
  echo?: { host: string; port: number };
}

/** A problem as the data plane reports it: the path is in the native configuration. */
export interface NativeIssue {
  path: string;
  message: string;
}

/** What reading a configuration gave: everything needed to start, or every reason why not. */
export type LoadResult = Loaded | Refused;

interface Read {
  /** The file read; absent for the embedded default and for a program's configuration. */
  file?: string;
  /** Every file the result depends on (configuration, imported modules, secrets): what `--watch` watches. */
  files: string[];
  /** Warnings, and errors where refused; in the order of the file. */
  issues: Issue[];
}

/** A configuration without errors. */
export interface Loaded extends Read {
  /** It can be served. */
  ok: true;
  /** Resolved, in the guide's form: defaults filled in, aliases renamed, variables replaced. */
  config: Config;
  /** For the data plane: plain JSON of `titan_core::config::raw::Config`. */
  native: NativeConfig;
  /** Hooks by their numbers in `native`. Their policies have no `channels` yet. */
  hooks: readonly HookPlan[];
  /**
   * The configuration's modules as they were transformed, for the threads that run its hooks.
   *
   * @internal
   */
  code: ProgramCode;
  /** Puts the data plane's own findings at their place in the file. */
  locate(issues: readonly NativeIssue[]): Issue[];
}

/** A configuration with at least one error. */
export interface Refused extends Read {
  /** It can't be served; `issues` says why. */
  ok: false;
}

/** Plain JSON, shape of `titan_core::config::raw::Config`. */
export type NativeConfig = { [key: string]: unknown };
