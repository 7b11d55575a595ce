// The gateway of a small shop: who may do what is decided here, so it is tested here (titan.test.yaml, gateway.test.ts).
import { defineConfig, defineHook } from "@titan-gateway/titan";

export default defineConfig({
  server: { host: "127.0.0.1", port: 8080 },
  upstreams: [
    { name: "catalogue", backends: ["catalogue-1.internal:3000", "catalogue-2.internal:3000"], max_retries: 1 },
    { name: "orders", backends: ["orders.internal:3000"] },
  ],
  jwt: {
    jwks: { issuer: "https://login.example.com/realms/shop" },
    allowed_audiences: ["shop"],
    claim_headers: [{ claim: "sub", header: "X-User-Id" }],
  },
  cors: { allowed_origins: ["https://shop.example.com"], allow_credentials: true },
  hooks: {
    // Orders above a limit are for staff: a rule that only the body tells.
    limit: defineHook({
      when: { methods: ["POST"] },
      body: "json",
      reads: { claims: ["groups"] },
      onRequest(ctx) {
        const { total } = ctx.request.body as { total?: number };
        if (typeof total !== "number") return ctx.json({ error: "an order has a total" }, 422);
        if (total > 1_000 && !(ctx.claim("groups") ?? "").includes("staff")) {
          return ctx.json({ error: "ask somebody of the staff" }, 403);
        }
        return undefined;
      },
    }),
  },
  routes: [
    {
      name: "items",
      path: "/items/:id",
      method: "GET",
      upstream: "catalogue",
      rewrite_path: "/v2/items/:id",
      auth: "none",
    },
    {
      name: "orders",
      path: "/orders/*",
      methods: ["GET", "POST"],
      upstream: "orders",
      middleware: [
        "limit",
        { type: "rate_limit", config: { limits: [{ requests: 3, window: "1m", burst: 3, key: "subject" }] } },
      ],
    },
  ],
});
