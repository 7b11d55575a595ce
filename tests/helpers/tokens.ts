import { createHmac, type KeyObject, sign } from "node:crypto";

/** How an algorithm signs: Node's name of the hash, and what the key needs beside it. */
const SIGNERS: Record<string, { hash: string | null; options?: object }> = {
  RS256: { hash: "sha256" },
  RS384: { hash: "sha384" },
  RS512: { hash: "sha512" },
  PS256: { hash: "sha256", options: { padding: 6, saltLength: 32 } },
  PS384: { hash: "sha384", options: { padding: 6, saltLength: 48 } },
  PS512: { hash: "sha512", options: { padding: 6, saltLength: 64 } },
  ES256: { hash: "sha256", options: { dsaEncoding: "ieee-p1363" } },
  ES384: { hash: "sha384", options: { dsaEncoding: "ieee-p1363" } },
  ES512: { hash: "sha512", options: { dsaEncoding: "ieee-p1363" } },
  EdDSA: { hash: null },
};

/** Seconds since 1970. */
export const now = () => Math.floor(Date.now() / 1000);

/** A token over `claims`, valid for ten minutes unless they say otherwise. `key` is a secret for HS256, a private key else. */
export function jwt(claims: object, key: string | KeyObject, alg = "HS256", kid?: string): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const input = `${part({ alg, typ: "JWT", ...(kid && { kid }) })}.${part({ exp: now() + 600, ...claims })}`;
  const signer = SIGNERS[alg];
  const signature =
    typeof key === "string"
      ? createHmac("sha256", key).update(input).digest()
      : sign(signer?.hash, Buffer.from(input), { key, ...signer?.options });
  return `${input}.${signature.toString("base64url")}`;
}
