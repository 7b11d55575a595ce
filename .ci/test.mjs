// `npm test`: sets itself up, then every check in turn; stops at the first stage that fails, with its exit code.
// `npm test -- lint types` runs only the stages named. The last line counts the tests that ran.
import { spawn, spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildScript, fail, installPackages, needNode, needRust, root } from "./setup.mjs";

const counted = { passed: 0, failed: 0, skipped: 0 };
const npx = ["npx", "--no-install"];

/** Runs a command with its output shown, handing each line of stdout to `read`; resolves with the exit code. */
function stream(command, args, read = () => {}) {
  return new Promise((resolve) => {
    const env = { ...process.env, CARGO_TERM_COLOR: process.stdout.isTTY ? "always" : "never" };
    const child = spawn(command, args, {
      cwd: root,
      env,
      stdio: ["ignore", "pipe", "inherit"],
      shell: process.platform === "win32",
    });
    let rest = "";
    child.stdout.on("data", (chunk) => {
      process.stdout.write(chunk);
      const lines = (rest + chunk).split("\n");
      rest = lines.pop();
      for (const line of lines) read(line);
    });
    child.on("error", (error) => {
      process.stderr.write(`${command}: ${error.message}\n`);
      resolve(127);
    });
    child.on("close", (code, signal) => resolve(code ?? (signal ? 1 : 0)));
  });
}

const has = (command, args) => spawnSync(command, args, { stdio: "ignore" }).status === 0;

function needComponent(name, args) {
  if (!has("cargo", args)) fail(`cargo ${args[0]} is missing: run \`rustup component add ${name}\`.`);
}

async function vitest(...args) {
  const report = join(tmpdir(), `titan-vitest-${process.pid}.json`);
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  const retry = process.env.CI ? ["--retry=1"] : [];
  const code = await stream(npx[0], [...npx.slice(1), "vitest", "run", ...retry, ...args, ...reporters]);
  try {
    const result = JSON.parse(readFileSync(report, "utf8"));
    counted.passed += result.numPassedTests;
    counted.failed += result.numFailedTests;
    counted.skipped += result.numPendingTests + result.numTodoTests;
    rmSync(report);
  } catch {
    // Vitest ended before it could report; its exit code says so.
  }
  return code;
}

const stages = {
  async lint() {
    return stream(npx[0], [...npx.slice(1), "biome", "ci", "--error-on-warnings", "."]);
  },
  async types() {
    return stream(npx[0], [...npx.slice(1), "tsc", "--noEmit", "-p", "tsconfig.test.json"]);
  },
  async fmt() {
    needRust();
    needComponent("rustfmt", ["fmt", "--version"]);
    return stream("cargo", ["fmt", "--all", "--check"]);
  },
  async clippy() {
    needRust();
    needComponent("clippy", ["clippy", "--version"]);
    return stream("cargo", ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]);
  },
  async deny() {
    if (!has("cargo", ["deny", "--version"])) {
      process.stdout.write("cargo-deny is not installed: skipped\n");
      return 0;
    }
    return stream("cargo", ["deny", "--offline", "check", "bans", "licenses", "sources"]);
  },
  /** In CI a few tests that failed beside the others are run once more alone: both results are shown, the second one counts. */
  async rust() {
    needRust();
    const failed = [];
    const code = await stream("cargo", ["test", "--locked", "--no-fail-fast"], (line) => {
      const name = /^test (\S+) \.\.\. FAILED$/.exec(line)?.[1];
      if (name) failed.push(name);
      const result = /^test result: \S+ (\d+) passed; (\d+) failed; (\d+) ignored/.exec(line);
      if (!result) return;
      counted.passed += Number(result[1]);
      counted.failed += Number(result[2]);
      counted.skipped += Number(result[3]);
    });
    if (code === 0 || !process.env.CI || failed.length === 0 || failed.length > 3) return code;
    process.stdout.write(`\n== rust: once more, alone: ${failed.join(", ")}\n`);
    const again = await stream("cargo", ["test", "--locked", "--", "--exact", "--test-threads=1", ...failed]);
    if (again !== 0) return again;
    counted.failed -= failed.length;
    counted.passed += failed.length;
    process.stdout.write(`== rust: these failed once and passed alone; look into them: ${failed.join(", ")}\n`);
    return 0;
  },
  /** Debug build of the addon; the loader and its types are generated, so they must be what is committed. */
  async addon() {
    needRust();
    const code = await stream("npm", ["run", "--silent", "build:addon"]);
    if (code !== 0) return code;
    return stream("git", ["diff", "--exit-code", "--stat", "--", "index.js", "index.d.ts"]);
  },
  async script() {
    buildScript();
    return vitest();
  },
  /** What is published, made and installed for real: npm packages, the self-contained bundle, the service in a bare Debian. */
  async packaging() {
    buildScript();
    return vitest("--config", "tests/packaging/vitest.config.ts");
  },
};

const chosen = process.argv.slice(2);
for (const name of chosen) {
  if (!(name in stages)) fail(`there is no stage "${name}"; the stages are ${Object.keys(stages).join(", ")}.`, 2);
}

needNode();
installPackages();
let exit = 0;
for (const [name, stage] of Object.entries(stages)) {
  if (chosen.length > 0 && !chosen.includes(name)) continue;
  process.stdout.write(`\n== ${name}\n`);
  const began = Date.now();
  exit = await stage();
  const seconds = ((Date.now() - began) / 1000).toFixed(1);
  process.stdout.write(
    exit === 0 ? `== ${name}: ok, ${seconds} s\n` : `== ${name}: FAILED with exit code ${exit}, ${seconds} s\n`,
  );
  if (exit !== 0) break;
}
process.stdout.write(`\n${counted.passed} passed, ${counted.failed} failed, ${counted.skipped} skipped\n`);
process.exitCode = exit;
