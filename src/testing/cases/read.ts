/** Finds and reads files of test cases. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { formatPath, type Issue, type Path } from "../../config/issue.ts";
import { Context } from "../../config/kit/index.ts";
import { CONFIG_NAMES } from "../../config/load.ts";
import { type Position, readSource } from "../../config/source.ts";
import { usage } from "../message.ts";
import { type TestFile, testFile } from "./schema.ts";

/** Names of files that are found without being named. */
const NAME = /(^|[.-])titan(\.config)?[.-]test\.(ya?ml|jsonc?)$/;
/** Folders that hold nobody's own tests. */
const LEFT_OUT = new Set(["node_modules", "dist", "target"]);

/** A file of cases that was read. */
export interface ReadFile {
  file: string;
  value: TestFile;
  /** Place of a value, or of its key. */
  place(path: Path, key?: boolean): Position | undefined;
}

/** The files that a command line names: each file, and every test file in each folder. */
export function findTestFiles(names: readonly string[], cwd: string = process.cwd()): string[] {
  const found = new Set<string>();
  for (const name of names.length > 0 ? names : ["."]) {
    const path = resolve(cwd, name);
    if (!existsSync(path)) throw usage(`"${name}" does not exist.`);
    if (statSync(path).isDirectory()) for (const file of walk(path)) found.add(file);
    else found.add(path);
  }
  return [...found];
}

function* walk(folder: string): Generator<string> {
  const entries = readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      if (!entry.name.startsWith(".") && !LEFT_OUT.has(entry.name)) yield* walk(path);
    } else if (NAME.test(entry.name)) yield path;
  }
}

/** Reads and validates a file; every problem with its place where there is one. */
export async function readTestFile(file: string): Promise<ReadFile | Issue[]> {
  const source = await readSource(file, { env: process.env, mode: "test" });
  if (Array.isArray(source)) return source;
  const cx = new Context({ strict: true });
  const value = testFile.parse(source.value, cx);
  const place: ReadFile["place"] = (path, key) => source.find(path, key)?.position;
  if (cx.findings.length > 0 || value === undefined) {
    return cx.findings.map(({ code, message, suggestion, path }) => ({
      severity: "error",
      code,
      message,
      path: formatPath(path),
      ...(suggestion !== undefined && { suggestion }),
      file,
      ...place(path, code === "unknown_key"),
    }));
  }
  return { file, value, place };
}

/** The configuration that a file tests. */
export function configOf({ file, value }: ReadFile, named: string | undefined, cwd: string = process.cwd()): string {
  if (named !== undefined) return resolve(cwd, named);
  if (value.config !== undefined) return resolve(dirname(file), value.config);
  for (const folder of new Set([dirname(file), cwd])) {
    const found = CONFIG_NAMES.map((name) => join(folder, name)).find((path) => existsSync(path));
    if (found !== undefined) return found;
  }
  throw usage(
    `${file} names no configuration, and none is beside it: give it \`config: titan.yaml\`, or use --config.`,
  );
}
