import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";

/** A Node server to put Titan before. */
export interface Backend {
  readonly name: string;
  readonly port: number;
  /** Requests answered, health checks not counted. */
  hits: number;
  /** Health checks answered. */
  probes: number;
  /** What `/health` answers. */
  healthy: boolean;
  /** Connections open now, and the most there ever were. */
  connections: number;
  peak: number;
  readonly server: Server;
  close(): Promise<void>;
}

/** How it answers. */
export interface BackendOptions {
  name?: string;
  port?: number;
  tls?: { cert_path: string; key_path: string };
  answer?: (request: IncomingMessage, response: ServerResponse, backend: Backend) => void;
}

/** Starts one; without `answer`, it answers JSON that says who it is and what it got. */
export async function startBackend(options: BackendOptions = {}): Promise<Backend> {
  const { name = "backend", answer = describe } = options;
  const onRequest = (request: IncomingMessage, response: ServerResponse) => {
    if (request.url === "/health") {
      backend.probes++;
      response.writeHead(backend.healthy ? 200 : 503).end("health\n");
      return;
    }
    backend.hits++;
    answer(request, response, backend);
  };
  const { tls } = options;
  const server = tls
    ? (createTlsServer({ cert: readFileSync(tls.cert_path), key: readFileSync(tls.key_path) }, onRequest) as Server)
    : createServer(onRequest);
  server.keepAliveTimeout = 60_000;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port ?? 0, "127.0.0.1", resolve);
  });
  const backend: Backend = {
    name,
    port: (server.address() as AddressInfo).port,
    hits: 0,
    probes: 0,
    healthy: true,
    connections: 0,
    peak: 0,
    server,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  server.on("connection", (socket) => {
    backend.connections++;
    backend.peak = Math.max(backend.peak, backend.connections);
    socket.on("close", () => backend.connections--);
  });
  return backend;
}

function describe(request: IncomingMessage, response: ServerResponse, backend: Backend): void {
  let bytes = 0;
  request.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
  });
  request.on("end", () => {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(
      JSON.stringify({
        backend: backend.name,
        method: request.method,
        url: request.url,
        headers: request.headers,
        bytes,
      }),
    );
  });
}
