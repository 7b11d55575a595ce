/** The published JSON Schema (draft 7, which every editor knows), made from the schema. */
import {
  type AnySchema,
  BooleanSchema,
  DurationSchema,
  EitherSchema,
  EnumSchema,
  ListSchema,
  MapSchema,
  NumberSchema,
  ObjectSchema,
  RawSchema,
  SecretSchema,
  SizeSchema,
  StringSchema,
  TaggedSchema,
} from "./kit/index.ts";
import { PACKAGE_NAME } from "./schema/middleware.ts";
import { root } from "./schema/root.ts";

type Json = { [key: string]: unknown };

const HOOK_TYPE = "A package or a file with a hook, which checks `config` itself.";

/** A variable may stand wherever a number, a boolean or a list is wanted. */
const VARIABLE = { type: "string", pattern: "\\$\\{[A-Z_][A-Z0-9_]*(:-[^}]*)?\\}" };

/** The whole document of a configuration. */
export function jsonSchema(): Json {
  return document(
    root,
    "titan.schema.json",
    "Titan configuration",
    "Configuration of the Titan API gateway. Generated from src/config/schema.",
  );
}

/** The whole document that describes `schema`. */
export function document(schema: AnySchema, file: string, title: string, description: string): Json {
  const definitions = new Map<string, Json>();
  const body = describe(schema, definitions, true);
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    $id: `https://raw.githubusercontent.com/titan-gateway/titan/main/schema/${file}`,
    title,
    description,
    ...body,
    definitions: Object.fromEntries([...definitions].sort(([a], [b]) => (a < b ? -1 : 1))),
  };
}

function describe(schema: AnySchema, definitions: Map<string, Json>, top = false): Json {
  const out = shape(schema, definitions, top);
  const { doc, example } = schema.meta;
  const extra: Json = {};
  if (doc !== undefined) extra.description = doc;
  const fallback = schema.meta.default;
  if (schema.meta.presence === "default" && !(isPlain(fallback) && Object.keys(fallback).length === 0))
    extra.default = fallback;
  if (example !== undefined) extra.examples = [example];
  // Draft 7 ignores what stands beside a `$ref`.
  return "$ref" in out && Object.keys(extra).length > 0 ? { allOf: [out], ...extra } : { ...out, ...extra };
}

function isPlain(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function shape(schema: AnySchema, definitions: Map<string, Json>, top: boolean): Json {
  if (schema instanceof StringSchema) {
    const { min, max, pattern } = schema.rules;
    const out: Json = { type: "string" };
    if (min !== undefined) out.minLength = min;
    if (max !== undefined) out.maxLength = max;
    if (pattern !== undefined) out.pattern = `${pattern}|\\$\\{`;
    return out;
  }
  if (schema instanceof EnumSchema) {
    const values = [...schema.values, ...Object.keys(schema.spellings)];
    if (!schema.anyCase)
      return {
        anyOf: [{ enum: schema.values }, { enum: Object.keys(schema.spellings) }, VARIABLE].filter(
          (part) => !("enum" in part) || part.enum.length > 0,
        ),
      };
    return {
      anyOf: [{ enum: schema.values }, { type: "string", pattern: `^(${values.map(anyCase).join("|")})$` }, VARIABLE],
    };
  }
  if (schema instanceof NumberSchema) {
    const { integer, min, max } = schema.rules;
    return orVariable(bounded({ type: integer ? "integer" : "number" }, min, max));
  }
  if (schema instanceof BooleanSchema) return orVariable({ type: "boolean" });
  if (schema instanceof DurationSchema) {
    return {
      anyOf: [
        bounded({ type: "number" }, schema.rules.min ?? 0, schema.rules.max),
        { type: "string", pattern: "^\\s*(\\d+(\\.\\d+)?\\s*(ms|s|min|m|h|d)\\s*)+$|\\$\\{" },
      ],
    };
  }
  if (schema instanceof SizeSchema) {
    return {
      anyOf: [
        bounded({ type: "integer" }, schema.rules.min ?? 0, schema.rules.max),
        { type: "string", pattern: "^\\s*\\d+(\\.\\d+)?\\s*([kKmMgGtT]i?)?[bB]?\\s*$|\\$\\{" },
      ],
    };
  }
  if (schema instanceof SecretSchema) {
    return {
      anyOf: [
        { type: "string", minLength: 1 },
        {
          type: "object",
          properties: {
            value: { type: "string" },
            encoding: { enum: ["utf8", "base64", "hex"], default: schema.encoding },
          },
          required: ["value"],
          additionalProperties: false,
        },
      ],
    };
  }
  if (schema instanceof ListSchema) {
    const item = describe(schema.item, definitions);
    const array: Json = { type: "array", items: item };
    if (schema.rules.min !== undefined) array.minItems = schema.rules.min;
    if (schema.rules.max !== undefined && schema.rules.max < 100_000) array.maxItems = schema.rules.max;
    return { anyOf: [array, ...(schema.rules.single ? [item] : []), VARIABLE] };
  }
  if (schema instanceof MapSchema) {
    const out: Json = { type: "object", additionalProperties: describe(schema.value, definitions) };
    if (schema.rules.max !== undefined) out.maxProperties = schema.rules.max;
    const pattern = schema.rules.key instanceof StringSchema ? schema.rules.key.rules.pattern : undefined;
    if (pattern !== undefined) out.propertyNames = { pattern };
    return out;
  }
  if (schema instanceof EitherSchema)
    return { anyOf: Object.values(schema.variants).map((variant) => describe(variant as AnySchema, definitions)) };
  if (schema instanceof TaggedSchema) return named("Middleware", definitions, () => tagged(schema, definitions));
  if (schema instanceof ObjectSchema) {
    const title = schema.rules.title;
    return title === undefined || top
      ? object(schema, definitions)
      : named(title, definitions, () => object(schema, definitions));
  }
  if (schema instanceof RawSchema) return { ...schema.json };
  throw new TypeError(`no JSON Schema for ${schema.kind}`);
}

function named(title: string, definitions: Map<string, Json>, make: () => Json): Json {
  const key = title.replaceAll(/[^A-Za-z0-9]+/g, "_");
  if (!definitions.has(key)) {
    // Before its parts, so that a block that holds itself would end.
    definitions.set(key, {});
    definitions.set(key, { title, ...make() });
  }
  return { $ref: `#/definitions/${key}` };
}

// biome-ignore lint/suspicious/noExplicitAny: any object of the schema
function object(schema: ObjectSchema<any>, definitions: Map<string, Json>): Json {
  const properties: Json = {};
  const required: string[] = [];
  const aliased = new Set(Object.values(schema.rules.aliases ?? {}));
  for (const [key, field] of Object.entries(schema.fields as Record<string, AnySchema>)) {
    properties[key] = describe(field, definitions);
    // A key that has another spelling can't be required by name; the loader says when both are missing.
    if (field.meta.presence === "required" && !aliased.has(key)) required.push(key);
  }
  for (const [alias, target] of Object.entries(schema.rules.aliases ?? {})) {
    const [first = "", second] = target.split(".");
    const field = (schema.fields as Record<string, AnySchema>)[first];
    const inner =
      second === undefined
        ? field
        : field instanceof ObjectSchema
          ? (field.fields as Record<string, AnySchema>)[second]
          : undefined;
    if (inner) properties[alias] = { ...shape(inner, definitions, false), description: `Alias of \`${target}\`.` };
  }
  const out: Json = { type: "object", properties, patternProperties: { "^x-": {} }, additionalProperties: false };
  if (required.length > 0) out.required = required;
  return out;
}

// biome-ignore lint/suspicious/noExplicitAny: any choice of the schema
function tagged(schema: TaggedSchema<any>, definitions: Map<string, Json>): Json {
  const types = [...Object.keys(schema.variants), ...Object.keys(schema.spellings)];
  return {
    type: "object",
    required: ["type"],
    properties: {
      type: { anyOf: [{ enum: types }, { type: "string", pattern: PACKAGE_NAME.source, description: HOOK_TYPE }] },
      name: { type: "string" },
      enabled: { type: "boolean", default: true },
      config: { type: "object" },
    },
    patternProperties: { "^x-": {} },
    additionalProperties: false,
    allOf: Object.entries(schema.variants as Record<string, AnySchema>).map(([type, config]) => {
      const spellings = [
        type,
        ...Object.keys(schema.spellings).filter((spelling) => schema.spellings[spelling] === type),
      ];
      return {
        if: { properties: { type: { enum: spellings } } },
        // biome-ignore lint/suspicious/noThenProperty: the keyword of JSON Schema
        then: { properties: { config: describe(config, definitions) } },
      };
    }),
  };
}

function bounded(out: Json, min: number | undefined, max: number | undefined): Json {
  if (min !== undefined) out.minimum = min;
  if (max !== undefined) out.maximum = max;
  return out;
}

function orVariable(out: Json): Json {
  return { anyOf: [out, VARIABLE] };
}

function anyCase(word: string): string {
  return [...word].map((letter) => (/[a-z]/.test(letter) ? `[${letter}${letter.toUpperCase()}]` : letter)).join("");
}
