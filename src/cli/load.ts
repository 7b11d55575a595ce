/** A configuration for commands that start nothing. */
import { findConfigFile, type Issue, inFileOrder, type Loaded, type LoadResult, loadConfig } from "../config/index.ts";
import { refusal } from "../gateway/gateway.ts";
import { failureOf, loadNative } from "../native.ts";

interface Options {
  strict?: boolean;
  /** Also looks names of backends up, and at certificates' dates: warnings. */
  thorough?: boolean;
}

/** Validates a file the whole way: its text, then certificates and patterns in the data plane. Problems are values here. */
export async function inspect(file: string | undefined, options: Options): Promise<LoadResult> {
  // The demo's backend is not started for a look at its configuration.
  const echo = { host: "127.0.0.1", port: 9 };
  const result = await loadConfig(file ?? findConfigFile(), { echo, ...(options.strict && { strict: true }) });
  if (!result.ok) return result;
  const native = await loadNative();
  const outcome = await native.checkConfig(JSON.stringify(result.native), options.thorough ?? false);
  const failure = failureOf(outcome);
  if (!failure) {
    const warnings = result
      .locate(outcome.issues)
      .map((issue): Issue => ({ ...issue, severity: "warning", code: "doubtful" }));
    return { ...result, issues: inFileOrder([...result.issues, ...warnings]) };
  }
  if (failure.code !== "TITAN_CONFIG_INVALID") throw failure;
  const issues = inFileOrder([...result.issues, ...result.locate(outcome.issues)]);
  return { ok: false, ...(result.file !== undefined && { file: result.file }), files: result.files, issues };
}

/** The same; a refused configuration is thrown. */
export async function load(file: string | undefined, options: Options = {}): Promise<Loaded> {
  const result = await inspect(file, options);
  if (!result.ok) throw refusal(result);
  return result;
}
