import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Backend, startBackend } from "../helpers/backend.ts";
import { selfSigned } from "../helpers/certificate.ts";
import { startTitan, type Titan } from "../helpers/titan.ts";
import { goTool } from "../helpers/tools.ts";

const run = promisify(execFile);
const h2spec = await goTool("h2spec", "github.com/summerwind/h2spec/cmd/h2spec@latest");

/**
 * Reads the whole request, then takes its time: a case sends several frames and wants the answer to the last of them, so an answer to the
 * first that overtakes it would be judged instead.
 */
const PAUSE_MS = 40;

describe.skipIf(h2spec === undefined)("h2spec", () => {
  let titan: Titan;
  let backend: Backend;

  beforeAll(async () => {
    const { cert_path, key_path } = selfSigned("localhost", "127.0.0.1");
    backend = await startBackend({
      answer: (request, response) =>
        request.resume().on("end", () => setTimeout(() => response.end("hello"), PAUSE_MS)),
    });
    titan = await startTitan({
      config: {
        upstreams: [{ name: "app", backends: [{ host: "127.0.0.1", port: backend.port }] }],
        routes: [{ path: "/*", upstream: "app" }],
      },
      tls: { cert_path, key_path },
    });
  });

  afterAll(async () => {
    await titan?.stop();
    await backend?.close();
  });

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
