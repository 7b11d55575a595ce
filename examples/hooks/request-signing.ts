// Signs what goes to the backend: method, path, date and body, with HMAC-SHA-256.
import { createHash, createHmac } from "node:crypto";
import { defineConfig, defineHook } from "@titan-gateway/titan";

const secret = process.env.SIGNING_SECRET ?? "development";

export default defineConfig({
  server: { host: "127.0.0.1", port: 8080 },
  upstreams: [{ name: "api", backends: [{ host: "127.0.0.1", port: 3000 }] }],
  hooks: {
    sign: defineHook({
      reads: { query: true },
      body: "bytes",
      maxBody: 1_000_000,
      onRequest(ctx) {
        const { request } = ctx;
        const date = new Date().toISOString();
        const digest = createHash("sha256").update(request.body).digest("base64");
        const text = [request.method, request.path, request.query, date, digest].join("\n");
        request.headers.set("x-date", date);
        request.headers.set("x-content-sha256", digest);
        request.headers.set("x-signature", createHmac("sha256", secret).update(text).digest("base64"));
      },
    }),
  },
  routes: [{ path: "/*", upstream: "api", middleware: ["sign"] }],
});
