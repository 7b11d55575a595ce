/**
 * Configuration: from a file in any accepted form to the plain JSON that the data plane compiles.
 *
 * ```text
 * file ─ read ─ interpolate ─ extend ─ validate (schema) ─ cross-check ─ lower ─▶ native JSON
 * ```
 */
import type { Issue } from "./issue.ts";

export { formatPath, type Issue, type Path, parsePath, type Severity } from "./issue.ts";

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
  /** Warnings, and errors where refused. */
  issues: Issue[];
}

/** A configuration without errors. */
export interface Loaded extends Read {
  ok: true;
  /** Resolved, in the guide's form: defaults filled in, aliases renamed, variables replaced. */
  config: Config;
  /** For the data plane: plain JSON of `titan_core::config::raw::Config`. */
  native: NativeConfig;
  /** Puts the data plane's own findings at their place in the file. */
  locate(issues: readonly NativeIssue[]): Issue[];
}

/** A configuration with at least one error. */
export interface Refused extends Read {
  ok: false;
}

/** Plain JSON, shape of `titan_core::config::raw::Config`. */
export type NativeConfig = { [key: string]: unknown };

/** TODO of the first minutes: replaced by the type that the schema gives. Field names are final. */
export interface Config {
  server: {
    host: string;
    port?: number;
    https_port?: number;
    workers: number;
    log_level: "trace" | "debug" | "info" | "warn" | "error";
    shutdown_timeout: number;
    shutdown_delay: number;
    [key: string]: unknown;
  };
  logging: {
    level?: string;
    format: "auto" | "json" | "text";
    output: string;
    log_requests: boolean;
    exclude_paths: string[];
    [key: string]: unknown;
  };
  metrics: {
    enabled: boolean;
    host: string;
    port: number;
    path: string;
    [key: string]: unknown;
  };
  admin: {
    token?: string;
    control_socket?: string;
    [key: string]: unknown;
  };
  upstreams: { name: string; [key: string]: unknown }[];
  routes: { name?: string; path: string; [key: string]: unknown }[];
  [key: string]: unknown;
}

/** Reads, validates and lowers `file`; without one, the default search path, else the embedded default. Never throws for a bad configuration. */
export async function loadConfig(_file: string | undefined, _options: LoadOptions = {}): Promise<LoadResult> {
  throw new Error("not landed yet");
}

/** The same for a configuration that a program made (`createGateway(config)`, `titan serve --upstream`). */
export async function resolveConfig(_input: unknown, _options: LoadOptions = {}): Promise<LoadResult> {
  throw new Error("not landed yet");
}

/** `./titan.config.{ts,mts,js,mjs}`, `./titan.{json,jsonc,yaml,yml}`, `/etc/titan/config.json`: the first that exists. */
export function findConfigFile(_cwd: string = process.cwd()): string | undefined {
  throw new Error("not landed yet");
}

/** Issues for people: `file:line:column  error  message (did you mean …)`, one block each. */
export function formatIssues(_issues: readonly Issue[], _options: { color?: boolean; cwd?: string } = {}): string {
  throw new Error("not landed yet");
}

/** Options of `titan serve --upstream URL`. */
export interface UpstreamFlags {
  /** `http://host[:port]` or `https://host[:port]`, optionally with a base path. */
  upstream: string;
  host?: string;
  port?: number;
  /** A development certificate made by the caller: HTTPS is served on `port` instead of HTTP. */
  tls?: { cert_path: string; key_path: string };
}

/** The configuration (for {@link resolveConfig}) behind `titan serve --upstream URL`. Throws `TypeError` with a sentence for a bad URL. */
export function upstreamConfig(_flags: UpstreamFlags): Record<string, unknown> {
  throw new Error("not landed yet");
}
