// `npm run build:profiled`: the addon as it is published for Linux, laid out by counts of itself at work (profile-guided optimisation).
//
//   node .ci/profile-guided.mjs [--target TRIPLE]
//
// 1. builds the addon with counters, 2. puts a Titan with it through bench/train.mjs, 3. builds it again by what was counted. The result is
// this platform's addon in the repository, and target/TRIPLE/dist/libtitan_napi.so. Needs, beside what a build needs: LLVM's llvm-profdata
// of the compiler's version (`rustup component add llvm-tools`), h2load (nghttp2-client), openssl, taskset. Takes about three builds.
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { addonFile, fail, installPackages, needNode, needRust, root, run, say } from "./setup.mjs";

const rustc = describe("rustc", ["-vV"]) ?? "";
const host = /host: (\S+)/.exec(rustc)?.[1];
const { values } = parseArgs({ options: { target: { type: "string", default: host } } });
if (process.platform !== "linux") fail("the training runs on Linux only.");
needNode();
needRust();
const profdata = findProfdata();
for (const tool of ["h2load", "openssl", "taskset"]) {
  if (!describe(tool, ["--version"]) && !describe(tool, ["version"])) {
    fail(`${tool} is missing: \`apt-get install nghttp2-client openssl util-linux\`.`);
  }
}
installPackages();
step("npm", ["run", "build"], "the JavaScript did not build");
step("cargo", ["build", "--locked", "--release", "-q", "-p", "titan-load"], "the load generator did not build");

const counts = join(root, "target/profile");
rmSync(counts, { recursive: true, force: true });
mkdirSync(counts, { recursive: true });
say("building the addon with counters…");
const counting = build("target/counting", `-Cprofile-generate=${counts}`);
const file = join(root, addonFile());
say("training…");
const titan = { ...process.env, NAPI_RS_NATIVE_LIBRARY_PATH: `${counting}.node` };
copyFileSync(counting, titan.NAPI_RS_NATIVE_LIBRARY_PATH);
const load = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "release/titan-load");
step("node", ["bench/train.mjs", load], "the training failed", { env: titan });

const raw = readdirSync(counts).filter((name) => name.endsWith(".profraw"));
if (raw.length === 0) fail("the training left no counts: was the addon loaded that counts?");
const merged = join(counts, "titan.profdata");
step(profdata, ["merge", "-o", merged, ...raw.map((name) => join(counts, name))], "the counts could not be merged");
say("building the addon by what was counted…");
const built = build("target", `-Cprofile-use=${merged}`);
copyFileSync(built, `${file}.new`);
renameSync(`${file}.new`, file);
say(`made ${file}`);

/** Builds the `dist` profile into `directory` with one more flag; the library's path. Build scripts do not get the flag, because a target is named. */
function build(directory, flag) {
  const target =
    process.env.CARGO_TARGET_DIR && directory === "target" ? process.env.CARGO_TARGET_DIR : join(root, directory);
  const flags = [process.env.RUSTFLAGS, flag].filter(Boolean).join(" ");
  const argv = ["build", "--locked", "-p", "titan-napi", "--profile", "dist", "--target", values.target];
  step("cargo", [...argv, "--target-dir", target], "the addon did not build", {
    env: { ...process.env, RUSTFLAGS: flags },
  });
  return join(target, values.target, "dist/libtitan_napi.so");
}

function step(command, argv, otherwise, options = {}) {
  const code = run(command, argv, options);
  if (code !== 0) fail(`${otherwise}; its own message is above.`, code);
}

/** The tool that merges counts: it must not be older than the compiler's LLVM, or it can't read them. */
function findProfdata() {
  const version = Number(/LLVM version: (\d+)/.exec(rustc)?.[1]);
  const own = join(describe("rustc", ["--print", "sysroot"]) ?? "", `lib/rustlib/${host}/bin/llvm-profdata`);
  const others = [`llvm-profdata-${version}`, "llvm-profdata"].filter(
    (tool) => Number(/LLVM version (\d+)/.exec(describe(tool, ["--version"]) ?? "")?.[1]) >= version,
  );
  const found = [...(existsSync(own) ? [own] : []), ...others][0];
  if (!found) {
    fail(
      `llvm-profdata ${version} or newer is missing: \`rustup component add llvm-tools\`, or your system's llvm-${version}.`,
    );
  }
  return found;
}

function describe(command, argv) {
  const done = spawnSync(command, argv, { cwd: root, encoding: "utf8" });
  return done.status === 0 ? done.stdout.trim() : undefined;
}
