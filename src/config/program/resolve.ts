/** Where an import of a configuration leads. */
import { existsSync, statSync } from "node:fs";
import { createRequire, isBuiltin } from "node:module";
import { dirname, extname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { isTypeScript } from "./transform.ts";

/** `module`: the user's own, read afresh at every load; `json`: likewise; `native`: a package, Node's business. */
export type Target = { kind: "module" | "json"; file: string } | { kind: "native"; name: string };

const EXTENSIONS = [".ts", ".mts", ".js", ".mjs", ".cts", ".cjs", ".json"];
/** TypeScript's custom: the name of what will be compiled stands for what is there. */
const COMPILED: Record<string, string> = { ".js": ".ts", ".mjs": ".mts", ".cjs": ".cts" };

/** The target of `specifier` in `from`; `undefined` where there is none. */
export function resolveImport(specifier: string, from: string): Target | undefined {
  if (isBuiltin(specifier) || /^(data|https?):/.test(specifier)) return { kind: "native", name: specifier };
  if (/^(\.\.?(\/|$)|\/|file:|[A-Za-z]:[\\/])/.test(specifier)) {
    const [bare = ""] = specifier.split(/[?#]/);
    const file = fileOf(bare.startsWith("file:") ? fileURLToPath(bare) : resolve(dirname(from), bare));
    return file === undefined ? undefined : owned(file);
  }
  try {
    const file = createRequire(from).resolve(specifier);
    const packaged = /[\\/]node_modules[\\/]/.test(file);
    // A package of the same workspace, or one that ships what Node can't read by itself.
    if (!packaged || isTypeScript(file) || extname(file) === ".json") return owned(file);
    return { kind: "native", name: specifier };
  } catch (error) {
    // `require` does not know the package's `import` condition; Node's `import` will.
    if ((error as NodeJS.ErrnoException).code === "ERR_PACKAGE_PATH_NOT_EXPORTED")
      return { kind: "native", name: specifier };
    return undefined;
  }
}

function owned(file: string): Target {
  return { kind: extname(file) === ".json" ? "json" : "module", file };
}

function fileOf(path: string): string | undefined {
  if (isFile(path)) return path;
  const typed = COMPILED[extname(path)];
  const candidates = [
    ...(typed === undefined ? [] : [path.slice(0, -extname(path).length) + typed]),
    ...EXTENSIONS.map((extension) => path + extension),
    ...EXTENSIONS.map((extension) => resolve(path, `index${extension}`)),
  ];
  return candidates.find(isFile);
}

function isFile(path: string): boolean {
  return existsSync(path) && statSync(path).isFile();
}
