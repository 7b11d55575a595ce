import { execFileSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Makes an authority and a certificate for `names` that it signed: `ca_path` is what a client trusts. */
export function signedBy(...names: string[]): { dir: string; ca_path: string; cert_path: string; key_path: string } {
  const { dir, cert_path: ca_path, key_path: ca_key } = selfSigned("authority.test");
  const [cert_path, key_path, request] = ["leaf.pem", "leaf-key.pem", "leaf.csr"].map((name) => join(dir, name)) as [
    string,
    string,
    string,
  ];
  const extensions = join(dir, "leaf.ext");
  writeFileSync(extensions, `subjectAltName=${alternatives(names)}\nbasicConstraints=CA:FALSE\n`);
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const run = (args: string[]) => execFileSync("openssl", args, { stdio: "ignore" });
  run(["req", ...curve, "-subj", `/CN=${names[0]}`, "-keyout", key_path, "-out", request]);
  const authority = ["-CA", ca_path, "-CAkey", ca_key, "-CAcreateserial", "-extfile", extensions];
  run(["x509", "-req", "-in", request, ...authority, "-days", "2", "-out", cert_path]);
  return { dir, ca_path, cert_path, key_path };
}

const alternatives = (names: string[]) =>
  names.map((name) => (/^[\d.]+$/.test(name) ? `IP:${name}` : `DNS:${name}`)).join(",");

/** Makes a self-signed P-256 certificate for `names` with openssl. */
export function selfSigned(...names: string[]): { dir: string; cert_path: string; key_path: string } {
  const dir = mkdtempSync(join(tmpdir(), "titan-cert-"));
  const [cert_path, key_path] = [join(dir, "cert.pem"), join(dir, "key.pem")];
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  const subject = ["-subj", `/CN=${names[0]}`, "-addext", `subjectAltName=${alternatives(names)}`];
  execFileSync("openssl", ["req", "-x509", ...curve, ...subject, "-keyout", key_path, "-out", cert_path], {
    stdio: "ignore",
  });
  return { dir, cert_path, key_path };
}

/** The same, of the year 2001: it has expired. */
export function expired(...names: string[]): { dir: string; cert_path: string; key_path: string } {
  const made = selfSigned(...names);
  const at = (name: string) => join(made.dir, name);
  const config = `[ca]
default_ca=it
[it]
database=${at("index.txt")}
new_certs_dir=${made.dir}
rand_serial=yes
default_md=sha256
policy=any
[any]
commonName=supplied
`;
  writeFileSync(at("ca.cnf"), config);
  writeFileSync(at("index.txt"), "");
  const run = (args: string[]) => execFileSync("openssl", args, { stdio: "ignore" });
  run(["req", "-new", "-key", made.key_path, "-subj", `/CN=${names[0]}`, "-out", at("it.csr")]);
  const dates = ["-startdate", "010101000000Z", "-enddate", "020101000000Z"];
  const what = ["-config", at("ca.cnf"), "-in", at("it.csr"), "-keyfile", made.key_path, "-out", made.cert_path];
  run(["ca", "-batch", "-notext", "-selfsign", ...dates, ...what]);
  return made;
}
