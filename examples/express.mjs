// A gateway before an Express application, in one process: limits, CORS and balancing by Titan, pages by Express.
import { createGateway } from "@titan-gateway/titan";
import express from "express";

const app = express();
app.get("/hello/:name", (request, response) => {
  response.json({ hello: request.params.name, forwardedFor: request.get("x-forwarded-for") });
});
const server = app.listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));

const gateway = createGateway({
  server: { host: "127.0.0.1", port: Number(process.env.PORT ?? 8080) },
  logging: { log_requests: false },
  upstreams: [{ name: "app", backends: [{ host: "127.0.0.1", port: server.address().port }] }],
  routes: [{ path: "/*", upstream: "app" }],
  rate_limit: { requests_per_second: 100, burst: 200 },
});
await gateway.start();
console.log(`listening on ${gateway.address().url}`);

process.once("SIGTERM", async () => {
  await gateway.close(); // what is in flight gets its answer
  server.close();
  server.closeIdleConnections();
});
