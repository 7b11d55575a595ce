/** `titan.config.ts` and its kin: loaded as they are on every Node, with no build step, afresh at each reload. */
import { existsSync, readFileSync } from "node:fs";
import { SourceMap } from "node:module";
import { isAbsolute, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Issue } from "./issue.ts";
import { Program, type ProgramCode, UnresolvedImport } from "./program/program.ts";
import { NotTransformed } from "./program/transform.ts";
import { packageRoot } from "./root.ts";
import { type ConfigEnvironment, positionAt, type Source } from "./source.ts";

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
 * `code` holds modules that have been transformed already; those that had to be are added.
 */
export async function loadModule(
  file: string,
  environment: ConfigEnvironment,
  code: ProgramCode = new Map(),
): Promise<Source | Issue[]> {
  const fail = (code: string, message: string, position: object = {}): Issue[] => [
    { severity: "error", code, message, path: "", file, ...position },
  ];
  if (!existsSync(file)) return fail("not_readable", "the file does not exist");
  // A configuration may import `defineConfig` where the package is not installed beside it (a global or a self-contained install).
  const alias = { "@titan-gateway/titan": definitions() };
  const program = new Program(code, alias);
  const files = new Set([file]);
  let exported: unknown;
  try {
    const namespace = (await runs(program, file, code))
      ? await program.run(file)
      : await (await import("./program/babel.ts")).runWithBabel(file, alias, (seen) => files.add(seen));
    exported = namespace.default ?? namespace;
    if (typeof exported === "function")
      exported = await (exported as (environment: ConfigEnvironment) => unknown)(environment);
  } catch (error) {
    const { message = String(error), loc } = error as Error & { loc?: { line: number; column: number } };
    // The compiler counts columns from 0.
    const place = loc ? { line: loc.line, column: loc.column + 1 } : placeInStack(error, file, code);
    return fail(
      "module_failed",
      `the configuration module failed: ${message.split("\n")[0]?.trim()}`,
      place ? { line: place.line, column: place.column } : {},
    );
  } finally {
    for (const own of program.files) if (isAbsolute(own) && !own.includes("/node_modules/")) files.add(own);
  }
  if (typeof exported !== "object" || exported === null || Array.isArray(exported)) {
    return fail("module_failed", "the default export must be a configuration: an object, or a function that gives one");
  }
  return { file, value: exported, variables: true, files: [...files], find: () => undefined };
}

/** Whether the program can run as it is; nothing of it has been run yet where it can't. */
async function runs(program: Program, file: string, code: ProgramCode): Promise<boolean> {
  try {
    await program.read(file);
    return true;
  } catch (error) {
    // What is named and not there may be a path of a tsconfig.json; a relative one is not.
    if (!(error instanceof NotTransformed) && !(error instanceof UnresolvedImport && !error.specifier.startsWith(".")))
      throw error;
    for (const read of program.files) code.delete(read);
    return false;
  }
}

/** Where in `file` an error comes from: the import that leads nowhere, or the topmost frame. */
function placeInStack(error: unknown, file: string, code: ProgramCode): { line: number; column: number } | undefined {
  if (error instanceof UnresolvedImport) {
    const text = error.from === file ? readFileSync(file, "utf8") : "";
    const at = ['"', "'"].map((quote) => text.indexOf(quote + error.specifier + quote)).find((found) => found >= 0);
    return at === undefined ? undefined : positionAt(text, at);
  }
  const stack = error instanceof Error ? (error.stack ?? "") : "";
  const at = stack.indexOf(`${file}:`);
  const match = at < 0 ? null : /^:(\d+):(\d+)/.exec(stack.slice(at + file.length));
  if (!match) return undefined;
  const place = { line: Number(match[1]), column: Number(match[2]) };
  const [, map] = /base64,([A-Za-z0-9+/=]+)\s*$/.exec(code.get(file)?.code ?? "") ?? [];
  if (map === undefined || (process as { sourceMapsEnabled?: boolean }).sourceMapsEnabled) return place;
  const found = new SourceMap(JSON.parse(Buffer.from(map, "base64").toString())).findEntry(
    place.line - 1,
    place.column - 1,
  );
  return "originalLine" in found ? { line: found.originalLine + 1, column: found.originalColumn + 1 } : place;
}
