// The interoperability cases of grpc-go, its client and its server, with Titan between them.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual, promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { selfSigned } from "../helpers/certificate.ts";
import { startTitan, type Titan } from "../helpers/titan.ts";
import { goProgram } from "../helpers/tools.ts";

const run = promisify(execFile);
const interop = await goProgram("grpc-interop", join(import.meta.dirname, "grpc-interop"));

/** All but those that need Google's credentials or a client that balances. */
const CASES = [
  "empty_unary",
  "large_unary",
  "client_streaming",
  "server_streaming",
  "ping_pong",
  "empty_stream",
  "timeout_on_sleeping_server",
  "cancel_after_begin",
  "cancel_after_first_response",
  "status_code_and_message",
  "special_status_message",
  "custom_metadata",
  "unimplemented_method",
  "unimplemented_service",
];

/** The client gives a case a minute; it takes some milliseconds. */
const PATIENCE = 90_000;

/** The port that the server prints once it listens. */
function listening(server: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    let text = "";
    server.stdout?.on("data", (data) => {
      text += data;
      if (text.includes("\n")) resolve(Number(text));
    });
    server.once("exit", (code) => reject(new Error(`the gRPC server ended with ${code}`)));
    server.once("error", reject);
  });
}

/** An upstream whose active checks ask for a service. */
const checked = (service: string, port: number) => ({
  protocol: "h2c",
  backends: [{ host: "127.0.0.1", port }],
  health_check: { type: "grpc", path: service, interval: "250ms", healthy_threshold: 1, unhealthy_threshold: 1 },
});

describe.skipIf(interop === undefined)("gRPC interop through Titan", () => {
  let titan: Titan;
  let backend: ChildProcess;
  const certificate = selfSigned("localhost", "127.0.0.1");

  beforeAll(async () => {
    backend = spawn(interop as string, ["serve"], { stdio: ["ignore", "pipe", "inherit"] });
    const port = await listening(backend);
    titan = await startTitan({
      config: {
        server: { max_request_size: "16MiB" },
        upstreams: [
          { name: "grpc", ...checked("grpc.testing.TestService", port) },
          { name: "resting", ...checked("resting", port) },
          { name: "unknown", ...checked("no.such.Service", port) },
        ],
        routes: [{ path: "/*", upstream: "grpc" }],
      },
      tls: { cert_path: certificate.cert_path, key_path: certificate.key_path },
    });
  });

  afterAll(async () => {
    backend?.kill();
    await titan?.stop();
  });

  it("the health service of grpc-go decides where calls go", async () => {
    const states = async () => {
      const { upstreams } = (await (await fetch(`http://127.0.0.1:${titan.adminPort}/_admin/status`)).json()) as {
        upstreams: { name: string; backends: { status: string }[] }[];
      };
      return Object.fromEntries(upstreams.map(({ name, backends }) => [name, backends.map(({ status }) => status)]));
    };
    const wanted = { grpc: ["up"], resting: ["unhealthy"], unknown: ["unhealthy"] };
    let seen = await states();
    for (const end = Date.now() + 20_000; Date.now() < end && !isDeepStrictEqual(seen, wanted); seen = await states()) {
      await sleep(50);
    }
    expect(seen).toEqual(wanted);
  });

  describe.each([
    { where: "in the clear", port: () => titan.port, ca: "-" },
    { where: "over TLS", port: () => titan.httpsPort, ca: certificate.cert_path },
  ])("$where", ({ port, ca }) => {
    it.each(CASES)(
      "%s",
      async (name) => {
        const { stdout } = await run(interop as string, [`127.0.0.1:${port()}`, ca, name], { timeout: PATIENCE });
        expect(stdout).toBe(`${name}\n`);
      },
      PATIENCE + 10_000,
    );
  });
});
