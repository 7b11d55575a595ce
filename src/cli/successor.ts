/** Handing the listening sockets to another process, which then serves instead of this one. */
import { spawn } from "node:child_process";
import { closeSync, writeSync } from "node:fs";
import { basename } from "node:path";
import type { Readable } from "node:stream";
import type { Gateway } from "../gateway/gateway.ts";

/** First descriptor of the LISTEN_FDS protocol. */
const FIRST_FD = 3;
/** A process that does not serve by then is ended. */
const PATIENCE_MS = 60_000;

/**
 * Starts this program again, as it lies on disk now and with the same arguments, and gives it duplicates of the gateway's listening sockets
 * by the protocol of systemd (`LISTEN_FDS`, `LISTEN_FDNAMES`). Resolves with its process id once it serves; rejects, with nothing
 * changed, where it ends or takes too long.
 *
 * `LISTEN_PID` cannot be known before the process is there: `TITAN_HANDOVER_FROM`, the id of its parent, stands for it.
 */
export async function startSuccessor(gateway: Gateway): Promise<number> {
  const sockets = gateway.sockets();
  const readyFd = FIRST_FD + sockets.length;
  const { command, args } = program();
  const child = (() => {
    try {
      return spawn(command, args, {
        env: {
          ...process.env,
          LISTEN_PID: undefined,
          LISTEN_FDS: String(sockets.length),
          LISTEN_FDNAMES: sockets.map(({ name }) => name).join(":"),
          TITAN_HANDOVER_FROM: String(process.pid),
          TITAN_HANDOVER_READY: String(readyFd),
        },
        stdio: ["inherit", "inherit", "inherit", ...sockets.map(({ fd }) => fd), "pipe"],
      });
    } finally {
      for (const { fd } of sockets) closeSync(fd);
    }
  })();
  const ready = child.stdio[readyFd] as Readable;
  try {
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => {
        child.kill("SIGKILL");
        reject(new Error(`it did not serve within ${PATIENCE_MS / 1000} s`));
      }, PATIENCE_MS);
      const settle = (done: () => void) => {
        clearTimeout(late);
        done();
      };
      ready.once("data", () => settle(resolve));
      child.once("error", (error) => settle(() => reject(error)));
      child.once("exit", (code, signal) =>
        settle(() => reject(new Error(`it ended with ${signal ?? `code ${code}`}`))),
      );
    });
  } finally {
    ready.destroy();
  }
  child.removeAllListeners();
  child.unref();
  return child.pid ?? 0;
}

/** What to start: the command that led here, so that a link that was moved to another version is followed. */
function program(): { command: string; args: string[] } {
  const [, script = "", ...args] = process.argv;
  const bundle = process.env.TITAN_BUNDLE;
  if (bundle !== undefined && basename(script) === "titan.js") return { command: bundle, args };
  return { command: process.execPath, args: [...process.execArgv, script, ...args] };
}

/** Tells the process that handed its sockets over that this one serves. */
export function tellPredecessor(): void {
  const fd = Number(process.env.TITAN_HANDOVER_READY);
  if (!Number.isInteger(fd) || fd < FIRST_FD) return;
  try {
    writeSync(fd, "READY=1\n");
    closeSync(fd);
  } catch {
    // It is gone: nobody waits.
  }
}
