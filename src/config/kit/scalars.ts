/** Strings, numbers, durations, sizes and secrets. */

import { suggest } from "../suggest.ts";
import { type DurationUnit, formatDuration, formatSize, parseDuration, parseSize } from "../units.ts";
import { type Context, Interpolated, Schema, show, wrongType } from "./base.ts";

/** Says why a string is refused; nothing where it is fine. */
export type Check = (text: string) => string | undefined;

export interface StringRules {
  min?: number;
  max?: number;
  /** Says why a value is refused. */
  check?: Check;
  /** Code of a refusal by `check`. */
  code?: string;
  /** The same rule for editors (JSON Schema). */
  pattern?: string;
  /** What it is, for messages: "a name". */
  noun?: string;
}

export class StringSchema extends Schema<string, string> {
  readonly kind = "string";
  readonly rules: StringRules;
  constructor(rules: StringRules) {
    super();
    this.rules = rules;
  }
  parse(value: unknown, cx: Context): string | undefined {
    const text = value instanceof Interpolated ? value.text : value;
    const { min = 0, max = 65_536, check, code, noun = "a string" } = this.rules;
    if (typeof text !== "string") return wrongType(cx, noun, text);
    if (text.length < min)
      return cx.report({
        code: "too_short",
        message: min === 1 ? "must not be empty" : `must have at least ${min} characters`,
      });
    if (text.length > max)
      return cx.report({ code: "too_long", message: `must have at most ${max} characters, has ${text.length}` });
    const reason = check?.(text);
    if (reason !== undefined) return cx.report({ code: code ?? "bad_value", message: reason });
    return text;
  }
}

export class EnumSchema<T extends string> extends Schema<T, T> {
  readonly kind = "enum";
  readonly values: readonly T[];
  /** Other accepted spellings. */
  readonly spellings: Readonly<Record<string, T>>;
  /** Letter case does not matter. */
  readonly anyCase: boolean;
  constructor(values: readonly T[], spellings: Readonly<Record<string, T>>, anyCase: boolean) {
    super();
    this.values = values;
    this.spellings = spellings;
    this.anyCase = anyCase;
  }
  parse(value: unknown, cx: Context): T | undefined {
    let text = value instanceof Interpolated ? value.text : value;
    // YAML reads `min_version: 1.3` as a number; it can only mean the text.
    if (typeof text === "number") text = String(text);
    if (typeof text !== "string")
      return wrongType(cx, `one of ${this.values.map((v) => JSON.stringify(v)).join(", ")}`, text);
    const wanted = this.anyCase ? text.toLowerCase() : text;
    if ((this.values as readonly string[]).includes(wanted)) return wanted as T;
    if (Object.hasOwn(this.spellings, wanted)) return this.spellings[wanted];
    return cx.report({
      code: "bad_value",
      message: `must be one of ${this.values.map((v) => JSON.stringify(v)).join(", ")}, not ${show(text)}`,
      suggestion: suggest(text, [...this.values, ...Object.keys(this.spellings)]),
    });
  }
}

export interface NumberRules {
  integer?: boolean;
  min?: number;
  max?: number;
}

function inRange(
  value: number,
  { min, max }: NumberRules,
  cx: Context,
  text: (n: number) => string = String,
): number | undefined {
  if (min !== undefined && value < min)
    return cx.report({ code: "out_of_range", message: `must be at least ${text(min)}, not ${text(value)}` });
  if (max !== undefined && value > max)
    return cx.report({ code: "out_of_range", message: `must be at most ${text(max)}, not ${text(value)}` });
  return value;
}

export class NumberSchema extends Schema<number, number> {
  readonly kind = "number";
  readonly rules: NumberRules;
  constructor(rules: NumberRules) {
    super();
    this.rules = rules;
  }
  parse(value: unknown, cx: Context): number | undefined {
    const number =
      value instanceof Interpolated && /^-?\d+(\.\d+)?$/.test(value.text.trim()) ? Number(value.text) : value;
    const wanted = this.rules.integer ? "a whole number" : "a number";
    if (typeof number !== "number" || !Number.isFinite(number)) return wrongType(cx, wanted, value);
    if (this.rules.integer && !Number.isSafeInteger(number)) return wrongType(cx, wanted, value);
    return inRange(number, this.rules, cx);
  }
}

export class BooleanSchema extends Schema<boolean, boolean> {
  readonly kind = "boolean";
  parse(value: unknown, cx: Context): boolean | undefined {
    if (typeof value === "boolean") return value;
    if (value instanceof Interpolated) {
      if (/^(true|1|yes|on)$/i.test(value.text)) return true;
      if (/^(false|0|no|off)$/i.test(value.text)) return false;
    }
    return wrongType(cx, "true or false", value);
  }
}

/** Resolved in the unit of the key, so that the resolved form can be read again. */
export class DurationSchema extends Schema<number | string, number> {
  readonly kind = "duration";
  readonly unit: DurationUnit;
  /** In the unit. */
  readonly rules: { min?: number; max?: number };
  constructor(unit: DurationUnit, rules: { min?: number; max?: number }) {
    super();
    this.unit = unit;
    this.rules = rules;
  }
  parse(value: unknown, cx: Context): number | undefined {
    const factor = this.unit === "s" ? 1000 : 1;
    const word = this.unit === "s" ? "seconds" : "milliseconds";
    const raw = value instanceof Interpolated ? value.text : value;
    let number = raw;
    if (typeof raw === "string") {
      const ms = parseDuration(raw);
      number =
        ms !== undefined
          ? ms / factor
          : value instanceof Interpolated && /^\d+(\.\d+)?$/.test(raw)
            ? Number(raw)
            : undefined;
      if (number === undefined) {
        return cx.report({
          code: "bad_duration",
          message: `must be a duration such as "30s", "500ms" or "1m30s", or a number of ${word}, not ${show(raw)}`,
        });
      }
    }
    if (typeof number !== "number" || !Number.isFinite(number))
      return wrongType(cx, `a duration such as "30s" or a number of ${word}`, raw);
    return inRange(number, { min: 0, max: 31_536_000_000 / factor, ...this.rules }, cx, (n) =>
      n < 0 ? `${n} ${word}` : formatDuration(n * factor),
    );
  }
}

export class SizeSchema extends Schema<number | string, number> {
  readonly kind = "size";
  readonly rules: { min?: number; max?: number };
  constructor(rules: { min?: number; max?: number }) {
    super();
    this.rules = rules;
  }
  parse(value: unknown, cx: Context): number | undefined {
    const raw = value instanceof Interpolated ? value.text : value;
    let number = raw;
    if (typeof raw === "string") {
      number = parseSize(raw) ?? (value instanceof Interpolated && /^\d+$/.test(raw) ? Number(raw) : undefined);
      if (number === undefined) {
        return cx.report({
          code: "bad_size",
          message: `must be a size such as "1MiB" or "64kB", or a number of bytes, not ${show(raw)}`,
        });
      }
    }
    if (typeof number !== "number" || !Number.isSafeInteger(number))
      return wrongType(cx, `a size such as "1MiB" or a whole number of bytes`, raw);
    return inRange(number, { min: 0, ...this.rules }, cx, formatSize);
  }
}

/** How the text of a secret stands for its bytes. */
export type SecretEncoding = "utf8" | "base64" | "hex";

/** A secret in a configuration: text, `file:PATH`, or an object that says its encoding. */
export type SecretInput = string | { value: string; encoding?: SecretEncoding | undefined };

/**
 * A secret's bytes. `toJSON` and inspection show a placeholder, so that printing a resolved configuration gives nothing away.
 */
export class Secret {
  readonly #bytes: Buffer;
  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }
  get bytes(): Buffer {
    return this.#bytes;
  }
  get text(): string {
    return this.#bytes.toString("utf8");
  }
  get base64(): string {
    return this.#bytes.toString("base64");
  }
  toString(): string {
    return "[secret]";
  }
  toJSON(): string {
    return "[secret]";
  }
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return "[secret]";
  }
}

export class SecretSchema extends Schema<SecretInput | Secret, Secret> {
  readonly kind = "secret";
  readonly encoding: SecretEncoding;
  readonly minBytes: number;
  constructor(encoding: SecretEncoding, minBytes: number) {
    super();
    this.encoding = encoding;
    this.minBytes = minBytes;
  }
  parse(value: unknown, cx: Context): Secret | undefined {
    if (value instanceof Secret) return value;
    let text: unknown = value;
    let encoding = this.encoding;
    if (typeof value === "object" && value !== null && !(value instanceof Interpolated) && !Array.isArray(value)) {
      const unknown = Object.keys(value).find((key) => key !== "value" && key !== "encoding");
      if (unknown)
        return cx.report(
          { code: "unknown_key", message: `unknown key ${show(unknown)} in a secret; it has "value" and "encoding"` },
          unknown,
        );
      text = (value as { value?: unknown }).value;
      const given = (value as { encoding?: unknown }).encoding ?? encoding;
      if (given !== "utf8" && given !== "base64" && given !== "hex") {
        return cx.report(
          { code: "bad_value", message: `must be one of "utf8", "base64", "hex", not ${show(given)}` },
          "encoding",
        );
      }
      encoding = given;
    }
    if (text instanceof Interpolated) text = text.text;
    // The value itself is never shown: it may be the secret under a wrong type.
    if (typeof text !== "string")
      return cx.report({
        code: "wrong_type",
        message: 'must be a secret: text, "file:PATH", or {"value", "encoding"}',
      });
    if (text.startsWith("file:")) {
      const file = text.slice("file:".length);
      try {
        text = cx
          .readSecret(file)
          .toString("utf8")
          .replace(/\r?\n$/, "");
      } catch (error) {
        return cx.report({
          code: "secret_unreadable",
          message: `the secret's file can't be read: ${(error as Error).message}`,
        });
      }
    }
    const bytes = decode(text as string, encoding);
    if (bytes === undefined) return cx.report({ code: "bad_secret", message: `is not valid ${encoding}` });
    if (bytes.length < Math.max(1, this.minBytes)) {
      return cx.report({
        code: "bad_secret",
        message:
          bytes.length === 0 ? "must not be empty" : `must have at least ${this.minBytes} bytes, has ${bytes.length}`,
      });
    }
    return new Secret(bytes);
  }
}

function decode(text: string, encoding: SecretEncoding): Buffer | undefined {
  if (encoding === "utf8") return Buffer.from(text, "utf8");
  const compact = text.replaceAll(/\s/g, "");
  if (encoding === "hex") return /^(?:[0-9a-f]{2})*$/i.test(compact) ? Buffer.from(compact, "hex") : undefined;
  return /^[A-Za-z0-9+/_-]*={0,2}$/.test(compact) && compact.replace(/=+$/, "").length % 4 !== 1
    ? Buffer.from(compact, "base64")
    : undefined;
}
