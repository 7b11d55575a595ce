/** `extends`: a configuration on top of presets or other files. */
import { existsSync } from "node:fs";
import { dirname, isAbsolute, resolve } from "node:path";
import { interpolate } from "./interpolate.ts";
import { formatPath, type Issue, type Path, parsePath } from "./issue.ts";
import { Interpolated, isObject } from "./kit/index.ts";
import type { ProgramCode } from "./program/program.ts";
import { packageRoot } from "./root.ts";
import { type ConfigEnvironment, readSource, type Source } from "./source.ts";
import { suggest } from "./suggest.ts";
import { applyVariants, type Requirement } from "./variants.ts";

/** Data, one file a preset. */
export const PRESETS = ["aas", "chaos-world", "craton", "talos"] as const;

/** Lists that are joined instead of replaced; what stands in the extending file comes first. */
const JOINED = ["listeners", "routes", "upstreams"];

/** A file and where its joined lists begin in the merged value. */
export interface Layer {
  source: Source;
  offsets: Readonly<Record<string, number>>;
}

/** The merged value, variables replaced, and the files that it came from (the extending one first). */
export interface Extended {
  value: Record<string, unknown>;
  layers: Layer[];
  /** What the variants that are in effect ask for. */
  requirements: Requirement[];
}

/** Replaces variables in `source`, then merges it over what it extends. Problems are added to `issues`. */
export async function extend(
  source: Source,
  environment: ConfigEnvironment,
  issues: Issue[],
  code?: ProgramCode,
  above: readonly string[] = [],
): Promise<Extended | undefined> {
  const report = (path: Path, message: string) => {
    const place = source.find(path)?.position;
    issues.push({
      severity: "error",
      code: "unset_variable",
      message,
      path: formatPath(path),
      file: source.file,
      ...place,
    });
  };
  if (!isObject(source.value)) {
    issues.push({
      severity: "error",
      code: "wrong_type",
      message: "a configuration is an object",
      path: "",
      file: source.file,
      ...source.find([])?.position,
    });
    return undefined;
  }
  const found: Requirement[] = [];
  const varied = applyVariants(source.value, environment.env, joined, (issue) => {
    const place = source.find(parsePath(issue.path))?.position;
    issues.push({ severity: "error", ...issue, file: source.file, ...place });
  });
  found.push(...varied.requirements);
  const value = (source.variables ? interpolate(varied.value, environment.env, report) : varied.value) as Record<
    string,
    unknown
  >;
  const names = listOf(value.extends);
  if (names.length === 0) return { value, layers: [{ source, offsets: {} }], requirements: found };
  const fail = (code: string, message: string, suggestion?: string) => {
    const place = source.find(["extends"])?.position;
    issues.push({
      severity: "error",
      code,
      message,
      path: "extends",
      file: source.file,
      ...place,
      ...(suggestion ? { suggestion } : {}),
    });
  };
  const chain = [...above, source.file];
  let base: Extended = { value: {}, layers: [], requirements: [] };
  for (const name of names) {
    const file = locate(name, source.file);
    if (file === undefined || !existsSync(file)) {
      if (name.startsWith("titan:")) {
        const known = PRESETS.map((preset) => `titan:${preset}`);
        fail(
          "unknown_preset",
          `there is no preset ${JSON.stringify(name)}; there are ${known.join(", ")}`,
          suggest(name, known),
        );
      } else fail("not_readable", `the file ${JSON.stringify(name)} does not exist`);
      continue;
    }
    if (chain.includes(file)) {
      fail("cycle", `extends itself: ${[...chain.slice(chain.indexOf(file)), file].join(" → ")}`);
      continue;
    }
    const read = await readSource(file, environment, code);
    if (Array.isArray(read)) {
      issues.push(...read);
      continue;
    }
    const extended = await extend(read, environment, issues, code, chain);
    // A later name wins over an earlier one.
    if (extended) base = merge(extended, base);
  }
  return merge({ value, layers: [{ source, offsets: {} }], requirements: found }, base);
}

function merge(over: Extended, base: Extended): Extended {
  const offsets: Record<string, number> = {};
  for (const key of JOINED) if (Array.isArray(over.value[key])) offsets[key] = (over.value[key] as unknown[]).length;
  const shifted = base.layers.map((layer) => {
    const sum: Record<string, number> = { ...layer.offsets };
    for (const key of JOINED) sum[key] = (sum[key] ?? 0) + (offsets[key] ?? 0);
    return { source: layer.source, offsets: sum };
  });
  return {
    value: joined(over.value, base.value),
    layers: [...over.layers, ...shifted],
    requirements: [...over.requirements, ...base.requirements],
  };
}

/** Blocks merged key by key, the joined lists one after the other. */
function joined(over: Record<string, unknown>, base: Record<string, unknown>): Record<string, unknown> {
  const value = mergeObjects(over, base);
  for (const key of JOINED) {
    const own = over[key];
    const theirs = base[key];
    if (!Array.isArray(own) || !Array.isArray(theirs)) continue;
    const names = new Set(own.map(nameOf).filter((name) => name !== undefined));
    value[key] = [...own, ...theirs.filter((item) => !names.has(nameOf(item) ?? ""))];
  }
  return value;
}

function nameOf(item: unknown): string | undefined {
  if (!isObject(item)) return undefined;
  const name = item.name instanceof Interpolated ? item.name.text : item.name;
  return typeof name === "string" ? name : undefined;
}

function mergeObjects(over: Record<string, unknown>, base: Record<string, unknown>): Record<string, unknown> {
  const out: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    if (key === "__proto__") continue;
    const below = out[key];
    out[key] = isObject(value) && isObject(below) ? mergeObjects(value, below) : value;
  }
  return out;
}

function listOf(value: unknown): string[] {
  const plain = value instanceof Interpolated ? value.text : value;
  if (typeof plain === "string") return [plain];
  return Array.isArray(plain) ? plain.filter((item) => typeof item === "string") : [];
}

function locate(name: string, from: string): string | undefined {
  if (!name.startsWith("titan:")) return isAbsolute(name) ? name : resolve(dirname(from), name);
  const preset = name.slice("titan:".length);
  if (!(PRESETS as readonly string[]).includes(preset)) return undefined;
  return resolve(packageRoot(), "presets", `${preset}.jsonc`);
}

/** Place of `path` of the merged value in the file that it came from. */
export function findInLayers(
  layers: readonly Layer[],
  path: Path,
  key: boolean,
): { file: string; line?: number; column?: number } | undefined {
  for (const { source, offsets } of layers) {
    const [head, index, ...rest] = path;
    const offset = typeof head === "string" && typeof index === "number" ? (offsets[head] ?? 0) : 0;
    if (typeof index === "number" && index < offset) continue;
    const own = offset > 0 ? [head as string, (index as number) - offset, ...rest] : path;
    const found = source.find(own, key);
    if (found?.exact) return { file: source.file, ...found.position };
  }
  const first = layers[0]?.source;
  if (!first) return undefined;
  return { file: first.file, ...first.find(path, key)?.position };
}
