/** Builders of the schema kit; see `base.ts` for what it is. */
import type { DurationUnit } from "../units.ts";
import type { AnySchema, InputOf } from "./base.ts";
import {
  EitherSchema,
  type Fields,
  type ListRules,
  ListSchema,
  MapSchema,
  type ObjectRules,
  ObjectSchema,
  RawSchema,
  type Shape,
  TaggedSchema,
} from "./composites.ts";
import {
  BooleanSchema,
  DurationSchema,
  EnumSchema,
  type NumberRules,
  NumberSchema,
  type SecretEncoding,
  SecretSchema,
  SizeSchema,
  type StringRules,
  StringSchema,
} from "./scalars.ts";

export * from "./base.ts";
export * from "./composites.ts";
export * from "./scalars.ts";

export const string = (rules: StringRules = {}) => new StringSchema(rules);
export const oneOf = <const T extends string>(
  values: readonly T[],
  options: { spellings?: Readonly<Record<string, T>>; anyCase?: boolean } = {},
) => new EnumSchema<T>(values, options.spellings ?? {}, options.anyCase ?? false);
export const integer = (rules: Omit<NumberRules, "integer"> = {}) => new NumberSchema({ ...rules, integer: true });
export const number = (rules: Omit<NumberRules, "integer"> = {}) => new NumberSchema(rules);
export const boolean = () => new BooleanSchema();
/** A number in `unit`, or text such as "30s". */
export const duration = (unit: DurationUnit, rules: { min?: number; max?: number } = {}) =>
  new DurationSchema(unit, rules);
/** Bytes, or text such as "1MiB". */
export const size = (rules: { min?: number; max?: number } = {}) => new SizeSchema(rules);
export const secret = (options: { encoding?: SecretEncoding; minBytes?: number } = {}) =>
  new SecretSchema(options.encoding ?? "utf8", options.minBytes ?? 1);
/** A list; with `single`, one item stands for a list of one. */
export const list = <I extends AnySchema, const R extends ListRules>(
  item: I,
  rules?: R,
): R extends { single: true } ? ListSchema<I, readonly InputOf<I>[] | InputOf<I>> : ListSchema<I> =>
  new ListSchema(item, rules ?? {}) as never;
export const map = <V extends AnySchema>(value: V, rules: { max?: number; key?: AnySchema } = {}) =>
  new MapSchema(value, rules);
export const object = <const F extends Fields>(fields: F, rules: ObjectRules = {}) =>
  new ObjectSchema<F>(fields, rules);
export const tagged = <const V extends Readonly<Record<string, AnySchema>>>(
  variants: V,
  spellings: Readonly<Record<string, string>> = {},
) => new TaggedSchema<V>(variants, spellings);
export const either = <const V extends Readonly<Partial<Record<Shape, AnySchema>>>>(noun: string, variants: V) =>
  new EitherSchema<V>(noun, variants);
export const raw = <T>(noun: string, test: (value: unknown) => boolean, json: Readonly<Record<string, unknown>> = {}) =>
  new RawSchema<T>(noun, test, json);
