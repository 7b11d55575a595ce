/**
 * The schema kit: one description of a value gives its TypeScript types, validation, defaults, JSON Schema and reference text.
 *
 * Own and small instead of a library, because a configuration needs what they lack: aliases that keep the place they were written at,
 * unknown keys whose severity depends on the block, numbers in the unit their key names, and no start-up cost (building all schemas
 * takes under a millisecond, a library's compile step takes thirty).
 */
import type { Path, Severity } from "../issue.ts";

/** Whether a key may be left out, and what then. */
export type Presence = "required" | "optional" | "default";

/** Text that came out of `${NAME}`: read as a number, a boolean or a list where the schema wants one. */
export class Interpolated {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

/** What a problem says beside its place. */
export interface Finding {
  code: string;
  message: string;
  severity?: Severity;
  suggestion?: string | undefined;
}

/** State of one validation. The path is a stack, so that a valid value costs no allocation for it. */
export class Context {
  readonly path: (string | number)[] = [];
  readonly findings: (Finding & { path: Path })[] = [];
  /** Canonical path (JSON) → path as written, for aliases. */
  readonly moved = new Map<string, Path>();
  /** Unknown keys are errors everywhere. */
  readonly strict: boolean;
  /** Above zero inside a block where a typo would fail open. */
  guarded = 0;
  /** Reads the file behind a `file:` secret. */
  readonly readSecret: (file: string) => Buffer;

  constructor(options: { strict?: boolean; readSecret?: (file: string) => Buffer } = {}) {
    this.strict = options.strict ?? false;
    this.readSecret =
      options.readSecret ??
      (() => {
        throw new Error("files are not read here");
      });
  }

  /** Errors so far. */
  errors = 0;

  report(finding: Finding, ...below: (string | number)[]): undefined {
    if (finding.severity !== "warning") this.errors++;
    this.findings.push({ ...finding, path: [...this.path, ...below] });
    return undefined;
  }
}

/** What the published schema and the reference page say about a value. */
export interface Meta {
  presence: Presence;
  doc?: string;
  default?: unknown;
  example?: unknown;
  /** The default once resolved, where it can be shared. */
  resolved?: { value: unknown };
}

/**
 * A described value: `In` is what a configuration may say, `Out` what it resolves to.
 * The three phantom properties exist for type inference only.
 */
export abstract class Schema<In, Out, P extends Presence = "required"> {
  declare readonly _in: In;
  declare readonly _out: Out;
  declare readonly _presence: P;
  abstract readonly kind: string;
  meta: Meta = { presence: "required" };

  /** The resolved value, or `undefined` after reporting why there is none. */
  abstract parse(value: unknown, cx: Context): Out | undefined;

  /** May be left out; then it is absent. */
  optional(): Schema<In, Out, "optional"> {
    return this.with({ presence: "optional" }) as unknown as Schema<In, Out, "optional">;
  }

  /** May be left out; then it is `value`. */
  default(value: In): Schema<In, Out, "default"> {
    return this.with({ presence: "default", default: value }) as unknown as Schema<In, Out, "default">;
  }

  /** One or two sentences: meaning, unit, range where the type does not say it. */
  doc(text: string): this {
    return this.with({ doc: text });
  }

  /** Shown in the reference page and by editors. */
  example(value: In): this {
    return this.with({ example: value });
  }

  /** The default, resolved afresh (so that no two configurations share an object). */
  fallback(cx: Context): Out | undefined {
    const { meta } = this;
    if (meta.presence !== "default") return undefined;
    const value = meta.default;
    if (typeof value === "object" && value !== null)
      return Array.isArray(value) && value.length === 0 ? ([] as Out) : this.parse(value, cx);
    meta.resolved ??= { value: this.parse(value, cx) };
    return meta.resolved.value as Out;
  }

  private with(meta: Partial<Meta>): this {
    const copy = Object.assign(Object.create(Object.getPrototypeOf(this)), this) as this;
    const { resolved: _, ...kept } = this.meta;
    copy.meta = { ...kept, ...meta };
    return copy;
  }
}

/** Any schema. */
// biome-ignore lint/suspicious/noExplicitAny: the bound of every schema, which `unknown` is not (the types are invariant)
export type AnySchema = Schema<any, any, Presence>;

/** What a configuration may say for `S`. */
export type InputOf<S> = S extends { readonly _in: infer I } ? I : never;
/** What it resolves to. */
export type OutputOf<S> = S extends { readonly _out: infer O } ? O : never;

/** A value for a message: short, quoted, with its type where that is not plain. */
export function show(value: unknown): string {
  if (value === null) return "null";
  if (value instanceof Interpolated) return JSON.stringify(value.text);
  if (Array.isArray(value)) return "a list";
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}…` : value);
  if (typeof value === "object") return "an object";
  if (typeof value === "function") return "a function";
  return String(value);
}

/** Reports a value of the wrong type. */
export function wrongType(cx: Context, wanted: string, value: unknown): undefined {
  return cx.report({ code: "wrong_type", message: `must be ${wanted}, not ${show(value)}` });
}
