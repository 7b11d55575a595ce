// Each tenant's requests go to its own upstream, chosen by a claim of the verified token.
import { defineConfig, defineHook } from "@titan-gateway/titan";

const upstreamOf: Record<string, string> = { acme: "acme", globex: "globex" };

export default defineConfig({
  server: { host: "127.0.0.1", port: 8080 },
  jwt: {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: Titan fills it in from the environment
    keys: [{ algorithm: "HS256", key_id: "k1", secret: "${JWT_SECRET:-c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTAwMDE=}" }],
  },
  upstreams: [
    { name: "acme", backends: [{ host: "127.0.0.1", port: 3001 }] },
    { name: "globex", backends: [{ host: "127.0.0.1", port: 3002 }] },
  ],
  hooks: {
    tenant: defineHook({
      reads: { claims: ["tenant"] },
      onRequest(ctx) {
        const tenant = ctx.claim("tenant");
        const upstream = tenant === undefined ? undefined : upstreamOf[tenant];
        if (tenant === undefined || upstream === undefined) return ctx.json({ error: "unknown tenant" }, 403);
        ctx.request.headers.set("x-tenant", tenant);
        ctx.forward({ upstream });
        return undefined;
      },
    }),
  },
  routes: [{ path: "/*", upstream: "acme", middleware: ["tenant"] }],
});
