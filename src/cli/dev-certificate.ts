import { X509Certificate } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { loadNative } from "../native.ts";

/** Days before its end at which a kept certificate is replaced. */
const RENEW_DAYS = 7;

/**
 * A self-signed certificate for localhost, made once and kept, so that a browser that was told to trust it goes on doing so.
 */
export async function devCertificate(): Promise<{ cert_path: string; key_path: string }> {
  const directory = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "titan");
  const cert_path = join(directory, "localhost.crt");
  const key_path = join(directory, "localhost.key");
  if (!isFresh(cert_path, key_path)) {
    const { devCertificate } = await loadNative();
    const made = devCertificate(["localhost", "127.0.0.1", "::1"]);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    writeFileSync(key_path, made.key, { mode: 0o600 });
    writeFileSync(cert_path, made.certificate);
  }
  return { cert_path, key_path };
}

function isFresh(certificate: string, key: string): boolean {
  try {
    readFileSync(key);
    const end = Date.parse(new X509Certificate(readFileSync(certificate)).validTo);
    return end - Date.now() > RENEW_DAYS * 86_400_000;
  } catch {
    return false;
  }
}
