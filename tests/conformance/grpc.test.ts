import { type ChildProcess, execFile, spawn } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { selfSigned } from "../helpers/certificate.ts";
import { freePort, startTitan, type Titan } from "../helpers/titan.ts";
import { goTool } from "../helpers/tools.ts";

const run = promisify(execFile);

// Building the two takes minutes: asked for by TITAN_INTEROP=1.
const asked = process.env.TITAN_INTEROP === "1";
if (!asked) console.warn("SKIPPED: gRPC interop (set TITAN_INTEROP=1; it builds grpc-go's client and server)");
const client = asked ? goTool("grpc_client", "google.golang.org/grpc/interop/client@latest") : undefined;
const server = asked ? goTool("grpc_server", "google.golang.org/grpc/interop/server@latest") : undefined;

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

describe.skipIf(client === undefined || server === undefined)("gRPC interop through Titan", () => {
  let titan: Titan;
  let backend: ChildProcess;
  const certificate = selfSigned("localhost", "127.0.0.1");

  beforeAll(async () => {
    const port = await freePort();
    backend = spawn(server as string, ["-port", String(port)], { stdio: "ignore" });
    titan = await startTitan({
      config: {
        server: { max_request_size: "16MiB" },
        upstreams: [{ name: "grpc", protocol: "h2c", backends: [{ host: "127.0.0.1", port }], max_retries: 5 }],
        routes: [{ path: "/*", upstream: "grpc" }],
      },
      tls: { cert_path: certificate.cert_path, key_path: certificate.key_path },
    });
  });

  afterAll(async () => {
    backend?.kill();
    await titan?.stop();
  });

  const plain = () => ["-use_tls=false", "-server_port", String(titan.port)];
  const secure = () => [
    "-use_tls=true",
    "-use_test_ca=true",
    `-ca_file=${certificate.cert_path}`,
    "-server_host_override=localhost",
    "-server_port",
    String(titan.httpsPort),
  ];

  describe.each([
    ["in the clear", plain],
    ["over TLS", secure],
  ])("%s", (_, where) => {
    it.each(CASES)("%s", async (name) => {
      const args = ["-server_host", "127.0.0.1", "-test_case", name, ...where()];
      const { stderr } = await run(client as string, args, { timeout: 25_000 });
      expect(stderr).not.toContain("failed");
    });
  });
});
