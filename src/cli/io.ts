import pc from "picocolors";
import { messageOf, TitanError } from "../errors.ts";

/** Colours for stderr. NO_COLOR and FORCE_COLOR are honoured. */
export const err = pc.createColors(
  pc.isColorSupported && (process.stderr.isTTY === true || "FORCE_COLOR" in process.env),
);

/** Colours for stdout. */
export const out = pc.createColors(
  pc.isColorSupported && (process.stdout.isTTY === true || "FORCE_COLOR" in process.env),
);

/** Data: stdout. */
export function print(text: string): void {
  process.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
}

/** Data as JSON: stdout. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2));
}

/** Talk: stderr. */
export function say(text: string): void {
  process.stderr.write(text.endsWith("\n") ? text : `${text}\n`);
}

/** Says what went wrong and what to do, and sets the exit code. With `json`, the error is the data. */
export async function fail(error: unknown, json: boolean): Promise<void> {
  process.exitCode = error instanceof TitanError ? error.exitCode : 1;
  if (json) {
    printJson({ error: error instanceof TitanError ? error.toJSON() : { message: messageOf(error) } });
    return;
  }
  if (!(error instanceof TitanError)) {
    say(`${err.red("error:")} ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    return;
  }
  if (error.issues.length > 0) {
    const { formatIssues } = await import("../config/index.ts");
    say(formatIssues(error.issues, { color: err.isColorSupported }));
    return;
  }
  say(`${err.red("error:")} ${error.message}`);
  say(`${err.dim("fix:")}   ${error.fix} ${err.dim(`[${error.code}]`)}`);
}

/** Rows as a table with a heading; columns are as wide as their longest cell. */
export function table(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = heading.map((name, i) => Math.max(name.length, ...rows.map((row) => (row[i] ?? "").length)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join("  ")
      .trimEnd();
  return [out.bold(line(heading)), ...rows.map(line)].join("\n");
}

/** `1 route`, `2 routes`. */
export function count(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? "" : "s"}`;
}
