import { lstatSync, mkdirSync, readdirSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { messageOf, TitanError } from "../errors.ts";

type Env = Readonly<Record<string, string | undefined>>;

const uid = process.getuid?.() ?? -1;

/** Where this process puts its control socket: systemd's runtime directory, the user's, or one of its own in the temporary directory. */
export function runtimeDirectory(env: Env = process.env): string {
  const systemd = env.RUNTIME_DIRECTORY?.split(":")[0];
  return env.TITAN_RUNTIME_DIR || systemd || candidates(env)[0] || tmpdir();
}

/** Where a Titan that this user may control can have put its socket; the first is the user's own. */
export function candidates(env: Env = process.env): string[] {
  const own = env.XDG_RUNTIME_DIR ? join(env.XDG_RUNTIME_DIR, "titan") : join(tmpdir(), `titan-${userId()}`);
  const list = uid === 0 ? ["/run/titan", own] : [own, "/run/titan"];
  return env.TITAN_RUNTIME_DIR ? [env.TITAN_RUNTIME_DIR] : list;
}

function userId(): string {
  return uid >= 0 ? String(uid) : userInfo().username;
}

/** Makes the directory for this user alone; one that others could put something into is refused. */
export function prepare(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const stat = lstatSync(directory);
    const mine = uid < 0 || stat.uid === uid || stat.uid === 0;
    if (!stat.isDirectory() || !mine || (uid >= 0 && (stat.mode & 0o022) !== 0)) {
      throw new Error("it is not a directory of this user's alone");
    }
  } catch (cause) {
    throw new TitanError(
      "TITAN_CONTROL",
      `The control socket's directory ${directory} cannot be used: ${messageOf(cause)}.`,
      {
        cause,
      },
    );
  }
}

/** Control sockets found, by process id. */
export function sockets(env: Env = process.env): { pid: number; path: string }[] {
  const found = new Map<string, { pid: number; path: string }>();
  for (const directory of candidates(env)) {
    let names: string[];
    try {
      names = readdirSync(directory);
    } catch {
      continue;
    }
    for (const name of names) {
      const pid = /^(\d+)\.sock$/.exec(name)?.[1];
      if (pid !== undefined) found.set(name, { pid: Number(pid), path: join(directory, name) });
    }
  }
  return [...found.values()].sort((a, b) => a.pid - b.pid);
}
