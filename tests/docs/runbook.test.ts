/** A runbook that names a figure or a line which is not there costs the minutes in which it is read. */
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, test } from "vitest";
import { FAMILIES } from "../../src/metrics/families.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const text = readFileSync(join(ROOT, "docs/runbook.md"), "utf8");
const named = [...text.matchAll(/`([^`]+)`/g)].map(([, code = ""]) => code);

/** What is written in quotes in the sources, tests left out. */
function sources(folder: string, ending: string): string {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(ending) && !/tests?\.|\.test\./.test(file))
    .map((file) => readFileSync(join(ROOT, folder, file), "utf8"))
    .join("\n");
}

test("every metric is one of Titan's or of the process's", () => {
  const known = new Set(FAMILIES.map(({ name }) => name));
  const metrics = named
    .map((code) => code.replace(/\{.*$/, ""))
    .filter((code) => /^(titan|process)_[a-z_]+$/.test(code));
  expect(metrics.length).toBeGreaterThan(20);
  // prom-client's collectors for the process.
  const theirs = /^process_(open_fds|max_fds|resident_memory_bytes|cpu_seconds_total)$/;
  expect(metrics.filter((name) => !known.has(name) && !theirs.test(name))).toEqual([]);
});

test("every event and stage is one that the code has", () => {
  const code = `${sources("crates/titan-core/src", ".rs")}\n${sources("src", ".ts")}`;
  const words = named.filter((word) =>
    /^(backend|circuit|dns|store|jwks|hooks?|buffers|certificate|accept|drain)_[a-z_]+$/.test(word),
  );
  words.push(
    ...named.filter((word) => /^(upstream_(reset|timeout|tls)|no_endpoint|pool_exhausted|overload)$/.test(word)),
  );
  expect(words.length).toBeGreaterThan(25);
  const settings = new Set(["hook_workers"]);
  expect(words.filter((word) => !settings.has(word) && !code.includes(`"${word}"`))).toEqual([]);
  expect(code).toContain("RELOAD REFUSED");
  expect(code).toContain("THE OTHER PROCESS DID NOT TAKE OVER");
});

test("every setting is one of the schema's", () => {
  const schema = readFileSync(join(ROOT, "schema/titan.schema.json"), "utf8");
  const settings = named.filter((word) => /^(server|retry|dns|health)\.[a-z_]+$/.test(word));
  expect(settings.length).toBeGreaterThan(6);
  expect(settings.filter((word) => !schema.includes(`"${word.split(".")[1]}"`))).toEqual([]);
});

test("its own links lead somewhere", () => {
  const anchors = [...text.matchAll(/^## (.+)$/gm)].map(([, title = ""]) =>
    title
      .toLowerCase()
      .replace(/[^a-z0-9 -]/g, "")
      .replaceAll(" ", "-"),
  );
  const links = [...text.matchAll(/\]\(#([^)]+)\)/g)].map(([, anchor]) => anchor);
  expect(links.length).toBeGreaterThan(8);
  expect(links.filter((anchor) => !anchors.includes(anchor ?? ""))).toEqual([]);
});
