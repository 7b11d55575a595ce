/** Authentication and authorization: `jwt`, `apikey`, `basic`, `mtls`, `forward_auth`, `jwt_authz`. */
import { boolean, duration, either, integer, list, object, oneOf, secret, string } from "../kit/index.ts";
import { file, headerName, httpUrl } from "./formats.ts";

const text = (max = 512) => string({ min: 1, max });
const words = (max = 100) => list(text(), { max, single: true });

/** Algorithms of RFC 7518 and 8037 that are accepted; `none` is not among them. */
export const JWT_ALGORITHMS = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
  "HS256",
  "HS384",
  "HS512",
] as const;

const jwtKey = object(
  {
    algorithm: oneOf(JWT_ALGORITHMS).doc("The one algorithm that the key is used for."),
    key_id: text()
      .optional()
      .doc("`kid`: a token that names another is not tried with this key. Absent: tried for every token."),
    public_key_path: file().optional().doc("PEM file: SPKI, PKCS#1 or a certificate."),
    public_key: string({ min: 1 }).optional().doc("The PEM text itself."),
    secret: secret({ encoding: "base64" })
      .optional()
      .doc('Secret of an HMAC, base64 unless it is `{"value", "encoding"}`.'),
  },
  {
    title: "JWT key",
    guarded: true,
    aliases: { kid: "key_id", alg: "algorithm", public_key_file: "public_key_path" },
    check: (key, cx) => {
      const given = ["public_key_path", "public_key", "secret"].filter((name) => key[name] !== undefined);
      const hmac = String(key.algorithm).startsWith("HS");
      if (given.length !== 1)
        cx.report({
          code: "contradiction",
          message: 'needs exactly one of "public_key_path", "public_key" and "secret"',
        });
      else if (hmac !== (given[0] === "secret")) {
        cx.report({
          code: "contradiction",
          message: `${key.algorithm} needs ${hmac ? 'a "secret"' : "a public key"}, not ${JSON.stringify(given[0])}`,
        });
      }
    },
  },
);

const jwks = object(
  {
    url: httpUrl().optional().doc("URL of the key set; `https`, or `http` to a loopback address."),
    issuer: httpUrl().optional().doc("OIDC issuer: the URL comes from its `/.well-known/openid-configuration`."),
    refresh_interval_seconds: duration("s", { min: 1 }).default(3600).doc("Between two refreshes, in the background."),
    timeout_seconds: duration("s", { min: 0.1, max: 300 }).default(10).doc("One request."),
    cooldown_seconds: duration("s", { min: 1 })
      .default(30)
      .doc("Between two refreshes that an unknown `kid` causes, and between two tries while the provider is down."),
    retry_max: integer({ min: 0, max: 100 })
      .default(3)
      .doc("Failed tries in a row after which the provider is left alone for `circuit_breaker_seconds`."),
    circuit_breaker_seconds: duration("s", { min: 1 })
      .default(300)
      .doc(
        "How long a failing provider is left alone. Keys that are known stay in use; while there are none, trying goes on.",
      ),
    ca_path: file().optional().doc("PEM bundle used instead of the system's roots."),
    allowed_hosts: list(text(), { max: 100, single: true })
      .default([])
      .doc("Hosts that may be fetched from; empty = only the host of `url` or `issuer`."),
  },
  {
    title: "JWKS",
    guarded: true,
    check: (set, cx) => {
      if ((set.url === undefined) === (set.issuer === undefined))
        cx.report({ code: "contradiction", message: 'needs exactly one of "url" and "issuer"' });
    },
  },
);

export const redisFields = {
  url: string({
    min: 1,
    code: "bad_url",
    check: (url) =>
      /^(rediss?:\/\/\S+|unix:\/\/\/\S+)$/.test(url)
        ? undefined
        : 'must be "redis://[user:password@]host[:port][/db]", "rediss://…" or "unix:///path"',
  })
    .optional()
    .doc("`redis://[user:password@]host[:port][/db]`, `rediss://` for TLS, or `unix:///path`."),
  ca_path: file().optional().doc("PEM bundle for `rediss://` in place of the system's roots."),
  prefix: string({ max: 256 }).default("titan:").doc("Put before every key."),
  timeout: duration("ms", { min: 1, max: 60_000 })
    .default(50)
    .doc("One round trip, connecting included; then `fail_mode` decides."),
  fail_mode: oneOf(["open", "closed", "local"])
    .default("local")
    .doc("While it can't be asked: admit, refuse with 503, or count in this process."),
} as const;

export const redis = object(redisFields, { title: "Redis", guarded: true, aliases: { timeout_ms: "timeout" } });

const claimHeader = object(
  {
    claim: text().doc("Claim path, such as `sub` or `realm_access.roles`; a list is joined with commas."),
    header: headerName().doc("Header towards the backend. A client's own header of that name is taken off."),
  },
  { title: "Claim header", guarded: true },
);

/** Settings that every way to authenticate has. */
const shared = {
  enabled: boolean().default(true).doc("`false` keeps the block without using it."),
  realm: string({
    min: 1,
    max: 128,
    check: (t) => (/["\\]/.test(t) ? "must not hold a quote or a backslash" : undefined),
  })
    .default("titan")
    .doc("Realm in `WWW-Authenticate`."),
  claim_headers: list(claimHeader, { max: 50 })
    .default([])
    .doc("Verified claims written to headers towards the backend."),
} as const;

export const jwt = object(
  {
    ...shared,
    header: headerName().default("Authorization").doc("Header that carries the token."),
    scheme: string({ max: 32 }).default("Bearer").doc("Scheme before the token; empty = the whole value is the token."),
    cookie: text(256).optional().doc("Cookie that is looked at where the header is absent."),
    query: text(256)
      .optional()
      .doc("Query parameter looked at where both are absent; taken off before forwarding and masked in logs."),
    strip: boolean().default(false).doc("Take the token off before forwarding."),
    keys: list(jwtKey, { max: 100 }).default([]).doc("Static keys."),
    jwks: jwks.optional().doc("Keys by URL or OIDC discovery."),
    algorithms: list(oneOf(JWT_ALGORITHMS), { max: 20, single: true })
      .default([])
      .doc("Accepted algorithms. Empty: those of `keys`, and with `jwks` all but HMAC."),
    allowed_issuers: words()
      .default([])
      .doc("Accepted `iss`; empty = with discovery the provider's, else not checked."),
    allowed_audiences: words()
      .default([])
      .doc("Accepted `aud`, one of which must be in the token; empty = not checked."),
    clock_skew_seconds: duration("s", { max: 3600 }).default(60).doc("Tolerance for `exp`, `nbf` and `iat`."),
    require_exp: boolean().default(true).doc("Refuse a token without `exp`."),
    require_sub: boolean().default(false).doc("Refuse a token without `sub`."),
    cache_capacity: integer({ min: 0, max: 10_000_000 })
      .default(10_000)
      .doc("Verified tokens remembered until they expire; 0 = none."),
    revocation_enabled: boolean().default(true).doc("Look at the list of revoked `jti`s."),
  },
  {
    title: "JWT",
    guarded: true,
    aliases: {
      issuers: "allowed_issuers",
      audiences: "allowed_audiences",
      issuer: "allowed_issuers",
      audience: "allowed_audiences",
      revocation: "revocation_enabled",
    },
    check: (value, cx) => {
      if (value.enabled !== false && (value.keys as unknown[]).length === 0 && value.jwks === undefined) {
        cx.report({ code: "missing", message: 'no token can be verified: give "keys" or "jwks"' });
      }
    },
  },
);

const apiKeyEntry = object(
  {
    id: text(128).doc("Subject of the identity, limit key, log field."),
    key: secret({ minBytes: 8 }).optional().doc("The key itself; only its SHA-256 is kept."),
    sha256: string({ check: (t) => (/^[0-9a-f]{64}$/i.test(t) ? undefined : "must be 64 hex digits") })
      .optional()
      .doc("SHA-256 of the key, hex."),
    scopes: words().default([]).doc("Scopes of the identity."),
    roles: words().default([]).doc("Roles of the identity."),
    tier: text(64).optional().doc("Plan, for the tiers of a rate limit."),
    expires_at: either("a Unix time in seconds or an RFC 3339 date", {
      number: integer({ min: 0 }),
      string: string({
        check: (t) => (Number.isNaN(Date.parse(t)) ? "must be a date such as 2027-01-31T00:00:00Z" : undefined),
      }),
    })
      .optional()
      .doc("Refused from this time on."),
    disabled: boolean().default(false).doc("Refused while true."),
  },
  {
    title: "API key",
    guarded: true,
    check: (key, cx) => {
      if ((key.key === undefined) === (key.sha256 === undefined))
        cx.report({ code: "contradiction", message: 'needs exactly one of "key" and "sha256"' });
    },
  },
);

export const apikey = object(
  {
    ...shared,
    header: headerName().default("X-API-Key").doc("Header that carries the key."),
    query: text(256)
      .optional()
      .doc("Query parameter looked at where the header is absent; taken off before forwarding and masked in logs."),
    strip: boolean().default(true).doc("Take the key off before forwarding."),
    keys: list(apiKeyEntry, { max: 10_000 }).default([]).doc("Keys."),
    file: file().optional().doc("JSON list of more keys; read again by each reload."),
    redis: boolean()
      .default(false)
      .doc("Look for more keys in the server of `redis` (hash `<prefix>apikey:<sha256>`)."),
    redis_cache: duration("ms").default(10_000).doc("How long an answer of Redis is used."),
  },
  {
    title: "API keys",
    guarded: true,
    check: (value, cx) => {
      if (
        value.enabled !== false &&
        (value.keys as unknown[]).length === 0 &&
        value.file === undefined &&
        value.redis !== true
      ) {
        cx.report({ code: "missing", message: 'no key can be accepted: give "keys", "file" or "redis"' });
      }
    },
  },
);

const basicUser = object(
  {
    name: string({ min: 1, max: 128, check: (t) => (t.includes(":") ? "must not hold a colon" : undefined) }).doc(
      "User name.",
    ),
    hash: secret({ minBytes: 10 }).doc("`$argon2id$…` or bcrypt `$2b$…`."),
    scopes: words().default([]).doc("Scopes of the identity."),
    roles: words().default([]).doc("Roles of the identity."),
    tier: text(64).optional().doc("Plan, for the tiers of a rate limit."),
  },
  { title: "Basic user", guarded: true },
);

export const basic = object(
  {
    ...shared,
    users: list(basicUser, { max: 10_000 }).default([]).doc("Users."),
    file: file().optional().doc("htpasswd file (`name:hash`); read again by each reload."),
    attempts: integer({ min: 0 })
      .default(10)
      .doc("Failed attempts of one address in `attempts_window`; then 429. 0 = no limit."),
    attempts_window: duration("ms", { min: 1000 }).default(60_000).doc("Window of `attempts`."),
    cache: duration("ms")
      .default(60_000)
      .doc("How long a verified password is remembered (as a keyed hash). 0 = not at all."),
    strip: boolean().default(true).doc("Take the credential off before forwarding."),
  },
  {
    title: "Basic authentication",
    guarded: true,
    check: (value, cx) => {
      if (value.enabled !== false && (value.users as unknown[]).length === 0 && value.file === undefined) {
        cx.report({ code: "missing", message: 'no user can be accepted: give "users" or "file"' });
      }
    },
  },
);

export const mtls = object(
  {
    ...shared,
    allowed: words(1000)
      .default([])
      .doc(
        "Common names, SANs (`*.clients.example.com`) or `sha256:` fingerprints; empty = every certificate that the listener verified.",
      ),
    scopes: words().default([]).doc("Scopes given to the identity."),
    roles: words().default([]).doc("Roles given to the identity."),
  },
  { title: "Client certificates as identity", guarded: true },
);

/** Ways to authenticate that a route can name. */
export const AUTH_MODES = ["none", "jwt", "apikey", "both", "basic", "mtls", "anonymous"] as const;

export const authMode = () => oneOf(AUTH_MODES, { spellings: { api_key: "apikey", jwt_or_apikey: "both" } });

export const forwardAuth = object(
  {
    enabled: boolean().default(true).doc("`false` keeps the block without using it."),
    url: httpUrl().doc("Service that is asked; 2xx admits the request."),
    timeout: duration("ms", { min: 1, max: 60_000 }).default(5000).doc("One question, connecting included."),
    request_headers: list(string({ min: 1, max: 256 }), { max: 100, single: true })
      .default(["authorization", "cookie", "accept", "user-agent"])
      .doc("Request headers sent to the service; `*` = all but hop-by-hop ones."),
    upstream_headers: list(headerName(), { max: 100, single: true })
      .default([])
      .doc("Headers of its 2xx answer that go to the backend; a client's own are taken off."),
    client_headers: list(headerName(), { max: 100, single: true })
      .default(["set-cookie"])
      .doc("Headers of its 2xx answer that are added to the client's answer."),
    refusal_headers: list(headerName(), { max: 100, single: true })
      .default(["content-type", "location", "set-cookie", "www-authenticate", "retry-after"])
      .doc("Headers of its other answers that go to the client."),
    subject_header: headerName().optional().doc("Header of its answer whose value is the subject of the identity."),
    fail_mode: oneOf(["open", "closed"])
      .default("closed")
      .doc("While it can't be asked: go on without it, or refuse with 503."),
    ca_path: file().optional().doc("PEM bundle used instead of the system's roots."),
    max_connections: integer({ min: 1, max: 10_000 }).default(100).doc("Open connections to it."),
  },
  { title: "Forward authentication", guarded: true },
);

export const jwtAuthz = object(
  {
    enabled: boolean()
      .default(true)
      .doc(
        "Nothing is switched off by `false`: routes that ask for scopes or roles would then be open, so it is refused.",
      ),
    scope_claim: text(256).default("scope").doc("Claim path of the scopes: words or a list."),
    roles_claim: text(256).default("roles").doc("Claim path of the roles, such as `realm_access.roles`."),
    require_all_scopes: boolean().default(false).doc("Every required scope must be there; else one is enough."),
    require_all_roles: boolean().default(false).doc("Every required role must be there; else one is enough."),
  },
  {
    title: "Authorization",
    guarded: true,
    check: (value, cx) => {
      if (value.enabled === false)
        cx.report(
          {
            code: "contradiction",
            message:
              "authorization can't be switched off for all routes; take required_scopes and required_roles out of the routes",
          },
          "enabled",
        );
    },
  },
);
