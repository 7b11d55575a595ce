import { spawn, spawnSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";

/** Whether python3 is there: Node.js has no datagram Unix sockets and hands no socket over. Where it is not, that is said; skip then. */
export const hasPython: boolean = spawnSync("python3", ["--version"]).status === 0;
if (!hasPython)
  console.warn("SKIPPED: python3 is needed to play systemd (datagram sockets, sockets that are handed over)");

/** Plays the service manager: listens on a notification socket (`NOTIFY_SOCKET`). */
export interface Manager {
  /** Everything that was said to it. */
  heard(): string;
  close(): void;
}

const LISTEN = `import socket,sys
s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('bound',flush=True)
while True: print(s.recv(4096).decode(),flush=True)`;

/** Resolves when it listens on `path`. Needs {@link hasPython}. */
export async function serviceManager(path: string): Promise<Manager> {
  const child = spawn("python3", ["-c", LISTEN, path], { stdio: ["ignore", "pipe", "inherit"] });
  let heard = "";
  child.stdout.on("data", (data) => {
    heard += data;
  });
  for (const end = Date.now() + 30_000; !heard.startsWith("bound"); await sleep(25)) {
    if (child.exitCode !== null || Date.now() > end) {
      child.kill();
      throw new Error(`nothing listens on ${path}`);
    }
  }
  return { heard: () => heard, close: () => child.kill() };
}

const HAND_OVER = `import os,socket,sys
s=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1); s.bind(('127.0.0.1',int(sys.argv[1]))); s.listen(64)
os.dup2(s.fileno(),3,inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()),LISTEN_FDS='1')
os.execvp(sys.argv[2],sys.argv[2:])`;

/** A command that binds `port` and becomes `command` with the socket as descriptor 3, as socket activation does. Needs {@link hasPython}. */
export function withSocket(port: number, command: string[]): [string, string[]] {
  return ["python3", ["-c", HAND_OVER, String(port), ...command]];
}
