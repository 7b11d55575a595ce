/** Issues for people. */
import { relative } from "node:path";
import { createColors } from "picocolors";
import type { Issue } from "./issue.ts";

/** `file:line:column  error  message`, errors first in the order of the file, one line each and a summary. */
export function formatIssues(issues: readonly Issue[], options: { color?: boolean; cwd?: string } = {}): string {
  const paint = createColors(options.color ?? false);
  const cwd = options.cwd ?? process.cwd();
  const lines = issues.map((issue) => {
    const file = issue.file === undefined ? "" : short(issue.file, cwd);
    const place = [file, issue.line, issue.column].filter((part) => part !== undefined && part !== "").join(":");
    const severity = issue.severity === "error" ? paint.red("error") : paint.yellow("warning");
    const hint =
      issue.suggestion === undefined ? "" : `; did you mean ${paint.bold(JSON.stringify(issue.suggestion))}?`;
    const path = issue.path === "" ? "" : `${paint.cyan(issue.path)}: `;
    return `${place === "" ? "" : `${place}: `}${severity}: ${path}${issue.message}${hint}`;
  });
  return lines.join("\n");
}

/** "2 errors, 1 warning". */
export function summarise(issues: readonly Issue[]): string {
  const errors = issues.filter((issue) => issue.severity === "error").length;
  const warnings = issues.length - errors;
  const parts: string[] = [];
  if (errors > 0) parts.push(`${errors} error${errors === 1 ? "" : "s"}`);
  if (warnings > 0) parts.push(`${warnings} warning${warnings === 1 ? "" : "s"}`);
  return parts.length > 0 ? parts.join(", ") : "no problems";
}

function short(file: string, cwd: string): string {
  const path = relative(cwd, file);
  return path !== "" && !path.startsWith("..") ? path : file;
}
