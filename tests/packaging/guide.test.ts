// docs/deployment.md, followed by a reader who copies its commands: each one that can run here runs, as it stands on the page.
import { cpSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { thisPlatform } from "../../.ci/platforms.mjs";
import { cleanEnvironment, folder, has, must, ROOT, run } from "./tools.ts";

const platform = thisPlatform();
const page = readFileSync(join(ROOT, "docs/deployment.md"), "utf8");
const commands = [...page.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap((block) =>
  (block[1] ?? "")
    .replace(/\\\n\s*/g, "")
    .split("\n")
    .map((line) => line.replace(/\s+#.*$/, "").trim()),
);
const inTables = [...page.matchAll(/`([^`\n]+)`/g)].map((match) => match[1]);

/** The command as the page has it; a command that is no longer there fails here, not in silence. */
function onPage(command: string): string {
  expect([...commands, ...inTables], `docs/deployment.md has the command ${command}`).toContain(command);
  return command;
}

// A network of its own makes the page's ports free whatever runs on this machine.
const isolated = platform?.os === "linux" && run("unshare", ["-n", "true"]).status === 0 && has("ip") && has("curl");
if (!isolated) console.warn("SKIPPED: the deployment guide as a reader (needs Linux, root, unshare, ip and curl)");

describe.skipIf(!isolated)("the deployment guide, followed as a reader", () => {
  const work = folder();
  const etc = join(work.path, "etc-titan");
  const shell = (script: string) =>
    run("unshare", ["-n", "bash", "-ec", `ip link set lo up\n${script.replaceAll("/etc/titan", etc)}`], {
      cwd: work.path,
      env: cleanEnvironment({ XDG_RUNTIME_DIR: work.path }),
    });
  const titan = "bundle/titan-*/bin/titan";

  beforeAll(() => {
    must("node", [
      ".ci/self-contained.mjs",
      "--addon",
      join(ROOT, platform?.file ?? ""),
      "--out",
      join(work.path, "bundle"),
    ]);
    cpSync(join(ROOT, "config"), join(work.path, "config"), { recursive: true });
    mkdirSync(join(etc, "tls"), { recursive: true });
  });
  afterAll(work.remove);

  it("verifies its build", () => {
    const linked = shell(onPage("ldd bundle/titan-*/lib/node bundle/titan-*/lib/titan.node"));
    expect(linked.stdout).toContain("libc.so.6");
    expect(linked.stdout).not.toContain("not found");
    expect(shell(onPage("(cd bundle && sha256sum -c ./*.sha256)")).stdout).toMatch(/: OK\n$/);
    expect(shell(onPage("bundle/titan-*/bin/titan version")).stdout).toContain("0.1.0");
    expect(shell(onPage("bundle/titan-*/bin/titan --help")).stdout).toContain("titan serve");
  });

  it("makes a certificate and serves with it, answers health and metrics, names what has the port", () => {
    const certificate = onPage(
      'openssl req -x509 -newkey rsa:4096 -keyout /etc/titan/tls/tls.key -out /etc/titan/tls/tls.crt -days 365 -nodes -subj "/CN=localhost"',
    );
    const copy = onPage("mkdir -p /etc/titan && cp config/benchmark.json /etc/titan/config.json");
    const done = shell(`
      ${certificate} 2>/dev/null
      ${copy}
      ${titan} check /etc/titan/config.json
      TITAN_LOG_LEVEL=debug ${titan} --config /etc/titan/config.json >titan.log 2>&1 &
      for i in $(seq 100); do curl -fs http://localhost:8080/_health >/dev/null && break; sleep 0.1; done
      echo "health: $(${onPage("curl http://localhost:8080/_health")} -s)"
      echo "metrics: $(${onPage("curl http://localhost:8080/_metrics")} -s | grep -c '^titan_')"
      echo "admin: $(${onPage("curl http://127.0.0.1:9090/metrics")} -s | grep -c '^titan_')"
      echo "fixed: $(curl -s http://localhost:8080/bench)"
      echo "second: $(${titan} --config /etc/titan/config.json 2>&1; echo "exit $?")"
      kill -TERM %1
      wait %1 && echo "drained"
    `);
    expect(done.stderr + done.stdout).toContain('health: {"status":"healthy","version":"0.1.0"}');
    expect(done.stdout).toMatch(/metrics: [1-9]\d/);
    expect(done.stdout).toMatch(/admin: [1-9]\d/);
    expect(done.stdout).toContain("fixed: ok");
    expect(done.stdout).toMatch(/second: [\s\S]*the port is in use[\s\S]*fix: [\s\S]*exit 1/);
    expect(done.stdout).toContain("drained");
    expect(run("openssl", ["x509", "-noout", "-subject", "-in", join(etc, "tls/tls.crt")]).stdout).toContain(
      "localhost",
    );
  });

  it("counts the processors for TITAN_WORKERS as the page does", () => {
    onPage("TITAN_WORKERS=$(nproc)");
    const done = shell(`
      cp config/benchmark.json /etc/titan/config.json
      TITAN_WORKERS=$(nproc) ${titan} --config /etc/titan/config.json >titan.log 2>&1 &
      for i in $(seq 100); do curl -fs http://localhost:8080/_health >/dev/null && break; sleep 0.1; done
      ls /proc/$!/task | while read task; do cat /proc/$!/task/$task/comm; done | grep -c -i shard || true
      kill -TERM %1; wait %1
    `);
    const processors = Number(run("nproc", []).stdout);
    expect(Number(done.stdout.trim())).toBe(processors);
  });
});
