/**
 * The only importer of the native addon. It loads it on first use, says what to do when it does not load, and turns outcomes, which
 * cross as values, into coded errors.
 */
import type * as addon from "#native";
import type { Outcome } from "#native";
import { ERRORS, type ErrorCode, messageOf, TitanError } from "./errors.ts";
import { version } from "./version.ts";

export type { NativeGateway, NativeIssue, Outcome } from "#native";

/** What the addon exports. */
export type Native = typeof addon;

let loading: Promise<Native> | undefined;

/** The addon. Later calls give the same one. */
export function loadNative(): Promise<Native> {
  loading ??= load();
  return loading;
}

async function load(): Promise<Native> {
  // The generated loader knows the override by another name.
  const path = process.env.TITAN_NATIVE_PATH;
  if (path) process.env.NAPI_RS_NATIVE_LIBRARY_PATH = path;
  let native: Native;
  try {
    native = await import("#native");
  } catch (cause) {
    const platform = `${process.platform}-${process.arch}`;
    throw new TitanError("TITAN_NATIVE_MISSING", `The native addon for ${platform} did not load: ${reasonOf(cause)}`, {
      cause,
    });
  }
  const found = native.version();
  if (found !== version) {
    throw new TitanError("TITAN_NATIVE_VERSION", `The native addon is version ${found}, the JavaScript is ${version}.`);
  }
  return native;
}

/** The loader lists one failure a candidate, the last cause first in a chain; only those of files that exist say anything. */
function reasonOf(error: unknown): string {
  const reasons: string[] = [];
  for (let next: unknown = error; next instanceof Error && reasons.length < 20; next = next.cause) {
    reasons.push(next.message.split("\n", 1)[0] ?? "");
  }
  const telling = reasons.find((reason) => !/^(Cannot find (module|native binding)|Cannot find package)/.test(reason));
  return telling ?? reasons[0] ?? messageOf(error);
}

/** A failed outcome as the error to throw; `undefined` for success. A refused configuration is left to the caller, who knows its file. */
export function failureOf(outcome: Outcome): TitanError | undefined {
  if (outcome.code === undefined || outcome.code === null) return undefined;
  const code: ErrorCode = outcome.code in ERRORS ? (outcome.code as ErrorCode) : "TITAN_START";
  return new TitanError(code, outcome.message ?? ERRORS[code].when);
}
