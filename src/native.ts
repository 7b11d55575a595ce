/**
 * The only importer of the native addon. It loads it on first use, says what to do when it does not load, and turns outcomes, which
 * cross as values, into coded errors.
 */
import { resolve } from "node:path";
import type * as addon from "#native";
import type { Outcome } from "#native";
import { ERRORS, type ErrorCode, TitanError } from "./errors.ts";
import { explainFailure, thisMachine } from "./native-failure.ts";
import { version } from "./version.ts";

export type { NativeGateway, NativeIssue, NativeRehearsal, Outcome } from "#native";

/** What the addon exports. */
export type Native = typeof addon;

let loading: Promise<Native> | undefined;

/** The addon. Later calls give the same one. */
export function loadNative(): Promise<Native> {
  loading ??= load();
  return loading;
}

async function load(): Promise<Native> {
  // The generated loader knows the override by another name, and reads a relative path from its own folder.
  const override = process.env.TITAN_NATIVE_PATH;
  const path = override ? resolve(override) : undefined;
  if (path !== undefined) process.env.NAPI_RS_NATIVE_LIBRARY_PATH = path;
  let native: Native;
  try {
    native = await import("#native");
  } catch (cause) {
    throw new TitanError("TITAN_NATIVE_MISSING", explainFailure(cause, thisMachine(), path), { cause });
  }
  const found = native.version();
  if (found !== version) {
    throw new TitanError("TITAN_NATIVE_VERSION", `The native addon is version ${found}, the JavaScript is ${version}.`);
  }
  return native;
}

/** A failed outcome as the error to throw; `undefined` for success. A refused configuration is left to the caller, who knows its file. */
export function failureOf(outcome: Outcome): TitanError | undefined {
  if (outcome.code === undefined || outcome.code === null) return undefined;
  const code: ErrorCode = outcome.code in ERRORS ? (outcome.code as ErrorCode) : "TITAN_START";
  return new TitanError(code, outcome.message ?? ERRORS[code].when);
}
