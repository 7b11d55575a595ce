// One origin in development: pages and hot reload from Vite, /api from your server. The WebSocket of hot reload goes through Titan, too.
import { createServer as createHttpServer } from "node:http";
import { createGateway } from "@titan-gateway/titan";
import { createServer } from "vite";

const api = createHttpServer((request, response) => response.end(JSON.stringify({ api: request.url })));
await new Promise((resolve) => api.listen(0, "127.0.0.1", resolve));

const vite = await createServer({
  root: process.env.ROOT ?? process.cwd(),
  configFile: false,
  logLevel: "error",
  server: { host: "127.0.0.1", port: 0 },
});
await vite.listen();

const gateway = createGateway({
  server: { host: "127.0.0.1", port: Number(process.env.PORT ?? 8080) },
  logging: { log_requests: false },
  upstreams: [
    { name: "pages", backends: [{ host: "127.0.0.1", port: vite.httpServer.address().port }] },
    { name: "api", backends: [{ host: "127.0.0.1", port: api.address().port }] },
  ],
  routes: [
    { path: "/api/*", upstream: "api" },
    { path: "/*", upstream: "pages", websocket: {} },
  ],
});
await gateway.start();
console.log(`listening on ${gateway.address().url}`);

process.once("SIGTERM", async () => {
  await gateway.close();
  api.close(); // Vite closes itself, and ends the process
});
