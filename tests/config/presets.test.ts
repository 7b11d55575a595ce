/** The presets under `presets/`: each stands alone, and reads the variables of the product that it is for. */
import { describe, expect, it } from "vitest";
import { resolveConfig } from "../../src/config/index.ts";

const minimal = {
  upstreams: [{ name: "api", backends: ["127.0.0.1:3000"] }],
  routes: [{ path: "/*", upstream: "api" }],
};

describe("presets", () => {
  const preset = async (name: string, env: Record<string, string>, more: object = {}) =>
    resolveConfig({ extends: `titan:${name}`, ...minimal, ...more }, { env });
  const codes = async (name: string, env: Record<string, string>, more: object = {}) =>
    (await preset(name, env, more)).issues.map((issue) => issue.message);

  it.each(["aas", "chaos-world", "craton", "talos"])(
    "%s stands without any variable, strictly and silently",
    async (name) => {
      const result = await resolveConfig({ extends: `titan:${name}`, ...minimal }, { env: {}, strict: true });
      expect(result.issues).toEqual([]);
      expect(
        result.ok && Object.keys((result.native.builtin as { health_paths: object }).health_paths).length,
      ).toBeGreaterThan(1);
    },
  );

  it("talos in production needs a shared limit, a collector for its traces, and an upstream", async () => {
    expect(await codes("talos", { MODE: "prod" })).toEqual([expect.stringContaining("RATE_LIMIT_BACKEND=redis")]);
    const env = { MODE: "prod", RATE_LIMIT_BACKEND: "redis", REDIS_URL: "redis://r:6379" };
    expect(await codes("talos", env)).toEqual([]);
    expect(await codes("talos", { ...env, TRACING_ENABLED: "true" })).toEqual([
      expect.stringContaining("OTEL_EXPORTER_OTLP_ENDPOINT"),
    ]);
    expect(await codes("talos", env, { upstreams: [], routes: [] })).toEqual(["MODE=prod needs at least one upstream"]);
    expect(await codes("talos", { RATE_LIMIT_BACKEND: "redis" })).toEqual([expect.stringContaining("where is it")]);
    expect(await preset("talos", { RATE_LIMIT_DEFAULT_RPS: "7", SHUTDOWN_DRAIN_TIMEOUT_SECONDS: "5" })).toMatchObject({
      native: {
        listeners: [{ port: 8000 }],
        shutdown_timeout_ms: 5000,
        policies: [{ config: { limits: [{ requests: 7, burst: 20 }] } }],
      },
    });
  });

  it("aas authenticates where an issuer is named", async () => {
    expect(await preset("aas", { OIDC_ISSUER: "https://idp.example", OIDC_JWKS_CACHE_SECONDS: "60" })).toMatchObject({
      native: {
        policies: [
          {
            type: "auth",
            config: {
              methods: [{ jwks: { issuer: "https://idp.example", refresh_ms: 60_000 }, audiences: ["titan-aas"] }],
            },
          },
        ],
      },
    });
  });

  it("craton reads its variables", async () => {
    const env = {
      VDB_BIND_ADDR: "127.0.0.1:5432",
      VDB_AUTH_MODE: "jwt",
      VDB_JWT_SECRET: "0123456789abcdef0123456789abcdef",
      VDB_RATE_LIMIT_RPS: "5",
      VDB_LOG_LEVEL: "WARN",
    };
    expect(await preset("craton", env)).toMatchObject({
      ok: true,
      config: { logging: { level: "warn" } },
      native: {
        listeners: [
          { address: "127.0.0.1", port: 5432, limits: { max_connections: 1024 }, timeouts: { idle_ms: 300_000 } },
        ],
        policies: [{ type: "rate_limit" }, { type: "auth", config: { methods: [{ issuers: ["craton"] }] } }],
      },
    });
    expect(await codes("craton", { VDB_AUTH_MODE: "jwt" })).toEqual([
      expect.stringContaining("VDB_JWT_SECRET is not set"),
    ]);
    expect(await codes("craton", { VDB_AUTH_MODE: "both", VDB_JWT_SECRET: "x".repeat(32) })).toEqual([
      expect.stringContaining("API keys"),
    ]);
    expect(await codes("craton", { VDB_AUTH_MODE: "maybe" })).toEqual([
      "VDB_AUTH_MODE must be none, jwt, apikey or both",
    ]);
  });
});
