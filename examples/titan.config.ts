import { defineConfig } from "../src/config/define.ts";

// In a project of your own: import { defineConfig } from "@titan-gateway/titan";
export default defineConfig({
  server: { port: 8080 },
  upstreams: [
    { name: "users", backends: [{ host: "127.0.0.1", port: 4001 }] },
    { name: "orders", backends: [{ host: "127.0.0.1", port: 4002, weight: 3 }, "127.0.0.1:4003"] },
  ],
  routes: [
    { path: "/users/*", upstream: "users" },
    // A name that no upstream has does not compile.
    { path: "/orders/*", upstream: "orders", middleware: ["strict"] },
  ],
  rate_limits: { strict: { requests_per_second: 5, burst: 10 } },
});
