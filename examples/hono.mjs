// A gateway before two versions of a Hono application: a canary by weight.
import { serve } from "@hono/node-server";
import { createGateway } from "@titan-gateway/titan";
import { Hono } from "hono";

const start = (version) =>
  new Promise((resolve) => {
    const app = new Hono();
    app.get("/version", (context) => context.json({ version }));
    const server = serve({ fetch: app.fetch, hostname: "127.0.0.1", port: 0 }, ({ port }) => resolve({ server, port }));
  });
const [stable, canary] = await Promise.all([start("stable"), start("canary")]);

const gateway = createGateway({
  server: { host: "127.0.0.1", port: Number(process.env.PORT ?? 8080) },
  logging: { log_requests: false },
  upstreams: [
    { name: "stable", backends: [{ host: "127.0.0.1", port: stable.port }] },
    { name: "canary", backends: [{ host: "127.0.0.1", port: canary.port }] },
  ],
  routes: [
    {
      path: "/*",
      upstreams: [
        { upstream: "stable", weight: 90 },
        { upstream: "canary", weight: 10 },
      ],
    },
  ],
});
await gateway.start();
console.log(`listening on ${gateway.address().url}`);

process.once("SIGTERM", async () => {
  await gateway.close();
  for (const { server } of [stable, canary]) server.close();
});
