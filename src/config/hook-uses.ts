/** Middleware of a type that is not built in: a hook with options, from `hooks` or from a package. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { isHook, isHookFactory } from "../hooks/define.ts";
import type { HookFactory, HookInput } from "../hooks/types.ts";
import { formatPath, type Issue, type Path } from "./issue.ts";
import { MIDDLEWARE, PACKAGE_NAME, TYPE_SPELLINGS } from "./schema/middleware.ts";
import { suggest } from "./suggest.ts";

/** The configuration with each such use replaced by a name, and the hooks by these names. */
export interface HookUses {
  value: unknown;
  hooks: Map<string, HookInput>;
  /** Where items stand now → where they were written, for those that others made way for. */
  moved: Map<string, Path>;
}

type Item = { type: string; name?: unknown; config?: unknown };

/** Finds, loads and makes the hooks; `find` gives the place of a path. Nothing is copied where there are none. */
export async function hookUses(
  value: unknown,
  base: string,
  issues: Issue[],
  find: (path: Path) => Partial<Issue> | undefined,
): Promise<HookUses> {
  const hooks = new Map<string, HookInput>();
  const moved = new Map<string, Path>();
  if (typeof value !== "object" || value === null) return { value, hooks, moved };
  const config = value as Record<string, unknown>;
  const defined = (config.hooks ?? {}) as Record<string, unknown>;
  let copy: Record<string, unknown> | undefined;

  const use = async (item: Item, path: (string | number)[], global: boolean): Promise<string | undefined> => {
    const refuse = (code: string, message: string, ...below: string[]): undefined => {
      const at = [...path, ...below];
      const issue: Issue = { severity: "error", code, message, path: formatPath(at), ...find(at) };
      const known = [...Object.keys(defined), ...Object.keys(MIDDLEWARE), ...Object.keys(TYPE_SPELLINGS)];
      const near = code === "unknown_name" ? suggest(item.type, known) : undefined;
      if (near !== undefined) issue.suggestion = near;
      issues.push(issue);
    };
    const found = Object.hasOwn(defined, item.type) ? defined[item.type] : await imported(item.type, base, refuse);
    if (found === undefined) return undefined;
    if (!isHook(found) && !isHookFactory(found))
      return refuse(
        "bad_hook",
        `${JSON.stringify(item.type)} exports no hook: its default export must be made with defineHook or defineHookFactory`,
        "type",
      );
    const hook = isHookFactory(found) ? await create(found, item.config, refuse) : found;
    if (hook === undefined) return undefined;
    if (!isHookFactory(found) && item.config !== undefined && Object.keys(item.config as object).length > 0)
      return refuse("bad_hook", `the hook ${JSON.stringify(item.type)} takes no options`, "config");
    const name = `${item.type
      .replace(/[^A-Za-z0-9_-]+/g, "-")
      .replace(/^-+/, "")
      .slice(0, 48)}.${hooks.size + 1}`;
    hooks.set(name, global ? Object.assign(Object.create(Object.getPrototypeOf(hook)), hook, { global: true }) : hook);
    return name;
  };

  if (Array.isArray(config.middleware) && config.middleware.some(isCustom)) {
    const kept: unknown[] = [];
    for (const [i, item] of config.middleware.entries()) {
      if (isCustom(item)) await use(item, ["middleware", i], true);
      else keep(kept, item, ["middleware"], i);
    }
    copy = { ...config, middleware: kept };
  }
  if (Array.isArray(config.routes)) {
    let routes: unknown[] | undefined;
    for (const [i, route] of config.routes.entries()) {
      const list = (route as { middleware?: unknown } | null)?.middleware;
      const items = Array.isArray(list) ? list : list === undefined ? [] : [list];
      if (!items.some(isCustom)) continue;
      const replaced: unknown[] = [];
      for (const [j, item] of items.entries()) {
        // A refused one is left out: its own error has been reported.
        const name = isCustom(item) ? await use(item, ["routes", i, "middleware", j], false) : undefined;
        const list = ["routes", i, "middleware"];
        if (name !== undefined) keep(replaced, name, list, j);
        else if (!isCustom(item)) keep(replaced, item, list, j);
      }
      routes ??= [...config.routes];
      routes[i] = { ...(route as object), middleware: replaced };
    }
    if (routes) copy = { ...(copy ?? config), routes };
  }
  return { value: copy ?? value, hooks, moved };

  function keep(kept: unknown[], item: unknown, list: Path, index: number): void {
    const now = kept.push(item) - 1;
    if (now !== index) moved.set(formatPath([...list, now]), [...list, index]);
  }

  /** Neither a built-in type nor a misspelling of one: a defined hook, or what looks like a package or a file. */
  function isCustom(item: unknown): item is Item {
    const type = (item as { type?: unknown } | null)?.type;
    if (typeof type !== "string" || type in MIDDLEWARE || type in TYPE_SPELLINGS) return false;
    return Object.hasOwn(defined, type) || PACKAGE_NAME.test(type);
  }
}

type Refuse = (code: string, message: string, ...below: string[]) => undefined;

async function imported(type: string, base: string, refuse: Refuse): Promise<unknown> {
  const from = createRequire(join(base, "titan.config"));
  let file: string;
  try {
    file = type.startsWith(".") ? join(base, type) : from.resolve(type);
    if (!existsSync(file)) throw new Error("there is no such file");
  } catch {
    return refuse(
      "unknown_name",
      `there is no middleware type or hook ${JSON.stringify(type)}, and no package of that name is installed beside the configuration`,
      "type",
    );
  }
  try {
    const module = (await import(pathToFileURL(file).href)) as { default?: unknown };
    const inner = module.default as { default?: unknown } | undefined;
    return inner?.default ?? inner ?? null;
  } catch (error) {
    return refuse(
      "module_failed",
      `the package ${JSON.stringify(type)} failed to load: ${(error as Error).message}`,
      "type",
    );
  }
}

async function create(factory: HookFactory, options: unknown, refuse: Refuse): Promise<HookInput | undefined> {
  let checked = options;
  if (factory.options) {
    const result = (await factory.options["~standard"].validate(options ?? {})) as {
      value?: unknown;
      issues?: readonly { message: string; path?: readonly unknown[] }[];
    };
    if (result.issues) {
      for (const { message, path = [] } of result.issues) {
        const below = path.map((part) => String((part as { key?: unknown })?.key ?? part));
        refuse("bad_value", message, "config", ...below);
      }
      return undefined;
    }
    checked = result.value;
  }
  try {
    const hook: unknown = factory.create(checked);
    return isHook(hook) ? hook : refuse("bad_hook", "made no hook from its options", "config");
  } catch (error) {
    return refuse("bad_hook", `refused its options: ${(error as Error).message}`, "config");
  }
}
