/** What every part of lowering shares: the resolved configuration, where files are, and a place for findings. */
import { resolve } from "node:path";
import type { Path, Severity } from "../issue.ts";
import type { Config } from "../schema/root.ts";
import { suggest } from "../suggest.ts";

/** A finding in the resolved configuration. */
export interface LoweringFinding {
  severity: Severity;
  code: string;
  path: Path;
  message: string;
  suggestion?: string | undefined;
  /** Speak of the key, not of its value. */
  key?: boolean;
}

/** Plain JSON object. */
export type Json = { [key: string]: unknown };

export class Lowering {
  readonly config: Config;
  /** Folder that relative paths start from. */
  readonly base: string;
  readonly findings: LoweringFinding[] = [];
  /** Worker threads after "0 = CPUs". */
  readonly workers: number;

  /** Validation has found errors: values may be missing, and only the findings count. */
  readonly broken: boolean;

  constructor(config: Config, base: string, workers: number, broken: boolean) {
    this.config = config;
    this.broken = broken;
    this.base = base;
    this.workers = workers;
  }

  /** The shared Redis; a block without a URL (an empty variable) is none. */
  get redis(): Config["redis"] {
    return this.config.redis?.url === undefined ? undefined : this.config.redis;
  }

  error(code: string, path: Path, message: string, suggestion?: string): void {
    this.findings.push({ severity: "error", code, path, message, suggestion });
  }

  warn(code: string, path: Path, message: string, suggestion?: string): void {
    this.findings.push({ severity: "warning", code, path, message, suggestion });
  }

  /** Lowers one part; in a broken configuration a part that trips over a hole is left out, so that the others are still checked. */
  part<T>(make: () => T, otherwise: T): T {
    if (!this.broken) return make();
    try {
      return make();
    } catch {
      return otherwise;
    }
  }

  /** A name that nothing has. */
  unknownName(what: string, name: string, path: Path, known: Iterable<string>): void {
    const names = [...known];
    const list =
      names.length === 0
        ? "none is defined"
        : names.length <= 8
          ? `there ${names.length === 1 ? "is" : "are"} ${names.join(", ")}`
          : `${names.length} are defined`;
    this.error("unknown_name", path, `there is no ${what} ${JSON.stringify(name)}; ${list}`, suggest(name, names));
  }

  /** Absolute path of a file that the configuration names. */
  file(path: string): string {
    return resolve(this.base, path);
  }

  optionalFile(path: string | undefined): string | undefined {
    return path === undefined ? undefined : this.file(path);
  }
}

/** Seconds → milliseconds, whole. */
export function seconds(value: number): number {
  return Math.round(value * 1000);
}

/** Milliseconds, whole: the data plane counts in integers. A fraction below one would turn into "none", so it is rounded up. */
export function ms(value: number): number {
  return value > 0 && value < 1 ? 1 : Math.round(value);
}

/** Without the keys whose value is `undefined`. */
export function compact(value: Json): Json {
  const out: Json = {};
  for (const [key, inner] of Object.entries(value)) if (inner !== undefined) out[key] = inner;
  return out;
}

/** One item or a list → a list. */
export function many<T>(value: T | readonly T[]): readonly T[] {
  return Array.isArray(value) ? (value as readonly T[]) : [value as T];
}
