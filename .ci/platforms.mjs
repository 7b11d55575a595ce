// The platforms that prebuilt addons are published for, from `napi.targets` in package.json, and the packages that carry them (npm/).
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
export const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

const OS = { linux: "linux", darwin: "darwin", windows: "win32" };
const CPU = { x86_64: "x64", aarch64: "arm64" };
const NAMES = { linux: "Linux", darwin: "macOS", win32: "Windows" };

/** `x86_64-unknown-linux-gnu` → everything that depends on it. */
export function platformOf(triple) {
  const [arch, , system, abi] = triple.split("-");
  const os = OS[system];
  const cpu = CPU[arch];
  const libc = os === "linux" ? (abi === "musl" ? "musl" : "glibc") : undefined;
  const suffix = [os, cpu, os === "darwin" ? undefined : abi].filter(Boolean).join("-");
  return { triple, os, cpu, libc, suffix, package: `${manifest.name}-${suffix}`, file: `titan.${suffix}.node` };
}

export const platforms = manifest.napi.targets.map(platformOf);

/** The platform that this runs on. */
export function thisPlatform() {
  const musl = process.platform === "linux" && !process.report?.getReport().header.glibcVersionRuntime;
  return platforms.find(
    ({ os, cpu, libc }) =>
      os === process.platform && cpu === process.arch && (libc === undefined || (libc === "musl") === musl),
  );
}

function packageOf(platform) {
  const { name, version, license, repository, engines } = manifest;
  return {
    name: platform.package,
    version,
    description: `Native part of ${name} for ${NAMES[platform.os]} ${platform.cpu}${platform.libc ? ` (${platform.libc})` : ""}`,
    license,
    repository: { ...repository, directory: `npm/${platform.suffix}` },
    main: platform.file,
    files: [platform.file],
    os: [platform.os],
    cpu: [platform.cpu],
    ...(platform.libc && { libc: [platform.libc] }),
    engines,
    preferUnplugged: true,
    publishConfig: { access: "public", provenance: true },
  };
}

/** Path in the repository → content, for every package under npm/. */
export function platformFiles() {
  const files = {};
  for (const platform of platforms) {
    files[`npm/${platform.suffix}/package.json`] = `${JSON.stringify(packageOf(platform), null, 2)}\n`;
    files[`npm/${platform.suffix}/README.md`] =
      `# ${platform.package}\n\nThe native part of [${manifest.name}](${manifest.repository.url.replace(/^git\+|\.git$/g, "")}) for \`${platform.triple}\`. ` +
      "It is installed as an optional dependency of that package; there is no use in installing it by itself.\n";
  }
  return files;
}
