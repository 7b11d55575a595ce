import { relative } from "node:path";
import { Command } from "commander";
import { TitanError } from "../errors.ts";
import type { CaseReport, FileReport } from "../testing/cases/run.ts";
import { err, out, print, printJson, say } from "./io.ts";
import { configOption, jsonOption, strictOption } from "./options.ts";

/** `titan test` */
export function test(): Command {
  return new Command("test")
    .description("Run test cases against a configuration: the real data plane, with played clients and backends.")
    .argument("[files...]", "files of cases, or folders to look for them in; default: this folder")
    .addOption(configOption())
    .option("-t, --filter <text>", "run only cases whose name contains the text")
    .option("--bail", "stop at the first case that fails")
    .addOption(strictOption())
    .addOption(jsonOption())
    .addHelpText(
      "after",
      `
Files named titan.test.yaml, NAME.titan-test.yaml and the like (.yml, .json) are found in folders. A file holds cases:

  config: titan.yaml
  upstreams: { api: { json: { ok: true } } }
  cases:
    - name: users go to the API
      request: GET https://api.example.com/users/7
      expect: { status: 200, route: users, upstream: api, forwarded: { path: /v2/users/7 } }

Examples:
  titan test
  titan test gateway/tests --filter login --bail
  titan test api.titan-test.yaml --config titan.staging.yaml --json

Exit codes: 0 every case passed, 1 one failed, 2 usage, a bad file of cases or a bad configuration.`,
    )
    .action(async (names: string[], options: TestOptions) => {
      const { findTestFiles } = await import("../testing/cases/read.ts");
      const { runFile } = await import("../testing/cases/run.ts");
      const files = findTestFiles(names);
      if (files.length === 0) {
        const where = names.length === 0 ? "here" : `in ${names.join(", ")}`;
        throw new TitanError(
          "TITAN_USAGE",
          `There is no file of test cases ${where}: name one titan.test.yaml, for instance.`,
        );
      }
      const begun = performance.now();
      const reports: FileReport[] = [];
      for (const file of files) {
        let headed = false;
        const head = (report: FileReport) => {
          if (!headed) print(titleOf(report));
          headed = true;
        };
        const report = await runFile(file, {
          ...options,
          onCase: (report, result) => {
            if (options.json) return;
            head(report);
            print(lineOf(report, result));
          },
        });
        reports.push(report);
        if (report.issues.length > 0 && !options.json) {
          head(report);
          const { formatIssues } = await import("../config/index.ts");
          say(formatIssues(report.issues, { color: err.isColorSupported }));
        }
        if (options.bail && isBad(report)) break;
      }
      const counts = count(reports);
      process.exitCode = reports.some(({ issues }) => issues.length > 0) ? 2 : counts.failed > 0 ? 1 : 0;
      if (counts.passed + counts.failed + counts.skipped === 0 && process.exitCode === 0) {
        throw new TitanError("TITAN_USAGE", `No case has "${options.filter}" in its name.`);
      }
      const duration_ms = Math.round(performance.now() - begun);
      if (options.json) printJson({ ok: process.exitCode === 0, ...counts, duration_ms, files: reports });
      else print(`\n${summaryOf(counts, reports, duration_ms)}`);
      // What a hook has left open must not keep a finished run alive.
      setTimeout(() => process.exit(), 2_000).unref();
    });
}

interface TestOptions {
  config?: string;
  filter?: string;
  bail?: boolean;
  strict?: boolean;
  json?: boolean;
}

type Counts = Record<CaseReport["status"], number>;

function isBad({ issues, cases }: FileReport): boolean {
  return issues.length > 0 || cases.some(({ status }) => status === "failed");
}

function count(reports: readonly FileReport[]): Counts {
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  for (const { cases } of reports) for (const { status } of cases) counts[status]++;
  return counts;
}

function titleOf({ file, config }: FileReport): string {
  return `${out.bold(short(file))}${config === undefined ? "" : out.dim(`  (${short(config)})`)}`;
}

function lineOf({ file }: FileReport, { name, status, failures, story, logs, duration_ms }: CaseReport): string {
  if (status === "skipped") return `  ${out.dim(`- ${name} (skipped)`)}`;
  if (status === "passed") return `  ${out.green("✓")} ${name}`;
  const lines = [`  ${out.red("✗")} ${name} ${out.dim(`${duration_ms} ms`)}`];
  for (const { path, line, column, expected, received, message } of failures) {
    const place = [short(file), line, column].filter((part) => part !== undefined).join(":");
    lines.push(`      ${out.cyan(path)} ${out.dim(place)}`);
    if (message !== undefined) lines.push(...message.split("\n").map((text) => `        ${text}`));
    else lines.push(`        expected  ${out.green(expected ?? "")}`, `        received  ${out.red(received ?? "")}`);
  }
  if (story !== undefined) lines.push(`      ${out.dim(story)}`);
  for (const log of logs) lines.push(...log.split("\n").map((text) => `      ${out.dim(text)}`));
  return lines.join("\n");
}

function summaryOf({ passed, failed, skipped }: Counts, reports: readonly FileReport[], ms: number): string {
  const refused = reports.filter(({ issues }) => issues.length > 0).length;
  const parts = [
    passed > 0 || failed === 0 ? out.green(`${passed} passed`) : `${passed} passed`,
    failed > 0 ? out.red(`${failed} failed`) : "0 failed",
    ...(skipped > 0 ? [`${skipped} skipped`] : []),
    ...(refused > 0 ? [out.red(`${refused} ${refused === 1 ? "file" : "files"} could not be run`)] : []),
  ];
  return `${parts.join(", ")}\n${out.dim(`${reports.length} ${reports.length === 1 ? "file" : "files"}, ${(ms / 1000).toFixed(1)} s`)}`;
}

/** A path as a person would type it here. */
function short(path: string): string {
  const near = relative(process.cwd(), path);
  return near !== "" && !near.startsWith("..") ? near : path;
}
