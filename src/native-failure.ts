/** Why the native addon did not load, and what to do: said in one sentence each, from what the loader and the system tell. */
import { existsSync } from "node:fs";

/** Platforms that have a prebuilt package, by its suffix. */
export const PREBUILT = [
  "linux-x64-gnu",
  "linux-x64-musl",
  "linux-arm64-gnu",
  "linux-arm64-musl",
  "darwin-x64",
  "darwin-arm64",
  "win32-x64-msvc",
] as const;

/** The machine, as far as it decides which addon fits. */
export interface Machine {
  platform: string;
  arch: string;
  /** Linux: `gnu`, `musl`, or unknown. */
  libc?: "gnu" | "musl" | undefined;
}

/** This machine. Node says which glibc it runs on; without one, musl leaves its loader among the shared objects. */
export function thisMachine(): Machine {
  const { platform, arch } = process;
  if (platform !== "linux") return { platform, arch };
  const report = process.report?.getReport() as
    | { header?: { glibcVersionRuntime?: string }; sharedObjects?: string[] }
    | undefined;
  if (report?.header?.glibcVersionRuntime) return { platform, arch, libc: "gnu" };
  const musl =
    report?.sharedObjects?.some((file) => /libc\.musl-|ld-musl-/.test(file)) ||
    existsSync(`/lib/ld-musl-${arch === "x64" ? "x86_64" : "aarch64"}.so.1`);
  return { platform, arch, libc: musl ? "musl" : undefined };
}

/** Suffix of the machine's package, such as `linux-x64-gnu`. */
export function packageSuffix({ platform, arch, libc }: Machine): string {
  if (platform === "linux") return `linux-${arch}-${libc ?? "unknown-libc"}`;
  return platform === "win32" ? `win32-${arch}-msvc` : `${platform}-${arch}`;
}

/** What to say when the addon did not load: platform, cause, cure. `path` is the override (`TITAN_NATIVE_PATH`), where there is one. */
export function explainFailure(
  error: unknown,
  machine: Machine,
  path: string | undefined,
  exists: (file: string) => boolean = existsSync,
): string {
  const suffix = packageSuffix(machine);
  const intro = `The native addon for ${suffix} did not load`;
  const reasons = reasonsOf(error);
  const system = reasons.find(
    (reason) =>
      !/^(Cannot find (module|native binding|package)|Failed to load native binding|Unsupported )/.test(reason),
  );
  if (path !== undefined) {
    if (!exists(path))
      return `${intro}: TITAN_NATIVE_PATH names ${path}, which does not exist. Correct the path, or unset the variable to use the installed one.`;
    return `${intro} from TITAN_NATIVE_PATH (${path}): ${(system ?? reasons[0] ?? "").replace(`${path}: `, "")}. ${cureOf(system, machine) ?? "Name a file that was built for this platform, or unset the variable."}`;
  }
  if (system !== undefined)
    return `${intro}: ${system}. ${cureOf(system, machine) ?? "Reinstall the package, or build it from source (`npm run build:addon` in a checkout, needs Rust)."}`;
  if (machine.platform === "linux" && machine.libc === undefined) {
    return `${intro}: this system's C library is neither glibc nor musl as far as can be seen. Build the addon from source and name it in TITAN_NATIVE_PATH.`;
  }
  if (!(PREBUILT as readonly string[]).includes(suffix)) {
    return `${intro}: there is no prebuilt addon for this platform (there are ${PREBUILT.join(", ")}). Build it from source (\`npm run build:addon\` in a checkout, needs Rust) and name it in TITAN_NATIVE_PATH.`;
  }
  return (
    `${intro}: the package @titan-gateway/titan-${suffix} is not installed. It is an optional dependency; it is missing when node_modules or the lock file was made ` +
    `on another platform, or with --no-optional or --omit=optional. Delete node_modules and the lock file and install again without these options, ` +
    `or run \`npm install @titan-gateway/titan-${suffix}\`.`
  );
}

/** Messages of the error and of what caused it: the loader chains one failure a candidate. */
function reasonsOf(error: unknown): string[] {
  const reasons: string[] = [];
  for (let next: unknown = error; next instanceof Error && reasons.length < 20; next = next.cause) {
    reasons.push((next.message.split("\n", 1)[0] ?? "").replace(/\.$/, ""));
  }
  return reasons.length > 0 ? reasons : [String(error)];
}

/** Cure of what a dynamic loader says. */
function cureOf(reason: string | undefined, machine: Machine): string | undefined {
  if (reason === undefined) return undefined;
  const glibc = /version [`']?(GLIBC_[\d.]+)'? not found/.exec(reason)?.[1];
  if (glibc !== undefined)
    return `This system's glibc is older than ${glibc.replace("_", " ")}: use a newer distribution (Debian 11, Ubuntu 20.04, RHEL 9 or later) or build the addon on this one.`;
  if (/GLIBCXX_[\d.]+/.test(reason))
    return "This system's libstdc++ is too old: use a newer distribution or build the addon on this one.";
  if (/ld-linux|libc\.so\.6: cannot open/.test(reason) && machine.libc === "musl")
    return "It was built for glibc and this system has musl: install again on this system, so that the musl package is chosen.";
  if (/libc\.musl|ld-musl/.test(reason) && machine.libc === "gnu")
    return "It was built for musl and this system has glibc: install again on this system.";
  if (
    /invalid ELF header|file too short|wrong ELF class|Exec format|not a valid Win32|incompatible architecture|mach-o/i.test(
      reason,
    )
  )
    return "The file is damaged or was built for another platform: delete node_modules and install again on this machine.";
  if (/permission denied|failed to map segment/i.test(reason))
    return "The folder does not allow it: it may be mounted noexec, or unreadable for this user.";
  if (/did not self-register|napi/i.test(reason))
    return `This Node.js (${process.version}) can't use it: Titan needs Node.js 20.19 or newer.`;
  return undefined;
}
