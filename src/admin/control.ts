import { chmodSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { messageOf, TitanError } from "../errors.ts";
import type { Gateway } from "../gateway/gateway.ts";
import { json, route } from "./api.ts";
import { prepare, runtimeDirectory } from "./runtime-dir.ts";

/** The control socket of a running Titan: the admin API for its owner alone (mode 0600), with no port and no token. */
export class ControlSocket {
  readonly path: string;
  readonly #server: Server;

  private constructor(path: string, server: Server) {
    this.path = path;
    this.#server = server;
  }

  /** Listens at `path`, or in the runtime directory under the process's id. */
  static async open(gateway: Gateway, path?: string): Promise<ControlSocket> {
    const at = path ?? defaultPath();
    if (path !== undefined) await removeStale(path);
    const server = createServer((request, response) => {
      route(gateway, request, new URL(request.url ?? "/", "http://control"))
        .catch((error: unknown) => json(500, { error: { code: "TITAN_CONTROL", message: messageOf(error) } }))
        .then((reply) => {
          response.writeHead(reply.status, { "content-type": reply.contentType, ...reply.headers });
          response.end(reply.body);
        });
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", (cause) => {
        reject(
          new TitanError("TITAN_CONTROL", `The control socket ${at} cannot be made: ${cause.message}.`, { cause }),
        );
      });
      // The socket appears with its final rights: bind happens inside listen().
      const before = process.umask(0o177);
      try {
        server.listen(at, resolve);
      } finally {
        process.umask(before);
      }
    });
    if (process.platform !== "win32") chmodSync(at, 0o600);
    server.unref();
    return new ControlSocket(at, server);
  }

  /** Ends; Node removes the file. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeIdleConnections();
    });
  }
}

function defaultPath(): string {
  if (process.platform === "win32") return `\\\\.\\pipe\\titan-${process.pid}`;
  const directory = runtimeDirectory();
  prepare(directory);
  const path = join(directory, `${process.pid}.sock`);
  // This process has this id, so a socket of that name is a dead one's.
  rmSync(path, { force: true });
  return path;
}

/** Removes a socket that nobody listens on; one that answers is another Titan's. */
async function removeStale(path: string): Promise<void> {
  const state = await new Promise<"busy" | "stale" | "absent">((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve("busy");
    });
    socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code === "ECONNREFUSED" ? "stale" : "absent"));
  });
  if (state === "busy") throw new TitanError("TITAN_CONTROL", `The control socket ${path} is another Titan's.`);
  if (state === "stale") rmSync(path, { force: true });
}
