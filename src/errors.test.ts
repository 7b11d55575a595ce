import { expect, test } from "vitest";
import { ERRORS, TitanError } from "./errors.ts";

test("docs/errors.md is the table (npx vitest run src/errors.test.ts -u writes it)", async () => {
  const rows = Object.entries(ERRORS).map(
    ([code, { exit, when, fix }]) => `## ${code}\n\n${when}\n\n**Fix.** ${fix}\n\nExit code ${exit}.\n`,
  );
  const page = `# Errors

Every error that Titan throws on purpose is a \`TitanError\` with one of these codes in \`code\`, what to do in \`fix\`, and for a refused
configuration every problem in \`issues\`. The command line prints message and fix on stderr (with \`--json\`: on stdout, as
\`{"error":{"code","message","fix"}}\`) and ends with the exit code given here. What Titan answers to HTTP clients is in
[lifecycle.md](lifecycle.md#errors).

<!-- Written from src/errors.ts by src/errors.test.ts. -->

${rows.join("\n")}`;
  await expect(page).toMatchFileSnapshot("../docs/errors.md");
});

test("an error carries its exit code, its fix and its issues", () => {
  const issues = [{ severity: "error", code: "type", message: "must be a number", path: "server.port" }] as const;
  const error = new TitanError("TITAN_CONFIG_INVALID", "titan.yaml has an error", { issues });
  expect(error).toBeInstanceOf(Error);
  expect(error.exitCode).toBe(2);
  expect(error.toJSON()).toMatchObject({ code: "TITAN_CONFIG_INVALID", fix: ERRORS.TITAN_CONFIG_INVALID.fix, issues });
});
