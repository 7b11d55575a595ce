// A/B test: a visitor is put into a group once, and a cookie keeps it there.
import { defineConfig, defineHook } from "@titan-gateway/titan";

const SHARE_OF_B = 0.1;

export default defineConfig({
  server: { host: "127.0.0.1", port: 8080 },
  upstreams: [
    { name: "a", backends: [{ host: "127.0.0.1", port: 3001 }] },
    { name: "b", backends: [{ host: "127.0.0.1", port: 3002 }] },
  ],
  hooks: {
    group: defineHook({
      reads: { headers: ["cookie"] },
      // Without the group, the page is still worth having.
      fail: "open",
      onRequest(ctx) {
        const known = /(?:^|;\s*)group=([ab])(?:;|$)/.exec(ctx.request.headers.get("cookie") ?? "")?.[1];
        const group = known ?? (Math.random() < SHARE_OF_B ? "b" : "a");
        if (known === undefined) {
          ctx.response.headers.append("set-cookie", `group=${group}; Path=/; Max-Age=2592000; SameSite=Lax; HttpOnly`);
        }
        ctx.forward({ upstream: group });
      },
    }),
  },
  routes: [{ path: "/*", upstream: "a", middleware: ["group"] }],
});
