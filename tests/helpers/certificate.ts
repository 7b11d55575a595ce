import { execFileSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Makes a self-signed P-256 certificate for `names` with openssl. */
export function selfSigned(...names: string[]): { dir: string; cert_path: string; key_path: string } {
  const dir = mkdtempSync(join(tmpdir(), "titan-cert-"));
  const [cert_path, key_path] = [join(dir, "cert.pem"), join(dir, "key.pem")];
  const alternative = names.map((name) => (/^[\d.]+$/.test(name) ? `IP:${name}` : `DNS:${name}`)).join(",");
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  const subject = ["-subj", `/CN=${names[0]}`, "-addext", `subjectAltName=${alternative}`];
  execFileSync("openssl", ["req", "-x509", ...curve, ...subject, "-keyout", key_path, "-out", cert_path], {
    stdio: "ignore",
  });
  return { dir, cert_path, key_path };
}
