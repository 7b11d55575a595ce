import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { selfSigned } from "../helpers/certificate.ts";
import { startTitan, type Titan } from "../helpers/titan.ts";
import { goTool } from "../helpers/tools.ts";

const run = promisify(execFile);
const h2spec = goTool("h2spec", "github.com/summerwind/h2spec/cmd/h2spec@latest");

describe.skipIf(h2spec === undefined)("h2spec", () => {
  let titan: Titan;

  beforeAll(async () => {
    const { cert_path, key_path } = selfSigned("localhost", "127.0.0.1");
    titan = await startTitan({
      config: { routes: [{ path: "/*", respond: { status: 200, body: "hello" } }] },
      tls: { cert_path, key_path },
    });
  });

  afterAll(() => titan?.stop());

  it.each([
    ["by prior knowledge", (t: Titan) => ["-h", "127.0.0.1", "-p", String(t.port)]],
    ["over TLS", (t: Titan) => ["-t", "-k", "-h", "localhost", "-p", String(t.httpsPort)]],
  ])(
    "all 146 cases pass %s",
    async (_, where) => {
      // Its two seconds for an answer are short on a machine that builds something else meanwhile.
      const args = ["-S", "-o", "10", ...where(titan)];
      const { stdout } = await run(h2spec as string, args, { timeout: 120_000 }).catch((error) => error);
      const failures = stdout.lastIndexOf("Failures");
      expect(stdout.slice(failures === -1 ? stdout.lastIndexOf("Finished") : failures)).toContain(
        "146 tests, 146 passed, 0 skipped, 0 failed",
      );
    },
    150_000,
  );
});
