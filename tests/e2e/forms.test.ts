/** The forms a configuration may have, and the one that is no file at all. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { devCertificate } from "#native";
import { type Backend, startBackend } from "../helpers/backend.ts";
import { type Serving, serve } from "../helpers/serve.ts";
import { freePort } from "../helpers/titan.ts";

const directory = mkdtempSync(join(tmpdir(), "titan-forms-"));
const curl = (...args: string[]) => promisify(execFile)("curl", ["-s", "--max-time", "10", ...args]);
let backend: Backend;
let serving: Serving | undefined;

beforeAll(async () => {
  backend = await startBackend({ name: "b" });
});
afterEach(async () => {
  await serving?.stop();
  serving = undefined;
});
afterAll(async () => {
  await backend.close();
  rmSync(directory, { recursive: true });
});

async function start(args: string[], env: Record<string, string> = {}): Promise<string> {
  serving = await serve(args, { cwd: directory, env });
  return serving.url;
}

test.each([
  [
    "titan.yaml",
    (port: number) => `
server: { host: 127.0.0.1, port: ${port} }
metrics: { enabled: false }
upstreams:
  - name: up
    backends: [{ host: 127.0.0.1, port: ${backend.port} }]
routes:
  - path: /*
    upstream: up
`,
  ],
  [
    "titan.jsonc",
    (port: number) => `{
  // a comment
  "server": { "host": "127.0.0.1", "port": ${port}, },
  "metrics": { "enabled": false },
  "upstreams": [{ "name": "up", "backends": [{ "host": "127.0.0.1", "port": ${backend.port} }] }],
  "routes": [{ "path": "/*", "upstream": "up" }] /* and another */
}`,
  ],
  [
    "titan.config.ts",
    (port: number) => `
interface Where { host: string; port: number }
const where: Where = { host: "127.0.0.1", port: ${backend.port} };
export default async ({ mode, env }: { mode: string; env: NodeJS.ProcessEnv }) => ({
  server: { host: "127.0.0.1", port: ${port} },
  metrics: { enabled: false },
  upstreams: [{ name: "up", backends: [where] }],
  routes: [{ path: "/*", upstream: "up" }],
});
`,
  ],
])("%s is found and served without a build step", async (name, make) => {
  const port = await freePort();
  writeFileSync(join(directory, name), make(port));
  const url = await start([]);
  expect(url).toBe(`http://127.0.0.1:${port}`);
  expect(await fetch(`${url}/x`).then((answer) => answer.json())).toMatchObject({ backend: "b", url: "/x" });
  rmSync(join(directory, name));
});

test("`titan --config FILE` alone serves", async () => {
  const port = await freePort();
  const file = join(directory, "alone.json");
  writeFileSync(
    file,
    JSON.stringify({
      server: { host: "127.0.0.1", port },
      metrics: { enabled: false },
      routes: [{ path: "/", respond: { status: 200, body: "alone" } }],
    }),
  );
  serving = await serve(["--config", file], { cwd: directory, env: {}, bare: true });
  expect(await fetch(serving.url).then((answer) => answer.text())).toBe("alone");
});

test("without any file: the demo answers through a real upstream hop and says what to try", async () => {
  const port = await freePort();
  const url = await start(["--port", String(port)]);
  const answer = await fetch(`${url}/hello?a=1`, { method: "POST", body: "ping" });
  expect(answer.status).toBe(200);
  const echo = (await answer.json()) as { headers: Record<string, string> };
  expect(echo).toMatchObject({ method: "POST", path: "/hello?a=1", body: "ping" });
  expect(echo.headers).toMatchObject({ "x-forwarded-proto": "http", "x-forwarded-for": "127.0.0.1" });
  expect(serving?.out()).toContain(`curl -i http://127.0.0.1:${port}/hello`);
});

test("--upstream puts Titan before one server", async () => {
  const port = await freePort();
  const url = await start(["--upstream", `http://127.0.0.1:${backend.port}`, "--port", String(port)]);
  expect(await fetch(`${url}/a/b?c`).then((answer) => answer.json())).toMatchObject({ url: "/a/b?c" });
});

test("flags are stronger than TITAN_PORT and TITAN_HOST, with --upstream too", async () => {
  const port = await freePort();
  const variables = { TITAN_PORT: "1", TITAN_HOST: "203.0.113.1" };
  const target = ["--upstream", `http://127.0.0.1:${backend.port}`, "--host", "127.0.0.1", "--port", String(port)];
  expect(await start(target, variables)).toBe(`http://127.0.0.1:${port}`);
  await serving?.stop();
  const secure = [...target, "--tls"];
  expect(await start(secure, { ...variables, XDG_CACHE_HOME: join(directory, "cache") })).toBe(
    `https://127.0.0.1:${port}`,
  );
  expect(serving?.err()).not.toContain("http://127.0.0.1:1");
});

test("--upstream https: Host and SNI are the upstream's, its certificate is verified", async () => {
  // openssl's are authorities, which a server's certificate must not be.
  const made = devCertificate(["localhost"]);
  const certificate = { cert_path: join(directory, "server.crt"), key_path: join(directory, "server.key") };
  writeFileSync(certificate.cert_path, made.certificate);
  writeFileSync(certificate.key_path, made.key);
  const secure = await startBackend({ name: "secure", tls: certificate });
  const port = await freePort();
  const target = `https://localhost:${secure.port}`;
  // The system's roots do not know it: refused by default.
  const url = await start(["--upstream", target, "--port", String(port)]);
  expect((await fetch(url)).status).toBe(502);
  await serving?.stop();
  const again = await start(["--upstream", target, "--port", String(port)], { SSL_CERT_FILE: certificate.cert_path });
  const seen = (await fetch(`${again}/x`).then((answer) => answer.json())) as { headers: { host: string } };
  expect(seen.headers.host).toBe(`localhost:${secure.port}`);
  await secure.close();
});

test("--tls serves HTTPS with a certificate of its own making, the same one again", async () => {
  const port = await freePort();
  const args = ["--upstream", `http://127.0.0.1:${backend.port}`, "--tls", "--port", String(port)];
  const env = { XDG_CACHE_HOME: join(directory, "cache") };
  const url = await start(args, env);
  expect(url).toBe(`https://127.0.0.1:${port}`);
  const trusted = ["--cacert", join(directory, "cache/titan/localhost.crt"), `https://localhost:${port}/x`];
  const first = await curl(...trusted);
  expect(JSON.parse(first.stdout)).toMatchObject({ backend: "b" });
  await serving?.stop();
  await start(args, env);
  expect((await curl(...trusted)).stdout).toContain('"b"');
});

// biome-ignore lint/suspicious/noTemplateCurlyInString: placeholders of the configuration
test("environment: TITAN_PORT, TITAN_HOST, TITAN_LOG_LEVEL in any letter case, ${NAME:-default}", async () => {
  const port = await freePort();
  const file = join(directory, "env.yaml");
  writeFileSync(
    file,
    // biome-ignore lint/suspicious/noTemplateCurlyInString: placeholders of the configuration
    'metrics: { enabled: false }\nroutes: [{ path: /, respond: { status: 200, body: "${WHO:-nobody} ${WHAT:-x}" } }]\n',
  );
  const url = await start(["--config", file], {
    TITAN_PORT: String(port),
    TITAN_HOST: "127.0.0.1",
    TITAN_LOG_LEVEL: "DEBUG",
    WHO: "me",
  });
  expect(await fetch(url).then((answer) => answer.text())).toBe("me x");
  process.kill(serving?.child.pid ?? 0, "SIGHUP");
  await expect.poll(() => serving?.err()).toContain('"debug"');
});
