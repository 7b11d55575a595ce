/** `titan.config.ts` and its kin: loaded as they are on every Node, with no build step, afresh at each reload. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Issue } from "./issue.ts";
import { packageRoot } from "./root.ts";
import type { ConfigEnvironment, Source } from "./source.ts";

const require = createRequire(import.meta.url);

/** What a configuration gets for `@titan-gateway/titan`: a small module, not the whole gateway. */
function definitions(): string {
  const built = resolve(packageRoot(), "dist/define.js");
  return import.meta.url.endsWith(".ts") || !existsSync(built)
    ? fileURLToPath(new URL("./define.ts", import.meta.url))
    : built;
}

/**
 * Runs `file` and takes its default export: an object, or a function of `{mode, env}` that gives one.
 *
 * jiti transforms TypeScript and ESM without a build and, unlike `import()`, can forget modules, so that a reload sees changes in files
 * that the configuration imports too.
 */
export async function loadModule(file: string, environment: ConfigEnvironment): Promise<Source | Issue[]> {
  const { createJiti } = await import("jiti/static");
  const before = new Set(Object.keys(require.cache));
  const jiti = createJiti(file, {
    fsCache: false,
    interopDefault: true,
    tryNative: false,
    // A configuration may import `defineConfig` where the package is not installed beside it (a global or a self-contained install).
    alias: { "@titan-gateway/titan": definitions() },
  });
  const fail = (code: string, message: string, position: object = {}): Issue[] => [
    { severity: "error", code, message, path: "", file, ...position },
  ];
  let exported: unknown;
  let own: string[] = [];
  try {
    exported = await jiti.import(file, { default: true });
    if (typeof exported === "function")
      exported = await (exported as (environment: ConfigEnvironment) => unknown)(environment);
  } catch (error) {
    const { message = String(error), loc } = error as Error & { loc?: { line: number; column: number } };
    if ((error as NodeJS.ErrnoException).code === "ENOENT" && message.includes(file))
      return fail("not_readable", "the file does not exist");
    const place = loc ?? placeInStack(error, file);
    return fail(
      "module_failed",
      `the configuration module failed: ${message.split("\n")[0]}`,
      place ? { line: place.line, column: place.column } : {},
    );
  } finally {
    own = Object.keys(require.cache).filter((id) => !before.has(id));
    for (const id of own) delete require.cache[id];
  }
  if (typeof exported !== "object" || exported === null || Array.isArray(exported)) {
    return fail("module_failed", "the default export must be a configuration: an object, or a function that gives one");
  }
  const files = [...new Set([file, ...own.filter((id) => id.startsWith("/") && !id.includes("/node_modules/"))])];
  return { file, value: exported, variables: true, files, find: () => undefined };
}

/** Line and column of the topmost frame in `file`. */
function placeInStack(error: unknown, file: string): { line: number; column: number } | undefined {
  const stack = error instanceof Error ? (error.stack ?? "") : "";
  const at = stack.indexOf(`${file}:`);
  const match = at < 0 ? null : /^:(\d+):(\d+)/.exec(stack.slice(at + file.length));
  return match ? { line: Number(match[1]), column: Number(match[2]) } : undefined;
}
