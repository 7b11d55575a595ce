// What start and test share: look for the tools, install the packages, build the addon and the JavaScript where they are out of date.
// Only Node's own modules here: nothing is installed yet when this runs.
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, readdirSync, readFileSync, renameSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Says what is wrong in one sentence and ends. */
export function fail(sentence, code = 1) {
  process.stderr.write(`titan: ${sentence}\n`);
  process.exit(code);
}

/** Says what is being done, on stderr: stdout belongs to the program that is started. */
export function say(sentence) {
  process.stderr.write(`titan: ${sentence}\n`);
}

/** Runs a command in the repository with its output shown; returns its exit code. */
export function run(command, args, options = {}) {
  const shell = process.platform === "win32";
  const done = spawnSync(command, args, { cwd: root, stdio: ["ignore", 2, 2], shell, ...options });
  if (done.error) fail(`${command} could not be run: ${done.error.message}.`);
  return done.status ?? 1;
}

function output(command, args) {
  const done = spawnSync(command, args, { cwd: root, encoding: "utf8", shell: process.platform === "win32" });
  return done.status === 0 ? done.stdout.trim() : undefined;
}

function older(have, need) {
  const [a, b] = [have, need].map((version) => version.split(".").map(Number));
  for (let i = 0; i < 3; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

/** Node is new enough. */
export function needNode() {
  const need = /(\d+(?:\.\d+)*)/.exec(JSON.parse(readFileSync(join(root, "package.json"), "utf8")).engines.node)[1];
  if (older(process.versions.node, need)) {
    fail(
      `Node.js ${need} or newer is needed and this is ${process.versions.node}: install it from https://nodejs.org or your package manager.`,
    );
  }
}

/** Cargo and a C compiler are there and new enough. */
export function needRust() {
  const need = /rust-version = "([\d.]+)"/.exec(readFileSync(join(root, "Cargo.toml"), "utf8"))[1];
  const version = output("cargo", ["--version"]);
  if (!version) {
    fail(
      `the native part is not built and Rust is missing: install Rust ${need} or newer from https://rustup.rs, then run this again.`,
    );
  }
  const have = /(\d+\.\d+\.\d+)/.exec(version)[1];
  if (older(have, need)) fail(`Rust ${need} or newer is needed and this is ${have}: run \`rustup update stable\`.`);
  if (process.platform === "win32") return; // rustc finds MSVC itself and says so where it is missing
  const compilers = [process.env.CC, "cc", "gcc", "clang"].filter(Boolean);
  if (!compilers.some((compiler) => output(compiler.split(" ")[0], ["--version"]))) {
    const how =
      process.platform === "darwin"
        ? "run `xcode-select --install`"
        : "install one (Debian, Ubuntu: `apt-get install build-essential cmake`)";
    fail(`the native part needs a C compiler and none was found: ${how}.`);
  }
}

/** Modification time of the newest file under the given paths; 0 where there is none. */
function newest(...paths) {
  let time = 0;
  for (const path of paths) {
    const full = join(root, path);
    if (!existsSync(full)) continue;
    const stat = statSync(full);
    time = Math.max(
      time,
      stat.isDirectory() ? newest(...readdirSync(full).map((name) => join(path, name))) : stat.mtimeMs,
    );
  }
  return time;
}

/** `npm ci` where node_modules is missing or older than the lock file. */
export function installPackages() {
  if (existsSync(join(root, "node_modules/.package-lock.json"))) {
    const installed = statSync(join(root, "node_modules/.package-lock.json")).mtimeMs;
    if (installed >= newest("package-lock.json")) return;
  }
  say("installing npm packages…");
  const code = run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
  if (code !== 0)
    fail("npm ci failed; its own message is above. A network connection to the npm registry is needed once.", code);
}

/** Name of this platform's addon file, such as `titan.linux-x64-gnu.node`. */
export function addonFile() {
  const { platform, arch } = process;
  const abi =
    platform === "linux"
      ? process.report?.getReport().header.glibcVersionRuntime
        ? "-gnu"
        : "-musl"
      : platform === "win32"
        ? "-msvc"
        : "";
  return `titan.${platform}-${arch}${abi}.node`;
}

function prebuilt() {
  const name = `@titan-gateway/titan-${addonFile().split(".")[1]}`;
  try {
    return createRequire(join(root, "package.json")).resolve(name);
  } catch {
    return undefined;
  }
}

/** Builds the addon with cargo where it is missing or older than its sources. `profile` is a cargo profile. */
export function buildAddon(profile) {
  const file = addonFile();
  const built = newest(file);
  if (built > newest("crates", "Cargo.toml", "Cargo.lock")) return;
  if (built === 0 && prebuilt()) return;
  needRust();
  say(built === 0 ? "building the native part (once, some minutes)…" : "the native part is out of date, building it…");
  const code = run("cargo", ["build", "--locked", "--package", "titan-napi", "--profile", profile]);
  if (code !== 0) fail("the native part did not build; cargo's own message is above.", code);
  const library = { win32: "titan_napi.dll", darwin: "libtitan_napi.dylib" }[process.platform] ?? "libtitan_napi.so";
  const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
  // Written beside and renamed: a running Titan keeps the file that it has mapped.
  copyFileSync(join(target, profile === "dev" ? "debug" : profile, library), join(root, `${file}.new`));
  renameSync(join(root, `${file}.new`), join(root, file));
}

/** Bundles the JavaScript where it is missing or older than its sources. */
export function buildScript() {
  if (newest("dist/cli/main.js") > newest("src", "package.json", "tsconfig.json", ".ci/bundle.mjs")) return;
  const code = run(process.execPath, [join(root, ".ci/bundle.mjs")]);
  if (code !== 0) fail("the JavaScript part did not build; the message is above.", code);
}

/** The JavaScript and its type declarations, as they are published. */
export function buildTypes() {
  buildScript();
  if (newest("dist/index.d.ts") > newest("src", "package.json", "tsconfig.json")) return;
  const code = run("npx", ["--no-install", "tsc", "-p", ".", "--emitDeclarationOnly", "--declarationMap", "false"]);
  if (code !== 0) fail("the type declarations could not be made; the message is above.", code);
}
