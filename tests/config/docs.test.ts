// Every example of the middleware pages is a configuration that Titan takes without a word.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { resolveConfig } from "../../src/config/index.ts";

const folder = fileURLToPath(new URL("../../docs/middleware", import.meta.url));

describe("docs/middleware", () => {
  for (const page of readdirSync(folder)) {
    it(page, async () => {
      const text = readFileSync(join(folder, page), "utf8");
      const examples = [...text.matchAll(/```json\n([\s\S]*?)```/g)].map((match) => match[1] ?? "");
      expect(examples.length, "a page has a working example").toBeGreaterThan(0);
      for (const example of examples) {
        const { issues } = await resolveConfig(JSON.parse(example), { env: {}, cwd: "/" });
        expect(issues).toEqual([]);
      }
    });
  }
});
