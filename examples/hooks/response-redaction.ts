// Takes what clients must not see out of JSON answers.
import { defineConfig, defineHook } from "@titan-gateway/titan";

const SECRET = /^(password|token|ssn|internal_.*)$/i;

function redact(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(redact);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key, SECRET.test(key) ? "[redacted]" : redact(inner)]),
  );
}

export default defineConfig({
  server: { host: "127.0.0.1", port: 8080 },
  upstreams: [{ name: "api", backends: [{ host: "127.0.0.1", port: 3000 }] }],
  hooks: {
    redact: defineHook({
      reads: { responseHeaders: ["content-type"] },
      responseBody: "text",
      maxResponseBody: 4_000_000,
      onResponse(ctx) {
        if (!ctx.response.headers.get("content-type")?.includes("json")) return undefined;
        return ctx.json(redact(JSON.parse(ctx.response.body)), ctx.response.status);
      },
    }),
  },
  routes: [{ path: "/*", upstream: "api", middleware: ["redact"] }],
});
