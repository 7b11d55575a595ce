/** What is wrong with a configuration, where, and how to put it right. */

/** How bad an {@link Issue} is: an `error` refuses the configuration, a `warning` is only said. */
export type Severity = "error" | "warning";

/** Keys and indices that lead to a value, from the root of a configuration file. */
export type Path = ReadonlyArray<string | number>;

/** One problem of a configuration. All of them are collected before anything is refused. */
export interface Issue {
  /** Errors refuse the configuration. */
  severity: Severity;
  /** Stable identifier, such as `unknown_key`, for programs. */
  code: string;
  /** What is wrong and what would be right, as one sentence without the place. */
  message: string;
  /** JSON path in the file, such as `upstreams[0].backends[1].host`; empty for the whole file. */
  path: string;
  /** A spelling that was probably meant. */
  suggestion?: string;
  /** File that holds the problem; absent for a configuration made by a program. */
  file?: string;
  /** Line, from 1. */
  line?: number;
  /** Column, from 1. */
  column?: number;
}

/** `["upstreams", 0, "name"]` → `upstreams[0].name`. */
export function formatPath(path: Path): string {
  let text = "";
  for (const part of path) {
    if (typeof part === "number") text += `[${part}]`;
    else if (/^[A-Za-z_$][\w$-]*$/.test(part)) text += text === "" ? part : `.${part}`;
    else text += `[${JSON.stringify(part)}]`;
  }
  return text;
}

/** `upstreams[0].name` → `["upstreams", 0, "name"]`. The inverse of {@link formatPath}. */
export function parsePath(text: string): Path {
  const path: (string | number)[] = [];
  for (const match of text.matchAll(/\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]|([^.[\]]+)/g)) {
    if (match[1] !== undefined) path.push(Number(match[1]));
    else if (match[2] !== undefined) path.push(JSON.parse(`"${match[2]}"`) as string);
    else if (match[3] !== undefined) path.push(match[3]);
  }
  return path;
}

/** In the order of the file; what has no place goes first. */
export function inFileOrder(issues: readonly Issue[]): Issue[] {
  return [...issues].sort((a, b) => {
    if (a.file !== b.file) return 0;
    return (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0);
  });
}
