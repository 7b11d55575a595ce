/** Lists, maps, objects and choices between them. */
import { formatPath } from "../issue.ts";
import { suggest } from "../suggest.ts";
import {
  type AnySchema,
  type Context,
  type InputOf,
  Interpolated,
  type OutputOf,
  Schema,
  show,
  wrongType,
} from "./base.ts";

export interface ListRules {
  min?: number;
  max?: number;
  /** A single item stands for a list of one. */
  single?: boolean;
}

export class ListSchema<I extends AnySchema, In = readonly InputOf<I>[]> extends Schema<In, OutputOf<I>[]> {
  readonly kind = "list";
  readonly item: I;
  readonly rules: ListRules;
  constructor(item: I, rules: ListRules) {
    super();
    this.item = item;
    this.rules = rules;
  }
  parse(value: unknown, cx: Context): OutputOf<I>[] | undefined {
    let items = value;
    if (value instanceof Interpolated)
      items = value.text === "" ? [] : value.text.split(",").map((part) => new Interpolated(part.trim()));
    else if (this.rules.single && !Array.isArray(value) && value !== null && value !== undefined) items = [value];
    if (!Array.isArray(items)) return wrongType(cx, "a list", value);
    const { min = 0, max = 1_000_000 } = this.rules;
    if (items.length < min)
      cx.report({ code: "too_few", message: min === 1 ? "must not be empty" : `must have at least ${min} items` });
    if (items.length > max)
      cx.report({ code: "too_many", message: `must have at most ${max} items, has ${items.length}` });
    const out: OutputOf<I>[] = [];
    for (let i = 0; i < items.length; i++) {
      cx.path.push(i);
      const item = this.item.parse(items[i], cx) as OutputOf<I> | undefined;
      cx.path.pop();
      // A refused item keeps its place, so that later checks still speak of the right index; nothing is lowered after an error.
      out.push(item as OutputOf<I>);
    }
    return out;
  }
}

export class MapSchema<V extends AnySchema> extends Schema<
  Readonly<Record<string, InputOf<V>>>,
  Record<string, OutputOf<V>>
> {
  readonly kind = "map";
  readonly value: V;
  readonly rules: { max?: number; key?: AnySchema };
  constructor(value: V, rules: { max?: number; key?: AnySchema }) {
    super();
    this.value = value;
    this.rules = rules;
  }
  parse(value: unknown, cx: Context): Record<string, OutputOf<V>> | undefined {
    if (!isObject(value)) return wrongType(cx, "an object", value);
    const out: Record<string, OutputOf<V>> = {};
    const keys = Object.keys(value);
    const { max = 100_000, key: rule } = this.rules;
    if (keys.length > max)
      cx.report({ code: "too_many", message: `must have at most ${max} entries, has ${keys.length}` });
    for (const key of keys) {
      cx.path.push(key);
      if (key === "__proto__") cx.report({ code: "bad_name", message: `"__proto__" can't be a name` });
      else if (!rule || rule.parse(key, cx) !== undefined) {
        const item = this.value.parse(value[key], cx) as OutputOf<V> | undefined;
        if (item !== undefined) out[key] = item;
      }
      cx.path.pop();
    }
    return out;
  }
}

/** Fields of an object. */
export type Fields = Readonly<Record<string, AnySchema>>;
type KeysOf<F extends Fields, P> = { [K in keyof F]: F[K]["_presence"] extends P ? K : never }[keyof F];
/** What a configuration may say for an object of `F`. */
export type ObjectInput<F extends Fields> = { [K in KeysOf<F, "required">]: InputOf<F[K]> } & {
  [K in KeysOf<F, "optional" | "default">]?: InputOf<F[K]> | undefined;
};
/** What it resolves to. */
export type ObjectOutput<F extends Fields> = { [K in KeysOf<F, "required" | "default">]: OutputOf<F[K]> } & {
  [K in KeysOf<F, "optional">]?: OutputOf<F[K]>;
};

export interface ObjectRules {
  /** Heading in the reference page and name in the JSON Schema; an object without one is shown where it stands. */
  title?: string;
  /** Another spelling → the key here, or `block.key` one level down. */
  aliases?: Readonly<Record<string, string>>;
  /** A typo here would fail open: unknown keys are errors, also further down. `true` for the whole block, or the keys that matter. */
  guarded?: boolean | readonly string[];
  /** Rules between keys; reports through the context. */
  check?: (value: Record<string, unknown>, cx: Context) => void;
}

export class ObjectSchema<F extends Fields> extends Schema<ObjectInput<F>, ObjectOutput<F>> {
  readonly kind = "object";
  readonly fields: F;
  readonly rules: ObjectRules;
  // Not `#…`: the modifiers of the base class copy a schema, which private names do not survive.
  private readonly requiredKeys: readonly string[];
  private readonly defaults: readonly [string, AnySchema][];
  constructor(fields: F, rules: ObjectRules) {
    super();
    this.fields = fields;
    this.rules = rules;
    const entries = Object.entries(fields);
    this.requiredKeys = entries.filter(([, schema]) => schema.meta.presence === "required").map(([key]) => key);
    this.defaults = entries.filter(([, schema]) => schema.meta.presence === "default");
  }

  parse(value: unknown, cx: Context): ObjectOutput<F> | undefined {
    if (!isObject(value)) return wrongType(cx, "an object", value);
    if (this.rules.guarded === true) cx.guarded++;
    const before = cx.errors;
    const source = this.canonical(value, cx);
    const out: Record<string, unknown> = {};
    for (const key of Object.keys(source)) {
      const given = source[key];
      // `undefined` is how a program says "not set"; a file can't hold it.
      if (given === undefined || !Object.hasOwn(this.fields, key)) continue;
      const schema = this.fields[key] as AnySchema;
      // A variable that is empty leaves what need not be there as it would be without.
      if (given instanceof Interpolated && given.text === "" && schema.meta.presence !== "required") continue;
      cx.path.push(key);
      const parsed = schema.parse(given, cx);
      cx.path.pop();
      if (parsed !== undefined) out[key] = parsed;
    }
    // A refused value is stood in for too: what follows still checks the rest, and nothing of it is used.
    for (const [key, schema] of this.defaults) if (!(key in out)) out[key] = schema.fallback(cx);
    for (const key of this.requiredKeys)
      if (source[key] === undefined) cx.report({ code: "missing", message: `"${key}" is missing` }, key);
    if (this.rules.check && cx.errors === before) this.rules.check(out, cx);
    if (this.rules.guarded === true) cx.guarded--;
    return out as ObjectOutput<F>;
  }

  /** Keys under the names that the fields have; unknown ones reported. The same object where nothing had to be renamed. */
  private canonical(value: Record<string, unknown>, cx: Context): Record<string, unknown> {
    const aliases = this.rules.aliases;
    let renamed: Record<string, unknown> | undefined;
    for (const key of Object.keys(value)) {
      if (Object.hasOwn(this.fields, key)) continue;
      const target = aliases && Object.hasOwn(aliases, key) ? aliases[key] : undefined;
      if (target === undefined) {
        this.unknownKey(key, cx);
        continue;
      }
      renamed ??= { ...value };
      delete renamed[key];
      const steps = target.split(".");
      const last = steps.pop() as string;
      let place = renamed;
      for (const step of steps) {
        const inner = place[step];
        place[step] = isObject(inner) ? { ...inner } : {};
        place = place[step] as Record<string, unknown>;
      }
      if (place[last] !== undefined && JSON.stringify(place[last]) !== JSON.stringify(value[key])) {
        cx.report(
          { code: "said_twice", message: `says the same thing as "${target}", with another value; keep one of them` },
          key,
        );
        continue;
      }
      place[last] = value[key];
      cx.moved.set(formatPath([...cx.path, ...steps, last]), [...cx.path, key]);
    }
    return renamed ?? value;
  }

  private unknownKey(key: string, cx: Context): void {
    // `x-…` is free for the reader's own use (anchors in YAML, notes).
    if (key.startsWith("x-")) return;
    const aliases = this.rules.aliases ?? {};
    const near = suggest(key, [...Object.keys(this.fields), ...Object.keys(aliases)]);
    const error =
      cx.strict ||
      cx.guarded > 0 ||
      (Array.isArray(this.rules.guarded) &&
        (this.rules.guarded.includes(aliases[near ?? ""] ?? near) || PROTECTING.test(key)));
    cx.report(
      {
        code: "unknown_key",
        message: `unknown key ${show(key)}`,
        severity: error ? "error" : "warning",
        suggestion: near,
      },
      key,
    );
  }
}

/** Words of keys that are meant to protect something: where nothing has such a key, ignoring it would leave that open. */
const PROTECTING = /auth|scope|role|jwt|token|secret|limit|allow|deny|block|cors|client_cert/i;

/** `{type, config}`: the type decides what `config` holds. */
export type TaggedInput<V extends Readonly<Record<string, AnySchema>>> = {
  [T in keyof V & string]: { type: T; name?: string | undefined; enabled?: boolean | undefined } & (Record<
    never,
    never
  > extends InputOf<V[T]>
    ? { config?: InputOf<V[T]> | undefined }
    : { config: InputOf<V[T]> });
}[keyof V & string];
/** The same, resolved. */
export type TaggedOutput<V extends Readonly<Record<string, AnySchema>>> = {
  [T in keyof V & string]: { type: T; name?: string; enabled: boolean; config: OutputOf<V[T]> };
}[keyof V & string];

export class TaggedSchema<V extends Readonly<Record<string, AnySchema>>> extends Schema<
  TaggedInput<V>,
  TaggedOutput<V>
> {
  readonly kind = "tagged";
  readonly variants: V;
  readonly spellings: Readonly<Record<string, string>>;
  constructor(variants: V, spellings: Readonly<Record<string, string>>) {
    super();
    this.variants = variants;
    this.spellings = spellings;
  }
  parse(value: unknown, cx: Context): TaggedOutput<V> | undefined {
    if (!isObject(value)) return wrongType(cx, `an object with "type" and "config"`, value);
    const given = value.type instanceof Interpolated ? value.type.text : value.type;
    if (given === undefined) return cx.report({ code: "missing", message: `"type" is missing` });
    const type =
      typeof given === "string" && Object.hasOwn(this.spellings, given) ? (this.spellings[given] as string) : given;
    if (typeof type !== "string" || !Object.hasOwn(this.variants, type)) {
      const known = [...Object.keys(this.variants), ...Object.keys(this.spellings)];
      return cx.report(
        {
          code: "bad_value",
          message: `there is no middleware of type ${show(given)}; there are ${Object.keys(this.variants).join(", ")}`,
          suggestion: typeof given === "string" ? suggest(given, known) : undefined,
        },
        "type",
      );
    }
    for (const key of Object.keys(value)) {
      if (key === "type" || key === "config" || key === "name" || key === "enabled" || key.startsWith("x-")) continue;
      const inside = this.variants[type];
      // Settings beside `config` instead of in it would be ignored, which for a limit or an authentication means open: always an error.
      const misplaced = inside instanceof ObjectSchema && Object.hasOwn(inside.fields, key);
      cx.report(
        misplaced
          ? { code: "misplaced_key", message: `${show(key)} belongs inside "config"` }
          : {
              code: "unknown_key",
              message: `unknown key ${show(key)}`,
              suggestion: suggest(key, ["type", "config", "name", "enabled"]),
            },
        key,
      );
    }
    const enabled = value.enabled ?? true;
    if (typeof enabled !== "boolean") {
      cx.path.push("enabled");
      wrongType(cx, "true or false", enabled);
      cx.path.pop();
    }
    cx.path.push("config");
    const config = this.variants[type]?.parse(value.config ?? {}, cx);
    cx.path.pop();
    if (config === undefined) return undefined;
    const out: Record<string, unknown> = { type, enabled, config };
    if (value.name !== undefined) out.name = value.name instanceof Interpolated ? value.name.text : value.name;
    return out as TaggedOutput<V>;
  }
}

/** JavaScript type by which a choice decides. */
export type Shape = "string" | "number" | "boolean" | "object" | "list" | "null";

/** One of several schemas, chosen by the JavaScript type of the value. */
export class EitherSchema<V extends Readonly<Partial<Record<Shape, AnySchema>>>> extends Schema<
  InputOf<V[keyof V]>,
  OutputOf<V[keyof V]>
> {
  readonly kind = "either";
  readonly variants: V;
  readonly noun: string;
  constructor(noun: string, variants: V) {
    super();
    this.variants = variants;
    this.noun = noun;
  }
  parse(value: unknown, cx: Context): OutputOf<V[keyof V]> | undefined {
    const shape: Shape | undefined =
      value instanceof Interpolated || typeof value === "string"
        ? "string"
        : Array.isArray(value)
          ? "list"
          : typeof value === "number" || typeof value === "boolean"
            ? (typeof value as Shape)
            : isObject(value)
              ? "object"
              : value === null
                ? "null"
                : undefined;
    let schema: AnySchema | undefined = shape && this.variants[shape];
    // Text from a variable may stand for a number or a boolean.
    if (!schema && value instanceof Interpolated) schema = this.variants.number ?? this.variants.boolean;
    if (!schema) return wrongType(cx, this.noun, value);
    return schema.parse(value, cx) as OutputOf<V[keyof V]>;
  }
}

/** A value that this kit does not look into (functions, plain JSON). */
export class RawSchema<T> extends Schema<T, T> {
  readonly kind = "raw";
  readonly noun: string;
  readonly test: (value: unknown) => boolean;
  /** JSON Schema of such a value. */
  readonly json: Readonly<Record<string, unknown>>;
  constructor(noun: string, test: (value: unknown) => boolean, json: Readonly<Record<string, unknown>>) {
    super();
    this.noun = noun;
    this.test = test;
    this.json = json;
  }
  parse(value: unknown, cx: Context): T | undefined {
    const plain = value instanceof Interpolated ? value.text : value;
    return this.test(plain) ? (plain as T) : wrongType(cx, this.noun, plain);
  }
}

/** A plain object: not null, not a list, not one of the kit's own markers. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Interpolated);
}
