import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import tls from "node:tls";
import { BrokenMessage, field, type Message, readMessage } from "./message.ts";

/** What a raw exchange gave. */
export interface Exchange {
  raw: Buffer;
  /** Whole answers in order, interim ones (1xx) included. */
  answers: Message[];
  /** Statuses of `answers`. */
  statuses: number[];
  /** The gateway ended or reset the connection. */
  closed: boolean;
  /** Why the bytes are no answers, if so. */
  broken?: string;
  milliseconds: number;
}

/** How long to go on reading. */
export interface ExchangeOptions {
  /** Answers to wait for, interim ones not counted. Default 1; 0 = until the connection is closed or `timeout`. */
  answers?: number;
  /** Give up waiting after this long; what came until then is returned. Default 5000 ms. */
  timeout?: number;
  /** After the last answer, wait this long for more bytes or the end of the connection. Default 50 ms. */
  linger?: number;
  /** Half-close after writing. */
  end?: boolean;
  /** Methods of the requests sent, where one is HEAD. */
  methods?: string[];
  tls?: tls.ConnectionOptions;
}

/** Status of an answer. */
export function status(message: Message): number {
  return Number(message.start.split(" ")[1]);
}

/** A client connection that reads answers as they come. */
export class RawClient {
  readonly socket: net.Socket;
  raw = Buffer.alloc(0);
  closed = false;
  readonly answers: Message[] = [];
  broken: string | undefined;
  /** Method of each request, in their order, where one is HEAD. */
  readonly methods: string[];
  #taken = 0;
  #finals = 0;

  private constructor(socket: net.Socket, methods: string[]) {
    this.socket = socket;
    this.methods = methods;
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.on("data", (data) => {
      this.raw = Buffer.concat([this.raw, data]);
      this.#read(false);
    });
    const over = () => {
      if (!this.closed) this.#read(true);
      this.closed = true;
    };
    socket.on("end", over);
    socket.on("close", over);
  }

  static async connect(
    port: number,
    options: { tls?: tls.ConnectionOptions | undefined; methods?: string[]; host?: string } = {},
  ): Promise<RawClient> {
    const host = options.host ?? "127.0.0.1";
    return new Promise((resolve, reject) => {
      const socket = options.tls
        ? tls.connect({ port, host, rejectUnauthorized: false, ...options.tls })
        : net.connect({ port, host, allowHalfOpen: true });
      socket.once("error", reject);
      socket.once(options.tls ? "secureConnect" : "connect", () => {
        socket.off("error", reject);
        resolve(new RawClient(socket, options.methods ?? []));
      });
    });
  }

  /** Final answers so far. */
  get finals(): Message[] {
    return this.answers.filter((answer) => status(answer) >= 200);
  }

  write(data: string | Buffer): void {
    if (!this.socket.destroyed) this.socket.write(typeof data === "string" ? Buffer.from(data, "latin1") : data);
  }

  /** Waits until `done`, the end of the connection or the time is over. */
  async until(done: () => boolean, timeout = 5000): Promise<void> {
    const deadline = performance.now() + timeout;
    while (!done() && !this.closed && !this.broken && performance.now() < deadline) await sleep(2);
  }

  destroy(): void {
    this.socket.destroy();
  }

  #read(ended: boolean): void {
    if (this.broken) return;
    try {
      for (;;) {
        const rest = this.raw.subarray(this.#taken);
        const head = this.methods[this.#finals] === "HEAD";
        const message = rest.length > 0 ? readMessage(rest, { kind: "response", ended, head }) : undefined;
        if (!message) return;
        this.#taken += message.size;
        this.answers.push(message);
        if (status(message) >= 200) this.#finals++;
        // After 101 the bytes are no longer HTTP.
        if (status(message) === 101) return;
      }
    } catch (error) {
      if (!(error instanceof BrokenMessage)) throw error;
      this.broken = error.message;
    }
  }
}

/** Writes the parts (a number is a pause in milliseconds) and reads what comes back. */
export async function exchange(
  port: number,
  parts: string | Buffer | (string | Buffer | number)[],
  options: ExchangeOptions = {},
): Promise<Exchange> {
  const { answers = 1, timeout = 5000, linger = 50, end = false, methods = [] } = options;
  const began = performance.now();
  const client = await RawClient.connect(port, { tls: options.tls, methods });
  for (const part of Array.isArray(parts) ? parts : [parts]) {
    if (typeof part === "number") await sleep(part);
    else client.write(part);
  }
  if (end) client.socket.end();
  await client.until(() => answers > 0 && client.finals.length >= answers, timeout);
  const milliseconds = performance.now() - began;
  if (answers > 0) await client.until(() => false, linger);
  client.destroy();
  return {
    raw: client.raw,
    answers: client.answers,
    statuses: client.answers.map(status),
    closed: client.closed,
    ...(client.broken !== undefined && { broken: client.broken }),
    milliseconds,
  };
}

/** A plain GET on a connection of its own: status, fields and body. */
export async function get(
  port: number,
  target = "/",
  headers: Record<string, string> = {},
  options: ExchangeOptions = {},
) {
  const lines = Object.entries({ Host: "t.test", ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
  const result = await exchange(port, `GET ${target} HTTP/1.1\r\n${lines.join("")}\r\n`, { linger: 0, ...options });
  const answer = result.answers.at(-1);
  return {
    ...result,
    status: answer ? status(answer) : 0,
    body: answer?.body.toString() ?? "",
    header: (name: string) => (answer ? field(answer, name) : undefined),
  };
}
