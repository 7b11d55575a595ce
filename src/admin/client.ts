import { rmSync } from "node:fs";
import { request } from "node:http";
import { ERRORS, type ErrorCode, TitanError } from "../errors.ts";
import { sockets } from "./runtime-dir.ts";

/** Which running Titan is meant. */
export interface Target {
  socket?: string;
  pid?: number;
}

/** Asks a running Titan by its control socket. */
export async function ask(target: Target, method: "GET" | "POST", path: string, body?: object): Promise<unknown> {
  if (target.socket !== undefined) return send(target.socket, method, path, body);
  return send(await find(target.pid), method, path, body);
}

/** The one socket that answers. */
async function find(pid: number | undefined): Promise<string> {
  if (process.platform === "win32" && pid !== undefined) return `\\\\.\\pipe\\titan-${pid}`;
  const alive: { pid: number; path: string }[] = [];
  for (const socket of sockets()) {
    if (pid !== undefined && socket.pid !== pid) continue;
    if (isAlive(socket.pid)) alive.push(socket);
    else rmSync(socket.path, { force: true });
  }
  const [first, second] = alive;
  if (!first) {
    throw new TitanError(
      "TITAN_NOT_RUNNING",
      pid === undefined ? "No running Titan was found." : `No Titan runs as ${pid}.`,
    );
  }
  if (second) {
    throw new TitanError(
      "TITAN_AMBIGUOUS",
      `More than one Titan is running: ${alive.map((one) => one.pid).join(", ")}.`,
    );
  }
  return first.path;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Titan's own reload may take its time with ten thousand routes; more than this is a stuck process. */
const PATIENCE_MS = 60_000;

function send(socketPath: string, method: string, path: string, body?: object): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const payload = body === undefined ? undefined : JSON.stringify(body);
    const headers = { host: "localhost", "x-titan-admin": "1", "content-type": "application/json" };
    const call = request({ socketPath, method, path, headers, timeout: PATIENCE_MS }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => {
        try {
          resolve(interpret(response.statusCode ?? 0, text));
        } catch (error) {
          reject(error);
        }
      });
    });
    call.on("timeout", () =>
      call.destroy(new TitanError("TITAN_TIMEOUT", `Titan did not answer on ${socketPath} within a minute.`)),
    );
    call.on("error", (cause: NodeJS.ErrnoException) => {
      if (cause instanceof TitanError) reject(cause);
      else if (cause.code === "EACCES") {
        reject(new TitanError("TITAN_CONTROL", `${socketPath} belongs to another user.`, { cause }));
      } else {
        reject(new TitanError("TITAN_NOT_RUNNING", `No Titan answers on ${socketPath}: ${cause.message}.`, { cause }));
      }
    });
    call.end(payload);
  });
}

function interpret(status: number, text: string): unknown {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    throw new TitanError("TITAN_CONTROL", `The control socket gave status ${status} and no JSON.`);
  }
  if (status < 300) return answer;
  const { error } = answer as { error?: { code?: string; message?: string; issues?: [] } };
  const code: ErrorCode =
    error?.code !== undefined && error.code in ERRORS ? (error.code as ErrorCode) : "TITAN_CONTROL";
  throw new TitanError(code, error?.message ?? `The control socket gave status ${status}.`, {
    issues: error?.issues ?? [],
  });
}
