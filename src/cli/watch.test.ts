import { mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import { watchFiles } from "./watch.ts";

const directory = mkdtempSync(join(tmpdir(), "titan-watch-"));
let stop: { close(): void } | undefined;

afterEach(() => stop?.close());

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 200 && !condition(); i++) await sleep(20);
  expect(condition()).toBe(true);
}

test("a file replaced by another is one change, a neighbour is none", async () => {
  const file = join(directory, "titan.yaml");
  writeFileSync(file, "a");
  let changes = 0;
  stop = watchFiles(
    () => [file],
    () => changes++,
  );
  writeFileSync(join(directory, "neighbour"), "x");
  await sleep(300);
  expect(changes).toBe(0);
  writeFileSync(`${file}.new`, "bb");
  renameSync(`${file}.new`, file);
  await until(() => changes === 1);
  await sleep(300);
  expect(changes).toBe(1);
});

test("a link that is swapped beside the file counts, as in a Kubernetes volume", async () => {
  for (const name of ["v1", "v2"]) writeFileSync(join(directory, name), name === "v1" ? "one" : "second");
  const link = join(directory, "config.json");
  symlinkSync("v1", link);
  let changes = 0;
  stop = watchFiles(
    () => [link],
    () => changes++,
  );
  symlinkSync("v2", `${link}.new`);
  renameSync(`${link}.new`, link);
  await until(() => changes === 1);
  unlinkSync(link);
  rmSync(directory, { recursive: true });
});
