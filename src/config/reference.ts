/** The reference page `docs/configuration.md`, made from the schema. */
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
import { OVERRIDES } from "./overrides.ts";
import { root } from "./schema/root.ts";
import { formatDuration, formatSize } from "./units.ts";

// biome-ignore lint/suspicious/noExplicitAny: any object of the schema
type AnyObject = ObjectSchema<any>;

/** The tables, from the root down, each block once. */
export function referenceTables(): string {
  return blocks()
    .map((block) => `### ${block.rules.title ?? ""}\n\n${table(block)}`)
    .join("\n\n");
}

/** A page with its regions `<!-- options: TITLE, TITLE -->` … `<!-- /options -->` filled with the tables of those blocks. */
export function withOptions(page: string): string {
  const known = new Map(blocks().map((block) => [block.rules.title ?? "", block]));
  return page.replaceAll(/(<!-- options: ([^>]*) -->\n)[\s\S]*?(<!-- \/options -->)/g, (_, begin, titles, end) => {
    const tables = String(titles)
      .split(", ")
      .map((title) => {
        const block = known.get(title);
        if (!block) throw new Error(`the schema has no block "${title}"`);
        // Blocks of other pages are looked up in the reference.
        return `**${title}**\n\n${table(block).replaceAll("](#", "](../configuration.md#")}`;
      });
    return `${begin}\n${tables.join("\n\n")}\n\n${end}`;
  });
}

/** Every block of the schema once, from the root down. */
function blocks(): AnyObject[] {
  const queue: AnyObject[] = [root];
  const found = new Map<string, AnyObject>();
  for (let block = queue.shift(); block; block = queue.shift()) {
    const title = block.rules.title ?? "";
    if (found.has(title)) continue;
    found.set(title, block);
    for (const schema of Object.values(block.fields as Record<string, AnySchema>)) collect(schema, queue);
  }
  return [...found.values()];
}

function unknownKeys(guarded: AnyObject["rules"]["guarded"]): string[] {
  if (guarded === true) return ["Unknown keys are errors here: a typo would leave something open or unlimited.", ""];
  if (!guarded) return [];
  const list = guarded.map((key) => `\`${key}\``).join(", ");
  return [
    `An unknown key is a warning here, but an error where it may stand for something that protects: one that is close to ${list}, or has a word such as \`auth\`, \`allow\` or \`limit\` in it.`,
    "",
  ];
}

function table(block: AnyObject): string {
  const aliases = Object.entries(block.rules.aliases ?? {});
  const rows = Object.entries(block.fields as Record<string, AnySchema>).map(([key, schema]) => {
    const others = aliases.filter(([, target]) => target === key).map(([alias]) => `\`${alias}\``);
    const text = [schema.meta.doc ?? "", others.length > 0 ? `Also spelt ${others.join(", ")}.` : ""]
      .filter((part) => part !== "")
      .join(" ");
    return `| \`${key}\` | ${type(schema)} | ${fallback(schema)} | ${text.replaceAll("|", "\\|")} |`;
  });
  const nested = aliases.filter(([, target]) => target.includes("."));
  return [
    ...unknownKeys(block.rules.guarded),
    "| key | type | default | meaning |",
    "|---|---|---|---|",
    ...rows,
    ...(nested.length > 0
      ? ["", `Aliases: ${nested.map(([alias, target]) => `\`${alias}\` = \`${target}\``).join(", ")}.`]
      : []),
  ].join("\n");
}

/** The overrides as a table. */
export function overrideTable(): string {
  return [
    "| variable | sets |",
    "|---|---|",
    ...OVERRIDES.map(({ variable, doc }) => `| \`${variable}\` | ${doc} |`),
    "| `TITAN_ENV` | The `mode` that a function configuration gets; default `production`. |",
  ].join("\n");
}

/** The page with the generated parts put in. */
export function referencePage(template: string): string {
  return template.replace("<!-- tables -->", referenceTables()).replace("<!-- overrides -->", overrideTable());
}

function collect(schema: AnySchema, queue: AnyObject[]): void {
  if (schema instanceof ObjectSchema) queue.push(schema);
  else if (schema instanceof ListSchema) collect(schema.item, queue);
  else if (schema instanceof MapSchema) collect(schema.value, queue);
  else if (schema instanceof EitherSchema)
    for (const variant of Object.values(schema.variants)) collect(variant as AnySchema, queue);
  else if (schema instanceof TaggedSchema)
    for (const variant of Object.values(schema.variants)) collect(variant as AnySchema, queue);
}

function type(schema: AnySchema): string {
  if (schema instanceof EnumSchema) return schema.values.map((value: string) => `\`${value}\``).join(" ");
  if (schema instanceof NumberSchema)
    return `${schema.rules.integer ? "integer" : "number"}${range(schema.rules.min, schema.rules.max, String)}`;
  if (schema instanceof BooleanSchema) return "boolean";
  if (schema instanceof DurationSchema) {
    const factor = schema.unit === "s" ? 1000 : 1;
    return `duration (${schema.unit})${range(schema.rules.min, schema.rules.max, (n) => formatDuration(n * factor))}`;
  }
  if (schema instanceof SizeSchema) return `size${range(schema.rules.min, schema.rules.max, formatSize)}`;
  if (schema instanceof SecretSchema) return `secret${schema.encoding === "utf8" ? "" : ` (${schema.encoding})`}`;
  if (schema instanceof ListSchema)
    return `list of ${type(schema.item)}${schema.rules.max !== undefined && schema.rules.max < 100_000 ? `, ≤ ${schema.rules.max}` : ""}`;
  if (schema instanceof MapSchema)
    return `name → ${type(schema.value)}${schema.rules.max !== undefined ? `, ≤ ${schema.rules.max}` : ""}`;
  if (schema instanceof EitherSchema)
    return Object.values(schema.variants)
      .map((variant) => type(variant as AnySchema))
      .join(" or ");
  if (schema instanceof TaggedSchema) return "[middleware](#middleware)";
  if (schema instanceof ObjectSchema) return `[${schema.rules.title}](#${anchor(schema.rules.title ?? "")})`;
  if (schema instanceof StringSchema) return schema.rules.noun?.replace(/^an? |^the /, "") ?? "string";
  if (schema instanceof RawSchema) return schema.noun.replace(/^an? |^the /, "");
  return "";
}

function range(min: number | undefined, max: number | undefined, text: (n: number) => string): string {
  const low = min !== undefined && min !== 0 ? text(min) : undefined;
  const high = max !== undefined ? text(max) : undefined;
  if (low && high) return `, ${low}–${high}`;
  return low ? `, ≥ ${low}` : high ? `, ≤ ${high}` : "";
}

function fallback(schema: AnySchema): string {
  const { presence, default: value } = schema.meta;
  if (presence === "required") return "**required**";
  if (presence === "optional" || value === undefined) return "–";
  if (typeof value === "object" && value !== null && Object.keys(value).length === 0)
    return Array.isArray(value) ? "`[]`" : "its defaults";
  if (schema instanceof DurationSchema && typeof value === "number" && value !== 0)
    return `\`${value}\` (${formatDuration(value * (schema.unit === "s" ? 1000 : 1))})`;
  if (schema instanceof SizeSchema && typeof value === "number" && value !== 0)
    return `\`${value}\` (${formatSize(value)})`;
  const text = JSON.stringify(value);
  return text.length > 80 ? "see meaning" : `\`${text}\``;
}

function anchor(title: string): string {
  return title
    .toLowerCase()
    .replaceAll(/[^a-z0-9 -]/g, "")
    .replaceAll(" ", "-");
}
