import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync } from "node:fs";
import { basename, join, resolve } from "node:path";

const CACHE = resolve(import.meta.dirname, "../../.cache/tools");

/**
 * A conformance tool written in Go: from the environment, the PATH or the cache, else built into the cache where there is a Go toolchain.
 * `undefined` where none of that is possible; the reason is printed, so that a skipped suite is seen.
 */
export function goTool(name: string, module: string): string | undefined {
  const given = process.env[name.toUpperCase()];
  if (given !== undefined) return given;
  for (const dir of [CACHE, ...(process.env.PATH ?? "").split(":")]) {
    const file = join(dir, name);
    if (existsSync(file)) return file;
  }
  try {
    mkdirSync(CACHE, { recursive: true });
    execFileSync("go", ["install", module], { env: { ...process.env, GOBIN: CACHE }, stdio: "pipe", timeout: 600_000 });
    const built = join(CACHE, basename(module.split("@")[0] as string));
    const file = join(CACHE, name);
    if (built !== file) renameSync(built, file);
    return file;
  } catch (error) {
    console.warn(
      `SKIPPED: ${name} is not installed and could not be built with "go install ${module}": ${String(error)}`,
    );
    return undefined;
  }
}

/**
 * A conformance tool from PyPI: from the environment or the PATH, else installed into a virtual environment in the cache.
 * `undefined` where that is not possible; the reason is printed, so that a skipped suite is seen.
 */
export function pythonTool(name: string, requirement: string): string | undefined {
  const given = process.env[name.toUpperCase()];
  if (given !== undefined) return given;
  const home = join(CACHE, requirement.replace(/[^\w.]+/g, "-"));
  for (const dir of [join(home, "bin"), ...(process.env.PATH ?? "").split(":")]) {
    const file = join(dir, name);
    if (existsSync(file)) return file;
  }
  const options = { stdio: "pipe", timeout: 120_000 } as const;
  try {
    execFileSync("python3", ["-m", "venv", home], options);
    execFileSync(join(home, "bin/pip"), ["install", "--quiet", "--disable-pip-version-check", requirement], options);
    return join(home, "bin", name);
  } catch (error) {
    console.warn(`SKIPPED: ${name} is not installed and "pip install ${requirement}" failed: ${String(error)}`);
    return undefined;
  }
}
