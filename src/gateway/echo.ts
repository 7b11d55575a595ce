import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

/** A running echo backend. */
export interface Echo {
  host: string;
  port: number;
  close(): Promise<void>;
}

/** Body bytes that are echoed; what is longer is counted and left out. */
const LIMIT = 16_384;

/**
 * The backend behind the embedded default configuration: answers every request with what it received, as JSON, so that the first
 * `curl` shows a request that really went through an upstream hop.
 */
export async function startEcho(): Promise<Echo> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    request.on("data", (chunk: Buffer) => {
      if (bytes < LIMIT) chunks.push(chunk.subarray(0, LIMIT - bytes));
      bytes += chunk.length;
    });
    request.on("error", () => response.destroy());
    request.on("end", () => {
      const body = {
        message: "Hello from the echo backend behind Titan.",
        method: request.method,
        path: request.url,
        headers: request.headers,
        ...(bytes > 0 && { body: Buffer.concat(chunks).toString("utf8"), bytes }),
      };
      const text = `${JSON.stringify(body, null, 2)}\n`;
      response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
      response.end(request.method === "HEAD" ? undefined : text);
    });
  });
  // Longer than the gateway keeps an idle connection, so that the gateway closes first and no request meets a closing socket.
  server.keepAliveTimeout = 120_000;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  server.unref();
  return {
    host: "127.0.0.1",
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
