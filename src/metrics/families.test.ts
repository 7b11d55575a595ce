import { expect, test } from "vitest";
import { FAMILIES } from "./families.ts";

test("docs/metrics.md is the table (npx vitest run src/metrics -u writes it)", async () => {
  const rows = FAMILIES.map(({ name, type, help }) => `| \`${name}\` | ${type} | ${help} |`);
  const page = `# Metrics

At \`/_metrics\` (loopback and \`metrics.allow\`) and on the admin listener, in Prometheus' text format. Route \`none\` is what no route matched.
Beside these: \`titan_info{version,node}\` and the process's own \`process_*\` and \`nodejs_*\`.

<!-- Written from src/metrics/families.ts by src/metrics/families.test.ts. -->

| family | type | |
|---|---|---|
${rows.join("\n")}
`;
  await expect(page).toMatchFileSnapshot("../../docs/metrics.md");
});

test("names and types follow Prometheus' conventions", () => {
  for (const { name, type } of FAMILIES) {
    expect(name).toMatch(/^titan_[a-z_]+$/);
    expect(name.endsWith("_total"), name).toBe(type === "counter");
  }
  expect(new Set(FAMILIES.map(({ name }) => name)).size).toBe(FAMILIES.length);
});
