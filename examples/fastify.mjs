// A gateway before a Fastify application, started and closed by Fastify's own hooks.
import { createGateway } from "@titan-gateway/titan";
import Fastify from "fastify";

const app = Fastify();
app.get("/hello/:name", async (request) => ({ hello: request.params.name }));
await app.listen({ host: "127.0.0.1", port: 0 });

const gateway = createGateway({
  server: { host: "127.0.0.1", port: Number(process.env.PORT ?? 8080) },
  logging: { log_requests: false },
  upstreams: [{ name: "app", backends: [{ host: "127.0.0.1", port: app.server.address().port }] }],
  routes: [{ path: "/api/*", upstream: "app", strip_prefix: "/api" }],
  cors: { allowed_origins: ["https://example.com"] },
});
await gateway.start();
console.log(`listening on ${gateway.address().url}`);

process.once("SIGTERM", async () => {
  await gateway.close();
  await app.close();
});
