import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { thisPlatform } from "../../.ci/platforms.mjs";
import { startBackend } from "../helpers/backend.ts";
import { freePort } from "../helpers/titan.ts";
import { cleanEnvironment, folder, has, must, ROOT, run, serving, VERSION } from "./tools.ts";

const units = join(ROOT, "deploy/systemd");
const work = folder();
afterAll(() => {
  run("umount", ["-l", join(work.path, "root-ro")]);
  work.remove();
});

describe("the unit", () => {
  it.skipIf(!has("systemd-analyze"))("is accepted by systemd-analyze verify", () => {
    // Where it is not installed, the program stands in for itself.
    const unit = join(work.path, "titan.service");
    writeFileSync(
      unit,
      readFileSync(join(units, "titan.service"), "utf8").replace("/usr/local/bin/titan", "/bin/true"),
    );
    cpSync(join(units, "titan.socket"), join(work.path, "titan.socket"));
    const done = run("systemd-analyze", ["verify", unit, join(work.path, "titan.socket")]);
    expect(done.stderr).toBe("");
    expect(done.status).toBe(0);
  });

  it.skipIf(!has("systemd-analyze"))("is exposed less than 2.5 by systemd-analyze security", () => {
    must("systemd-analyze", [
      "security",
      "--offline=true",
      "--no-pager",
      "--threshold=25",
      join(units, "titan.service"),
    ]);
  });

  it("may bind low ports and nothing more, reloads by SIGHUP and leaves V8 its machine code", () => {
    const text = readFileSync(join(units, "titan.service"), "utf8");
    expect(text).toMatch(/^CapabilityBoundingSet=CAP_NET_BIND_SERVICE$/m);
    expect(text).toMatch(/^ExecReload=\/bin\/kill -HUP \$MAINPID$/m);
    expect(text).toMatch(/^Type=notify$/m);
    expect(text).toMatch(/^LimitNOFILE=1048576$/m);
    expect(text).not.toMatch(/^MemoryDenyWriteExecute=/m);
  });

  it("has every kernel setting of the guide", () => {
    const text = readFileSync(join(units, "60-titan.conf"), "utf8");
    expect(text.match(/^[a-z0-9_.-]+ = .+$/gm)).toHaveLength(10);
  });
});

it.skipIf(!has("shellcheck"))("the scripts are clean to shellcheck", () => {
  must("shellcheck", [join(units, "install.sh"), join(units, "uninstall.sh"), join(ROOT, "deploy/bundle/titan")]);
});

const possible = process.getuid?.() === 0 && has("debootstrap") && thisPlatform()?.os === "linux";

describe.skipIf(!possible)("installed into a root folder of a bare Debian", () => {
  const root = join(work.path, "root");
  const bundle = join(work.path, "bundle", `titan-${VERSION}-${thisPlatform()?.suffix}`);
  const install = (...more: string[]) =>
    must("sh", [join(bundle, "deploy/systemd/install.sh"), "--root", root, ...more], { env: cleanEnvironment() });
  const uid = () => Number(/^titan:[^:]*:(\d+):/m.exec(readFileSync(join(root, "etc/passwd"), "utf8"))?.[1]);
  let said = "";

  beforeAll(() => {
    must("debootstrap", ["--variant=minbase", "bookworm", root], { timeout: 390_000 });
    must("node", [
      ".ci/self-contained.mjs",
      "--no-tarball",
      "--addon",
      join(ROOT, thisPlatform()?.file ?? ""),
      "--out",
      join(work.path, "bundle"),
    ]);
    said = install();
  });

  it("there is no Node.js", () => {
    expect(run("chroot", [root, "sh", "-c", "command -v node || command -v npm"]).status).not.toBe(0);
  });

  it("made a user, a program, a configuration that only it may read, and the units", () => {
    expect(said).toContain("made the user titan");
    expect(uid()).toBeGreaterThan(0);
    expect(readlinkSync(join(root, "usr/local/bin/titan"))).toBe("../lib/titan/current/bin/titan");
    expect(statSync(join(root, "etc/titan/config.json")).mode & 0o777).toBe(0o640);
    expect(readdirSync(join(root, "etc/systemd/system")).sort()).toEqual(
      expect.arrayContaining(["titan.service", "titan.socket"]),
    );
    expect(existsSync(join(root, "etc/sysctl.d/60-titan.conf"))).toBe(true);
  });

  it("can be installed again: the configuration stays, one version is there", () => {
    const config = join(root, "etc/titan/config.json");
    writeFileSync(config, '{ "routes": [{ "path": "/", "respond": { "body": "mine" } }] }\n');
    expect(install()).toContain("kept /etc/titan/config.json");
    expect(readFileSync(config, "utf8")).toContain("mine");
    expect(readdirSync(join(root, "usr/local/lib/titan")).sort()).toEqual([VERSION, "current"]);
  });

  it("keeps the version before at an upgrade, for a way back", () => {
    const next = join(work.path, "next");
    cpSync(bundle, next, { recursive: true });
    writeFileSync(join(next, "VERSION"), "9.9.9\n");
    must("sh", [join(next, "deploy/systemd/install.sh"), "--root", root], { env: cleanEnvironment() });
    expect(readdirSync(join(root, "usr/local/lib/titan")).sort()).toEqual([VERSION, "9.9.9", "current"]);
    expect(readlinkSync(join(root, "usr/local/lib/titan/current"))).toBe("9.9.9");
    install();
    expect(readlinkSync(join(root, "usr/local/lib/titan/current"))).toBe(VERSION);
  });

  it("refuses to go on with a configuration that has errors", () => {
    const config = join(root, "etc/titan/config.json");
    const good = readFileSync(config);
    writeFileSync(config, '{ "routes": [{ "path": "x" }] }\n');
    const done = run("sh", [join(bundle, "deploy/systemd/install.sh"), "--root", root], { env: cleanEnvironment() });
    expect(done.status).toBe(1);
    expect(done.stderr).toContain("the configuration has errors");
    writeFileSync(config, good);
  });

  it("proxies its first request as its own user, without Node.js on the machine", async () => {
    const backend = await startBackend({ name: "behind" });
    const [port, admin] = [await freePort(), await freePort()];
    writeFileSync(
      join(root, "etc/titan/config.json"),
      JSON.stringify({
        server: { host: "127.0.0.1", port },
        metrics: { port: admin },
        upstreams: [{ name: "b", backends: [`127.0.0.1:${backend.port}`] }],
        routes: [{ path: "/*", upstream: "b" }],
      }),
    );
    const args = [
      `--userspec=${uid()}:${uid()}`,
      root,
      "/usr/local/bin/titan",
      "serve",
      "--config",
      "/etc/titan/config.json",
    ];
    const code = await serving(
      "chroot",
      args,
      { url: `http://127.0.0.1:${port}/_health`, env: cleanEnvironment() },
      async ({ pid, milliseconds }) => {
        expect(readFileSync(`/proc/${pid}/status`, "utf8")).toMatch(new RegExp(`^Uid:\\t${uid()}\\t`, "m"));
        const answer = await fetch(`http://127.0.0.1:${port}/first`);
        expect(answer.status).toBe(200);
        expect(await answer.text()).toContain("behind");
        process.stdout.write(`chroot: serving after ${Math.round(milliseconds)} ms\n`);
      },
    );
    expect(code).toBe(0);
    await backend.close();
  });

  it("serves from a read-only root, as the container does", async () => {
    const readOnly = join(work.path, "root-ro");
    mkdirSync(readOnly);
    const [port, admin] = [await freePort(), await freePort()];
    writeFileSync(
      join(root, "etc/titan/config.json"),
      JSON.stringify({
        server: { host: "127.0.0.1", port },
        metrics: { port: admin },
        routes: [{ path: "/*", respond: { body: "read-only" } }],
      }),
    );
    must("mount", ["--bind", root, readOnly]);
    must("mount", ["-o", "remount,ro,bind", readOnly]);
    try {
      const args = [
        "--userspec=1000:1000",
        readOnly,
        "/usr/local/bin/titan",
        "serve",
        "--config",
        "/etc/titan/config.json",
      ];
      must("chmod", ["-R", "o+rX", join(root, "etc/titan")]);
      await serving(
        "chroot",
        args,
        { url: `http://127.0.0.1:${port}/_health`, env: cleanEnvironment({ TITAN_RUNTIME_DIR: "/run/titan" }) },
        async () => {
          expect(await (await fetch(`http://127.0.0.1:${port}/`)).text()).toBe("read-only");
        },
      );
    } finally {
      must("umount", [readOnly]);
    }
  });

  it("asks before it goes, leaves the configuration, and takes everything with --purge", () => {
    const uninstall = (args: string[], input = "") =>
      run("sh", [join(units, "uninstall.sh"), "--root", root, ...args], { input, env: cleanEnvironment() });
    expect(uninstall([]).status).toBe(1);
    expect(existsSync(join(root, "usr/local/bin/titan"))).toBe(true);
    expect(uninstall([], "y\n").status).toBe(0);
    expect(existsSync(join(root, "usr/local/bin/titan"))).toBe(false);
    expect(existsSync(join(root, "usr/local/lib/titan"))).toBe(false);
    expect(existsSync(join(root, "etc/titan/config.json"))).toBe(true);
    expect(uninstall(["--yes", "--purge"]).status).toBe(0);
    expect(existsSync(join(root, "etc/titan"))).toBe(false);
    expect(readFileSync(join(root, "etc/passwd"), "utf8")).not.toContain("titan");
  });
});

// Said aloud, so that a machine without them does not look as if it had shown it.
if (!possible) process.stdout.write("SKIPPED: the chroot installation needs root and debootstrap\n");
