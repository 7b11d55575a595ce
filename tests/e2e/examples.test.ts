/** The embedding examples run, answer through the gateway, and end by SIGTERM. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

const EXAMPLES = resolve(import.meta.dirname, "../../examples");
const page = mkdtempSync(join(tmpdir(), "titan-page-"));

beforeAll(() => writeFileSync(join(page, "index.html"), "<!doctype html><title>page</title>"));
afterAll(() => rmSync(page, { recursive: true }));

test.each([
  ["express.mjs", "/hello/you", '"hello":"you","forwardedFor":"127.0.0.1"'],
  ["fastify.mjs", "/api/hello/you", '{"hello":"you"}'],
  ["hono.mjs", "/version", '"version"'],
  ["vite.mjs", "/api/x", '{"api":"/api/x"}'],
  ["vite.mjs", "/", "<title>page</title>"],
])("%s answers %s", { timeout: 60_000 }, async (name, path, expected) => {
  const child = spawn(process.execPath, [join(EXAMPLES, name)], {
    env: { ...process.env, PORT: "0", ROOT: page },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = new Promise<number | null>((done) => child.once("exit", done));
  const url = await new Promise<string>((done, failed) => {
    let out = "";
    child.stdout.on("data", (data) => {
      out += data;
      const found = /listening on (\S+)/.exec(out)?.[1];
      if (found !== undefined) done(found);
    });
    child.once("exit", (code) => failed(new Error(`${name} ended with ${code}`)));
  });
  const answer = await fetch(url + path);
  expect(answer.status).toBe(200);
  expect(await answer.text()).toContain(expected);
  child.kill("SIGTERM");
  // Vite ends the process itself, by the convention for signals.
  expect([0, name === "vite.mjs" ? 143 : 0]).toContain(await exited);
});
