/** Authentication and authorization → native policies. */
import type { OutputOf } from "../kit/index.ts";
import type { apikey, basic, forwardAuth, jwt, mtls, redis } from "../schema/auth.ts";
import { compact, type Json, type Lowering, ms, seconds } from "./context.ts";

type Jwt = OutputOf<typeof jwt>;
type ApiKeys = OutputOf<typeof apikey>;
type Basic = OutputOf<typeof basic>;
type Mtls = OutputOf<typeof mtls>;

/** One way to authenticate with its settings. */
export type Method =
  | { type: "jwt"; config: Jwt }
  | { type: "apikey"; config: ApiKeys }
  | { type: "basic"; config: Basic }
  | { type: "mtls"; config: Mtls };

/** One native policy for the methods of a route; they are tried in this order. */
export function lowerAuth(cx: Lowering, methods: readonly Method[], anonymous: boolean): Json {
  const claims = new Map<string, Json>();
  for (const { config } of methods) {
    for (const { claim, header } of config.claim_headers)
      claims.set(`${claim}\n${header.toLowerCase()}`, { claim, header: header.toLowerCase() });
  }
  return {
    methods: methods.map((method) => lowerMethod(cx, method)),
    anonymous,
    realm: methods[0]?.config.realm ?? "titan",
    claim_headers: [...claims.values()],
  };
}

function lowerMethod(cx: Lowering, method: Method): Json {
  switch (method.type) {
    case "jwt":
      return lowerJwt(cx, method.config);
    case "apikey":
      return lowerApiKeys(cx, method.config);
    case "basic":
      return compact({
        method: "basic",
        users: method.config.users.map((user) =>
          compact({ name: user.name, hash: user.hash.text, scopes: user.scopes, roles: user.roles, tier: user.tier }),
        ),
        file: cx.optionalFile(method.config.file),
        attempts: method.config.attempts,
        attempts_window_ms: ms(method.config.attempts_window),
        cache_ms: ms(method.config.cache),
        strip: method.config.strip,
      });
    case "mtls":
      return {
        method: "mtls",
        allowed: method.config.allowed,
        scopes: method.config.scopes,
        roles: method.config.roles,
      };
  }
}

function lowerJwt(cx: Lowering, jwt: Jwt): Json {
  return compact({
    method: "jwt",
    header: jwt.header.toLowerCase(),
    scheme: jwt.scheme,
    cookie: jwt.cookie,
    query: jwt.query,
    strip: jwt.strip,
    keys: jwt.keys.map((key) =>
      compact({
        algorithm: key.algorithm,
        key_id: key.key_id,
        public_key_path: cx.optionalFile(key.public_key_path),
        public_key: key.public_key,
        secret: key.secret && { value: key.secret.base64, encoding: "base64" },
      }),
    ),
    jwks:
      jwt.jwks &&
      compact({
        url: jwt.jwks.url,
        issuer: jwt.jwks.issuer,
        refresh_ms: seconds(jwt.jwks.refresh_interval_seconds),
        timeout_ms: seconds(jwt.jwks.timeout_seconds),
        cooldown_ms: seconds(jwt.jwks.cooldown_seconds),
        retry_max: jwt.jwks.retry_max,
        breaker_ms: seconds(jwt.jwks.circuit_breaker_seconds),
        ca_path: cx.optionalFile(jwt.jwks.ca_path),
        allowed_hosts: jwt.jwks.allowed_hosts,
      }),
    algorithms: jwt.algorithms,
    issuers: jwt.allowed_issuers,
    audiences: jwt.allowed_audiences,
    clock_skew_ms: seconds(jwt.clock_skew_seconds),
    require_exp: jwt.require_exp,
    require_sub: jwt.require_sub,
    cache_capacity: jwt.cache_capacity,
    revocation: jwt.revocation_enabled,
    revocation_redis: jwt.revocation_enabled && cx.redis ? lowerRedis(cx, cx.redis) : undefined,
  });
}

function lowerApiKeys(cx: Lowering, block: ApiKeys): Json {
  if (block.redis && !cx.redis)
    cx.error("missing", ["redis"], '"redis" is missing: an "apikey" block looks for keys there');
  return compact({
    method: "api_key",
    header: block.header.toLowerCase(),
    query: block.query,
    strip: block.strip,
    keys: block.keys.map((key) =>
      compact({
        id: key.id,
        key: key.key?.text,
        sha256: key.sha256?.toLowerCase(),
        scopes: key.scopes,
        roles: key.roles,
        tier: key.tier,
        expires_at: typeof key.expires_at === "string" ? Math.floor(Date.parse(key.expires_at) / 1000) : key.expires_at,
        disabled: key.disabled,
      }),
    ),
    file: cx.optionalFile(block.file),
    redis: block.redis && cx.redis ? lowerRedis(cx, cx.redis) : undefined,
    redis_cache_ms: ms(block.redis_cache),
  });
}

export function lowerRedis(cx: Lowering, block: OutputOf<typeof redis>): Json {
  return compact({
    url: block.url,
    ca_path: cx.optionalFile(block.ca_path),
    prefix: block.prefix,
    timeout_ms: ms(block.timeout),
    fail_mode: block.fail_mode,
  });
}

export function lowerForwardAuth(cx: Lowering, block: OutputOf<typeof forwardAuth>): Json {
  const lower = (names: readonly string[]) => names.map((name) => name.toLowerCase());
  return compact({
    url: block.url,
    timeout_ms: ms(block.timeout),
    request_headers: lower(block.request_headers),
    upstream_headers: lower(block.upstream_headers),
    client_headers: lower(block.client_headers),
    refusal_headers: lower(block.refusal_headers),
    subject_header: block.subject_header?.toLowerCase(),
    fail_mode: block.fail_mode,
    ca_path: cx.optionalFile(block.ca_path),
    max_connections: block.max_connections,
  });
}

/** Scopes and roles of a route. */
export function lowerAuthorize(cx: Lowering, scopes: readonly string[], roles: readonly string[], realm: string): Json {
  const { scope_claim, roles_claim, require_all_scopes, require_all_roles } = cx.config.jwt_authz;
  return {
    scopes,
    roles,
    all_scopes: require_all_scopes,
    all_roles: require_all_roles,
    scope_claim,
    roles_claim,
    realm,
  };
}
