import { execFile, execFileSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** A build from nothing takes a minute of a core. It is not waited for synchronously: the worker must go on answering the runner. */
const BUILD_MS = 900_000;
const CACHE = resolve(import.meta.dirname, "../../.cache/tools");

/**
 * A conformance tool written in Go: from the environment, the PATH or the cache, else built into the cache where there is a Go toolchain.
 * `undefined` where none of that is possible; the reason is printed, so that a skipped suite is seen.
 */
export async function goTool(name: string, module: string): Promise<string | undefined> {
  const given = process.env[name.toUpperCase()];
  if (given !== undefined) return given;
  for (const dir of [CACHE, ...(process.env.PATH ?? "").split(":")]) {
    const file = join(dir, name);
    if (existsSync(file)) return file;
  }
  try {
    mkdirSync(CACHE, { recursive: true });
    await run("go", ["install", module], { env: { ...process.env, GOBIN: CACHE }, timeout: BUILD_MS });
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
 * A conformance program of this repository that is written in Go: from the environment, else built into the cache (its modules are pinned
 * by its `go.sum`). `undefined` where there is no Go toolchain; the reason is printed, so that a skipped suite is seen.
 */
export async function goProgram(name: string, directory: string): Promise<string | undefined> {
  const given = process.env[name.toUpperCase().replaceAll("-", "_")];
  if (given !== undefined) return given;
  const file = join(CACHE, name);
  try {
    mkdirSync(CACHE, { recursive: true });
    await run("go", ["build", "-buildvcs=false", "-o", file, "."], { cwd: directory, timeout: BUILD_MS });
    return file;
  } catch (error) {
    console.warn(`SKIPPED: ${name} could not be built with "go build" in ${directory}: ${String(error)}`);
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
