/** From a value to a resolved configuration and its native form, with every problem at its place. */
import { readFileSync } from "node:fs";
import { isAbsolute, resolve as resolvePath } from "node:path";
import type { HookInput } from "../hooks/types.ts";
import { type Extended, findInLayers } from "./extend.ts";
import { formatPath, type Issue, inFileOrder, type Path, parsePath } from "./issue.ts";
import { Context, type Finding } from "./kit/index.ts";
import { lower } from "./lower/index.ts";
import { applyOverrides } from "./overrides.ts";
import type { ProgramCode } from "./program/program.ts";
import { type Config, root } from "./schema/root.ts";
import type { LoadResult, NativeConfig } from "./types.ts";
import { isMet } from "./variants.ts";

/** Where a value came from. */
export interface Origin {
  extended: Extended;
  file?: string;
  /** Folder that relative paths start from. */
  base: string;
  env: Readonly<Record<string, string | undefined>>;
  strict: boolean;
  /** Hooks made from options, by the names that stand for them in `middleware`. */
  hooks: ReadonlyMap<string, HookInput>;
  /** Where items of lists stand → where they were written. */
  moved: ReadonlyMap<string, Path>;
}

/** Codes whose place is a key, not its value. */
const KEY_CODES = new Set(["unknown_key", "misplaced_key", "said_twice", "duplicate_name"]);

/** Validates and lowers. `before` holds what reading has already found, `code` what became of modules. */
export function resolve(origin: Origin, before: readonly Issue[], code: ProgramCode = new Map()): LoadResult {
  const { extended, base } = origin;
  const secrets: string[] = [];
  const cx = new Context({
    strict: origin.strict,
    readSecret: (name) => {
      const path = isAbsolute(name) ? name : resolvePath(base, name);
      secrets.push(path);
      return readFileSync(path);
    },
  });
  for (const [now, written] of origin.moved) cx.moved.set(now, written);
  const { value, origins } = applyOverrides(extended.value, origin.env);
  const config = root.parse(value, cx);
  const place = (finding: Finding & { path: Path }): Issue => {
    const written = asWritten(finding.path, cx.moved);
    const issue: Issue = {
      severity: finding.severity ?? "error",
      code: finding.code,
      message: finding.message,
      path: formatPath(written),
    };
    if (finding.suggestion !== undefined) issue.suggestion = finding.suggestion;
    const variable = origins.get(finding.path.slice(0, 2).join("."));
    if (variable !== undefined) {
      issue.message = `${finding.message} (from the environment variable ${variable})`;
      return issue;
    }
    const found = findInLayers(extended.layers, written, KEY_CODES.has(finding.code));
    if (found) Object.assign(issue, found);
    return issue;
  };
  // What an unset variable left empty has been said already.
  const unset = before.filter((issue) => issue.code === "unset_variable").map((issue) => issue.path);
  const issues = [
    ...before,
    ...cx.findings.map(place).filter((issue) => !unset.some((path) => path.startsWith(issue.path))),
  ];
  const files = [...new Set([...extended.layers.flatMap((layer) => layer.source.files), ...secrets])];
  const read = origin.file === undefined ? { files, issues } : { file: origin.file, files, issues };
  if (config === undefined) return { ok: false, ...read };
  joinLogLevel(config, issues, place);
  // Cross-checks speak of values; where some are missing they would repeat what validation has said in other words.
  const broken = issues.some((issue) => issue.severity === "error");
  if (broken) {
    const known = issues.filter((issue) => issue.severity === "error").map((issue) => issue.path);
    for (const late of lower(config, base, origin.hooks, true).findings.map(place)) {
      if (
        late.severity === "error" &&
        !known.some(
          (path) => late.path === path || (late.path.startsWith(path) && /[.[]/.test(late.path[path.length] ?? "")),
        )
      )
        issues.push(late);
    }
    return { ok: false, ...read, issues: inFileOrder(issues) };
  }
  const lowered = lower(config, base, origin.hooks);
  issues.push(...lowered.findings.map(place));
  for (const requirement of extended.requirements) {
    if (!isMet(requirement, config))
      issues.push(place({ code: "required", message: requirement.message, path: parsePath(requirement.path) }));
  }
  if (issues.some((issue) => issue.severity === "error")) return { ok: false, ...read, issues: inFileOrder(issues) };
  return {
    ok: true,
    ...read,
    issues: inFileOrder(issues),
    config,
    native: lowered.native as NativeConfig,
    hooks: lowered.hooks,
    code,
    locate: (found) =>
      distinct(
        found.map((issue) =>
          place({ code: "refused", message: issue.message, path: existing(lowered.origin(issue.path), config) }),
        ),
      ),
  };
}

/** `server.log_level` and `logging.level` are one setting under two names. */
function joinLogLevel(config: Config, issues: Issue[], place: (finding: Finding & { path: Path }) => Issue): void {
  const { server, logging } = config;
  if (server.log_level !== undefined && server.log_level !== logging.level) {
    if (logging.level !== "info")
      issues.push(
        place({
          code: "contradiction",
          message: `says ${server.log_level}, "logging.level" says ${logging.level}; keep one of them`,
          path: ["server", "log_level"],
        }),
      );
    logging.level = server.log_level;
  }
  server.log_level = logging.level;
}

/** The longest beginning of `path` that was there under another name, put back to that name. */
function asWritten(path: Path, moved: ReadonlyMap<string, Path>): Path {
  if (moved.size === 0) return path;
  for (let length = path.length; length > 0; length--) {
    const written = moved.get(formatPath(path.slice(0, length)));
    if (written) return [...written, ...path.slice(length)];
  }
  return path;
}

/** The part of `path` that the configuration has: the data plane's names differ from the file's further down. */
function existing(path: Path, config: Config): Path {
  let value: unknown = config;
  for (const [i, part] of path.entries()) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, part)) return path.slice(0, i);
    value = (value as Record<string | number, unknown>)[part];
  }
  return path;
}

/** A middleware that several routes use in different ways is several policies, and its mistakes are found in each. */
function distinct(issues: readonly Issue[]): Issue[] {
  const known = new Set<string>();
  const isNew = (key: string) => !known.has(key) && known.add(key);
  return issues.filter((issue) => isNew(`${issue.path}\n${issue.message}`));
}
