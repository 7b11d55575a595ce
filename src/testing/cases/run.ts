/** Runs files of test cases. */
import { setTimeout as sleep } from "node:timers/promises";
import { loadConfig } from "../../config/index.ts";
import { formatPath, type Issue, type Path } from "../../config/issue.ts";
import { suggest } from "../../config/suggest.ts";
import type { Loaded } from "../../config/types.ts";
import { messageOf, TitanError } from "../../errors.ts";
import { createTestGateway, type TestGateway, withTrailers } from "../index.ts";
import type { FakeUpstream, InjectRequest, InjectResult } from "../types.ts";
import { differences } from "./compare.ts";
import { configOf, type ReadFile, readTestFile } from "./read.ts";
import {
  type FakeAnswer,
  type FakeAnswers,
  parseLine,
  type TestCase,
  type TestRequest,
  type TestStep,
} from "./schema.ts";

/** Something that is not as it should be. */
export interface Failure {
  /** Path in the test file, such as `cases[0].expect.status`. */
  path: string;
  line?: number;
  column?: number;
  expected?: string;
  received?: string;
  /** Where nothing could be compared: why. */
  message?: string;
}

/** What became of a case. */
export interface CaseReport {
  name: string;
  status: "passed" | "failed" | "skipped";
  line?: number;
  duration_ms: number;
  failures: Failure[];
  /** What happened to the request that the failures are about. */
  story?: string;
  /** Errors that hooks logged. */
  logs: string[];
}

/** What became of a file. */
export interface FileReport {
  file: string;
  config?: string;
  /** Why its cases could not be run. */
  issues: Issue[];
  cases: CaseReport[];
}

/** How files are run. */
export interface RunOptions {
  /** The configuration, instead of what the files say. */
  config?: string;
  /** Only cases whose name contains this. */
  filter?: string;
  /** Ends at the first failure. */
  bail?: boolean;
  strict?: boolean;
  /** Told of each case when it has run. */
  onCase?: (file: FileReport, report: CaseReport) => void;
}

/** Runs the cases of a file. Never throws for what is wrong with the file or its configuration. */
export async function runFile(path: string, options: RunOptions): Promise<FileReport> {
  const report: FileReport = { file: path, issues: [], cases: [] };
  try {
    const read = await readTestFile(path);
    if (Array.isArray(read)) {
      report.issues = read;
      return report;
    }
    report.config = configOf(read, options.config);
    const loaded = await loadConfig(report.config, {
      env: { ...process.env, ...texts(read.value.env) },
      ...(read.value.mode !== undefined && { mode: read.value.mode }),
      ...(options.strict && { strict: true }),
    });
    report.issues = loaded.ok
      ? unknownNames(read, loaded)
      : loaded.issues.filter(({ severity }) => severity === "error");
    if (!loaded.ok || report.issues.length > 0) return report;
    for (const [index, test] of read.value.cases.entries()) {
      if (options.filter !== undefined && !test.name.includes(options.filter)) continue;
      const result = await runCase(read, loaded, test, index);
      report.cases.push(result);
      options.onCase?.(report, result);
      if (options.bail && result.status === "failed") break;
    }
  } catch (error) {
    if (!(error instanceof TitanError)) throw error;
    // A configuration that only the data plane could refuse, or hooks that did not start.
    const errors = error.issues.filter(({ severity }) => severity === "error");
    report.issues =
      errors.length > 0
        ? errors
        : [{ severity: "error", code: error.code, message: error.message, path: "", file: path }];
  }
  return report;
}

async function runCase(read: ReadFile, loaded: Loaded, test: TestCase, index: number): Promise<CaseReport> {
  const begun = performance.now();
  const at: Path = ["cases", index];
  const report: CaseReport = { name: test.name, status: "passed", duration_ms: 0, failures: [], logs: [] };
  const { line } = read.place(at) ?? {};
  if (line !== undefined) report.line = line;
  if (test.skip) return { ...report, status: "skipped" };
  const answers = test.upstreams || read.value.upstreams ? { ...read.value.upstreams, ...test.upstreams } : undefined;
  const gateway = await createTestGateway(loaded, {
    ...(answers && { upstreams: fakes(answers) }),
    services: fakes(read.value.services),
  });
  try {
    const steps: [TestStep, Path][] = test.steps
      ? test.steps.map((step, number) => [step, [...at, "steps", number]])
      : [[test, at]];
    for (const [step, path] of steps) {
      await runStep(read, gateway, step, path, report);
      // What comes after it would fail for the same reason.
      if (report.failures.length > 0) break;
    }
    report.logs = gateway.logs
      .filter(({ level }) => level === "error")
      .map(({ message, fields }) => `${message}\n${fields.stack ?? ""}`.trim());
  } finally {
    await gateway.close();
  }
  if (report.failures.length > 0) report.status = "failed";
  report.duration_ms = Math.round(performance.now() - begun);
  return report;
}

async function runStep(
  read: ReadFile,
  gateway: TestGateway,
  step: TestStep,
  path: Path,
  report: CaseReport,
): Promise<void> {
  const fail = (below: Path, failure: Omit<Failure, "path" | "line" | "column">) => {
    const whole = [...path, ...below];
    report.failures.push({ path: formatPath(whole), ...read.place(whole), ...failure });
  };
  if (step.advance !== undefined) await gateway.advance(step.advance);
  if (step.request === undefined) return;
  const request = requestOf(step.request);
  let result: InjectResult | undefined;
  try {
    for (let i = 0; i < step.repeat; i++) result = await gateway.inject(request);
  } catch (error) {
    fail(["request"], { message: messageOf(error) });
    return;
  }
  if (!step.expect || !result) return;
  for (const difference of differences(step.expect, result))
    fail(["expect", ...difference.path], { expected: difference.expected, received: difference.received });
  if (report.failures.length > 0) report.story = storyOf(request, result);
}

function requestOf(request: TestRequest): InjectRequest {
  if (typeof request === "string") return parseLine(request) as { method: string; url: string };
  const { client_ip: clientIp, client_certificate: certificate, headers, ...rest } = request;
  return {
    ...rest,
    headers: Object.fromEntries(
      Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value.map(String) : String(value)]),
    ),
    ...(clientIp !== undefined && { clientIp }),
    ...(certificate && {
      clientCertificate: {
        subject: certificate.subject,
        sans: certificate.sans,
        ...(certificate.common_name !== undefined && { commonName: certificate.common_name }),
        ...(certificate.fingerprint !== undefined && { fingerprint: certificate.fingerprint }),
      },
    }),
  };
}

/** Answers as functions; each list is begun anew. */
function fakes(answers: Readonly<Record<string, FakeAnswers>>): Record<string, FakeUpstream> {
  return Object.fromEntries(
    Object.entries(answers).map(([name, answer]): [string, FakeUpstream] => {
      const turns = [answer].flat() as FakeAnswer[];
      let turn = 0;
      const next = async (): Promise<Response> => {
        const answer = turns[Math.min(turn++, turns.length - 1)] as FakeAnswer;
        if (typeof answer === "object" && answer.delay > 0) await sleep(answer.delay, undefined, { ref: false });
        return responseOf(answer);
      };
      return [name, next];
    }),
  );
}

function responseOf(answer: FakeAnswer): Response {
  if (typeof answer === "number") return new Response(null, { status: answer });
  if (answer.reset) return Response.error();
  const headers = new Headers();
  if (answer.json !== undefined) headers.set("content-type", "application/json");
  for (const [name, values] of Object.entries(answer.headers)) {
    headers.delete(name);
    for (const value of [values].flat()) headers.append(name, String(value));
  }
  const body = answer.json === undefined ? answer.body : JSON.stringify(answer.json);
  const bodiless = [204, 205, 304].includes(answer.status);
  const response = new Response(bodiless ? null : (body ?? null), { status: answer.status, headers });
  return Object.keys(answer.trailers).length > 0 ? withTrailers(response, answer.trailers) : response;
}

/** Names of upstreams and services that the configuration does not have. */
function unknownNames(read: ReadFile, loaded: Loaded): Issue[] {
  const upstreams = loaded.config.upstreams.map(({ name }) => name);
  const issues: Issue[] = [];
  const look = (names: Readonly<Record<string, unknown>> | undefined, at: Path) => {
    for (const name of Object.keys(names ?? {})) {
      if (upstreams.includes(name)) continue;
      const path = [...at, "upstreams", name];
      const suggestion = suggest(name, upstreams);
      issues.push({
        severity: "error",
        code: "unknown_name",
        message: `the configuration has no upstream "${name}": it has ${upstreams.join(", ") || "none"}`,
        path: formatPath(path),
        ...(suggestion !== undefined && { suggestion }),
        file: read.file,
        ...read.place(path, true),
      });
    }
  };
  look(read.value.upstreams, []);
  for (const [index, test] of read.value.cases.entries()) look(test.upstreams, ["cases", index]);
  return issues;
}

/** One line: what happened to a request. */
function storyOf({ method = "GET", url }: InjectRequest, result: InjectResult): string {
  const { status, route, upstream, backend, policies, answeredBy } = result;
  const where = upstream === undefined ? "" : `, upstream ${upstream}${backend === undefined ? "" : ` (${backend})`}`;
  const by = answeredBy === undefined ? "" : `, answered by ${answeredBy}`;
  const chain = policies.map(({ name, verdict }) => `${name} ${verdict.replace("_", " ")}`).join(", ");
  return `${method} ${url}: ${status}, ${route === undefined ? "no route" : `route ${route}`}${where}${by}${chain && `; policies: ${chain}`}`;
}

function texts(values: Readonly<Record<string, string | number | boolean>>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, String(value)]));
}
