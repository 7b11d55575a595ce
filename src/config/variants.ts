/** `variants`: parts of a configuration that depend on the environment, and what must then be there. Presets are made of them. */
import type { Issue } from "./issue.ts";
import { isObject } from "./kit/index.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** What the resolved configuration must hold, because the conditions of a variant are met. */
export interface Requirement {
  /** Path in the configuration, such as `rate_limit.backend`. */
  path: string;
  /** `true` = there and not empty; else this value. */
  wanted: unknown;
  message: string;
}

/** The value with the variants put in whose conditions are met, later ones over earlier ones, and what they require. */
export function applyVariants(
  value: Record<string, unknown>,
  env: Environment,
  merge: (over: Record<string, unknown>, base: Record<string, unknown>) => Record<string, unknown>,
  report: (issue: Pick<Issue, "code" | "message" | "path">) => void,
): { value: Record<string, unknown>; requirements: Requirement[] } {
  if (value.variants === undefined) return { value, requirements: [] };
  const requirements: Requirement[] = [];
  const { variants, ...rest } = value;
  let out: Record<string, unknown> = rest;
  if (!Array.isArray(variants)) {
    report({ code: "wrong_type", message: "must be a list", path: "variants" });
    return { value: out, requirements };
  }
  for (const [i, variant] of variants.entries()) {
    const path = `variants[${i}]`;
    const problem = shapeProblem(variant);
    if (problem !== undefined) {
      report({ code: "bad_value", message: problem, path });
      continue;
    }
    if (!Object.entries(variant.if as Record<string, unknown>).every(([name, wanted]) => holds(env[name], wanted)))
      continue;
    if (isObject(variant.set)) out = merge(variant.set, out);
    const message = typeof variant.message === "string" ? variant.message : undefined;
    const required = Object.entries((variant.require as Record<string, unknown> | undefined) ?? {});
    for (const [wantedPath, wanted] of required) {
      requirements.push({
        path: wantedPath,
        wanted,
        message: message ?? `must be ${wanted === true ? "set" : JSON.stringify(wanted)}`,
      });
    }
    if (message !== undefined && variant.set === undefined && required.length === 0)
      report({ code: "refused", message, path });
  }
  return { value: out, requirements };
}

function shapeProblem(variant: unknown): string | undefined {
  if (!isObject(variant)) return 'must be an object with "if"';
  const unknown = Object.keys(variant).find(
    (key) => !["if", "set", "require", "message"].includes(key) && !key.startsWith("x-"),
  );
  if (unknown !== undefined)
    return `has the unknown key ${JSON.stringify(unknown)}; there are if, set, require, message`;
  if (!isObject(variant.if))
    return '"if" must be an object: variable → value, list of values, true (set), false (not set) or {"not": …}';
  if (variant.set !== undefined && !isObject(variant.set)) return '"set" must be a part of a configuration';
  if (variant.require !== undefined && !isObject(variant.require))
    return '"require" must be an object: path → value, or true for "not empty"';
  return undefined;
}

function holds(given: string | undefined, wanted: unknown): boolean {
  const value = given ?? "";
  if (typeof wanted === "boolean") return (value !== "") === wanted;
  if (Array.isArray(wanted)) return wanted.some((item) => holds(given, item));
  if (isObject(wanted)) return !holds(given, wanted.not);
  return value === String(wanted);
}

/** Whether the resolved configuration holds what is required. */
export function isMet(requirement: Requirement, config: unknown): boolean {
  let value = config;
  for (const part of requirement.path.split(".")) value = (value as Record<string, unknown> | undefined)?.[part];
  if (requirement.wanted !== true) return value === requirement.wanted;
  if (Array.isArray(value)) return value.length > 0;
  return value !== undefined && value !== null && value !== "" && value !== false;
}
