/** A configuration file as a value, with a way back from a path in the value to a place in the text. */
import { readFileSync } from "node:fs";
import { extname, resolve } from "node:path";
import {
  findNodeAtLocation,
  type Node as JsonNode,
  type ParseError,
  parse as parseJsonc,
  parseTree,
  printParseErrorCode,
} from "jsonc-parser";
import type { Document, LineCounter, Node as YamlNode } from "yaml";
import { duplicateKeys } from "./duplicate-keys.ts";
import { formatPath, type Issue, type Path } from "./issue.ts";
import { loadModule } from "./module.ts";
import type { ProgramCode } from "./program/program.ts";

/** Line and column, from 1. */
export interface Position {
  line: number;
  column: number;
}

/** A file that was read. */
export interface Source {
  file: string;
  value: unknown;
  /** May hold `${…}`; false lets interpolation be skipped. */
  variables: boolean;
  /** Files that the value depends on, this one included. */
  files: string[];
  /** Place of the value at `path`, or of the nearest value around it; `key` asks for the key's place instead. Exact only where it exists. */
  find(path: Path, key?: boolean): { position: Position; exact: boolean } | undefined;
}

/** What a function configuration gets. */
export interface ConfigEnvironment {
  /** `production` unless `TITAN_ENV` or the caller says otherwise. */
  mode: string;
  /** The environment that `${NAME}` is taken from: `process.env` unless the caller gives another one. */
  env: Readonly<Record<string, string | undefined>>;
}

/** Extensions that are programs, not data. */
export const MODULE_EXTENSIONS = [".ts", ".mts", ".cts", ".js", ".mjs", ".cjs"];

/** Reads `file` by its extension; problems of reading and syntax as issues. `code` is for modules, see {@link loadModule}. */
export async function readSource(
  file: string,
  environment: ConfigEnvironment,
  code?: ProgramCode,
): Promise<Source | Issue[]> {
  const extension = extname(file).toLowerCase();
  if (MODULE_EXTENSIONS.includes(extension)) return loadModule(file, environment, code);
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reason =
      code === "ENOENT"
        ? "does not exist"
        : code === "EISDIR"
          ? "is a folder"
          : code === "EACCES"
            ? "can't be read: permission denied"
            : message;
    return [{ severity: "error", code: "not_readable", message: `the file ${reason}`, path: "", file }];
  }
  if (text.charCodeAt(0) === 0xfeff) text = text.slice(1);
  if (extension === ".yaml" || extension === ".yml") return readYaml(file, text);
  return readJson(file, text);
}

function readJson(file: string, text: string): Source | Issue[] {
  let value: unknown;
  try {
    // The common case, ten times as fast as a parser that keeps positions or allows comments.
    value = JSON.parse(text);
  } catch {
    const errors: ParseError[] = [];
    value = parseJsonc(text, errors, { allowTrailingComma: true });
    if (errors.length > 0) {
      return errors.map((error) => ({
        severity: "error",
        code: "syntax",
        message: `JSON: ${describeJsonError(error, text)}`,
        path: "",
        file,
        ...positionAt(text, error.offset),
      }));
    }
  }
  const twice = duplicateKeys(text, value);
  if (twice.length > 0) {
    return twice.map(({ path, offset }) => ({
      severity: "error",
      code: "said_twice",
      message: "the key is there twice; keep one of them",
      path: formatPath(path),
      file,
      ...positionAt(text, offset),
    }));
  }
  let tree: JsonNode | undefined;
  const find: Source["find"] = (path, key) => {
    tree ??= parseTree(text, [], { allowTrailingComma: true });
    if (!tree) return undefined;
    for (let length = path.length; length >= 0; length--) {
      const node = findNodeAtLocation(tree, path.slice(0, length) as (string | number)[]);
      if (!node) continue;
      const exact = length === path.length;
      const target = key && exact && node.parent?.type === "property" ? (node.parent.children?.[0] ?? node) : node;
      return { position: positionAt(text, target.offset), exact };
    }
    return undefined;
  };
  return { file, value, variables: text.includes("${"), files: [file], find };
}

function describeJsonError(error: ParseError, text: string): string {
  const words = printParseErrorCode(error.error)
    .replace(/([a-z])([A-Z])/g, "$1 $2")
    .toLowerCase();
  const at = text.slice(error.offset, error.offset + Math.min(error.length || 1, 20)).split("\n")[0];
  return at ? `${words} at ${JSON.stringify(at)}` : `${words} at the end`;
}

async function readYaml(file: string, text: string): Promise<Source | Issue[]> {
  const { LineCounter, parseDocument } = await import("./yaml.ts");
  const lines: LineCounter = new LineCounter();
  const document: Document.Parsed = parseDocument(text, { lineCounter: lines, merge: true, prettyErrors: false });
  const at = (offset: number): Position => {
    const { line, col } = lines.linePos(offset);
    return { line, column: col };
  };
  if (document.errors.length > 0) {
    return document.errors.map((error) => ({
      severity: "error",
      code: "syntax",
      message: `YAML: ${error.message}`,
      path: "",
      file,
      ...at(error.pos[0]),
    }));
  }
  const find: Source["find"] = (path, key) => {
    for (let length = path.length; length >= 0; length--) {
      const node =
        length === 0 ? document.contents : (document.getIn(path.slice(0, length), true) as YamlNode | undefined);
      if (!node?.range) continue;
      const exact = length === path.length;
      if (key && exact && length > 0) {
        const parent = length === 1 ? document.contents : document.getIn(path.slice(0, -1), true);
        const items = (parent as { items?: { key?: YamlNode & { value?: unknown } }[] } | null)?.items ?? [];
        const pair = items.find((item) => item.key?.value === path[length - 1]);
        if (pair?.key?.range) return { position: at(pair.key.range[0]), exact };
      }
      return { position: at(node.range[0]), exact };
    }
    return undefined;
  };
  let value: unknown;
  try {
    // Aliases are bounded, so that a small file can't grow without end.
    value = document.toJS({ maxAliasCount: 1000 });
  } catch (error) {
    return [{ severity: "error", code: "syntax", message: `YAML: ${(error as Error).message}`, path: "", file }];
  }
  return { file, value, variables: text.includes("${"), files: [file], find };
}

/** Offset in a text → line and column. */
export function positionAt(text: string, offset: number): Position {
  let line = 1;
  let start = 0;
  for (let i = text.indexOf("\n"); i >= 0 && i < offset; i = text.indexOf("\n", i + 1)) {
    line++;
    start = i + 1;
  }
  return { line, column: offset - start + 1 };
}

/** `path` from the folder `base`, unless it is absolute. */
export function absolute(path: string, base: string): string {
  return resolve(base, path);
}
